//! A map's memory in ours. The only place that maps memory.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// The whole value array of a `BPF_F_MMAPABLE` array map, for as long as this lives; the map lives as
/// long, too. Kernel programs change it at any time, so it is words that are read and written atomically.
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<AtomicU64>,
    words: usize,
}

impl Mapping {
    /// Maps `bytes` bytes of an array map: its entries' sizes, each rounded up to eight, added up.
    ///
    /// # Errors
    /// What the kernel says: EINVAL where the array is shorter, ENOTSUPP where it can't be mapped.
    pub fn of(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is live.
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

    /// The memory.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped, page-aligned, until `self` is dropped; any bytes are a value,
        // and whoever else changes them does it word by word.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.words) }
    }
}

// SAFETY: the memory belongs to no thread, and is changed atomically only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length; no slice of it outlives `self`. It can't fail.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.words * 8) };
    }
}
