//! Frames for drawn rules: what they ask for, its first and last values and the neighbours of these.

use super::draw::{ICMP4, ICMP6};
use super::rules::{Addresses, End, Flags, INTERFACES, MARK_PORT, MARK_TO, Place, Rule, Rules};
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Every frame ends with this, the seed of its rules (8 bytes) and its number (2 bytes), big-endian.
const TAIL: [u8; 4] = *b"SlNf";

/// A frame, and where it comes in.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Index into [`INTERFACES`].
    pub interface: usize,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// The frame that ends a batch on an interface; `round` tells those of one batch apart.
pub(super) fn mark(seed: u64, interface: usize, round: u16) -> Vec<u8> {
    let number = 0x8000 | round << 4 | interface as u16;
    Packet::new()
        .ipv4("10.20.30.41", MARK_TO)
        // A flow of its own each time, so that the rule of the mark is asked.
        .udp(20_000 + number, MARK_PORT)
        .payload(&tail(seed, number))
        .build()
}

fn tail(seed: u64, number: u16) -> Vec<u8> {
    [&TAIL[..], &seed.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// The number of a frame of these rules; none if it is of others.
pub(super) fn number(seed: u64, frame: &[u8]) -> Option<u16> {
    let (_, end) = frame.split_at_checked(frame.len().checked_sub(14)?)?;
    let (number_at, expected) = (12, tail(seed, 0));
    if end[..number_at] != expected[..number_at] {
        return None;
    }
    Some(u16::from_be_bytes([end[12], end[13]]))
}

impl Rules {
    /// `count` frames for these rules, at most 32,768.
    pub fn probes(&self, count: u16) -> Vec<Probe> {
        let mut rng = Rng::new(self.seed ^ 0x0f4a_3e5b);
        let mut drawn: Vec<Drawn> = Vec::new();
        let mut begun = BTreeSet::new();
        let mut probes = Vec::new();
        for number in 0..count {
            let interface = rng.below(INTERFACES.len());
            let mut next = self.packet(&mut rng);
            if self.place.tracks() {
                // What belongs to a flow that another frame may have begun passes by that flow. A TCP segment has to fit
                // what both ends have said before, which isn't what is compared here: each has a flow of its own.
                if rng.one_in(6)
                    && let Some(earlier) =
                        drawn.iter().rfind(|drawn| matches!(drawn.proto, 17 | 47 | 50))
                {
                    next = earlier.clone();
                    if rng.one_in(2) {
                        next.turn_round();
                    }
                } else {
                    while !begun.insert(next.key()) {
                        next = self.packet(&mut rng);
                    }
                }
            }
            let bytes = next.build(&tail(self.seed, number));
            probes.push(Probe { interface, bytes });
            drawn.push(next);
        }
        probes
    }

    fn packet(&self, rng: &mut Rng) -> Drawn {
        let empty = End::default();
        let rule = if self.rules.is_empty() { None } else { Some(rng.pick(&self.rules)) };
        let (from, to) = rule.map_or((&empty, &empty), |rule| (&rule.from, &rule.to));
        let asked = |protos: &[u8], rng: &mut Rng| {
            if protos.is_empty() || rng.one_in(8) {
                any_proto(self, rng)
            } else {
                *rng.pick(protos)
            }
        };
        let proto = rule.map_or(17, |rule| asked(&rule.protos, rng));
        let family = match (proto, rule.and_then(|rule| rule.family)) {
            // Now and then the other family: not every 1 is ICMP.
            (1, _) if !self.place.tracks() && rng.one_in(12) => 6,
            (58, _) if !self.place.tracks() && rng.one_in(12) => 4,
            (1, _) => 4,
            (58, _) => 6,
            (_, Some(family)) if !rng.one_in(4) => family,
            _ => self.family(rng, from, to),
        };
        let src = self.address(rng, from, family);
        let dst = self.address(rng, to, family);
        let dress = Dress::any(rng, family, self.place.tracks());
        let mut drawn = Drawn {
            proto,
            src,
            dst,
            ports: (self.port(rng, from), self.port(rng, to)),
            dress,
            rest: rng.bits(),
            icmp: None,
            flags: 0,
        };
        if proto == 6 {
            drawn.flags = flags(rng, rule, self.place);
        }
        if (proto, family) == (1, 4) || (proto, family) == (58, 6) {
            let known: &[u8] = if family == 4 { &ICMP4 } else { &ICMP6 };
            let (mut kind, mut code) = (*rng.pick(known), rng.below(5) as u8);
            if let Some((types, codes)) = rule.and_then(|rule| rule.icmp.as_ref())
                && rule.is_some_and(|rule| rule.protos == [proto])
                && !rng.one_in(4)
            {
                kind = *rng.pick(types);
                code = if codes.is_empty() { code } else { *rng.pick(codes) };
            }
            drawn.icmp = Some((kind, code));
        }
        drawn
    }

    fn family(&self, rng: &mut Rng, from: &End, to: &End) -> u8 {
        let mut all: Vec<Addresses> = Vec::new();
        for list in [&from.addresses, &to.addresses].into_iter().flatten() {
            all.extend(self.addresses(&list.members));
        }
        if all.is_empty() || rng.one_in(5) {
            return *rng.pick(&[4, 6]);
        }
        if rng.pick(&all).is_v4() { 4 } else { 6 }
    }

    /// An address that the end asks for or that is beside it, and that a router forwards.
    fn address(&self, rng: &mut Rng, end: &End, family: u8) -> IpAddr {
        let mut all: Vec<Addresses> = Vec::new();
        for list in end.addresses.iter() {
            all.extend(self.addresses(&list.members));
        }
        if rng.one_in(8) || all.is_empty() {
            // What other rules ask for.
            for rule in &self.rules {
                for list in [&rule.from.addresses, &rule.to.addresses].into_iter().flatten() {
                    all.extend(self.addresses(&list.members));
                }
            }
        }
        all.retain(|a| a.is_v4() == (family == 4));
        for _ in 0..8 {
            if all.is_empty() {
                break;
            }
            let picked = beside(rng, rng.clone().pick(&all));
            rng.bits();
            if is_forwarded(picked) {
                return picked;
            }
        }
        if family == 4 {
            IpAddr::V4((0x0a14_1e00 | rng.below(256) as u32).into())
        } else {
            IpAddr::V6((0x2001_0db8_u128 << 96 | 1 << 64 | rng.below(256) as u128).into())
        }
    }

    fn port(&self, rng: &mut Rng, end: &End) -> u16 {
        let all = end.ports.as_ref().map(|list| self.ports(&list.members)).unwrap_or_default();
        if all.is_empty() || rng.one_in(8) {
            return rng.bits() as u16;
        }
        let (low, high) = *rng.pick(&all);
        match rng.below(6) {
            0 | 1 => low,
            2 => high,
            3 => low.wrapping_sub(1),
            4 => high.wrapping_add(1),
            _ => low + rng.below(usize::from(high - low) + 1) as u16,
        }
    }
}

fn any_proto(rules: &Rules, rng: &mut Rng) -> u8 {
    if rules.place.tracks() {
        *rng.pick(&[1, 6, 6, 17, 17, 58, 47, 50])
    } else {
        *rng.pick(&[1, 2, 6, 6, 17, 17, 58, 47, 50, 89, 132, 136, 253])
    }
}

/// The first, the last, one within, or the neighbour of one of them.
fn beside(rng: &mut Rng, addresses: &Addresses) -> IpAddr {
    let choice = rng.below(6);
    let within = rng.bits();
    match addresses.ends() {
        (IpAddr::V4(low), IpAddr::V4(high)) => {
            let (low, high) = (u32::from(low), u32::from(high));
            let span = u64::from(high - low) + 1;
            IpAddr::V4(
                match choice {
                    0 | 1 => low.wrapping_add((within % span) as u32),
                    2 => low,
                    3 => high,
                    4 => low.wrapping_sub(1),
                    _ => high.wrapping_add(1),
                }
                .into(),
            )
        }
        (IpAddr::V6(low), IpAddr::V6(high)) => {
            let (low, high) = (u128::from(low), u128::from(high));
            let wide = u128::from(within) << 64 | u128::from(within.rotate_left(17));
            IpAddr::V6(
                match choice {
                    0 | 1 => low.wrapping_add(wide % (high - low).saturating_add(1)),
                    2 => low,
                    3 => high,
                    4 => low.wrapping_sub(1),
                    _ => high.wrapping_add(1),
                }
                .into(),
            )
        }
        (low, _) => low,
    }
}

/// Whether a router sends on what has it as source or destination.
fn is_forwarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let [first, second, ..] = a.octets();
            (1..=223).contains(&first) && first != 127 && (first, second) != (169, 254)
        }
        IpAddr::V6(a) => {
            let first = a.segments()[0];
            (0x2000..0x4000).contains(&first) || (0xfc00..0xfe00).contains(&first)
        }
    }
}

/// What a frame is made of.
#[derive(Clone, Debug)]
struct Drawn {
    proto: u8,
    src: IpAddr,
    dst: IpAddr,
    /// Source and destination port.
    ports: (u16, u16),
    dress: Dress,
    /// Numbers that no rule asks for: of TCP the sequence number, of ICMP the four bytes behind the checksum.
    rest: u64,
    /// Type and code.
    icmp: Option<(u8, u8)>,
    /// TCP flags.
    flags: u8,
}

impl Drawn {
    /// What a flow is told from others by, both ways round alike.
    fn key(&self) -> (u8, IpAddr, IpAddr, u64) {
        let (a, b) = (self.src.min(self.dst), self.src.max(self.dst));
        let more = if self.icmp.is_some() {
            u64::from(self.rest as u32 >> 16)
        } else {
            let (low, high) = (self.ports.0.min(self.ports.1), self.ports.0.max(self.ports.1));
            u64::from(low) << 16 | u64::from(high)
        };
        (self.proto, a, b, more)
    }

    fn turn_round(&mut self) {
        std::mem::swap(&mut self.src, &mut self.dst);
        self.ports = (self.ports.1, self.ports.0);
    }

    fn build(&self, tail: &[u8]) -> Vec<u8> {
        let packet = Packet::new().ip(&self.src.to_string(), &self.dst.to_string());
        let packet = self.dress.put_on(packet, self.rest);
        let (sport, dport) = self.ports;
        let mut payload = Vec::new();
        let packet = match (self.proto, self.icmp) {
            (6, _) => {
                let ack = if self.flags & tcp::ACK == 0 { 0 } else { 7000 };
                packet.tcp(sport, dport).flags(self.flags).seq(self.rest as u32, ack)
            }
            (17, _) => packet.udp(sport, dport),
            (_, Some((kind, code))) => packet.icmp(kind, code, (self.rest as u32).to_be_bytes()),
            (number, _) => {
                if matches!(number, 132 | 136) {
                    // Ports and four bytes more: what both read of them.
                    payload.extend(sport.to_be_bytes());
                    payload.extend(dport.to_be_bytes());
                    payload.extend([0; 4]);
                }
                packet.proto(number)
            }
        };
        payload.extend(tail);
        packet.payload(&payload).build()
    }
}

/// Options, extension headers, first fragments.
#[derive(Clone, Copy, Debug)]
enum Dress {
    None,
    Options,
    Service,
    Fragment,
    HopByHop,
    Destination,
    Routing,
    Several,
    Fragment6,
    BehindFragment6,
}

impl Dress {
    fn any(rng: &mut Rng, family: u8, tracked: bool) -> Self {
        match (family, rng.below(16)) {
            (4, 0) => Self::Options,
            (4, 1) => Self::Service,
            // First fragments have a transport header; where flows are tracked they wait for the others.
            (4, 2) if !tracked => Self::Fragment,
            (6, 0) => Self::HopByHop,
            (6, 1) => Self::Destination,
            (6, 2) => Self::Routing,
            (6, 3) => Self::Several,
            (6, 4) if !tracked => Self::Fragment6,
            (6, 5) if !tracked => Self::BehindFragment6,
            _ => Self::None,
        }
    }

    fn put_on(self, packet: Packet, rest: u64) -> Packet {
        match self {
            Self::None => packet,
            Self::Options => packet.options(&[1, 1, 1]),
            Self::Service => packet.tos(rest as u8 & 0xfc),
            Self::Fragment => packet.id(rest as u16).fragment(0, true),
            Self::HopByHop => packet.hop_by_hop(),
            Self::Destination => packet.destination_options(),
            Self::Routing => packet.routing(),
            Self::Several => packet.hop_by_hop().routing().destination_options(),
            Self::Fragment6 => packet.fragment6(rest as u32, 0, true),
            Self::BehindFragment6 => packet.destination_options().fragment6(rest as u32, 0, true),
        }
    }
}

fn flags(rng: &mut Rng, rule: Option<&Rule>, place: Place) -> u8 {
    let asked = rule.and_then(|rule| rule.flags);
    let noise = rng.bits() as u8;
    let mut bits = match (asked, rng.below(3)) {
        (Some(Flags::All(set)), 0) => set | noise,
        (Some(Flags::Of(set, mask)), 0) => set | noise & !mask,
        (Some(Flags::Only(set)), 0) => set,
        (Some(Flags::None), 0) => 0,
        (_, 1) => noise,
        _ => *rng.pick(&[tcp::SYN, tcp::SYN, tcp::ACK, tcp::ACK | tcp::PSH, tcp::RST]),
    };
    // Where segments without SYN may begin a flow, SYN-ACK and FIN-ACK may here, and mayn't there.
    if place == Place::Tracked(true) && bits & (tcp::ACK | tcp::RST) == tcp::ACK {
        bits &= !(tcp::FIN | tcp::SYN);
    }
    bits
}
