//! Memory that was freed and isn't the kernel's again.

/// Gives back what was freed: glibc keeps it, and reading the kernel's types or listing all sockets takes tens of
/// megabytes for a moment. Takes a few milliseconds; other allocators keep nothing to speak of.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
