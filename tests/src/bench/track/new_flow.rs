//! `new flow`: each packet begins one; over the same packets passed without state, by the same program
//! and rules.
//!
//! - Sluice: datagrams that a rule lets in, over datagrams that a rule with `no-track` lets in.
//! - `nftables`: datagrams forwarded with `ct state established,related accept` and a rule that lets new ones
//!   in, over datagrams forwarded by the rule alone.

use super::super::Figures;
use super::super::netfilter::{Room, Router, nft};
use super::super::ours::{MACS, Ours, Station};
use super::super::train::{Engine, Header, Then, Train};
use super::super::tuples::{Macs, shuffle, tuple};
use super::{MAX_FLOWS, NFT, SLUICE};
use crate::bpf::Kind;
use std::net::Ipv4Addr;

const CASE: &str = "new flow";
const UNIT: &str = "ns over a stateless pass";
/// New flows of a round.
const FLOWS: usize = 1 << 16;

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
const TRACKED: u16 = 7000;
const STATELESS: u16 = 7001;

const POLICY: &str = "default in drop\n\
    default out drop\n\
    rule plain allow udp to 198.51.100.20 port 7001 no-track\n\
    rule flow allow udp to 198.51.100.20 port 7000\n";

/// Packets of flows that no other round has.
fn headers(macs: Macs, round: usize, port: u16) -> Vec<Header> {
    let first = round * FLOWS;
    let mut all: Vec<Header> =
        (first..first + FLOWS).map(|i| tuple(1, i, (SERVER, port)).udp(macs)).collect();
    shuffle(&mut all);
    all
}

struct Sluice {
    ours: Ours,
    station: Station,
}

impl Sluice {
    fn new() -> Result<Self, String> {
        let ours = Ours::start("xdp", POLICY, MAX_FLOWS)?;
        let station = ours.station("in-xdp", "in0", FLOWS)?;
        Ok(Self { ours, station })
    }

    /// Over a stateless pass, and over empty.
    fn round(&self, round: usize) -> Result<(f64, f64), String> {
        let before = self.ours.gate.dropped();
        let stateless = self.station.over_empty(&headers(MACS, round, STATELESS))?;
        let new = self.station.over_empty(&headers(MACS, round, TRACKED))?;
        match self.ours.gate.dropped() - before {
            0 => Ok((new - stateless, new)),
            n => Err(format!("{n} of {} packets were dropped", 2 * FLOWS)),
        }
    }
}

struct Netfilter {
    router: Router,
    train: Train,
    pass: Engine,
    _room: Room,
}

/// Rules of the forward chain; `state` is what they ask of connection tracking.
fn rules(state: &str) -> String {
    format!(
        "table ip bench {{\n chain forwarded {{\n  type filter hook forward priority 0; policy drop;\n  \
         {state}\n  ip daddr 198.51.100.20 udp dport 7000-7001 counter accept\n }}\n}}\n"
    )
}

impl Netfilter {
    fn new() -> Result<Self, String> {
        let room = Room::make()?;
        let train = Train::new(FLOWS)?;
        let pass = train.engine(Kind::XDP, Then::Return(2))?;
        Ok(Self { router: Router::new()?, train, pass, _room: room })
    }

    fn forward(&self, rules: &str, headers: &[Header]) -> Result<f64, String> {
        nft(&self.router.ns, rules)?;
        self.train.fill(headers)?;
        self.router.time(&self.pass, headers.len())
    }

    fn round(&self, round: usize) -> Result<f64, String> {
        let macs = (crate::packet::SRC_MAC, self.router.mac);
        let stateless = self.forward(&rules(""), &headers(macs, round, STATELESS))?;
        let before = self.router.entries();
        let state = "ct state established,related accept";
        let new = self.forward(&rules(state), &headers(macs, round, TRACKED))?;
        match self.router.entries().saturating_sub(before) {
            // Some of older rounds may have timed out meanwhile.
            made if made > FLOWS as u64 / 2 => Ok(new - stateless),
            made => Err(format!("{made} entries for {FLOWS} flows")),
        }
    }
}

/// Measures.
pub(super) fn measure(figures: &mut Figures, rounds: usize) {
    eprintln!("bench: {CASE}");
    let ours = Sluice::new().map_err(|why| figures.missing(SLUICE, CASE, why)).ok();
    let theirs = Netfilter::new().map_err(|why| figures.missing(NFT, CASE, why)).ok();
    // The table takes so many new flows; the first round warms up.
    for round in 0..=rounds.min(MAX_FLOWS as usize / FLOWS - 2) {
        let cost = ours.as_ref().map(|sluice| sluice.round(round));
        let peer = theirs.as_ref().map(|netfilter| netfilter.round(round));
        if round == 0 {
            continue;
        }
        match cost {
            Some(Ok((new, all))) => {
                figures.add(SLUICE, CASE, UNIT, new);
                figures.add(SLUICE, CASE, "M/s a core", 1000.0 / all);
            }
            Some(Err(why)) => figures.missing(SLUICE, CASE, why),
            None => {}
        }
        match peer {
            Some(Ok(new)) => figures.add(NFT, CASE, UNIT, new),
            Some(Err(why)) => figures.missing(NFT, CASE, why),
            None => {}
        }
    }
}
