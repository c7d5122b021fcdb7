//! `bench nat`: translated packets, and mappings where ports run short.
//!
//! - `masquerade`: a packet of an established, masqueraded flow, from the inside to the outside.
//! - `ports 10%|87%|100%`: a new mapping, when that share of the ports to the same destination is taken; over
//!   the same packets passed without state, and over a new flow that isn't translated. At 100 % each try fails.
//!   Source ports are random, as those of many hosts are.
//!
//! Sluice's cost is that of its programs at both hooks (TC, in and out), over empty ones. That of nftables
//! is that of forwarding, over forwarding by a rule without state.

use super::Figures;
use super::netfilter::{Room, Router, nft};
use super::ours::{MACS, OUTSIDE, Ours, Station};
use super::train::{Engine, HEADER, Header, Then, Train, header};
use super::tuples::{Macs, Tuple, tuple};
use crate::bpf::Kind;
use std::net::Ipv4Addr;

const SLUICE: &str = "sluice";
const NFT: &str = "nftables";

/// Room in the tables: the daemon's default. Each round has tables of its own, as those of all rounds together
/// would be so large that nothing but misses of cache and TLB was measured.
const MAX_FLOWS: u32 = 262_144;
/// Established flows.
const FLOWS: usize = 64;
/// Packets of a round.
const REPEAT: usize = 200_000;

/// Ports that may be used: those from 1024 on.
const PORTS: usize = 65_536 - 1024;
/// Mappings that are measured, half of them on either side of the share.
const PROBES: usize = 4000;
/// Tries until there is no port left: random ones may fail earlier.
const TRIES: usize = PORTS + 16_384;
/// Packets between two hooks, as many as a driver hands up at once.
const BATCH: usize = 64;
/// Cases: tries made before.
const SHARES: [(&str, usize); 3] = [
    ("ports 10%", PORTS / 10 - PROBES / 2),
    ("ports 87%", PORTS * 87 / 100 - PROBES / 2),
    ("ports 100%", TRIES),
];

/// Masqueraded destinations are in 198.51.100.0/24, others in 192.0.2.0/24.
const FORWARDED: u16 = 7000;
const STATELESS: u16 = 7001;

const POLICY: &str = "default in drop\n\
    default out drop\n\
    nat away masquerade on out0 to 198.51.100.0/24\n\
    rule plain allow udp to port 7001 no-track\n\
    rule flow allow udp to port 7000\n";

const RULES: &str = "table ip bench {\n chain away {\n  type nat hook postrouting priority 100; \
    policy accept;\n  oifname d0 ip daddr 198.51.100.0/24 masquerade\n }\n \
    chain forwarded {\n  type filter hook forward priority 0; policy drop;\n  \
    ct state established,related accept\n  udp dport 7000 accept\n }\n}\n";

const WITHOUT_STATE: &str = "table ip bench {\n chain forwarded {\n  \
    type filter hook forward priority 0; policy drop;\n  udp dport 7000-7001 accept\n }\n}\n";

fn masqueraded(round: usize) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(198, 51, 100, 1 + round as u8), FORWARDED)
}

fn plain(round: usize, port: u16) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(192, 0, 2, 1 + round as u8), port)
}

/// Packets of flows `from..to` to a server.
fn headers(macs: Macs, from: usize, to: usize, server: (Ipv4Addr, u16)) -> Vec<Header> {
    (from..to).map(|i| tuple(2, i, server).udp(macs)).collect()
}

/// Established flow number `i`: its port is its own, so that masquerade may keep it.
fn established(i: usize) -> Tuple {
    let client = (Ipv4Addr::new(10, 9, 0, 1 + i as u8), 20_000 + i as u16);
    Tuple { client, server: (Ipv4Addr::new(198, 51, 100, 250), FORWARDED) }
}

/// What is measured of either subject.
trait Subject {
    fn name(&self) -> &'static str;
    /// Packets of established flows, over forwarding.
    fn established(&mut self) -> Result<f64, String>;
    /// Forwards packets one by one: nanoseconds each, over nothing in particular.
    fn forward(&mut self, headers: &[Header], stateless: bool) -> Result<f64, String>;
    fn macs(&self) -> Macs;
    /// Whether what was forwarded until now passed whole; begins anew.
    fn refused(&mut self) -> Option<u64>;
}

/// Makes a subject for a round.
type Make = fn() -> Result<Box<dyn Subject>, String>;

struct Sluice {
    ours: Ours,
    /// Where packets come in from the inside, and where they leave.
    enter: Station,
    leave: Station,
    packets: Vec<Header>,
    dropped: u64,
}

impl Sluice {
    fn new() -> Result<Self, String> {
        let ours = Ours::start("tc", POLICY, MAX_FLOWS)?;
        let room = TRIES.next_power_of_two();
        let enter = ours.station("in-tcx", "in0", room)?;
        let leave = ours.station("out-tcx", "out0", room)?;
        let mut this = Self { ours, enter, leave, packets: Vec::new(), dropped: 0 };
        for flow in (0..FLOWS).map(established) {
            this.establish(flow)?;
        }
        Ok(this)
    }

    /// There, back to wherever it came from, and there again.
    fn establish(&mut self, flow: Tuple) -> Result<(), String> {
        let packet = flow.udp(MACS);
        let back_in = self.ours.station("in-tcx", "out0", 1)?;
        let back_out = self.ours.station("out-tcx", "in0", 1)?;
        for _ in 0..2 {
            let inside = header(&self.enter.pass_one(&packet)?);
            let outside = self.leave.pass_one(&inside)?;
            let source: [u8; 4] = outside[26..30].try_into().map_err(|_| "a short packet")?;
            let port = u16::from_be_bytes([outside[34], outside[35]]);
            if Ipv4Addr::from(source).to_string() != OUTSIDE {
                return Err(format!("it left as {}", Ipv4Addr::from(source)));
            }
            let answer = Tuple { client: flow.server, server: (source.into(), port) };
            let answered = back_in.pass_one(&answer.udp(MACS))?;
            if answered[30..34] != flow.client.0.octets() {
                return Err("the answer went to somebody else".into());
            }
            back_out.pass_one(&header(&answered))?;
        }
        self.packets.push(packet);
        Ok(())
    }

    fn cost(&self, enter: &[Header], leave: &[Header], count: usize) -> Result<f64, String> {
        self.enter.fill(enter)?;
        self.leave.fill(leave)?;
        Station::one_after_the_other([&self.enter, &self.leave], count, BATCH)
    }
}

impl Subject for Sluice {
    fn name(&self) -> &'static str {
        SLUICE
    }

    fn established(&mut self) -> Result<f64, String> {
        let cost = self.cost(&self.packets, &self.packets, REPEAT)?;
        match self.refused() {
            Some(0) => Ok(cost),
            n => Err(format!("{n:?} packets of established flows were refused")),
        }
    }

    fn forward(&mut self, headers: &[Header], _stateless: bool) -> Result<f64, String> {
        self.cost(headers, headers, headers.len())
    }

    fn macs(&self) -> Macs {
        MACS
    }

    fn refused(&mut self) -> Option<u64> {
        let before = std::mem::replace(&mut self.dropped, self.ours.gate.dropped());
        Some(self.dropped - before)
    }
}

struct Netfilter {
    router: Router,
    train: Train,
    pass: Engine,
    _room: Room,
}

impl Netfilter {
    fn new() -> Result<Self, String> {
        let room = Room::make()?;
        let train = Train::new(TRIES.next_power_of_two())?;
        let pass = train.engine(Kind::XDP, Then::Return(2))?;
        let mut this = Self { router: Router::new()?, train, pass, _room: room };
        let macs = this.macs();
        nft(&this.router.ns, RULES)?;
        let there: Vec<Header> = (0..FLOWS).map(|i| established(i).udp(macs)).collect();
        let back: Vec<Header> = (0..FLOWS)
            .map(|i| {
                let flow = established(i);
                let client = flow.server;
                Tuple { client, server: (Router::OUTSIDE, flow.client.1) }.udp(macs)
            })
            .collect();
        for headers in [&there, &back, &there, &back] {
            this.run(headers, FLOWS)?;
        }
        let seen = this.router.ns.exec("conntrack", &["-L", "-p", "udp"]);
        let seen = seen.map_err(|error| error.to_string())?;
        let answered = seen.lines().filter(|line| !line.contains("[UNREPLIED]")).count();
        if answered == FLOWS {
            Ok(this)
        } else {
            Err(format!("{answered} of {FLOWS} flows are established"))
        }
    }

    fn run(&mut self, headers: &[Header], count: usize) -> Result<f64, String> {
        self.train.fill(headers)?;
        self.router.time(&self.pass, count)
    }
}

impl Subject for Netfilter {
    fn name(&self) -> &'static str {
        NFT
    }

    fn established(&mut self) -> Result<f64, String> {
        let macs = self.macs();
        let there: Vec<Header> = (0..FLOWS).map(|i| established(i).udp(macs)).collect();
        nft(&self.router.ns, WITHOUT_STATE)?;
        let stateless = self.run(&there, REPEAT)?;
        nft(&self.router.ns, RULES)?;
        Ok(self.run(&there, REPEAT)? - stateless)
    }

    fn forward(&mut self, headers: &[Header], stateless: bool) -> Result<f64, String> {
        nft(&self.router.ns, if stateless { WITHOUT_STATE } else { RULES })?;
        self.run(headers, headers.len())
    }

    fn macs(&self) -> Macs {
        (crate::packet::SRC_MAC, self.router.mac)
    }

    fn refused(&mut self) -> Option<u64> {
        None
    }
}

/// The three shares of one round, each with the tries before it.
fn ports(figures: &mut Figures, subject: &mut dyn Subject, round: usize) -> Result<(), String> {
    let macs = subject.macs();
    let stateless = subject.forward(&headers(macs, 0, PROBES, plain(round, STATELESS)), true)?;
    let new = subject.forward(&headers(macs, 0, PROBES, plain(round, FORWARDED)), false)?;
    let mut made = 0;
    for (case, before) in SHARES {
        let full = before == TRIES;
        let fill = headers(macs, made, before, masqueraded(round));
        subject.forward(&fill, false)?;
        let refused = subject.refused();
        if !full && refused.is_some_and(|n| n > (before / 1000) as u64) {
            return Err(format!("{case}: {refused:?} mappings were refused before"));
        }
        let probes = headers(macs, before, before + PROBES, masqueraded(round));
        let mapped = subject.forward(&probes, false)?;
        let refused = subject.refused();
        let expected = if full { PROBES as u64 } else { 0 };
        // A last port may be found late.
        if refused.is_some_and(|n| n.abs_diff(expected) > PROBES as u64 / 100) {
            return Err(format!("{case}: {refused:?} of {PROBES} mappings were refused"));
        }
        figures.add(subject.name(), case, "ns over a stateless pass", mapped - stateless);
        figures.add(subject.name(), case, "ns over a new flow", mapped - new);
        made = before + PROBES;
    }
    Ok(())
}

/// Runs it.
///
/// # Errors
/// None so far: what is missing is named in the figures.
pub(super) fn measure(rounds: usize) -> Result<Figures, String> {
    let mut figures = Figures::new("nat");
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}", round + 1);
        let subjects: [(&str, Make); 2] =
            [(SLUICE, || Ok(Box::new(Sluice::new()?))), (NFT, || Ok(Box::new(Netfilter::new()?)))];
        for (name, make) in subjects {
            let mut subject = match make() {
                Ok(subject) => subject,
                Err(why) => {
                    figures.missing(name, "*", why);
                    continue;
                }
            };
            match subject.established() {
                Ok(cost) => figures.add(name, "masquerade", "ns over forwarding", cost),
                Err(why) => figures.missing(name, "masquerade", why),
            }
            if let Err(why) = ports(&mut figures, subject.as_mut(), round) {
                figures.missing(name, "ports *", why);
            }
        }
    }
    figures.ratio_to(SLUICE, NFT);
    Ok(figures)
}

const _: () = assert!(HEADER >= 54, "addresses and ports are in what is written");
