//! Editing an arena in place: exactly what [`firewall_common::sets`] reads, and kernel programs with it.
//!
//! Programs look entries up at any time and take no lock. So whatever leads to an entry (the bits of the filter, of the
//! gate, of the lengths in use) is there before the entry is, and an entry becomes one by its last store: of the one word
//! of an IPv4 slot, of the tag of an IPv6 slot. Whoever changes something holds the head's lock ([`super::lock`]).

use super::{
    SetKind,
    entry::Entry,
    shape::{Counts, Shape},
    slot::{Key, nets},
};
use firewall_common::{
    abi::{
        bucket::QUARANTINE,
        set::{PROBES, SHAPE, SLOT4, SLOT6, shape, tag},
    },
    classify::Arena,
    sets::{filtered, gate, home},
};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

const STATE: u32 = tag::STATE;

/// The words of an arena.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a>(&'a [AtomicU64]);

impl Arena for Memory<'_> {
    fn word(&self, at: u32) -> u64 {
        self.0.get(at as usize).map_or(0, |word| word.load(Acquire))
    }
    fn half(&self, at: u32) -> u32 {
        (self.word(at / 2) >> (32 * (at & 1))) as u32
    }
}

/// What became of an entry that was to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is new.
    New,
    /// It was there; this is the tick at which it would have ended (0: never).
    Renewed(u64),
    /// All slots that it may stand in are taken.
    NoRoom,
}

/// What is found in a set: an entry, and the tick at which it ends (0: never).
pub type Found = (Entry, u64);

/// A table of an arena: where its slots begin, how many there are, and words of each.
#[derive(Clone, Copy)]
pub(super) struct Table {
    first: u32,
    pub slots: u32,
    width: u32,
    /// Where in a slot the tag's word stands.
    tag_at: u32,
}

impl Table {
    /// Word of a slot.
    pub const fn at(&self, slot: u32) -> u32 {
        self.first + slot * self.width
    }
    /// Word of a slot's tag.
    pub const fn tag_at(&self, slot: u32) -> u32 {
        self.at(slot) + self.tag_at
    }
    /// Word of a slot's tick.
    pub const fn ends_at(&self, slot: u32) -> u32 {
        self.at(slot) + self.width - 1
    }
    pub const fn next(&self, slot: u32) -> u32 {
        if slot + 1 < self.slots { slot + 1 } else { 0 }
    }
}

const fn pair(first: u32, second: u32) -> u64 {
    (second as u64) << 32 | first as u64
}

impl<'a> Memory<'a> {
    /// Over an arena's words.
    pub const fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Lays out an arena of zeros, which nobody else knows of yet. `seed`: a secret, so that nobody can aim at a slot.
    pub fn lay(words: &'a [AtomicU64], shape: &Shape, seed: u64) -> Self {
        let this = Self(words);
        this.set(shape::GATE, pair(shape.gate, shape.gate_shift));
        this.set(shape::FILTER, pair(shape.filter, shape.filter_mask));
        this.set(shape::SLOTS4, pair(shape.first4, shape.slots4));
        this.set(shape::SLOTS6, pair(shape.first6, shape.slots6));
        this.set(shape::PORTS, shape.ports.into());
        this.set(shape::SEED, seed);
        this
    }

    /// Where in it what stands; `None` where it was never laid out.
    pub fn shape(&self) -> Option<Shape> {
        let both = |at| {
            let word = self.word(at);
            (word as u32, (word >> 32) as u32)
        };
        let class = firewall_common::abi::set::SET_ARENAS
            .iter()
            .position(|words| *words == self.0.len())
            .map(|class| class as u32 + 1)?;
        let (gate, gate_shift) = both(shape::GATE);
        let (filter, filter_mask) = both(shape::FILTER);
        let (first4, slots4) = both(shape::SLOTS4);
        let (first6, slots6) = both(shape::SLOTS6);
        (filter >= SHAPE).then(|| Shape {
            class,
            gate,
            gate_shift,
            ports: self.word(shape::PORTS) as u32,
            filter,
            filter_mask,
            first4,
            slots4,
            first6,
            slots6,
        })
    }

    pub(super) fn set(&self, at: u32, value: u64) {
        if let Some(word) = self.0.get(at as usize) {
            word.store(value, Release);
        }
    }

    fn or(&self, at: u32, bits: u64) {
        // Most often they are there, and a look is cheaper than a locked instruction.
        if let Some(word) = self.0.get(at as usize)
            && word.load(Relaxed) & bits != bits
        {
            word.fetch_or(bits, Release);
        }
    }

    fn tag(&self, table: Table, slot: u32) -> u32 {
        let word = self.word(table.tag_at(slot));
        if table.width == SLOT4 { (word >> 32) as u32 } else { word as u32 }
    }

    pub(super) fn seed(&self) -> u64 {
        self.word(shape::SEED)
    }

    pub(super) fn four(&self) -> Table {
        let word = self.word(shape::SLOTS4);
        Table { first: word as u32, slots: (word >> 32) as u32, width: SLOT4, tag_at: 0 }
    }

    pub(super) fn six(&self) -> Table {
        let word = self.word(shape::SLOTS6);
        Table { first: word as u32, slots: (word >> 32) as u32, width: SLOT6, tag_at: 2 }
    }

    pub(super) fn table(&self, key: Key) -> Table {
        match key {
            Key::Four(_) => self.four(),
            Key::Six(..) => self.six(),
        }
    }

    fn key(&self, table: Table, slot: u32) -> Key {
        let at = table.at(slot);
        if table.width == SLOT4 {
            Key::Four(self.word(at))
        } else {
            // The tag first: it is the last that becomes true.
            let tag = self.word(at + 2) as u32;
            Key::Six([self.word(at), self.word(at + 1)], tag)
        }
    }

    /// The slot that holds a key, whether its time has passed or not.
    fn slot_of(&self, key: Key, hash: u64) -> Option<u32> {
        let table = self.table(key);
        let mut slot = home(hash, table.slots);
        for _ in 0..PROBES.min(table.slots) {
            let there = self.key(table, slot);
            if there == key {
                return Some(slot);
            }
            if there.tag() == 0 {
                return None;
            }
            slot = table.next(slot);
        }
        None
    }

    /// Whatever leads a look-up to a key.
    pub(super) fn lead(&self, key: Key, hash: u64) {
        let filter = self.word(shape::FILTER);
        let (word, bit) = filtered(hash, (filter >> 32) as u32);
        self.or(filter as u32 + word, bit);
        self.open(key);
        let (lens, shorter) = match key {
            Key::Four(_) => (shape::LENS4, 32 - key.len()),
            Key::Six(..) => (shape::LENS6, 128 - key.len()),
        };
        self.or(lens + shorter / 64, 1 << (shorter & 63));
    }

    /// Opens the gate for all addresses of a key.
    fn open(&self, key: Key) {
        let word = self.word(shape::GATE);
        let (first, shift) = (word as u32, (word >> 32) as u32);
        if first == 0 {
            return;
        }
        let bits = 1u64 << (32 - shift);
        let (net, many) = nets(key);
        if many > bits / 4 {
            // Hardly a bit would stay clear.
            return (0..(bits / 64) as u32).for_each(|word| self.or(first + word, u64::MAX));
        }
        for behind in 0..many {
            let (word, bit) = gate(net + behind as u32, shift);
            self.or(first + word, bit);
        }
    }

    /// Enters an entry that ends at tick `ends` (0: never), or gives one that is there that time. Under the lock.
    pub fn insert(&self, entry: Entry, ends: u64, now: u64) -> Entered {
        let Some(key) = Key::of(entry) else { return self.insert_ports(entry) };
        let hash = key.hash(self.seed());
        let table = self.table(key);
        if let Some(slot) = self.slot_of(key, hash) {
            let before = self.word(table.ends_at(slot));
            self.set(table.ends_at(slot), ends);
            return Entered::Renewed(before);
        }
        let mut slot = home(hash, table.slots);
        let mut left = PROBES.min(table.slots);
        while left != 0 && !self.is_vacant(table, slot, now) {
            slot = table.next(slot);
            left -= 1;
        }
        if left == 0 {
            return Entered::NoRoom;
        }
        self.lead(key, hash);
        self.write(table, slot, key, ends);
        self.add(shape::COUNT, 1);
        Entered::New
    }

    fn is_vacant(&self, table: Table, slot: u32, now: u64) -> bool {
        match self.tag(table, slot) & STATE {
            0 => true,
            tag::DEAD => now.saturating_sub(self.word(table.ends_at(slot))) > u64::from(QUARANTINE),
            _ => false,
        }
    }

    /// Writes a slot: it is nobody's until the last store.
    fn write(&self, table: Table, slot: u32, key: Key, ends: u64) {
        let at = table.at(slot);
        match key {
            Key::Four(entry) => {
                self.set(at, u64::from(tag::BUSY) << 32);
                self.set(at + 1, ends);
                self.set(at, entry);
            }
            Key::Six(address, tag) => {
                self.set(at + 2, tag::BUSY.into());
                self.set(at, address[0]);
                self.set(at + 1, address[1]);
                self.set(at + 3, ends);
                self.set(at + 2, tag.into());
            }
        }
    }

    /// Writes a slot of an arena that nobody else knows of.
    pub(super) fn write_alone(&self, table: Table, slot: u32, key: Key, ends: u64) {
        let at = table.at(slot);
        match key {
            Key::Four(entry) => {
                self.set(at, entry);
                self.set(at + 1, ends);
            }
            Key::Six(address, tag) => {
                self.set(at, address[0]);
                self.set(at + 1, address[1]);
                self.set(at + 2, tag.into());
                self.set(at + 3, ends);
            }
        }
    }

    /// Takes an entry out; the tick at which it would have ended, if it was there. Under the lock.
    pub fn remove(&self, entry: Entry, now: u64) -> Option<u64> {
        let Some(key) = Key::of(entry) else { return self.remove_ports(entry).then_some(0) };
        let slot = self.slot_of(key, key.hash(self.seed()))?;
        let table = self.table(key);
        let ends = self.word(table.ends_at(slot));
        self.bury(table, slot, now);
        Some(ends)
    }

    fn bury(&self, table: Table, slot: u32, now: u64) {
        let live = self.tag(table, slot) & STATE == tag::LIVE;
        let dead = u64::from(tag::DEAD) << if table.width == SLOT4 { 32 } else { 0 };
        self.set(table.tag_at(slot), dead);
        self.set(table.ends_at(slot), now);
        if live {
            self.add(shape::COUNT, -1);
        }
    }

    pub(super) fn add(&self, at: u32, many: i64) {
        if let Some(word) = self.0.get(at as usize) {
            word.fetch_add(many.cast_unsigned(), Relaxed);
        }
    }

    fn port_words(&self) -> Option<&'a [AtomicU64]> {
        let first = self.word(shape::PORTS) as usize;
        if first == 0 { None } else { self.0.get(first..first + 1024) }
    }

    fn insert_ports(&self, entry: Entry) -> Entered {
        let (Entry::Ports(first, last), Some(words)) = (entry, self.port_words()) else {
            return Entered::NoRoom;
        };
        let mut new = false;
        for (word, bits) in spread(first, last) {
            new |= words[word].fetch_or(bits, Release) & bits != bits;
        }
        if new { Entered::New } else { Entered::Renewed(0) }
    }

    fn remove_ports(&self, entry: Entry) -> bool {
        let (Entry::Ports(first, last), Some(words)) = (entry, self.port_words()) else {
            return false;
        };
        let mut was = false;
        for (word, bits) in spread(first, last) {
            was |= words[word].fetch_and(!bits, Release) & bits != 0;
        }
        was
    }

    /// Entries that hold all of `entry`, and haven't ended by `now`; the narrowest first. Of ports: the run of ports that
    /// it is in.
    pub fn holding(&self, entry: Entry, now: u64) -> Vec<Found> {
        if let Entry::Ports(first, last) = entry {
            let within = |run: &Entry| Entry::Ports(first, last).within(*run);
            return self.runs().into_iter().filter(within).map(|run| (run, 0)).collect();
        }
        let (width, lens): (u32, Vec<u32>) = match entry {
            Entry::Prefix4(_, len) => (u32::from(len), self.lens(shape::LENS4, 32)),
            Entry::Prefix6(_, len) => (u32::from(len), self.lens(shape::LENS6, 128)),
            // A pair is an entry of its own, or none.
            _ => (u32::MAX, vec![0]),
        };
        let cut = |len: u32| match entry {
            Entry::Prefix4(address, _) => {
                Entry::Prefix4(firewall_common::sets::masked4(address, len), len as u8)
            }
            Entry::Prefix6(address, _) => {
                let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
                Entry::Prefix6(address & mask, len as u8)
            }
            other => other,
        };
        let candidates = lens.into_iter().filter(|len| *len <= width).map(cut);
        candidates.filter_map(|entry| Some((entry, self.ends(entry, now)?))).collect()
    }

    /// Prefix lengths in use of addresses of `width` bits, the longest first.
    fn lens(&self, first: u32, width: u32) -> Vec<u32> {
        (0..=width / 64)
            .flat_map(|at| bits(self.word(first + at)).map(move |bit| at * 64 + bit))
            .filter_map(|shorter| width.checked_sub(shorter))
            .collect()
    }

    /// The tick at which exactly this entry ends (0: never), if it is there and hasn't by `now`.
    pub fn ends(&self, entry: Entry, now: u64) -> Option<u64> {
        let key = Key::of(entry)?;
        let slot = self.slot_of(key, key.hash(self.seed()))?;
        let ends = self.word(self.table(key).ends_at(slot));
        (ends == 0 || ends > now).then_some(ends)
    }

    /// All entries that haven't ended by `now`, in no order; ports as the runs that they make.
    pub fn each(&self, now: u64, each: &mut impl FnMut(Entry, u64)) {
        self.runs().into_iter().for_each(|run| each(run, 0));
        for table in [self.four(), self.six()] {
            for slot in 0..table.slots {
                if let Some(entry) = self.key(table, slot).entry() {
                    let ends = self.word(table.ends_at(slot));
                    if ends == 0 || ends > now {
                        each(entry, ends);
                    }
                }
            }
        }
    }

    /// Entries in the tables, those that have ended and weren't reaped included; of ports: how many.
    pub fn count(&self) -> u64 {
        match self.port_words() {
            Some(words) => {
                words.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum()
            }
            None => self.word(shape::COUNT),
        }
    }

    /// What it can hold.
    pub fn kind(&self, tables: SetKind) -> SetKind {
        if self.port_words().is_some() { SetKind::Ports } else { tables }
    }

    /// Ports as the runs that they make.
    fn runs(&self) -> Vec<Entry> {
        let mut runs = Vec::new();
        let mut begun = None;
        let words = self.port_words().into_iter().flatten();
        let listed = words.flat_map(|word| {
            let word = word.load(Relaxed);
            (0..64).map(move |bit| word >> bit & 1 != 0)
        });
        for (port, listed) in (0..=u16::MAX).zip(listed) {
            match (listed, begun) {
                (true, None) => begun = Some(port),
                (false, Some(first)) => {
                    runs.push(Entry::Ports(first, port - 1));
                    begun = None;
                }
                _ => {}
            }
        }
        runs.extend(begun.map(|first| Entry::Ports(first, u16::MAX)));
        runs
    }
}

/// What a walk over a part of a table found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Entries that had ended, and were taken out.
    pub ended: u64,
    /// Those that live.
    pub live: Counts,
}

/// Slots that are looked at under the lock together: it is held for some microseconds.
const CHUNK: u32 = 1024;

impl Memory<'_> {
    /// Takes out entries that ended before tick `before`, in part `part` of `parts` of the tables. The lock is taken, by
    /// `lock`, for those parts that have something to do.
    ///
    /// Dead slots behind which nothing stands become free for good, so that look-ups end there again.
    pub fn reap<L>(
        &self,
        part: u32,
        parts: u32,
        before: u64,
        now: u64,
        mut lock: impl FnMut() -> Option<L>,
    ) -> Reaped {
        let mut reaped = Reaped::default();
        for table in [self.four(), self.six()] {
            let edge =
                |part: u32| (u64::from(table.slots) * u64::from(part) / u64::from(parts)) as u32;
            let (first, mut end) = (edge(part), edge(part + 1));
            // From behind: what is free behind a dead slot frees it too.
            while end > first {
                let begin = end.saturating_sub(CHUNK).max(first);
                let mut live = 0;
                let mut asks = false;
                for slot in begin..end {
                    match self.tag(table, slot) & STATE {
                        0 => {}
                        tag::LIVE => {
                            live += 1;
                            asks |= self.has_ended(table, slot, before);
                        }
                        _ => asks = true,
                    }
                }
                if asks && let Some(_held) = lock() {
                    let ended = self.reap_slots(table, begin, end, before, now);
                    reaped.ended += ended;
                    live -= ended.min(live);
                }
                *(if table.width == SLOT4 {
                    &mut reaped.live.four
                } else {
                    &mut reaped.live.six
                }) += live;
                end = begin;
            }
        }
        reaped
    }

    fn has_ended(&self, table: Table, slot: u32, before: u64) -> bool {
        let ends = self.word(table.ends_at(slot));
        ends != 0 && ends < before
    }

    fn reap_slots(&self, table: Table, begin: u32, end: u32, before: u64, now: u64) -> u64 {
        let mut ended = 0;
        for slot in (begin..end).rev() {
            match self.tag(table, slot) & STATE {
                tag::LIVE if self.has_ended(table, slot, before) => {
                    self.bury(table, slot, now);
                    ended += 1;
                }
                // Whoever was at it died, or it wouldn't hold a slot while we hold the lock.
                tag::BUSY => self.bury(table, slot, now),
                tag::DEAD
                    if self.is_vacant(table, slot, now)
                        && self.tag(table, table.next(slot)) == 0 =>
                {
                    self.set(table.tag_at(slot), 0);
                }
                _ => {}
            }
        }
        ended
    }
}

/// Numbers of the bits that are set.
fn bits(word: u64) -> impl DoubleEndedIterator<Item = u32> {
    (0..64).filter(move |bit| word >> bit & 1 != 0)
}

/// Words and bits of a run of ports.
fn spread(first: u16, last: u16) -> impl Iterator<Item = (usize, u64)> {
    (first / 64..=last / 64).map(move |word| {
        let (from, to) = (first.saturating_sub(word * 64), last - word * 64);
        let below = u64::MAX << from;
        let above = if to >= 63 { u64::MAX } else { (1 << (to + 1)) - 1 };
        (usize::from(word), below & above)
    })
}
