//! `established hot|64k|1M`: a segment of a connection that is known, windows checked and totals kept. Who
//! comes next is random. With a million flows in the tables: `sweep 1M`, `dump 1M`, `memory`.
//!
//! The peers get the same segments as live frames and drop them once they are known to be established:
//!
//! - `nftables`: `ct state established drop` at prerouting, over the frames alone (an XDP drop): the whole way,
//!   as for Sluice.
//! - `conntrack`: the same over a stateless drop at the same hook: the kernel's tracking alone.

use super::super::Figures;
use super::super::netfilter::{Room, Router, counted, nft};
use super::super::ours::{MACS, Ours, Station};
use super::super::train::{Engine, Header, Then, Train};
use super::super::tuples::{Macs, Step, shuffle, tuple};
use super::{CONNTRACK, MAX_FLOWS, NFT, SLUICE, table};
use crate::bpf::Kind;
use std::net::Ipv4Addr;

/// Flows of a case.
const CASES: [(&str, usize); 3] =
    [("established hot", 1), ("established 64k", 1 << 16), ("established 1M", 1 << 20)];
/// All of them.
const ALL: usize = 1 << 20;
/// Handshakes that are begun together.
const HANDSHAKES: usize = 1 << 15;

const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 20), 443);

/// Only what a handshake began passes, so that what passes was known.
const POLICY: &str = "option tcp-pickup off\n\
    default in drop\n\
    default out drop\n\
    rule flow allow tcp to 198.51.100.20 port 443\n";

/// Headers of a step in the life of flows `from..to`, shuffled.
fn headers(macs: Macs, step: Step, from: usize, to: usize) -> Vec<Header> {
    let mut all: Vec<Header> = (from..to).map(|i| tuple(0, i, SERVER).tcp(macs, step)).collect();
    shuffle(&mut all);
    all
}

/// How often the packets of so many flows are sent in a round.
fn repeats(flows: usize) -> usize {
    flows.max(200_000)
}

struct Sluice {
    ours: Ours,
    station: Station,
    known: usize,
}

impl Sluice {
    fn new() -> Result<Self, String> {
        let ours = Ours::start("xdp", POLICY, MAX_FLOWS)?;
        let station = ours.station("in-xdp", "in0", ALL)?;
        Ok(Self { ours, station, known: 0 })
    }

    /// Handshakes of those that aren't known yet; then their segments are what comes.
    fn establish(&mut self, flows: usize) -> Result<(), String> {
        // Not all SYNs first: unanswered flows don't get every slot of a bucket.
        while self.known < flows {
            let next = flows.min(self.known + HANDSHAKES);
            for step in [Step::Syn, Step::SynAck, Step::Ack] {
                let wanted = headers(MACS, step, self.known, next);
                self.station.fill(&wanted)?;
                self.station.run(wanted.len())?;
            }
            self.known = next;
        }
        self.station.fill(&headers(MACS, Step::Ack, 0, flows))
    }

    fn round(&self, flows: usize) -> Result<f64, String> {
        let before = self.ours.gate.dropped();
        let empty = self.station.run_empty(repeats(flows))?;
        let cost = self.station.run(repeats(flows))? - empty;
        match self.ours.gate.dropped() - before {
            0 => Ok(cost),
            n => Err(format!("{n} of {} segments were not known", repeats(flows))),
        }
    }
}

struct Netfilter {
    router: Router,
    train: Train,
    pass: Engine,
    drop: Engine,
    known: usize,
    _room: Room,
}

const TRACKED: &str = "table ip bench {\n chain pre {\n  type filter hook prerouting priority 0; \
    policy accept;\n  ct state established counter drop\n }\n}\n";
const LEARNING: &str = "table ip bench {\n chain forwarded {\n  type filter hook forward priority 0; \
    policy accept;\n  ct state invalid drop\n }\n}\n";
const STATELESS: &str = "table ip bench {\n chain pre {\n  type filter hook prerouting priority -300; \
    policy accept;\n  ip daddr 198.51.100.20 counter drop\n }\n}\n";

impl Netfilter {
    fn new() -> Result<Self, String> {
        let room = Room::make()?;
        let train = Train::new(ALL)?;
        Ok(Self {
            router: Router::new()?,
            pass: train.engine(Kind::XDP, Then::Return(2))?,
            drop: train.engine(Kind::XDP, Then::Return(1))?,
            train,
            known: 0,
            _room: room,
        })
    }

    fn macs(&self) -> Macs {
        (crate::packet::SRC_MAC, self.router.mac)
    }

    fn establish(&mut self, flows: usize) -> Result<(), String> {
        nft(&self.router.ns, LEARNING)?;
        for step in [Step::Syn, Step::SynAck, Step::Ack] {
            if self.known == flows {
                break;
            }
            let wanted = headers(self.macs(), step, self.known, flows);
            self.train.fill(&wanted)?;
            self.router.time(&self.pass, wanted.len())?;
        }
        self.known = self.known.max(flows);
        let entries = self.router.entries();
        if entries != self.known as u64 {
            return Err(format!("{entries} entries of {}", self.known));
        }
        self.train.fill(&headers(self.macs(), Step::Ack, 0, flows))
    }

    fn round(&self, flows: usize) -> Result<(f64, f64), String> {
        let mut cost = [0.0; 2];
        for (cost, rules) in cost.iter_mut().zip([TRACKED, STATELESS]) {
            nft(&self.router.ns, rules)?;
            self.train.rewind()?;
            *cost = self.router.time(&self.pass, repeats(flows))?;
            let seen = counted(&self.router.ns)?;
            if seen != repeats(flows) as u64 {
                return Err(format!("{seen} of {} segments met the rule", repeats(flows)));
            }
        }
        self.train.rewind()?;
        let dropped = self.router.time(&self.drop, repeats(flows))?;
        Ok((cost[0] - dropped, cost[0] - cost[1]))
    }
}

/// Measures.
pub(super) fn measure(figures: &mut Figures, rounds: usize) {
    let ours = Sluice::new();
    let idle = ours.as_ref().ok().map(|s| table::daemon_share(&s.ours.gate, rounds));
    let mut ours = keep(figures, SLUICE, "established *", ours);
    let mut theirs = keep(figures, NFT, "established *", Netfilter::new());
    for (case, flows) in CASES {
        eprintln!("bench: {case}");
        ours = ours.and_then(|mut s| {
            let ready = s.establish(flows).map(|()| s);
            keep(figures, SLUICE, case, ready)
        });
        theirs = theirs.and_then(|mut n| {
            let ready = n.establish(flows).map(|()| n);
            keep(figures, NFT, case, ready)
        });
        for _ in 0..rounds {
            if let Some(cost) =
                ours.as_ref().and_then(|s| keep(figures, SLUICE, case, s.round(flows)))
            {
                figures.add(SLUICE, case, "ns over empty", cost);
            }
            if let Some((all, tracking)) =
                theirs.as_ref().and_then(|n| keep(figures, NFT, case, n.round(flows)))
            {
                figures.add(NFT, case, "ns over empty", all);
                figures.add(CONNTRACK, case, "ns over empty", tracking);
            }
        }
    }
    if let Some(sluice) = &ours {
        table::sluice(figures, &sluice.ours.gate, idle.unwrap_or_default(), rounds);
    }
    if let Some(netfilter) = &theirs {
        table::conntrack(figures, &netfilter.router.ns, rounds);
    }
}

fn keep<T>(
    figures: &mut Figures,
    subject: &str,
    case: &str,
    outcome: Result<T, String>,
) -> Option<T> {
    outcome.map_err(|why| figures.missing(subject, case, why)).ok()
}
