//! Filling an arena that nobody else knows of yet, with many entries at once.
//!
//! Entries are placed in the order of their hashes: then the one that stands furthest from its place stands as near as
//! can be, and tables that are three quarters full still keep within the probes of a look-up. The table is written from
//! its beginning to its end, too.

use super::{
    SetKind,
    entry::Entry,
    memory::{Entered, Memory, Table},
    shape::{Counts, Shape, TooMany, most, plan, plan_grown},
    slot::Key,
};
use firewall_common::{
    abi::set::{PROBES, shape},
    sets::home,
};
use std::sync::atomic::AtomicU64;

/// Entries that are to be put into an arena, each with the tick at which it ends (0: never).
#[derive(Clone, Debug)]
pub struct Heap {
    kind: SetKind,
    four: Vec<(u64, u64)>,
    six: Vec<([u64; 2], u32, u64)>,
    ports: Vec<Entry>,
}

impl Heap {
    /// Of a set of a kind.
    pub const fn new(kind: SetKind) -> Self {
        Self { kind, four: Vec::new(), six: Vec::new(), ports: Vec::new() }
    }

    /// One more. What is there already keeps the longer of the two times.
    pub fn push(&mut self, entry: Entry, ends: u64) {
        match Key::of(entry) {
            Some(Key::Four(word)) => self.four.push((word, ends)),
            Some(Key::Six(address, tag)) => self.six.push((address, tag, ends)),
            None => self.ports.push(entry),
        }
    }

    /// How many of each family; what was pushed twice counts twice.
    pub fn counts(&self) -> Counts {
        Counts { four: self.four.len() as u64, six: self.six.len() as u64 }
    }

    /// The arena that they need; `grown`: with room for as many again.
    ///
    /// # Errors
    /// They are too many.
    pub fn shape(&self, grown: bool, at_least: Counts) -> Result<Shape, TooMany> {
        let counts = self.counts();
        let wanted = if grown { counts.doubled() } else { counts };
        let wanted =
            Counts { four: wanted.four.max(at_least.four), six: wanted.six.max(at_least.six) };
        // What is to come may be too much to make room for now; what is there has to fit.
        plan(self.kind, wanted).or_else(|_| {
            if grown { plan_grown(self.kind, counts) } else { plan(self.kind, counts) }
        })
    }

    /// Puts them into an arena of zeros that has this shape; how many it holds then (not of ports). `seed` gives a new
    /// secret each time; another is tried where the first leaves somebody without a place.
    ///
    /// # Errors
    /// There is no place for all of them.
    pub fn fill(
        &self,
        words: &[AtomicU64],
        shape: &Shape,
        mut seed: impl FnMut() -> u64,
    ) -> Result<u64, TooMany> {
        for _ in 0..TRIES {
            let secret = seed();
            let four = self.four.iter().copied();
            let six = self.six.iter().map(|(address, tag, ends)| ((*address, *tag), *ends));
            let six_key = |(address, tag)| Key::Six(address, tag);
            let (Some(four), Some(six)) = (
                placed(four, Key::Four, secret, shape.slots4),
                placed(six, six_key, secret, shape.slots6),
            ) else {
                continue;
            };
            let memory = Memory::lay(words, shape, secret);
            put(&memory, memory.four(), Key::Four, &four);
            put(&memory, memory.six(), six_key, &six);
            let count = four.len() + six.len();
            memory.add(shape::COUNT, count as i64);
            for entry in &self.ports {
                let done = memory.insert(*entry, 0, 0);
                debug_assert_ne!(done, Entered::NoRoom);
            }
            return Ok(count as u64);
        }
        Err(TooMany { seen: self.counts(), room: most(self.counts()) })
    }
}

/// Secrets that are tried.
const TRIES: usize = 4;

/// How much longer than others: never is the longest.
const fn longevity(ends: u64) -> u64 {
    if ends == 0 { u64::MAX } else { ends }
}

/// A key in its place: its hash, tick and slot.
#[derive(Clone, Copy)]
struct Placed<K> {
    hash: u64,
    key: K,
    ends: u64,
    slot: u32,
}

/// Each key's slot, in the order of slots but for those that go round; `None` where one would stand too far from its place.
fn placed<K: Copy + Ord>(
    keys: impl Iterator<Item = (K, u64)>,
    key_of: impl Fn(K) -> Key,
    seed: u64,
    slots: u32,
) -> Option<Vec<Placed<K>>> {
    let mut all: Vec<Placed<K>> = keys
        .map(|(key, ends)| Placed { hash: key_of(key).hash(seed), key, ends, slot: 0 })
        .collect();
    // A hash' upper half says where its place is: this is the order of places, too.
    all.sort_unstable_by(|a, b| a.hash.cmp(&b.hash).then_with(|| a.key.cmp(&b.key)));
    all.dedup_by(|later, kept| {
        let same = later.key == kept.key;
        if same && longevity(later.ends) > longevity(kept.ends) {
            kept.ends = later.ends;
        }
        same
    });
    if all.len() > slots as usize {
        return None;
    }
    // Those that find no slot before the end go round to the beginning, where so many slots are kept for them. The more
    // are kept, the more go round, so it is gone through until that comes out even.
    let mut round = 0u32;
    for _ in 0..PROBES {
        let mut next = round;
        let mut over = 0u32;
        for placed in &mut all {
            let place = home(placed.hash, slots);
            let mut at = next.max(place);
            if at < slots {
                next = at + 1;
            } else {
                at = slots + over;
                over += 1;
            }
            if at - place >= PROBES {
                return None;
            }
            placed.slot = if at < slots { at } else { at - slots };
        }
        if over == round {
            return Some(all);
        }
        round = over;
    }
    None
}

fn put<K: Copy>(memory: &Memory, table: Table, key_of: impl Fn(K) -> Key, all: &[Placed<K>]) {
    for placed in all {
        let key = key_of(placed.key);
        memory.lead(key, placed.hash);
        memory.write_alone(table, placed.slot, key, placed.ends);
    }
}
