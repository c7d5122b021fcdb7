//! Reading the tables.

use super::{FlowEntry, Part, Table, View, entry};
use crate::monitor::FlowRecord;
use firewall_common::abi::bucket::tag::LIVE;

/// Which flows to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every flow.
    All,
    /// Those with a packet at or after this tick.
    Since(u64),
}

impl View<'_> {
    /// The flows, IPv4 first, each with its translated tuple.
    pub fn flows(&self, which: Which, now: u64) -> Vec<FlowRecord> {
        let mut found = Vec::new();
        walk(&self.v4, which, now, |slot, record| {
            found.push(self.translated(record.oriented(), slot));
        });
        walk(&self.v6, which, now, |_, record| found.push(record.oriented()));
        found
    }

    /// The flows in a part of the tables, IPv4 first.
    pub fn flows_in(&self, Part { part, parts }: Part) -> Vec<FlowRecord> {
        let mut found = Vec::new();
        for slot in self.v4.part(part, parts) {
            if let Some((_, record)) = self.v4.live(slot) {
                found.push(self.translated(record.oriented(), slot));
            }
        }
        let six = self.v6.part(part, parts).filter_map(|slot| self.v6.live(slot));
        found.extend(six.map(|(_, record)| record.oriented()));
        found
    }

    /// The flow in `slot` with its translated tuple.
    pub(super) fn translated(&self, flow: FlowRecord, slot: usize) -> FlowRecord {
        let alias = entry::alias_of(&self.aliases, &flow.flow, slot);
        FlowRecord { nat: alias.map(|alias| entry::tuple(&alias)), ..flow }
    }
}

fn walk<R: FlowEntry>(
    table: &Table<'_, R>,
    which: Which,
    now: u64,
    mut each: impl FnMut(usize, R),
) {
    for slot in 0..table.slots() {
        if table.tag(slot) & LIVE == 0 {
            continue;
        }
        if let Which::Since(tick) = which {
            // One word: the rest of most records isn't touched.
            if u64::from(table.idle(slot, now)) > now.saturating_sub(tick) {
                continue;
            }
        }
        if let Some((_, record)) = table.live(slot) {
            each(slot, record);
        }
    }
}
