//! Translations from user space: what ended flows leave behind, which ports are in use, and the accounts.

use super::{Tables, ends};
use firewall_common::{
    abi::{
        bucket::tag,
        flow::{Flow, bits},
        nat::{ALIAS_ORIG_IS_A, Alias4, NAT_HOSTS, NatTotals, POOL_ADDRESSES, Ports},
    },
    flow::hash::source4,
};
use std::{
    collections::BTreeMap,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

/// Words of a row of totals.
const ROW: usize = size_of::<NatTotals>() / 8;
/// Words of a bitmap.
const MAP: usize = size_of::<Ports>() / 8;
/// Probes for a host's row, as in the kernel.
const PROBES: usize = 8;

/// One account: a rule's, a host's, or a public address's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatAccount {
    /// Mappings begun.
    pub mappings: u64,
    /// Of those, ended.
    pub ended: u64,
    /// Mappings refused for want of a port.
    pub failures: u64,
    /// Totals of ended flows: packets, bytes, reply packets, reply bytes.
    pub totals: [u64; 4],
}

/// Word `field` of a row.
fn at(row: &[AtomicU64], offset: usize) -> u64 {
    row.get(offset / 8).map_or(0, |word| word.load(Ordering::Relaxed))
}

fn account(row: &[AtomicU64]) -> NatAccount {
    NatAccount {
        mappings: at(row, offset_of!(NatTotals, mappings)),
        ended: at(row, offset_of!(NatTotals, ended)),
        failures: at(row, offset_of!(NatTotals, failures)),
        totals: [
            at(row, offset_of!(NatTotals, packets)),
            at(row, offset_of!(NatTotals, bytes)),
            at(row, offset_of!(NatTotals, reply_packets)),
            at(row, offset_of!(NatTotals, reply_bytes)),
        ],
    }
}

/// Adds a flow's totals to a row.
fn fold(row: &[AtomicU64], flow: &Flow) {
    let add = |offset: usize, n: u64| {
        if let Some(word) = row.get(offset / 8) {
            word.fetch_add(n, Ordering::SeqCst);
        }
    };
    add(offset_of!(NatTotals, ended), 1);
    add(offset_of!(NatTotals, packets), flow.packets);
    add(offset_of!(NatTotals, bytes), flow.bytes);
    add(offset_of!(NatTotals, reply_packets), flow.reply_packets);
    add(offset_of!(NatTotals, reply_bytes), flow.reply_bytes);
}

impl Tables {
    /// What the kernel's `nat::let_go` does, for a flow that user space took out.
    pub(super) fn let_go(&self, flow: &Flow, source: [u8; 4], now: u64) {
        let Some(slot) = flow.nat.checked_sub(1) else { return };
        let slot = slot as usize;
        let alias: Alias4 = self.aliases.copy(slot);
        let [_, inside] = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
        let host = if flow.bits & bits::NAT_SOURCE != 0 { source } else { inside.0 };
        let rule = usize::from(alias.rule) * ROW;
        if let Some(row) = self.nat_rules.words().get(rule..rule + ROW) {
            fold(row, flow);
        }
        if let Some(row) = self.host_row(host) {
            fold(row, flow);
        }
        for slot in [Some(slot), alias.inner.checked_sub(1).map(|slot| slot as usize)] {
            let Some(slot) = slot else { continue };
            let seen = self.aliases.tag(slot);
            if seen & tag::LIVE != 0 {
                self.aliases.take(slot, seen, now);
            }
        }
    }

    /// The row of an inside host, made where it has none; the last one where there is no room.
    fn host_row(&self, address: [u8; 4]) -> Option<&[AtomicU64]> {
        let owner = u64::from(u32::from_be_bytes(address)) | 1 << 32;
        let start = source4(address, self.seed);
        for probe in 0..PROBES {
            let at = ((start + probe) & (NAT_HOSTS - 1)) * ROW;
            let row = self.nat_hosts.words().get(at..at + ROW)?;
            let claimed = row[0].compare_exchange(0, owner, Ordering::SeqCst, Ordering::SeqCst);
            if claimed.is_ok() || claimed == Err(owner) {
                return Some(row);
            }
        }
        self.nat_hosts.words().get(NAT_HOSTS * ROW..(NAT_HOSTS + 1) * ROW)
    }

    /// Counts anew which ports are in use. A mapping that is made meanwhile may lose its bit: it is a hint
    /// (see `abi::nat::Ports`).
    pub(super) fn count_ports(&self) {
        let mut used: BTreeMap<usize, Box<[u64; 1024]>> = BTreeMap::new();
        for pool in 0..3 * POOL_ADDRESSES {
            let at = pool * MAP;
            let Some(map) = self.ports.words().get(at..at + MAP) else { return };
            if self::at(map, offset_of!(Ports, made)) != 0 {
                used.insert(pool, Box::new([0; 1024]));
            }
        }
        if used.is_empty() {
            return;
        }
        for slot in 0..self.aliases.slots() {
            let Some(alias) = self.aliases.live::<Alias4>(slot) else { continue };
            let Some(pool) = usize::from(alias.pool).checked_sub(1) else { continue };
            let [(_, port), _] = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
            if let Some(map) = used.get_mut(&pool) {
                map[usize::from(port >> 6)] |= 1 << (port & 63);
            }
        }
        for (pool, ports) in used {
            let at = pool * MAP;
            let Some(map) = self.ports.words().get(at..at + MAP) else { return };
            let mut in_use = 0;
            let mut full = [0u64; 16];
            for (i, word) in ports.iter().enumerate() {
                in_use += u64::from(word.count_ones());
                map[i].store(*word, Ordering::Relaxed);
                if *word == u64::MAX {
                    full[i >> 6] |= 1 << (i & 63);
                }
            }
            for (i, word) in full.iter().enumerate() {
                map[offset_of!(Ports, full) / 8 + i].store(*word, Ordering::Relaxed);
            }
            map[offset_of!(Ports, shared) / 8].store(0, Ordering::Relaxed);
            map[offset_of!(Ports, in_use) / 8].store(in_use, Ordering::Relaxed);
            map[offset_of!(Ports, peak) / 8].fetch_max(in_use, Ordering::Relaxed);
        }
    }

    /// Accounts by rule slot, of those that ever counted.
    pub fn nat_rules(&self) -> Vec<(u16, NatAccount)> {
        let rows = self.nat_rules.words().chunks_exact(ROW).enumerate();
        rows.map(|(slot, row)| (slot as u16, account(row)))
            .filter(|(_, account)| account.mappings != 0 || account.failures != 0)
            .collect()
    }

    /// Accounts by inside host; `None`: those that found no row of their own.
    pub fn nat_hosts(&self) -> Vec<(Option<[u8; 4]>, NatAccount)> {
        let rows = self.nat_hosts.words().chunks_exact(ROW);
        rows.map(|row| {
            let owner = at(row, offset_of!(NatTotals, owner));
            let host = (owner != 0).then(|| (owner as u32).to_be_bytes());
            (host, account(row))
        })
        .filter(|(_, account)| account.mappings != 0 || account.failures != 0)
        .collect()
    }

    /// Public addresses' ports: index in map `PORTS`, in use, peak, failures, mappings made.
    pub fn nat_ports(&self) -> Vec<(usize, [u64; 4])> {
        let maps = self.ports.words().chunks_exact(MAP).enumerate();
        maps.map(|(pool, map)| {
            let word = |offset| at(map, offset);
            let figures = [
                word(offset_of!(Ports, in_use)),
                word(offset_of!(Ports, peak)),
                word(offset_of!(Ports, failures)),
                word(offset_of!(Ports, made)),
            ];
            (pool, figures)
        })
        .filter(|(_, figures)| figures[2] != 0 || figures[3] != 0)
        .collect()
    }
}
