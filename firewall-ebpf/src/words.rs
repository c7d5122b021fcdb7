//! Setting and copying values word by word. For anything longer LLVM calls a `memset` or `memcpy` that goes byte
//! by byte: a record of 112 bytes then costs more than the rest of its packet.

/// Words of a value, which must be made of whole ones.
const fn words<T>() -> usize {
    assert!(size_of::<T>() % 8 == 0, "whole words");
    size_of::<T>() / 8
}

/// Sets all bytes to zero.
///
/// # Safety
/// `to` is valid for writes, and all-zero bytes are a value.
#[inline(always)]
pub unsafe fn clear<T>(to: *mut T) {
    let to = to.cast::<u64>();
    let mut at = 0;
    while at < const { words::<T>() } {
        // SAFETY: a word within the value. Volatile, or the loop would become a call again.
        unsafe { to.add(at).write_volatile(0) };
        at += 1;
    }
}

/// Copies a value.
///
/// # Safety
/// `to` is valid for writes and `from` for reads; both are map memory, where words need no alignment.
#[inline(always)]
pub unsafe fn copy<T>(to: *mut T, from: *const T) {
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    let mut at = 0;
    while at < const { words::<T>() } {
        // SAFETY: as above.
        unsafe { to.add(at).write_volatile(from.add(at).read_unaligned()) };
        at += 1;
    }
}
