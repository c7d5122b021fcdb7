//! A map's memory in ours.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// An array map's values, mapped. Programs and this process see one memory, so all of it is read and
/// written through atomics.
#[derive(Debug)]
pub(super) struct Mapping {
    at: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is shared by design and only handed out as atomics.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the `bytes` of an array map that was made with BPF_F_MMAPABLE.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(map: BorrowedFd, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping of a live descriptor, placed by the kernel; it is unmapped once, in `drop`.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { at, words: bytes / 8 })
    }

    /// All of it.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `words` aligned words from `at` on are mapped for as long as `self` lives; any bytes are
        // a value, and an `AtomicU64` may be changed by others at any time.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nobody has a reference into it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.words * 8) };
    }
}
