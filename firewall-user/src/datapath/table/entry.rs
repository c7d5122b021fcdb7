//! What stands in the tables: records, their keys, and flows turned the way people see them.

use super::Table;
use crate::monitor::{FlowRecord, NatTuple};
use bytemuck::Pod;
use firewall_common::{
    abi::{
        flow::{Flow, Flow4, Flow6, Key4, Key6, bits},
        nat::{ALIAS_ORIG_IS_A, Alias4},
    },
    flow::hash::{hash4, hash6, source4, source6},
    wire::icmp,
};

/// A record of one of the tables.
pub trait Entry: Pod {
    /// Hash of its key.
    fn hash(&self, seed: u64) -> u64;
    /// Whether both are of one key.
    fn same_key(&self, other: &Self) -> bool;
}

/// A record of a flow.
pub trait FlowEntry: Entry {
    /// The flow, which stands first in the record.
    fn flow(&self) -> &Flow;
    /// The flow with its ends, the originator's first.
    fn oriented(&self) -> FlowRecord;
    /// Index of its source in map `SOURCES`.
    fn source(&self, seed: u64) -> usize;
}

impl Entry for Flow4 {
    fn hash(&self, seed: u64) -> u64 {
        hash4(&self.key, seed)
    }
    fn same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Entry for Flow6 {
    fn hash(&self, seed: u64) -> u64 {
        hash6(&self.key, seed)
    }
    fn same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Entry for Alias4 {
    fn hash(&self, seed: u64) -> u64 {
        hash4(&self.key, seed)
    }
    fn same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl FlowEntry for Flow4 {
    fn flow(&self) -> &Flow {
        &self.flow
    }
    fn oriented(&self) -> FlowRecord {
        let Key4 { a, b, a_port, b_port, proto, .. } = self.key;
        oriented((4, proto), (widen(a), widen(b)), (a_port, b_port), self.flow)
    }
    fn source(&self, seed: u64) -> usize {
        source4(if self.flow.bits & bits::ORIG_IS_A != 0 { self.key.a } else { self.key.b }, seed)
    }
}

impl FlowEntry for Flow6 {
    fn flow(&self) -> &Flow {
        &self.flow
    }
    fn oriented(&self) -> FlowRecord {
        let Key6 { a, b, a_port, b_port, proto, .. } = self.key;
        oriented((6, proto), (a, b), (a_port, b_port), self.flow)
    }
    fn source(&self, seed: u64) -> usize {
        source6(if self.flow.bits & bits::ORIG_IS_A != 0 { &self.key.a } else { &self.key.b }, seed)
    }
}

fn oriented(
    (family, proto): (u8, u8),
    (a, b): ([u8; 16], [u8; 16]),
    (a_port, b_port): ([u8; 2], [u8; 2]),
    flow: Flow,
) -> FlowRecord {
    let (pa, pb) = (u16::from_be_bytes(a_port), u16::from_be_bytes(b_port));
    let orig_is_a = flow.bits & bits::ORIG_IS_A != 0;
    let (src, dst) = if orig_is_a { (a, b) } else { (b, a) };
    let (sport, mut dport) = if orig_is_a { (pa, pb) } else { (pb, pa) };
    if matches!(proto, icmp::PROTO_ICMP | icmp::PROTO_ICMPV6) {
        dport = 0;
    }
    FlowRecord { family, proto, src, dst, sport, dport, ifindex: 0, nat: None, flow }
}

fn widen(v4: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..4].copy_from_slice(&v4);
    wide
}

/// The tuple of an alias, the originator's end first.
pub fn tuple(alias: &Alias4) -> NatTuple {
    let Key4 { a, b, a_port, b_port, proto, .. } = alias.key;
    let (pa, pb) = (u16::from_be_bytes(a_port), u16::from_be_bytes(b_port));
    let ((src, sport), (dst, dport)) =
        if alias.flags & ALIAS_ORIG_IS_A != 0 { ((a, pa), (b, pb)) } else { ((b, pb), (a, pa)) };
    let dport = if proto == icmp::PROTO_ICMP { 0 } else { dport };
    NatTuple { src, sport, dst, dport, rule: alias.rule }
}

/// The alias of the flow in `slot` that holds its translated tuple, where it has one.
pub fn alias_of(aliases: &Table<'_, Alias4>, flow: &Flow, slot: usize) -> Option<Alias4> {
    let place = flow.nat.checked_sub(1)? as usize;
    let (_, alias) = aliases.live(place)?;
    (alias.flow as usize == slot).then_some(alias)
}
