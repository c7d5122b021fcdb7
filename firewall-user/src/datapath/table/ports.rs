//! Counting public ports anew, and aliases whose flow is gone.

use super::{View, entry::tuple};
use firewall_common::abi::{
    bucket::tag::{CLAIMED, LIVE},
    nat::{ALIAS_INNER, Alias4, Ports},
};
use std::{
    collections::HashMap,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Words of an entry of map `PORTS`.
pub(super) const ENTRY: usize = size_of::<Ports>() / 8;
/// Words of its bitmap.
const USED: usize = 1024;

/// Aliases that seemed to be nobody's at the last count, with their tags. Only those that still seem so at
/// the next are: an alias is entered a moment before its flow knows of it.
pub type Suspects = HashMap<usize, u64>;

/// What the live aliases use of one public address.
struct Counted {
    used: Box<[u64; USED]>,
    /// Mappings on ports that others use too.
    shared: u64,
}

impl Default for Counted {
    fn default() -> Self {
        Self { used: Box::new([0; USED]), shared: 0 }
    }
}

/// What was in an entry before the aliases were looked at. What was added since isn't ours to clear.
struct Before {
    used: Box<[u64; USED]>,
    shared: u64,
}

fn word(entry: &[AtomicU64], offset: usize) -> &AtomicU64 {
    &entry[offset / 8]
}

impl View<'_> {
    /// Counts the ports in use by the live aliases, and takes out aliases without a flow. How many
    /// translated flows there are.
    pub fn count_ports(&self, suspects: &mut Suspects, now: u64) -> u64 {
        // An address of which no mapping was ever made costs a look.
        let entries: Vec<(usize, &[AtomicU64], Before)> = self
            .ports
            .chunks_exact(ENTRY)
            .enumerate()
            .filter(|(_, entry)| word(entry, offset_of!(Ports, made)).load(Relaxed) != 0)
            .map(|(at, entry)| (at, entry, Before::of(entry)))
            .collect();
        let mut counted: HashMap<usize, Counted> = HashMap::new();
        let suspected = std::mem::take(suspects);
        let mut mappings = 0;
        for slot in 0..self.aliases.slots() {
            let Some((tag, alias)) = self.aliases.live(slot) else { continue };
            mappings += u64::from(alias.flags & ALIAS_INNER == 0);
            if !self.is_owned(slot, &alias) {
                if suspected.get(&slot) == Some(&tag) {
                    self.aliases.remove(slot, now);
                } else {
                    suspects.insert(slot, tag);
                }
            }
            let Some(pool) = alias.pool.checked_sub(1) else { continue };
            let port = usize::from(tuple(&alias).sport);
            let counted = counted.entry(usize::from(pool)).or_default();
            let (used, bit) = (&mut counted.used[port / 64], 1 << (port % 64));
            counted.shared += u64::from(*used & bit != 0);
            *used |= bit;
        }
        for (at, entry, before) in entries {
            settle(entry, &before, counted.get(&at));
        }
        mappings
    }

    /// Whether a flow knows of this alias.
    fn is_owned(&self, slot: usize, alias: &Alias4) -> bool {
        let owner = alias.flow as usize;
        if self.v4.tag(owner) & (LIVE | CLAIMED) == 0 || owner >= self.v4.slots() {
            return false;
        }
        let place = slot as u32 + 1;
        let nat = self.v4.record(owner).flow.nat;
        nat == place
            || nat.checked_sub(1).is_some_and(|outer| {
                (outer as usize) < self.aliases.slots()
                    && self.aliases.record(outer as usize).inner == place
            })
    }
}

impl Before {
    fn of(entry: &[AtomicU64]) -> Self {
        let mut used = Box::new([0; USED]);
        for (to, from) in used.iter_mut().zip(entry) {
            *to = from.load(Relaxed);
        }
        Self { used, shared: word(entry, offset_of!(Ports, shared)).load(Relaxed) }
    }
}

fn settle(entry: &[AtomicU64], before: &Before, counted: Option<&Counted>) {
    let mut in_use = 0;
    for (at, was) in before.used.iter().enumerate() {
        let is = counted.map_or(0, |counted| counted.used[at]);
        in_use += u64::from(is.count_ones());
        if *was == is {
            continue;
        }
        // A word is called full by whoever sets its last bit, and isn't by whoever clears one.
        let full = &entry[offset_of!(Ports, full) / 8 + at / 64];
        if was & !is != 0 {
            entry[at].fetch_and(!(was & !is), Relaxed);
            full.fetch_and(!(1 << (at % 64)), Relaxed);
        }
        if is & !was != 0 && entry[at].fetch_or(is, Relaxed) | is == u64::MAX {
            full.fetch_or(1 << (at % 64), Relaxed);
        }
    }
    let shared = counted.map_or(0, |counted| counted.shared);
    word(entry, offset_of!(Ports, shared)).fetch_add(shared.wrapping_sub(before.shared), Relaxed);
    word(entry, offset_of!(Ports, in_use)).store(in_use, Relaxed);
    word(entry, offset_of!(Ports, peak)).fetch_max(in_use, Relaxed);
}
