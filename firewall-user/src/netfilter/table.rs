//! The live model: bytes of the sockets in, entries, accounts and translations out. It reads no clock
//! and knows no socket.
//!
//! A dump is read to its end before the events that came meanwhile. So an entry that ended during the
//! dump is removed by its event afterwards, one that began is added by its own, and a state that
//! an event set back for a moment is set right by the entry's last one.
//!
//! Entries can go without a word: events are lost when the socket overruns, and netfilter sends none
//! for entries that are older than its first listener. A dump finds them out: what two of them in a row
//! don't have is gone. (One isn't enough: a table that is being resized hides entries for a while.)

use super::{
    account::NetfilterAccounts,
    binding::{BindingEvent, Ended, NatBinding},
    decode::{Message, Messages},
    entry::{EntryKey, Facts, NetfilterEntry, nat},
};
use std::collections::HashMap;

/// Dumps in a row that an entry may be missing from before it counts as gone.
const MISSING_MAX: u8 = 2;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetfilterCounters {
    /// Entries that began, by event.
    pub began: u64,
    /// Changes, by event.
    pub updated: u64,
    /// Entries that ended, by event.
    pub ended: u64,
    /// Entries that ended without an event.
    pub gone: u64,
    /// Times the socket overran and events were lost; each is followed by a dump.
    pub overruns: u64,
    /// Dumps that were read to their end.
    pub dumps: u64,
    /// Messages that couldn't be understood.
    pub malformed: u64,
}

/// How far a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpStep {
    /// There is more to read.
    More,
    /// This was the last of it.
    Done,
    /// The kernel broke it off with this `errno`.
    Failed(i32),
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    facts: Facts,
    /// When `facts` was learned, nanoseconds since 1970.
    seen_ns: i64,
    /// The last dump it was in.
    dump: u32,
    /// Dumps since, that it wasn't in.
    missing: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub struct NetfilterTable {
    entries: HashMap<EntryKey, Tracked>,
    accounts: NetfilterAccounts,
    counters: NetfilterCounters,
    bindings: Vec<BindingEvent>,
    /// Number of the dump that is being read, or was last.
    dump: u32,
    /// Entries with a translation.
    translated: u64,
    /// Entries that the last dump didn't have.
    missing: u64,
}

/// An entry that lives, and when it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct LiveEntry {
    /// The entry.
    pub entry: NetfilterEntry,
    /// When that was learned, nanoseconds since 1970.
    pub seen_ns: i64,
}

impl NetfilterTable {
    /// A dump begins.
    pub fn begin_dump(&mut self) {
        self.dump = self.dump.wrapping_add(1);
    }

    /// A part of the dump.
    pub fn dumped(&mut self, bytes: &[u8], now_ns: i64) -> DumpStep {
        for message in Messages::new(bytes) {
            match message {
                Ok(Message::New(entry) | Message::Update(entry)) => {
                    self.learn(&entry, now_ns, true);
                }
                Ok(Message::Done(0)) => {
                    self.end_dump(now_ns);
                    return DumpStep::Done;
                }
                Ok(Message::Done(errno) | Message::Error(errno)) if errno != 0 => {
                    return DumpStep::Failed(errno);
                }
                Ok(_) => {}
                Err(error) => self.not_understood(error),
            }
        }
        DumpStep::More
    }

    fn end_dump(&mut self, now_ns: i64) {
        self.counters.dumps += 1;
        let mut gone = Vec::new();
        self.missing = 0;
        for (key, tracked) in &mut self.entries {
            if tracked.dump == self.dump {
                tracked.missing = 0;
                continue;
            }
            tracked.missing += 1;
            if tracked.missing >= MISSING_MAX {
                gone.push(*key);
            }
            self.missing += 1;
        }
        for key in gone {
            if let Some(facts) = self.remove(&key) {
                self.end(key, facts, now_ns, Ended::Gone);
            }
        }
    }

    /// What the multicast socket gave.
    pub fn events(&mut self, bytes: &[u8], now_ns: i64) {
        for message in Messages::new(bytes) {
            match message {
                Ok(Message::New(entry)) => {
                    self.counters.began += 1;
                    self.learn(&entry, now_ns, false);
                }
                Ok(Message::Update(entry)) => {
                    self.counters.updated += 1;
                    self.learn(&entry, now_ns, false);
                }
                Ok(Message::Destroy(entry)) => {
                    self.counters.ended += 1;
                    let mut facts = self.remove(&entry.key).unwrap_or(entry.facts);
                    facts.update(&entry.facts);
                    self.end(entry.key, facts, now_ns, Ended::Told);
                }
                Ok(Message::Done(_) | Message::Error(_) | Message::Other) => {}
                Err(error) => self.not_understood(error),
            }
        }
    }

    /// The multicast socket overran.
    pub fn overrun(&mut self) {
        self.counters.overruns += 1;
    }

    /// Translations that began or ended since the last call, in order.
    pub fn take_bindings(&mut self) -> Vec<BindingEvent> {
        std::mem::take(&mut self.bindings)
    }

    /// The entries that live, in no order.
    pub fn live(&self) -> impl Iterator<Item = LiveEntry> {
        self.entries.iter().filter(|(_, tracked)| tracked.missing == 0).map(|(key, tracked)| {
            let entry = NetfilterEntry { key: *key, facts: tracked.facts };
            LiveEntry { entry, seen_ns: tracked.seen_ns }
        })
    }

    /// How many live.
    pub fn live_count(&self) -> u64 {
        (self.entries.len() as u64).saturating_sub(self.missing)
    }

    /// How many entries with a translation are known (the next dump may find some of them gone).
    pub const fn translated(&self) -> u64 {
        self.translated
    }

    /// Whether the next dump is waited for to know which entries are gone.
    pub const fn in_doubt(&self) -> bool {
        self.missing > 0
    }

    /// Accounts of translated entries that have ended.
    pub const fn accounts(&self) -> &NetfilterAccounts {
        &self.accounts
    }

    /// What happened so far.
    pub const fn counters(&self) -> NetfilterCounters {
        self.counters
    }

    /// What a message says of an entry that lives; `found`: by a dump.
    fn learn(&mut self, entry: &NetfilterEntry, now_ns: i64, found: bool) {
        let NetfilterEntry { key, facts } = *entry;
        let mut known = self.entries.get(&key).copied();
        if let Some(old) = known.take_if(|old| another(&old.facts, &facts)) {
            self.remove(&key);
            self.end(key, old.facts, now_ns, Ended::Gone);
        }
        let (mut all, mut dump) = (facts, self.dump);
        if let Some(old) = known {
            all = old.facts;
            all.update(&facts);
            self.missing -= u64::from(old.missing > 0);
            if !found {
                dump = old.dump;
            }
        } else if let Some(binding) = binding(entry) {
            self.translated += 1;
            self.bindings.push(BindingEvent::Began { binding, seen_ns: now_ns, found });
        }
        self.entries.insert(key, Tracked { facts: all, seen_ns: now_ns, dump, missing: 0 });
    }

    fn remove(&mut self, key: &EntryKey) -> Option<Facts> {
        let Tracked { facts, missing, .. } = self.entries.remove(key)?;
        self.missing -= u64::from(missing > 0);
        self.translated -= u64::from(nat(&key.orig, &facts.reply).is_some());
        Some(facts)
    }

    /// An entry ended; it isn't in the table any more.
    fn end(&mut self, key: EntryKey, facts: Facts, now_ns: i64, how: Ended) {
        self.counters.gone += u64::from(how == Ended::Gone);
        let entry = NetfilterEntry { key, facts };
        let Some(binding) = binding(&entry) else { return };
        self.accounts.ended(&entry, how == Ended::Told);
        self.bindings.push(BindingEvent::Ended {
            binding,
            seen_ns: now_ns,
            stop_ns: facts.stop_ns,
            totals: facts.counters,
            how,
        });
    }

    fn not_understood(&mut self, error: super::error::DecodeError) {
        self.counters.malformed += 1;
        if self.counters.malformed == 1 {
            log::warn!("netfilter sent something that can't be understood: {error}");
        }
    }
}

fn binding(entry: &NetfilterEntry) -> Option<NatBinding> {
    let NetfilterEntry { key, facts } = *entry;
    entry.nat().map(|nat| NatBinding { key, reply: facts.reply, nat, start_ns: facts.start_ns })
}

/// Whether these are two entries, one after the other: the kernel's id is made of the tuple and the
/// entry's place in memory, and both may come again. Counters that somebody set to zero begin another
/// entry too, so that totals go on adding up.
fn another(old: &Facts, new: &Facts) -> bool {
    let started = old.start_ns.zip(new.start_ns).is_some_and(|(old, new)| old != new);
    let fell = old.counters.zip(new.counters).is_some_and(|(old, new)| {
        new.orig.packets < old.orig.packets || new.reply.packets < old.reply.packets
    });
    started || fell || old.reply != new.reply
}
