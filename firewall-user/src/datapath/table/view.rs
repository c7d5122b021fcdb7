//! One table as it lies in memory: tags, and the records behind them.

use super::Entry;
use firewall_common::abi::{
    bucket::{
        SLOTS, first, second,
        tag::{self, CLAIMED, FINGERPRINT, HALF, LIVE, MATCH, SWEPT},
    },
    flow::Flow,
};
use std::{
    marker::PhantomData,
    mem::offset_of,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering, fence},
};

/// Word of a flow's record that holds `last` and `first`.
const LAST_WORD: usize = offset_of!(Flow, last) / 8;
const _: () = assert!(offset_of!(Flow, last).is_multiple_of(8));

/// A table; see [`firewall_common::abi::bucket`]. Wherever its words lie: in a map, or in a test's own
/// memory.
pub struct Table<'a, R> {
    tags: &'a [AtomicU64],
    records: &'a [AtomicU64],
    record: PhantomData<R>,
}

impl<R> Clone for Table<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Table<'_, R> {}

impl<'a, R: Entry> Table<'a, R> {
    const WORDS: usize = size_of::<R>() / 8;

    /// A table of whole buckets.
    pub fn new(tags: &'a [AtomicU64], records: &'a [AtomicU64]) -> Self {
        const { assert!(size_of::<R>().is_multiple_of(8)) };
        let buckets = (tags.len() / SLOTS).min(records.len() / (SLOTS * Self::WORDS));
        Self { tags: &tags[..buckets * SLOTS], records, record: PhantomData }
    }

    /// Slots, vacant ones included.
    pub fn slots(&self) -> usize {
        self.tags.len()
    }

    /// The slots of part `part` of `parts`.
    pub fn part(&self, part: usize, parts: usize) -> Range<usize> {
        let n = self.slots();
        n * part / parts..n * (part + 1) / parts
    }

    /// A tag; the bytes behind a live one may be read afterwards.
    pub fn tag(&self, slot: usize) -> u64 {
        self.tags.get(slot).map_or(0, |tag| tag.load(Ordering::Acquire))
    }

    /// Changes a tag from what it was; whether it still was that.
    pub fn swap(&self, slot: usize, from: u64, to: u64) -> bool {
        self.tags.get(slot).is_some_and(|tag| {
            tag.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// The words of a slot's record.
    pub(super) fn words_of(&self, slot: usize) -> &[AtomicU64] {
        &self.records[slot * Self::WORDS..][..Self::WORDS]
    }

    /// A record's words as they are now, whatever the tag says.
    pub fn record(&self, slot: usize) -> R {
        let mut record = R::zeroed();
        let words = self.words_of(slot);
        for (to, from) in bytemuck::bytes_of_mut(&mut record).chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        record
    }

    /// The record of a live slot with its tag. One that goes or is given to another key while it is read
    /// isn't seen.
    pub fn live(&self, slot: usize) -> Option<(u64, R)> {
        let before = self.tag(slot);
        if before & LIVE == 0 {
            return None;
        }
        let record = self.record(slot);
        fence(Ordering::Acquire);
        let after = self.tag(slot);
        // The answer may have come meanwhile.
        (before & !HALF == after & !HALF).then_some((after, record))
    }

    /// `last` of the flow in a slot.
    pub fn last(&self, slot: usize) -> u32 {
        let word = self.records[slot * Self::WORDS + LAST_WORD].load(Ordering::Relaxed);
        let [a, b, c, d, ..] = word.to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// Ticks since the last packet of the flow in a slot.
    pub fn idle(&self, slot: usize, now: u64) -> u32 {
        Flow { last: self.last(slot), ..Flow::default() }.idle(now)
    }

    /// Claims a live slot whose tag was `seen`, for the sweep: nobody finds its record any more, nobody
    /// takes the slot.
    pub fn claim(&self, slot: usize, seen: u64, now: u64) -> Option<u64> {
        let ours = tag::new(CLAIMED | SWEPT, now as u32, 0);
        self.swap(slot, seen, ours).then_some(ours)
    }

    /// Whether a slot was claimed by a sweep that never ended it.
    pub fn is_orphan(tag: u64) -> bool {
        tag & (CLAIMED | SWEPT) == CLAIMED | SWEPT
    }

    /// Whether the record's key stands in another live slot, too.
    pub fn has_twin(&self, record: &R, slot: usize, seed: u64) -> bool {
        let n = (self.slots() / SLOTS) as u32;
        let hash = record.hash(seed);
        let one = first(hash, n);
        [one, second(hash, one, n)].iter().any(|bucket| {
            let begin = *bucket as usize * SLOTS;
            (begin..begin + SLOTS).any(|other| {
                other != slot
                    && self.tag(other) & MATCH == tag::wanted(hash)
                    && self.record(other).same_key(record)
            })
        })
    }

    /// Takes a live slot out at once; whether it was live. For records that nobody counts on.
    pub fn remove(&self, slot: usize, now: u64) -> bool {
        let seen = self.tag(slot);
        seen & LIVE != 0 && self.swap(slot, seen, dead(now, seen))
    }

    /// As [`Self::remove`], but only while the tag is still `seen`.
    pub fn remove_as(&self, slot: usize, seen: u64, now: u64) -> bool {
        self.swap(slot, seen, dead(now, seen))
    }

    /// Ends a slot that was claimed.
    pub fn bury(&self, slot: usize, claimed: u64, now: u64) {
        // Nobody else changes a tag that is claimed.
        let _ours = self.swap(slot, claimed, dead(now, claimed));
    }
}

/// The tag of a slot that was taken out at `now`.
fn dead(now: u64, before: u64) -> u64 {
    tag::new(tag::DEAD, now as u32, (before & FINGERPRINT) << 32)
}
