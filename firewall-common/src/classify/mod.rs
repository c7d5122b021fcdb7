//! Facts to the first rule that decides: the look-ups in a compiled policy
//! ([`crate::abi::table`]), generic over where its words stand, so that the kernel and whoever asks "what would happen"
//! walk the same way.
//!
//! Nothing here calls a helper or depends on how many rules there are but for the words that rows have: helper calls and
//! cache misses are what a packet pays for.

mod part;
mod search;

pub use part::{
    Fields, HAS_DPORT, HAS_SPORT, HAS_V4, KINDS, NO_RULE, PLACES, Rows, Step, first, meets,
    nat_word, rows, step,
};
pub use search::{DEPTH, LIST, LIST_BITS, MOST, NODE, cell, intervals, link, trie};

/// The words of a policy: rows, tries, intervals. An offset that is out of range reads whatever the implementation
/// likes; a policy that was compiled has none.
pub trait Arena {
    /// A 64-bit word.
    fn word(&self, at: u32) -> u64;
    /// Half of one: the arena as 32-bit words.
    fn half(&self, at: u32) -> u32;
    /// The value, of which the compiler is to know nothing: it would make branches of arithmetic.
    #[inline(always)]
    fn opaque(&self, value: u64) -> u64 {
        value
    }
}

impl Arena for [u64] {
    #[inline(always)]
    fn word(&self, at: u32) -> u64 {
        self.get(at as usize).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn half(&self, at: u32) -> u32 {
        let word = self.word(at / 2);
        let first = cfg!(target_endian = "little") == at.is_multiple_of(2);
        if first { word as u32 } else { (word >> 32) as u32 }
    }
}
