//! The flow tables from user space: read, swept and cut in place, without a system call an entry
//! (`firewall_common::abi::bucket` says how the tables work).

mod mmap;
mod nat;
mod sweep;

use super::{error::DatapathError, raw};
use crate::monitor::{FlowRecord, NatTuple};
use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use bytemuck::Pod;
use firewall_common::{
    abi::{
        bucket::tag,
        control::Control,
        flow::{Flow, Flow4, Flow6, Key4, bits},
        nat::{ALIAS_ORIG_IS_A, Alias4},
    },
    wire::icmp,
};
use mmap::Mapping;
pub use nat::NatAccount;
use std::{
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// One table: tags and records.
#[derive(Debug)]
struct Table {
    tags: Mapping,
    records: Mapping,
    /// Words of a record.
    stride: usize,
}

/// The data of a map that must be an array.
fn array<'e>(ebpf: &'e Ebpf, name: &'static str) -> Result<&'e MapData, DatapathError> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(DatapathError::Load(format!("the object has no array {name}"))),
    }
}

/// Maps all of an array.
fn mapping(ebpf: &Ebpf, name: &'static str) -> Result<(Mapping, usize), DatapathError> {
    let data = array(ebpf, name)?;
    let info = data.info().map_err(DatapathError::map(name))?;
    let value = info.value_size() as usize;
    let bytes = value * info.max_entries() as usize;
    let mapping = Mapping::new(data.fd().as_fd(), bytes)
        .map_err(DatapathError::io(format!("mapping {name}")))?;
    Ok((mapping, value / 8))
}

impl Table {
    fn new(ebpf: &Ebpf, tags: &'static str, records: &'static str) -> Result<Self, DatapathError> {
        let (tags, _) = mapping(ebpf, tags)?;
        let (records, stride) = mapping(ebpf, records)?;
        Ok(Self { tags, records, stride })
    }

    fn slots(&self) -> usize {
        self.tags.words().len()
    }

    fn tag(&self, slot: usize) -> u64 {
        self.tags.words().get(slot).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn record_words(&self, slot: usize) -> &[AtomicU64] {
        let at = slot * self.stride;
        self.records.words().get(at..at + self.stride).unwrap_or(&[])
    }

    /// A copy of a record, whatever its tag says.
    fn copy<R: Pod>(&self, slot: usize) -> R {
        let mut record = R::zeroed();
        let words = self.record_words(slot);
        let bytes = bytemuck::bytes_of_mut(&mut record);
        for (to, from) in bytes.chunks_mut(8).zip(words) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes()[..to.len()]);
        }
        record
    }

    /// The record of a live slot. One that changes hands meanwhile is left out.
    fn live<R: Pod>(&self, slot: usize) -> Option<R> {
        let before = self.tag(slot);
        if before & tag::LIVE == 0 {
            return None;
        }
        let record = self.copy(slot);
        std::sync::atomic::fence(Ordering::Acquire);
        (self.tag(slot) & tag::MATCH == before & tag::MATCH).then_some(record)
    }

    /// Takes a slot out if its tag is still `seen`.
    fn take(&self, slot: usize, seen: u64, now: u64) -> bool {
        let dead = tag::new(tag::DEAD, now as u32, (seen & tag::FINGERPRINT) << 32);
        self.tags.words().get(slot).is_some_and(|word| {
            word.compare_exchange(seen, dead, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        })
    }

    fn clear(&self) {
        self.tags.words().iter().for_each(|word| word.store(0, Ordering::SeqCst));
    }
}

/// A record of either family's table.
trait Record: Pod {
    fn flow(&self) -> &Flow;
    fn proto(&self) -> u8;
    fn oriented(&self, nat: Option<NatTuple>) -> FlowRecord;
}

fn widen(v4: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..4].copy_from_slice(&v4);
    wide
}

fn oriented(
    (family, proto): (u8, u8),
    (a, b): ([u8; 16], [u8; 16]),
    (a_port, b_port): ([u8; 2], [u8; 2]),
    (flow, nat): (Flow, Option<NatTuple>),
) -> FlowRecord {
    let (pa, pb) = (u16::from_be_bytes(a_port), u16::from_be_bytes(b_port));
    let orig_is_a = flow.bits & bits::ORIG_IS_A != 0;
    let (src, dst) = if orig_is_a { (a, b) } else { (b, a) };
    let (sport, mut dport) = if orig_is_a { (pa, pb) } else { (pb, pa) };
    if matches!(proto, icmp::PROTO_ICMP | icmp::PROTO_ICMPV6) {
        dport = 0;
    }
    FlowRecord { family, proto, src, dst, sport, dport, ifindex: 0, nat, flow }
}

impl Record for Flow4 {
    fn flow(&self) -> &Flow {
        &self.flow
    }
    fn proto(&self) -> u8 {
        self.key.proto
    }
    fn oriented(&self, nat: Option<NatTuple>) -> FlowRecord {
        let k = &self.key;
        let ends = (widen(k.a), widen(k.b));
        oriented((4, k.proto), ends, (k.a_port, k.b_port), (self.flow, nat))
    }
}

impl Record for Flow6 {
    fn flow(&self) -> &Flow {
        &self.flow
    }
    fn proto(&self) -> u8 {
        self.key.proto
    }
    fn oriented(&self, nat: Option<NatTuple>) -> FlowRecord {
        let k = &self.key;
        oriented((6, k.proto), (k.a, k.b), (k.a_port, k.b_port), (self.flow, nat))
    }
}

/// Originator's and responder's end of a key.
fn ends(key: &Key4, orig_is_a: bool) -> [([u8; 4], u16); 2] {
    let a = (key.a, u16::from_be_bytes(key.a_port));
    let b = (key.b, u16::from_be_bytes(key.b_port));
    if orig_is_a { [a, b] } else { [b, a] }
}

/// Every table that a flow has a part in.
#[derive(Debug)]
pub struct Tables {
    v4: Table,
    v6: Table,
    aliases: Table,
    ports: Mapping,
    nat_rules: Mapping,
    nat_hosts: Mapping,
    sources: Mapping,
    seed: u64,
    capacity: u64,
}

impl Tables {
    /// Maps the tables of a loaded object.
    ///
    /// # Errors
    /// A map isn't there, or the kernel doesn't map it.
    pub fn new(ebpf: &Ebpf, control: &Control, capacity: u64) -> Result<Self, DatapathError> {
        Ok(Self {
            v4: Table::new(ebpf, "BUCKETS4", "FLOWS4")?,
            v6: Table::new(ebpf, "BUCKETS6", "FLOWS6")?,
            aliases: Table::new(ebpf, "ALIAS_BUCKETS", "ALIASES")?,
            ports: mapping(ebpf, "PORTS")?.0,
            nat_rules: mapping(ebpf, "NAT_RULES")?.0,
            nat_hosts: mapping(ebpf, "NAT_HOSTS")?.0,
            sources: mapping(ebpf, "SOURCES")?.0,
            seed: control.seed,
            capacity,
        })
    }

    /// Buckets of an object's tables as it was loaded: IPv4, IPv6, aliases.
    ///
    /// # Errors
    /// A map isn't there.
    pub fn buckets(ebpf: &Ebpf) -> Result<[u32; 3], DatapathError> {
        let mut found = [0; 3];
        for (n, name) in found.iter_mut().zip(["BUCKETS4", "BUCKETS6", "ALIAS_BUCKETS"]) {
            let info = array(ebpf, name)?.info().map_err(DatapathError::map(name))?;
            *n = info.max_entries();
        }
        Ok(found)
    }

    /// Flows that each family's table is planned for.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The translated tuple of a flow that has one.
    fn nat(&self, flow: &Flow) -> Option<NatTuple> {
        let slot = flow.nat.checked_sub(1)?;
        let alias: Alias4 = self.aliases.copy(slot as usize);
        let [(src, sport), (dst, dport)] = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
        Some(NatTuple { src, dst, sport, dport, rule: alias.rule, bits: flow.bits })
    }

    fn walk<R: Record>(&self, table: &Table, each: &mut impl FnMut(FlowRecord)) {
        for slot in 0..table.slots() {
            if let Some(record) = table.live::<R>(slot) {
                each(record.oriented(self.nat(record.flow())));
            }
        }
    }

    /// Every flow. Those that come or go meanwhile may be missed or seen.
    pub fn all(&self) -> Vec<FlowRecord> {
        let mut found = Vec::new();
        self.walk::<Flow4>(&self.v4, &mut |record| found.push(record));
        self.walk::<Flow6>(&self.v6, &mut |record| found.push(record));
        found
    }

    /// Forgets everything, for tests: no program may run meanwhile.
    pub fn clear(&self) {
        for table in [&self.v4, &self.v6, &self.aliases] {
            table.clear();
        }
        for mapping in [&self.ports, &self.nat_rules, &self.nat_hosts, &self.sources] {
            mapping.words().iter().for_each(|word| word.store(0, Ordering::SeqCst));
        }
    }
}

/// Draws the tables' secret.
pub(super) fn secret() -> Result<u64, DatapathError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| DatapathError::Load(format!("the system gives no random numbers: {e}")))?;
    // Zero means "none drawn yet".
    Ok(u64::from_ne_bytes(bytes) | 1)
}

/// Waits until no program holds a record that was taken out before.
fn settle() -> Result<(), DatapathError> {
    raw::grace_period().map_err(DatapathError::io("waiting for a grace period"))
}
