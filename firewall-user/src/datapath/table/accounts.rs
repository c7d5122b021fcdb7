//! The accounts of translations as they stand: what [`super::totals`] and the programs have added up.

use super::{Tables, ports::ENTRY, totals::ROW};
use firewall_common::abi::nat::{NatTotals, Ports};
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

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

impl Tables {
    /// Accounts by rule slot, of those that ever counted.
    pub fn nat_rules(&self) -> Vec<(u16, NatAccount)> {
        let rows = self.view().rules.chunks_exact(ROW).enumerate();
        rows.map(|(slot, row)| (slot as u16, account(row)))
            .filter(|(_, account)| account.mappings != 0 || account.failures != 0)
            .collect()
    }

    /// Accounts by inside host; `None`: those that found no row of their own.
    pub fn nat_hosts(&self) -> Vec<(Option<[u8; 4]>, NatAccount)> {
        let rows = self.view().hosts.chunks_exact(ROW);
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
        let maps = self.view().ports.chunks_exact(ENTRY).enumerate();
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
