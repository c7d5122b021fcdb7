//! One flow out of a table, and into another one: what a twin needs to judge the next packet of a live flow.

use super::{Entry, FlowEntry, Table, Tables, View};
use crate::monitor::FlowRecord;
use firewall_common::{
    abi::{
        bucket::{
            SLOTS, first, second,
            tag::{self, HALF, LIVE, MATCH},
        },
        flow::{Flow4, Flow6, Key4, Key6},
        nat::{ALIAS_ENDPOINT, Alias4},
    },
    flow::{
        hash::hash4,
        key::{key4, key6},
    },
    wire::Facts,
};
use std::sync::atomic::Ordering;

/// A flow's record as it lies in a table, with the other tuples that it is seen under.
#[derive(Clone, Debug)]
pub struct Kept {
    record: Record,
    /// Bits of the tag that say how far the flow is.
    state: u64,
    /// The translated tuple, and the one between the hooks.
    aliases: [Option<Alias4>; 2],
}

#[derive(Clone, Debug)]
enum Record {
    V4(Flow4),
    V6(Flow6),
}

impl Kept {
    /// Whether the flow is translated.
    pub const fn is_translated(&self) -> bool {
        self.aliases[0].is_some()
    }
}

impl Tables {
    /// The live flow that a packet belongs to, and its record.
    pub fn find(&self, facts: &Facts) -> Option<(FlowRecord, Kept)> {
        self.view().find(facts)
    }

    /// Enters a copy of a flow, at tick `now`; whether there was room. No program may run meanwhile.
    pub fn enter(&self, kept: &Kept, now: u64) -> bool {
        self.view().enter(kept, now)
    }
}

impl View<'_> {
    fn find(&self, facts: &Facts) -> Option<(FlowRecord, Kept)> {
        if facts.family == 6 {
            let mut key = Key6::default();
            key6(&mut key, facts);
            let (_, state, record) = seek(&self.v6, &Flow6 { key, ..Flow6::default() }, self.seed)?;
            let kept = Kept { record: Record::V6(record), state, aliases: [None; 2] };
            return Some((record.oriented(), kept));
        }
        let mut key = Key4::default();
        key4(&mut key, facts);
        let (slot, state, record) = seek(&self.v4, &Flow4 { key, ..Flow4::default() }, self.seed)
            .or_else(|| {
            let (_, _, alias) =
                seek(&self.aliases, &Alias4 { key, ..Alias4::default() }, self.seed)?;
            let slot = alias.flow as usize;
            let (tag, record) =
                (alias.flags & ALIAS_ENDPOINT == 0).then(|| self.v4.live(slot))??;
            Some((slot, tag & (LIVE | HALF), record))
        })?;
        let alias = |place: u32| {
            let (_, alias) = self.aliases.live(place.checked_sub(1)? as usize)?;
            (alias.flow as usize == slot).then_some(alias)
        };
        let outer = alias(record.flow.nat);
        let inner = outer.and_then(|outer| alias(outer.inner));
        let kept = Kept { record: Record::V4(record), state, aliases: [outer, inner] };
        Some((self.translated(record.oriented(), slot), kept))
    }

    fn enter(&self, kept: &Kept, now: u64) -> bool {
        let Record::V4(mut record) = kept.record else {
            let Record::V6(record) = &kept.record else { return false };
            let Some(slot) = vacant(&self.v6, record.hash(self.seed), now) else { return false };
            self.v6.put(slot, record, tag::new(kept.state, now as u32, record.hash(self.seed)));
            return true;
        };
        let hash = record.hash(self.seed);
        let Some(slot) = vacant(&self.v4, hash, now) else { return false };
        let [outer, inner] = kept.aliases;
        let place = |alias: Option<Alias4>, inner: u32| {
            let Some(alias) = alias else { return Some(0) };
            // Its port stays the live table's: the twin has lent it to nobody.
            let alias = Alias4 { flow: slot as u32, inner, pool: 0, ..alias };
            let hash = hash4(&alias.key, self.seed);
            let at = vacant(&self.aliases, hash, now)?;
            self.aliases.put(at, &alias, tag::new(LIVE, now as u32, hash));
            Some(at as u32 + 1)
        };
        let Some(inner) = place(inner, 0) else { return false };
        let Some(outer) = place(outer, inner) else { return false };
        record.flow.nat = outer;
        self.v4.put(slot, &record, tag::new(kept.state, now as u32, hash));
        true
    }
}

/// The slots that a key may stand in.
fn places<R: Entry>(table: &Table<'_, R>, hash: u64) -> impl Iterator<Item = usize> {
    let n = (table.slots() / SLOTS) as u32;
    let one = first(hash, n);
    [one, second(hash, one, n)]
        .into_iter()
        .flat_map(|bucket| (0..SLOTS).map(move |i| bucket as usize * SLOTS + i))
}

/// The live record with the key of `like`: its slot, the state in its tag, itself.
fn seek<R: Entry>(table: &Table<'_, R>, like: &R, seed: u64) -> Option<(usize, u64, R)> {
    let hash = like.hash(seed);
    places(table, hash).find_map(|slot| {
        if table.tag(slot) & MATCH != tag::wanted(hash) {
            return None;
        }
        let (tag, record) = table.live(slot)?;
        record.same_key(like).then_some((slot, tag & (LIVE | HALF), record))
    })
}

fn vacant<R: Entry>(table: &Table<'_, R>, hash: u64, now: u64) -> Option<usize> {
    places(table, hash).find(|slot| tag::vacant(table.tag(*slot), now as u32))
}

impl<R: Entry> Table<'_, R> {
    /// Writes a record, then its tag.
    fn put(&self, slot: usize, record: &R, tag: u64) {
        for (to, from) in self.words_of(slot).iter().zip(bytemuck::bytes_of(record).chunks_exact(8))
        {
            let mut word = [0; 8];
            word.copy_from_slice(from);
            to.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        let before = self.tag(slot);
        let _ours = self.swap(slot, before, tag);
    }
}
