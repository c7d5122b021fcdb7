//! The flow table from user space: dump and sweep.

use super::{error::DatapathError, raw};
use crate::monitor::FlowRecord;
use aya::maps::{Map, MapData};
use firewall_common::{
    abi::{
        flow::{Flow, Key4, Key6, bits},
        table::TIMEOUTS,
    },
    flow::timeout,
    wire::icmp,
};
use std::os::fd::{AsFd as _, BorrowedFd};

/// Both tables.
pub(super) struct FlowMaps {
    v4: MapData,
    v6: MapData,
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
    FlowRecord { family, proto, src, dst, sport, dport, ifindex: 0, flow }
}

fn widen(v4: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..4].copy_from_slice(&v4);
    wide
}

fn record4(k: &Key4, flow: Flow) -> FlowRecord {
    oriented((4, k.proto), (widen(k.a), widen(k.b)), (k.a_port, k.b_port), flow)
}

fn record6(k: &Key6, flow: Flow) -> FlowRecord {
    oriented((6, k.proto), (k.a, k.b), (k.a_port, k.b_port), flow)
}

/// The data of a map that must be a hash.
fn hash(map: Map) -> Option<MapData> {
    match map {
        Map::HashMap(data) => Some(data),
        _ => None,
    }
}

impl FlowMaps {
    /// Takes both maps out of the loaded object.
    pub(super) fn take(ebpf: &mut aya::Ebpf) -> Option<Self> {
        let v4 = hash(ebpf.take_map("FLOWS4")?)?;
        let v6 = hash(ebpf.take_map("FLOWS6")?)?;
        Some(Self { v4, v6 })
    }

    /// Capacity of each table.
    pub(super) fn capacity(&self) -> u64 {
        self.v4.info().map_or(0, |i| u64::from(i.max_entries()))
    }

    fn v4(&self) -> BorrowedFd<'_> {
        self.v4.fd().as_fd()
    }
    fn v6(&self) -> BorrowedFd<'_> {
        self.v6.fd().as_fd()
    }

    /// Every flow.
    pub(super) fn all(&self) -> Result<Vec<FlowRecord>, DatapathError> {
        let what = "reading the flow table";
        let v4: Vec<(Key4, Flow)> = raw::entries(self.v4()).map_err(DatapathError::io(what))?;
        let v6: Vec<(Key6, Flow)> = raw::entries(self.v6()).map_err(DatapathError::io(what))?;
        Ok(v4
            .iter()
            .map(|(k, f)| record4(k, *f))
            .chain(v6.iter().map(|(k, f)| record6(k, *f)))
            .collect())
    }

    /// Removes flows idle past their time-out (ticks) at tick `now`, and returns them with their last
    /// totals; and how many live on. A flow that a packet wakes between the look and the removal
    /// comes back with its next packet; the totals returned then are put on its old record.
    pub(super) fn sweep(
        &self,
        timeouts: &[u32; TIMEOUTS],
        now: u64,
    ) -> Result<(Vec<FlowRecord>, u64), DatapathError> {
        let what = "sweeping the flow table";
        let (mut expired, mut live) = (Vec::new(), 0);
        let v4: Vec<(Key4, Flow)> = raw::entries(self.v4()).map_err(DatapathError::io(what))?;
        for (k, f) in &v4 {
            if !timeout::expired(f, k.proto, timeouts, now) {
                live += 1;
            } else if let Some(last) = raw::take(self.v4(), k).map_err(DatapathError::io(what))? {
                expired.push(record4(k, last));
            }
        }
        let v6: Vec<(Key6, Flow)> = raw::entries(self.v6()).map_err(DatapathError::io(what))?;
        for (k, f) in &v6 {
            if !timeout::expired(f, k.proto, timeouts, now) {
                live += 1;
            } else if let Some(last) = raw::take(self.v6(), k).map_err(DatapathError::io(what))? {
                expired.push(record6(k, last));
            }
        }
        Ok((expired, live))
    }
}
