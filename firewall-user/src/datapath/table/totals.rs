//! What a flow leaves behind when it is taken out: its translation's totals, its source's count.

use super::{FlowEntry, View};
use firewall_common::{
    abi::{
        flow::{Flow, bits},
        nat::{ALIAS_INNER, Alias4, NAT_HOSTS, NatTotals},
    },
    flow::hash::source4,
};
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Words of a row of totals.
pub(super) const ROW: usize = size_of::<NatTotals>() / 8;
/// Rows that are looked at for a host. Programs look at as many.
const PROBES: usize = 8;
/// Beside a host's address: the row is in use.
const IN_USE: u64 = 1 << 32;

/// Adds a flow's totals to a row; only that a mapping ended, where the row has them already.
fn fold(row: &[AtomicU64], flow: &Flow, has_them: bool) {
    row[offset_of!(NatTotals, ended) / 8].fetch_add(1, Relaxed);
    if has_them {
        return;
    }
    for (at, n) in [
        (offset_of!(NatTotals, packets), flow.packets),
        (offset_of!(NatTotals, bytes), flow.bytes),
        (offset_of!(NatTotals, reply_packets), flow.reply_packets),
        (offset_of!(NatTotals, reply_bytes), flow.reply_bytes),
    ] {
        row[at / 8].fetch_add(n, Relaxed);
    }
}

/// The row of an inside host, made where it has none; the last row where there is no room.
pub fn host_row(hosts: &[AtomicU64], address: [u8; 4], seed: u64) -> Option<&[AtomicU64]> {
    let owner = u64::from(u32::from_be_bytes(address)) | IN_USE;
    let row_at = |at: usize| hosts.get(at * ROW..(at + 1) * ROW);
    let begin = source4(address, seed);
    for turn in 0..PROBES {
        let row = row_at((begin + turn) % NAT_HOSTS)?;
        let before = row[offset_of!(NatTotals, owner) / 8]
            .compare_exchange(0, owner, Relaxed, Relaxed)
            .unwrap_or_else(|before| before);
        if before == 0 || before == owner {
            return Some(row);
        }
    }
    row_at(NAT_HOSTS)
}

impl View<'_> {
    /// A flow was taken out: gives its source's count back.
    pub(super) fn leave<R: FlowEntry>(&self, record: &R) {
        if record.flow().bits & bits::SOURCE_COUNTED != 0
            && let Some(flows) = self.sources.get(record.source(self.seed))
        {
            // Never below zero: that would be the most there can be.
            let _empty = flows.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        }
    }

    /// The tuple between the hooks of a flow that is translated at both ends: its rule is the destination's.
    pub(super) fn inner(&self, alias: &Alias4) -> Option<Alias4> {
        let slot = (alias.inner as usize).checked_sub(1)?;
        let inner = self.aliases.record(slot);
        (inner.flow == alias.flow && inner.flags & ALIAS_INNER != 0).then_some(inner)
    }

    /// A translated flow was taken out: keeps its totals by rule and by inside host (by both, where it was
    /// translated at both ends; once, where both are the same), takes its aliases out. Its port is given back by the next count.
    pub(super) fn let_go(&self, flow: &Flow, src: [u8; 4], alias: &Alias4, now: u64) {
        let (inside, outer) = (super::entry::tuple(alias).dst, flow.nat.wrapping_sub(1) as usize);
        let both = self.inner(alias);
        if alias.inner != 0 {
            self.aliases.remove(alias.inner as usize - 1, now);
        }
        // Who takes the alias out counts: so a flow is counted once, whenever a daemon dies.
        if !self.aliases.remove(outer, now) {
            return;
        }
        // Whose translation it is: the client that was given another source, else the server behind.
        let host = if flow.bits & bits::NAT_SOURCE != 0 { src } else { inside };
        let rule = |slot: u32| {
            let at = slot as usize * ROW;
            self.rules.get(at..at + ROW)
        };
        let rows = [rule(alias.rule), host_row(self.hosts, host, self.seed)];
        rows.into_iter().flatten().for_each(|row| fold(row, flow, false));
        if let Some(inner) = both {
            if let Some(row) = rule(inner.rule) {
                fold(row, flow, inner.rule == alias.rule);
            }
            if let Some(row) = host_row(self.hosts, inside, self.seed) {
                fold(row, flow, inside == host);
            }
        }
    }
}
