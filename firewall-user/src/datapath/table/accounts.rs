//! The accounts of translations as they stand: what [`super::totals`] and the programs have added up.

use super::{Tables, View, ports::ENTRY, totals::ROW};
use crate::datapath::raw;
use crate::monitor::{FlowRecord, NatAccount, NatReading, PortFigures};
use firewall_common::abi::nat::{NatTotals, Ports};
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

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

impl View<'_> {
    /// Accounts by rule slot, of those that ever counted.
    pub fn nat_rules(&self) -> Vec<(u32, NatAccount)> {
        let rows = self.rules.chunks_exact(ROW).enumerate();
        rows.map(|(slot, row)| (slot as u32, account(row)))
            .filter(|(_, account)| account.mappings != 0 || account.failures != 0)
            .collect()
    }

    /// Accounts by inside host; `None`: those that found no row of their own.
    pub fn nat_hosts(&self) -> Vec<(Option<[u8; 4]>, NatAccount)> {
        let rows = self.hosts.chunks_exact(ROW);
        rows.map(|row| {
            let owner = at(row, offset_of!(NatTotals, owner));
            let host = (owner != 0).then(|| (owner as u32).to_be_bytes());
            (host, account(row))
        })
        .filter(|(_, account)| account.mappings != 0 || account.failures != 0)
        .collect()
    }

    /// Public addresses' ports, of those that were ever asked for one.
    pub fn nat_ports(&self) -> Vec<PortFigures> {
        let maps = self.ports.chunks_exact(ENTRY).enumerate();
        maps.map(|(index, map)| {
            let word = |offset| at(map, offset);
            PortFigures {
                index,
                in_use: word(offset_of!(Ports, in_use)),
                peak: word(offset_of!(Ports, peak)),
                made: word(offset_of!(Ports, made)),
                failures: word(offset_of!(Ports, failures)),
            }
        })
        .filter(|figures| figures.failures != 0 || figures.made != 0)
        .collect()
    }
}

impl Tables {
    /// Accounts by rule slot, of those that ever counted: of ended flows.
    pub fn nat_rules(&self) -> Vec<(u32, NatAccount)> {
        self.view().nat_rules()
    }

    /// Accounts by inside host; `None`: those that found no row of their own.
    pub fn nat_hosts(&self) -> Vec<(Option<[u8; 4]>, NatAccount)> {
        self.view().nat_hosts()
    }

    /// Public addresses' ports, of those that were ever asked for one.
    pub fn nat_ports(&self) -> Vec<PortFigures> {
        self.view().nat_ports()
    }

    /// Accounts of ended and live flows together.
    pub fn nat_reading(&mut self) -> NatReading {
        let mut known = std::mem::take(&mut self.gaps);
        let (reading, quiet) = self.view().nat_reading(&mut known, || {
            // Where the kernel refuses, the readings are further apart by the call.
            let _ = raw::grace_period();
        });
        self.gaps = known;
        if !quiet {
            log::debug!("translated flows ended while their accounts were read");
        }
        reading
    }

    /// The translated flows in part `part` of `parts` of the table.
    pub fn nat_flows(&self, part: usize, parts: usize) -> Vec<FlowRecord> {
        let mut found = Vec::new();
        self.view().translated_flows(part, parts, &mut |flow| found.push(flow));
        found
    }
}
