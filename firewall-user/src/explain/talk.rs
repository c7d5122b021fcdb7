//! The packets that come before one of an established flow.

use super::{Made, Understood, build};
use crate::policy::words;
use firewall_common::{abi::table::Direction, wire::facts::IcmpKind};

/// A packet of an opening: which way it goes at the interface, and its frame.
pub type Opening = (Direction, Vec<u8>);

const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// What would have gone by before a packet that is part of an established flow: the handshake of TCP, else a
/// packet each way. The numbers are such that the packet fits. Empty where the packet can't be of a flow.
/// `reply`: the packet goes from the responder to the originator.
pub fn opening(direction: Direction, packet: &Understood, reply: bool) -> Vec<Opening> {
    let (Some((src, dst)), facts) = (packet.ends(), &packet.facts) else { return Vec::new() };
    let (sport, dport) = packet.ports().unwrap_or_default();
    let back = match direction {
        Direction::In => Direction::Out,
        Direction::Out => Direction::In,
    };
    // Each way: from the packet's source on, and back.
    let template = Made {
        vlans: if facts.vlan == 0 { Vec::new() } else { vec![facts.vlan] },
        arp: false,
        proto: facts.proto,
        src,
        dst,
        ports: (sport, dport),
        icmp: (0, 0),
        id: u16::from_be_bytes(facts.sport),
        flags: 0,
        numbers: (0, 0),
        window: 65_535,
        ttl: 64,
        length: 0,
        fragment: None,
    };
    let turned = Made { src: dst, dst: src, ports: (dport, sport), ..template.clone() };
    let (first, answer) = if reply { (turned, template) } else { (template, turned) };
    let (there, here) = if reply { (back, direction) } else { (direction, back) };
    if facts.proto == words::TCP {
        // What either end will send next.
        let (of_packet, of_other) =
            (facts.seq, if facts.tcp_flags & ACK != 0 { facts.ack } else { 2_000_000 });
        let (ours, theirs) = if reply { (of_other, of_packet) } else { (of_packet, of_other) };
        let of = |made: &Made, flags, numbers| build(&Made { flags, numbers, ..made.clone() });
        return vec![
            (there, of(&first, SYN, (ours.wrapping_sub(1), 0))),
            (here, of(&answer, SYN | ACK, (theirs.wrapping_sub(1), ours))),
            (there, of(&first, ACK, (ours, theirs))),
        ];
    }
    if let Some((kind, _)) = packet.icmp() {
        let (ask, said) = match facts.icmp {
            IcmpKind::Query if !reply => (kind, answered(facts.family, kind)),
            IcmpKind::Answer if reply => (asked(facts.family, kind), kind),
            _ => return Vec::new(),
        };
        let of = |made: &Made, kind| build(&Made { icmp: (kind, 0), ..made.clone() });
        return vec![(there, of(&first, ask)), (here, of(&answer, said))];
    }
    vec![(there, build(&first)), (here, build(&answer))]
}

/// Type of the answer to a query.
const fn answered(family: u8, kind: u8) -> u8 {
    match (family, kind) {
        (4, 8) => 0,
        (_, kind) => kind.wrapping_add(1),
    }
}

/// Type of the query that an answer answers.
const fn asked(family: u8, kind: u8) -> u8 {
    match (family, kind) {
        (4, 0) => 8,
        (_, kind) => kind.wrapping_sub(1),
    }
}
