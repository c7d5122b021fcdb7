//! What limits of rules have let through, where the map has it.

use super::table::Mapping;
use firewall_common::abi::{limit::Limited, table::RULE_SLOTS};
use std::{io, os::fd::BorrowedFd, sync::atomic::Ordering::Relaxed};

/// Words of an entry.
const WORDS: usize = size_of::<Limited>() / 8;

/// Map `LIMITS`.
pub(super) struct Limits(Mapping);

impl Limits {
    pub(super) fn of(map: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::of(map, RULE_SLOTS * size_of::<Limited>()).map(Self)
    }

    /// Packets over a rule's limit.
    pub(super) fn over(&self, slot: u32) -> u64 {
        self.0.words()[slot as usize * WORDS + 1].load(Relaxed)
    }

    /// Counts from zero. What is owed is owed, and live flows keep their limit.
    pub(super) fn zero(&self, slot: u32) {
        self.0.words()[slot as usize * WORDS + 1].store(0, Relaxed);
    }

    /// The slot is another rule's from here on: nobody owes anything.
    pub(super) fn clear(&self, slot: u32) {
        for word in &self.0.words()[slot as usize * WORDS..][..WORDS] {
            word.store(0, Relaxed);
        }
    }
}
