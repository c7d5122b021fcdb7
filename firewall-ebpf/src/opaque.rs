//! What the compiler is not to know, because the verifier doesn't know it either.

/// A value, of which the compiler knows nothing from here on: it leaves bounds in that look needless to
/// it, and the verifier needs.
#[inline(always)]
pub fn opaque<T: Copy>(value: T) -> T {
    // SAFETY: a local variable is valid for reads.
    unsafe { (&raw const value).read_volatile() }
}

/// Reads a value from memory, whatever the compiler knows of it.
#[inline(always)]
pub fn volatile<T: Copy>(value: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(value) }
}

/// Stores a value in a map's memory, where the verifier forgets it.
#[inline(always)]
pub fn put<T: Copy>(place: &mut T, value: T) {
    // SAFETY: a reference is valid for writes.
    unsafe { (&raw mut *place).write_volatile(value) };
}
