//! The open-coded hash tables: buckets of tags in one array, records in another.
//!
//! A bucket is one cache line of eight tags. The record of slot `i` of bucket `b` is entry `8 * b + i` of
//! the records' array: no pointers, no free list, no allocation. A key lives in one of two buckets
//! (two choices keep the fill even), and no bucket holds two live tags of one fingerprint, so a look-up
//! reads at most two lines of tags and one record.
//!
//! A tag goes free -> claimed -> live -> dead -> free. Every step is one compare-and-swap, except the
//! publishing store of `live`, which comes after the record's bytes. Who enters a key holds the lock of
//! its stripe (map `LOCKS`), so that one key is never entered twice. A dead slot is taken again only
//! [`QUARANTINE`] ticks later: no program that still holds its record runs for that long.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Tags in a bucket.
pub const SLOTS: usize = 8;

/// Slots of two buckets that a table of a given capacity is planned to fill: two choices fill up evenly
/// to about 70 % before both buckets of some key are full.
pub const PLANNED: u32 = 11;

/// Of a bucket's slots, so many may hold flows that nobody has answered yet: the rest is there for
/// those that were. A flood of first packets can't fill the table.
pub const HALF_OPEN_SLOTS: u64 = 6;

/// Ticks for which a dead slot keeps its record.
pub const QUARANTINE: u16 = 2;

/// Stripes of map `LOCKS`.
pub const STRIPES: usize = 1024;

/// One cache line of tags; see [`tag`].
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Bucket {
    /// Tags.
    pub tags: [u64; SLOTS],
}

/// The locks of one table.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Locks {
    /// 0: free; 1: held. Held for some hundred instructions, with softirqs off.
    pub stripes: [u64; STRIPES],
}

const _: () = assert!(core::mem::size_of::<Bucket>() == 64);
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, eight integers, no padding.
unsafe impl aya::Pod for Bucket {}
plain_bytes!(Locks => 8 * STRIPES);

/// A tag: state (bits 63..59), tick of its last change of state (47..32), fingerprint (31..0).
pub mod tag {
    /// The record may be read.
    pub const LIVE: u64 = 1 << 63;
    /// Somebody writes the record.
    pub const CLAIMED: u64 = 1 << 62;
    /// Taken out; see [`super::QUARANTINE`].
    pub const DEAD: u64 = 1 << 61;
    /// Beside `LIVE`: nobody has answered yet.
    pub const HALF: u64 = 1 << 60;
    /// Beside `CLAIMED`: by the sweep, which waits for a grace period before it reads the last totals. It
    /// has no fingerprint, so that nobody takes it for a key that is being entered; and a daemon that finds
    /// one when it starts knows that another died at it.
    pub const SWEPT: u64 = 1 << 59;
    /// What a look-up compares.
    pub const MATCH: u64 = LIVE | 0xffff_ffff;
    /// Fingerprint's bits.
    pub const FINGERPRINT: u64 = 0xffff_ffff;

    /// State, tick and fingerprint in one word.
    #[inline(always)]
    pub const fn new(state: u64, tick: u32, hash: u64) -> u64 {
        state | ((tick & 0xffff) as u64) << 32 | hash >> 32
    }
    /// What the tag of a live slot of this hash shows under [`MATCH`].
    #[inline(always)]
    pub const fn wanted(hash: u64) -> u64 {
        LIVE | hash >> 32
    }
    /// Ticks since its last change of state, modulo 65,536.
    #[inline(always)]
    pub const fn age(tag: u64, tick: u32) -> u16 {
        (tick as u16).wrapping_sub((tag >> 32) as u16)
    }
    /// Whether a new flow may take the slot.
    #[inline(always)]
    pub const fn vacant(tag: u64, tick: u32) -> bool {
        tag == 0 || (tag & DEAD != 0 && age(tag, tick) > super::QUARANTINE)
    }
}

/// Buckets for `capacity` keys.
pub fn buckets_for(capacity: u32) -> u32 {
    (capacity.div_ceil(PLANNED) * 2).max(2)
}

/// First bucket of a hash, of `n`.
#[inline(always)]
pub const fn first(hash: u64, n: u32) -> u32 {
    (((hash & 0xffff_ffff) * n as u64) >> 32) as u32
}

/// Second bucket; never the first, where there are two.
#[inline(always)]
pub const fn second(hash: u64, first: u32, n: u32) -> u32 {
    // The fingerprint chooses a distance, as in cuckoo filters: from 1 to n - 1.
    let distance =
        1 + ((((hash >> 32).wrapping_mul(0x9e37_79b1) & 0xffff_ffff) * (n as u64 - 1)) >> 32);
    let at = first as u64 + distance;
    if at >= n as u64 { (at - n as u64) as u32 } else { at as u32 }
}

/// Stripe of a hash in [`Locks`].
#[inline(always)]
pub const fn stripe(hash: u64) -> usize {
    (hash >> 20) as usize & (STRIPES - 1)
}

/// Mixes one word into a hash. `seed` is a secret of this table, so that nobody can aim at a bucket.
#[inline(always)]
pub const fn mix(state: u64, word: u64) -> u64 {
    let x = (state ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
    x ^ x >> 32
}

/// Ends a hash: every bit of it hangs on every bit that was mixed in.
#[inline(always)]
pub const fn finish(state: u64) -> u64 {
    let x = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ x >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_buckets_differ_and_are_in_range() {
        for n in [2u32, 3, 7, 1000, 20_165] {
            for i in 0..10_000u64 {
                let hash = finish(mix(mix(7, i), i * i));
                let a = first(hash, n);
                let b = second(hash, a, n);
                assert!(a < n && b < n && a != b, "{n}: {a} {b}");
            }
        }
    }

    #[test]
    fn two_choices_fill_as_planned() {
        let capacity = 131_072;
        let n = buckets_for(capacity);
        let mut fill = vec![0u8; n as usize];
        for i in 0..u64::from(capacity) {
            let hash = finish(mix(mix(99, i), 1));
            let a = first(hash, n) as usize;
            let b = second(hash, a as u32, n) as usize;
            let at = if fill[a] <= fill[b] { a } else { b };
            fill[at] += 1;
        }
        assert!(fill.iter().all(|n| usize::from(*n) <= SLOTS), "a bucket ran over");
    }

    #[test]
    fn a_dead_slot_is_vacant_after_its_quarantine() {
        let dead = tag::new(tag::DEAD, 65_535, 0);
        assert!(!tag::vacant(dead, 65_536));
        assert!(tag::vacant(dead, 65_538));
        assert!(tag::vacant(0, 0));
        assert!(!tag::vacant(tag::new(tag::LIVE, 0, 5 << 32), 100));
    }
}
