//! What translated entries carried, by address, once they have ended.

use super::entry::{Counters, NetfilterEntry};
use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses kept apart; what comes after them is added up together.
const MAX_ADDRESSES: usize = 65_536;

/// Which end is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Translation {
    /// The source: masquerade, SNAT. The inside host began the flow.
    Source,
    /// The destination: DNAT, redirect. The inside host was asked.
    Destination,
}

impl Translation {
    /// In netfilter's words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "snat",
            Self::Destination => "dnat",
        }
    }
}

/// Which side of the translation an address stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The host's own address.
    Host,
    /// The address others see.
    Public,
}

impl Side {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Public => "public",
        }
    }
}

/// Whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// Kind of translation. A flow with both is in the accounts of both: each kind adds up by itself.
    pub translation: Translation,
    /// Side.
    pub side: Side,
    /// The address; `None`: all that came after too many others.
    pub address: Option<IpAddr>,
}

/// Totals of ended entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries that have ended.
    pub flows: u64,
    /// Of these, those whose packets and bytes netfilter didn't count.
    pub uncounted: u64,
    /// Of these, those whose end wasn't told: their last known figures are in the totals, and may be
    /// too low.
    pub at_least: u64,
    /// Packets and bytes, both ways.
    pub counters: Counters,
}

impl Totals {
    fn add(&mut self, counters: Option<Counters>, told: bool) {
        self.flows += 1;
        self.uncounted += u64::from(counters.is_none());
        self.at_least += u64::from(!told);
        let more = counters.unwrap_or_default();
        for (sum, more) in
            [(&mut self.counters.orig, more.orig), (&mut self.counters.reply, more.reply)]
        {
            sum.packets = sum.packets.saturating_add(more.packets);
            sum.bytes = sum.bytes.saturating_add(more.bytes);
        }
    }
}

/// All accounts.
#[derive(Clone, Debug, Default)]
pub struct NetfilterAccounts(HashMap<AccountKey, Totals>);

impl NetfilterAccounts {
    /// Books an entry that has ended; `told`: by an event with its final figures.
    pub(super) fn ended(&mut self, entry: &NetfilterEntry, told: bool) {
        let Some(nat) = entry.nat() else { return };
        let orig = &entry.key.orig;
        if nat.source {
            self.book(Translation::Source, orig.src, nat.to.src, entry, told);
        }
        if nat.destination {
            self.book(Translation::Destination, nat.to.dst, orig.dst, entry, told);
        }
    }

    fn book(
        &mut self,
        translation: Translation,
        host: IpAddr,
        public: IpAddr,
        entry: &NetfilterEntry,
        told: bool,
    ) {
        for (side, address) in [(Side::Host, host), (Side::Public, public)] {
            let mut key = AccountKey { translation, side, address: Some(address) };
            if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&key) {
                key.address = None;
            }
            self.0.entry(key).or_default().add(entry.facts.counters, told);
        }
    }

    /// The accounts, in order.
    pub fn rows(&self) -> Vec<(AccountKey, Totals)> {
        let mut rows: Vec<_> = self.0.iter().map(|(key, totals)| (*key, *totals)).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }
}
