//! A live set, and what is done to it: entries in and out one by one, where it stands; many at once by a new arena that
//! takes the place of the old one.

use super::{
    SIZE, SetKind,
    entry::Entry,
    fill::Heap,
    ground::{self, Ground, Head, Shared, memory},
    lock,
    memory::{Entered, Found, Memory, Reaped},
    shape::{Counts, Shape, TooMany, most},
};
use firewall_common::abi::set::SetHead;
use std::{io, sync::Arc};
use thiserror::Error;

/// Entries that are entered one by one: more are put into a new arena, which is faster then.
const FEW: usize = 4_096;
/// Entries that are entered under the lock together.
const TOGETHER: usize = 64;
/// Slots beyond which a table is reaped in parts, a part each time.
const WHOLE: u32 = 1 << 20;
/// Such parts.
const PARTS: u32 = 8;
/// Seconds that an entry stays behind its end.
const GRACE: u64 = 2;

/// An entry that is to be entered; milliseconds until it ends, `None`: it doesn't.
pub type Timed = (Entry, Option<u64>);

/// Why something wasn't done to a set. Then it is as it was.
#[derive(Debug, Error)]
pub enum LiveError {
    /// It has no room.
    #[error("{0}")]
    TooMany(#[from] TooMany),
    /// Its policy says how many it may hold.
    #[error(
        "the set would hold {would} entries; its `size` is {most}: delete some, or give it a larger one in the policy"
    )]
    Size {
        /// How many it would hold.
        would: u64,
        /// How many it may.
        most: u64,
    },
    /// An entry of another kind.
    #[error("`{entry}` can't be in a set of {}; expected {}", .kind.name(), super::expected(*.kind))]
    Kind {
        /// The entry.
        entry: Entry,
        /// What the set holds.
        kind: SetKind,
    },
    /// Ports have no room for a tick.
    #[error("`{entry}` with a time-out; expected none: ports stay until they are deleted")]
    Lasting {
        /// The entry.
        entry: Entry,
    },
    /// The kernel refused.
    #[error("live sets: {what}: {error}")]
    Kernel {
        /// What was attempted.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// There is no arena where one should be.
    #[error("the set has no memory in the kernel; apply the policy again")]
    Nowhere,
}

/// What came of entries that were to be entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// New ones.
    pub new: u64,
    /// Those that were there, and have their time anew.
    pub renewed: u64,
}

/// A live set.
#[derive(Clone, Debug)]
pub struct Live {
    ground: Arc<dyn Ground>,
    index: u8,
    head: Head,
}

impl Live {
    /// The set at an index.
    pub fn at(ground: Arc<dyn Ground>, index: u8) -> Self {
        let head = ground.head(index);
        Self { ground, index, head }
    }

    /// Its head, as it is now.
    pub fn head(&self) -> SetHead {
        self.head.read()
    }

    /// What it holds.
    pub fn kind(&self) -> SetKind {
        self.head.kind()
    }

    /// Its place in map `SETS`.
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Its memory, to look into.
    ///
    /// # Errors
    /// It has none.
    pub fn arena(&self) -> Result<Shared, LiveError> {
        self.ground.arena(self.index).ok_or(LiveError::Nowhere)
    }

    /// The kernel's tick.
    pub fn now(&self) -> u64 {
        self.ground.now()
    }

    /// Milliseconds until a tick; `None` of tick 0, which never comes.
    pub fn left_ms(&self, ends: u64, now: u64) -> Option<u64> {
        (ends != 0)
            .then(|| ends.saturating_sub(now).saturating_mul(1_000) / self.ground.rate().max(1))
    }

    fn ends(&self, timeout: Option<u64>, now: u64) -> u64 {
        timeout.map_or(0, |ms| {
            let ticks = u128::from(ms) * u128::from(self.ground.rate());
            now.saturating_add(u64::try_from(ticks.div_ceil(1_000)).unwrap_or(u64::MAX).max(1))
        })
    }

    fn locked(&self) -> lock::Held<'_> {
        ground::lock(&self.head, &*self.ground)
    }

    /// Begins a set that nobody asks yet: with these entries, and room for as many as rules may add.
    ///
    /// # Errors
    /// There is no room, or the kernel refused.
    pub fn begin(&self, of: &Limits, kind: SetKind, entries: &[Timed]) -> Result<(), LiveError> {
        self.head.begin(kind, self.ground.rate(), of.most());
        self.replace(of, entries)
    }

    /// Enters entries; those that are there get their time anew. All or none.
    ///
    /// # Errors
    /// An entry can't be in it, there is no room, or the kernel refused.
    pub fn add(&self, of: &Limits, entries: &[Timed]) -> Result<Added, LiveError> {
        self.check(entries)?;
        let arena = self.arena()?;
        if entries.len() > FEW {
            return self.add_many(of, &arena, entries);
        }
        let memory = memory(&arena);
        let missing = self.missing(&memory, entries);
        of.allow(self.kind(), memory.count() + missing.len() as u64)?;
        let (added, done) = self.enter(&memory, entries);
        if done == entries.len() {
            return Ok(added);
        }
        // What has been entered is there when the table is made anew.
        let rest = self.add_many(of, &arena, &entries[done..]).inspect_err(|_| {
            // All or none.
            let _ = self.delete(&missing);
        })?;
        Ok(Added { new: added.new + rest.new, renewed: added.renewed + rest.renewed })
    }

    /// Those that aren't there.
    fn missing(&self, memory: &Memory, entries: &[Timed]) -> Vec<Entry> {
        let now = self.ground.now();
        let there = |entry: &Entry| match entry {
            // Bits: nobody counts them.
            Entry::Ports(..) => true,
            entry => memory.ends(*entry, now).is_some(),
        };
        let mut missing: Vec<Entry> = entries.iter().map(|(entry, _)| *entry).collect();
        missing.retain(|entry| !there(entry));
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Enters as many as there is room for; how many that are.
    fn enter(&self, memory: &Memory, entries: &[Timed]) -> (Added, usize) {
        let mut added = Added::default();
        let mut done = 0;
        for some in entries.chunks(TOGETHER) {
            let held = self.locked();
            let now = self.ground.now();
            for (entry, timeout) in some {
                match memory.insert(*entry, self.ends(*timeout, now), now) {
                    Entered::New => added.new += 1,
                    Entered::Renewed(_) => added.renewed += 1,
                    Entered::NoRoom => return (added, done),
                }
                done += 1;
            }
            drop(held);
        }
        (added, done)
    }

    fn add_many(&self, of: &Limits, arena: &Shared, entries: &[Timed]) -> Result<Added, LiveError> {
        let now = self.ground.now();
        let mut heap = Heap::new(self.kind());
        let mut before = 0u64;
        let mut fresh = 0u64;
        let old = memory(arena);
        // What is entered anew has the new time, be it shorter than the old one.
        let new: std::collections::HashSet<Entry> =
            entries.iter().map(|(entry, _)| *entry).collect();
        old.each(now, &mut |entry, ends| {
            before += 1;
            if !new.contains(&entry) {
                heap.push(entry, ends);
            }
        });
        for (entry, timeout) in entries {
            heap.push(*entry, self.ends(*timeout, now));
        }
        if self.kind() != SetKind::Ports {
            fresh = self.missing_of(&old, &new, now);
        }
        of.allow(self.kind(), before + fresh)?;
        self.put(of, &heap, true, Some(arena))?;
        let renewed = (new.len() as u64).saturating_sub(fresh);
        Ok(Added { new: fresh, renewed })
    }

    fn missing_of(
        &self,
        memory: &Memory,
        entries: &std::collections::HashSet<Entry>,
        now: u64,
    ) -> u64 {
        entries.iter().filter(|entry| memory.ends(**entry, now).is_none()).count() as u64
    }

    /// Makes these its entries, at one moment; how many there are.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn replace(&self, of: &Limits, entries: &[Timed]) -> Result<(), LiveError> {
        self.check(entries)?;
        let now = self.ground.now();
        let mut heap = Heap::new(self.kind());
        for (entry, timeout) in entries {
            heap.push(*entry, self.ends(*timeout, now));
        }
        self.put(of, &heap, false, None)
    }

    fn check(&self, entries: &[Timed]) -> Result<(), LiveError> {
        let kind = self.kind();
        if let Some((entry, _)) = entries.iter().find(|(entry, _)| entry.kind() != kind) {
            return Err(LiveError::Kind { entry: *entry, kind });
        }
        match entries.iter().find(|(_, timeout)| timeout.is_some()) {
            Some((entry, _)) if kind == SetKind::Ports => Err(LiveError::Lasting { entry: *entry }),
            _ => Ok(()),
        }
    }

    /// Puts entries into a new arena, which takes the old one's place. What rules added to `old` meanwhile is added, too.
    fn put(
        &self,
        of: &Limits,
        heap: &Heap,
        grown: bool,
        old: Option<&Shared>,
    ) -> Result<(), LiveError> {
        let shape = heap.shape(grown, of.ahead(self.kind()))?;
        self.put_as(of, heap, &shape, old)
    }

    fn put_as(
        &self,
        of: &Limits,
        heap: &Heap,
        shape: &Shape,
        old: Option<&Shared>,
    ) -> Result<(), LiveError> {
        let failed = |what| move |error| LiveError::Kernel { what, error };
        let arena = (self.ground.maker())(shape.class).map_err(failed("making room"))?;
        // A program that is looking into the old table goes on in the new one, with the hash that it has.
        let mut known = self.ground.arena(self.index).map(|arena| memory(&arena).seed());
        let seed = || known.take().unwrap_or_else(secret);
        let count = heap.fill(arena.words(), shape, seed)?;
        of.allow(self.kind(), count)?;
        self.ground.publish(self.index, &arena).map_err(failed("putting a table in place"))?;
        if let Some(old) = old.filter(|_| of.grows) {
            self.take_over(&memory(old), &memory(&arena));
        }
        Ok(())
    }

    /// Enters what rules added to an arena after it was copied, or gave more time. No program finds it any more.
    fn take_over(&self, old: &Memory, new: &Memory) {
        let now = self.ground.now();
        let mut late: Vec<Found> = Vec::new();
        old.each(now, &mut |entry, ends| {
            let is_later = |there: u64| there != 0 && (ends == 0 || ends > there);
            if new.ends(entry, now).is_none_or(is_later) {
                late.push((entry, ends));
            }
        });
        for some in late.chunks(TOGETHER) {
            let _held = self.locked();
            for (entry, ends) in some {
                // There was room for twice as many a moment ago; what finds none is added by its next packet.
                let _ = new.insert(*entry, *ends, self.ground.now());
            }
        }
    }

    /// Takes entries out; how many were there.
    ///
    /// # Errors
    /// An entry can't be in it, or it has no memory.
    pub fn delete(&self, entries: &[Entry]) -> Result<u64, LiveError> {
        let kind = self.kind();
        if let Some(entry) = entries.iter().find(|entry| entry.kind() != kind) {
            return Err(LiveError::Kind { entry: *entry, kind });
        }
        let arena = self.arena()?;
        let memory = memory(&arena);
        let mut gone = 0;
        for some in entries.chunks(TOGETHER) {
            let _held = self.locked();
            let now = self.ground.now();
            for entry in some {
                let was = memory.remove(*entry, now);
                // What had ended wasn't there, to whoever asks.
                gone += u64::from(was.is_some_and(|ends| ends == 0 || ends > now));
            }
        }
        Ok(gone)
    }

    /// All entries that haven't ended; milliseconds that are left.
    ///
    /// # Errors
    /// It has no memory.
    pub fn entries(&self) -> Result<Vec<Timed>, LiveError> {
        let (arena, now) = (self.arena()?, self.ground.now());
        let memory = memory(&arena);
        let mut all = Vec::with_capacity(usize::try_from(memory.count()).unwrap_or(0));
        memory.each(now, &mut |entry, ends| all.push((entry, self.left_ms(ends, now))));
        Ok(all)
    }

    /// Entries that hold all of `entry`, the narrowest first, with the milliseconds that are left.
    ///
    /// # Errors
    /// It can't be in it, or there is no memory.
    pub fn test(&self, entry: Entry) -> Result<Vec<Timed>, LiveError> {
        let kind = self.kind();
        if entry.kind() != kind {
            return Err(LiveError::Kind { entry, kind });
        }
        let (arena, now) = (self.arena()?, self.ground.now());
        let holding = memory(&arena).holding(entry, now);
        Ok(holding.into_iter().map(|(entry, ends)| (entry, self.left_ms(ends, now))).collect())
    }

    /// Takes out what ended a while ago: call it once a second, with one more `turn` each time. What it found; `true` where
    /// all of it was looked at.
    ///
    /// # Errors
    /// It has no memory.
    pub fn reap(&self, turn: u32) -> Result<(Reaped, bool), LiveError> {
        let arena = self.arena()?;
        let memory = memory(&arena);
        let slots = memory.shape().map_or(0, |shape| shape.slots4.max(shape.slots6));
        let parts = if slots > WHOLE { PARTS } else { 1 };
        let now = self.ground.now();
        let before = now.saturating_sub(GRACE * self.ground.rate());
        let reaped = memory.reap(turn % parts, parts, before, now, || Some(self.locked()));
        Ok((reaped, parts == 1))
    }

    /// Gives it more room if there is little: where `counts` of entries take half of a table, or rules found no room.
    /// Whether it did.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn grow(
        &self,
        of: &Limits,
        counts: Option<Counts>,
        refused: bool,
    ) -> Result<bool, LiveError> {
        if self.kind() == SetKind::Ports {
            return Ok(false);
        }
        let arena = self.arena()?;
        let old = memory(&arena);
        let Some(shape) = old.shape() else { return Err(LiveError::Nowhere) };
        let is_full = counts.is_some_and(|counts| shape.is_full(counts));
        // Rules are refused what the policy doesn't allow, too.
        let has_room = old.count() < of.most();
        if !has_room || !(is_full || refused) {
            return Ok(false);
        }
        let now = self.ground.now();
        let mut heap = Heap::new(self.kind());
        old.each(now, &mut |entry, ends| heap.push(entry, ends));
        let next = heap.shape(true, of.ahead(self.kind()))?;
        let more = |is: u32, was: u32| u64::from(is) * 8 > u64::from(was) * 9;
        if !more(next.slots4, shape.slots4) && !more(next.slots6, shape.slots6) {
            return Ok(false);
        }
        self.put_as(of, &heap, &next, Some(&arena))?;
        Ok(true)
    }

    /// Makes a set be no more: its memory is given back.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn end(&self) -> Result<(), LiveError> {
        let what = "giving a table back";
        self.ground.withdraw(self.index).map_err(|error| LiveError::Kernel { what, error })?;
        self.ground.set_name(self.index, "");
        Ok(())
    }

    /// Says how many entries it may have from now on.
    pub fn limit(&self, of: &Limits) {
        self.head.set_most(of.most());
    }
}

/// How much a policy lets a set hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most entries, if the policy says so.
    pub size: Option<u32>,
    /// Whether rules add to it.
    pub grows: bool,
}

impl Limits {
    /// Most entries, as its head says.
    pub fn most(&self) -> u64 {
        match self.size {
            Some(size) => size.into(),
            None if self.grows => SIZE.into(),
            None => u64::MAX,
        }
    }

    /// Most entries that there can be, by the policy or by what a table holds (of IPv4).
    pub fn room(&self) -> u64 {
        self.most().min(most(Counts::default()))
    }

    /// What there is to be room for from the beginning: rules add faster than anybody could make room.
    fn ahead(&self, kind: SetKind) -> Counts {
        if !self.grows || kind == SetKind::Ports {
            return Counts::default();
        }
        Counts { four: self.most(), six: self.most() / 4 }
    }

    /// Refuses more entries than the policy allows; without a `size` that is for rules alone.
    fn allow(&self, kind: SetKind, would: u64) -> Result<(), LiveError> {
        match self.size.map(u64::from) {
            Some(most) if kind != SetKind::Ports && would > most => {
                Err(LiveError::Size { would, most })
            }
            _ => Ok(()),
        }
    }
}

/// A secret of a table's own. Without random numbers it still differs each time.
fn secret() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
