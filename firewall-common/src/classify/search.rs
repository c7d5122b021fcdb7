//! From a number to what stands for it: a level-compressed trie for what fits 32 bits, intervals for IPv6 addresses.
//!
//! An entry of the trie is 32 bits. The upper two say what it is: a value (up to 30 bits), a node, or a list. Nodes and
//! lists have four bits of size, and in the lower 26 where they begin. A node of size `s` has `2^(s+1)` entries, picked by
//! the next `s + 1` bits of the key (Nilsson and Karlsson, "IP-Address Lookup Using LC-Tries", 1999); a list of size `k`
//! has `2^k` starts, ascending, the first at or below every key that gets there, and as many values: where few values are
//! left below a node, one line of the cache holds them all, and no chain of nodes has to be walked to tell them apart.

use super::Arena;
use crate::abi::table::Intervals;

/// Upper two bits of an entry: a node.
pub const NODE: u32 = 2;
/// Upper two bits of an entry: a list.
pub const LIST: u32 = 3;
/// Nodes in a row, at most: each takes four bits of the key at least, but for the last.
pub const DEPTH: u32 = 9;
/// Largest size of a list.
pub const LIST_BITS: u32 = 3;
const LIST_MOST: u32 = 1 << LIST_BITS;
/// Steps through intervals, at most.
const STEPS: u32 = 20;
/// Intervals, at most.
pub const MOST: u32 = 1 << STEPS;

/// An entry: `kind` is [`NODE`] or [`LIST`].
#[must_use]
pub const fn link(kind: u32, size: u32, base: u32) -> u32 {
    kind << 30 | size << 26 | base
}

/// What an entry's lower 26 bits say.
#[must_use]
pub const fn cell(entry: u32) -> u32 {
    entry & 0x03ff_ffff
}

/// The value of a key.
#[inline(always)]
#[must_use]
pub fn trie<A: Arena + ?Sized>(arena: &A, root: u32, key: u32) -> u32 {
    let mut entry = root;
    let mut rest = key;
    let mut left = DEPTH;
    while left != 0 && entry >> 30 == NODE {
        let bits = (entry >> 26 & 15) + 1;
        entry = arena.half(cell(entry) + (rest >> (32 - bits)));
        rest = rest.wrapping_shl(bits);
        left -= 1;
    }
    if entry >> 30 != LIST {
        return entry;
    }
    let base = cell(entry);
    let len = 1u32 << (entry >> 26 & 3);
    let mut at = 0;
    let mut step = len >> 1;
    let mut left = LIST_BITS;
    while left != 0 && step != 0 {
        // All ones if the start isn't behind the key; no branch: see `intervals`.
        let start = u64::from(arena.half(base + ((at + step) & (LIST_MOST - 1))));
        let taken =
            arena.opaque((start.wrapping_sub(u64::from(key) + 1) >> 63).wrapping_neg()) as u32;
        at = (at + (step & taken)) & (LIST_MOST - 1);
        step >>= 1;
        left -= 1;
    }
    arena.half(base + len + at)
}

/// 1 if the number `a` (upper half, lower half) is below `b`, else 0: the borrow of `a - b`.
#[inline(always)]
const fn is_below(a: [u64; 2], b: [u64; 2]) -> u64 {
    const fn borrow(a: u64, b: u64, less: u64) -> u64 {
        ((!a & b) | ((!a | b) & less)) >> 63
    }
    let low = borrow(a[1], b[1], a[1].wrapping_sub(b[1]));
    borrow(a[0], b[0], a[0].wrapping_sub(b[0]).wrapping_sub(low))
}

/// The value of an IPv6 address (two halves, host-endian).
#[inline(always)]
#[must_use]
pub fn intervals<A: Arena + ?Sized>(arena: &A, map: &Intervals, hi: u64, lo: u64) -> u32 {
    let mut at = 0;
    let mut step = map.step;
    let mut left = STEPS;
    while left != 0 && step != 0 {
        // Masked here and not only at its use: the verifier then sees the same range each time round.
        let probe = (at + step) & (MOST - 1);
        let place = map.starts + probe * 2;
        // Without a branch: half of them would be guessed wrong, and each would teach the verifier something about the
        // address that it would keep apart from what it knew.
        let behind = is_below([hi, lo], [arena.word(place), arena.word(place + 1)]);
        let taken = arena.opaque(behind.wrapping_sub(1)) as u32;
        at = (at + (step & taken)) & (MOST - 1);
        step >>= 1;
        left -= 1;
    }
    arena.half(map.values + at)
}
