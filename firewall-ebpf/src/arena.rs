//! Words of a map value that is looked into by offsets.

use firewall_common::classify::Arena;

use crate::opaque::opaque;

/// An arena of `WORDS` 64-bit words, a power of two: a live map value.
pub struct Mem<const WORDS: usize>(pub *const u64);

impl<const WORDS: usize> Mem<WORDS> {
    /// Where a word stands.
    #[inline(always)]
    pub fn place(&self, at: u32) -> *mut u64 {
        // SAFETY: the masked offset is below the arena's length.
        unsafe { self.0.add(at as usize & (WORDS - 1)).cast_mut() }
    }
}

impl<const WORDS: usize> Arena for Mem<WORDS> {
    #[inline(always)]
    fn word(&self, at: u32) -> u64 {
        // SAFETY: the masked offset is below the arena's length.
        unsafe { *self.0.add(at as usize & (WORDS - 1)) }
    }
    #[inline(always)]
    fn half(&self, at: u32) -> u32 {
        // SAFETY: as above, in halves.
        unsafe { *self.0.cast::<u32>().add(at as usize & (2 * WORDS - 1)) }
    }
    #[inline(always)]
    fn opaque(&self, value: u64) -> u64 {
        opaque(value)
    }
}
