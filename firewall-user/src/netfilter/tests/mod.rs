//! Bytes as a kernel sent them, and bytes made here.
//!
//! The recordings are of Linux 6.18, with packets, bytes and time counted: a gate that translates
//! 10.8.0.1 to 10.9.0.1 and marks with 0x42; through it a TCP connection (deleted in the end with
//! `conntrack -D`), a ping, and over IPv6 untranslated a datagram with its answer. One answer a line.

mod decode;
mod table;

use super::{
    decode::{Message, Messages},
    entry::{Count, Counters, EntryKey, Facts, NetfilterEntry, ProtoState, Status, Tuple},
};
use std::net::IpAddr;

fn answers(hex: &str) -> Vec<Vec<u8>> {
    let byte = |at: usize, line: &str| u8::from_str_radix(&line[at..at + 2], 16).expect("hex");
    hex.lines().map(|line| (0..line.len()).step_by(2).map(|at| byte(at, line)).collect()).collect()
}

/// A dump: two answers, the second with its end.
fn dump() -> Vec<Vec<u8>> {
    answers(include_str!("../recorded/dump.hex"))
}

/// The events of the same entries, up to the end of the TCP connection.
fn events() -> Vec<Vec<u8>> {
    answers(include_str!("../recorded/events.hex"))
}

/// A masqueraded TCP connection of this host and port.
fn masqueraded(host: u8, sport: u16) -> NetfilterEntry {
    let orig = Tuple {
        src: IpAddr::from([10, 0, 0, host]),
        dst: IpAddr::from([192, 0, 2, 1]),
        sport,
        dport: 443,
        proto: 6,
        icmp_type: 0,
        icmp_code: 0,
    };
    let public = IpAddr::from([203, 0, 113, 5]);
    let reply =
        Tuple { src: orig.dst, dst: public, sport: 443, dport: 40_000 + u16::from(host), ..orig };
    NetfilterEntry {
        key: EntryKey { orig, zone: 0, id: 0x0100_0000 + u32::from(sport) },
        facts: Facts {
            reply,
            status: Status(0x18a),
            state: Some(ProtoState::Tcp(3)),
            timeout_s: Some(60),
            counters: None,
            start_ns: None,
            stop_ns: None,
            mark: None,
        },
    }
}

/// The same with what it has carried.
fn carried(entry: NetfilterEntry, orig: (u64, u64), reply: (u64, u64)) -> NetfilterEntry {
    let count = |(packets, bytes)| Count { packets, bytes };
    let counters = Counters { orig: count(orig), reply: count(reply) };
    NetfilterEntry { facts: Facts { counters: Some(counters), ..entry.facts }, ..entry }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &parts.concat())
}

fn tuple(kind: u16, tuple: &Tuple) -> Vec<u8> {
    let address = |kind: u16, address: IpAddr| match address {
        IpAddr::V4(address) => attribute(kind, &address.octets()),
        IpAddr::V6(address) => attribute(kind + 2, &address.octets()),
    };
    let ip = nested(1, &[address(1, tuple.src), address(2, tuple.dst)]);
    let proto = nested(
        2,
        &[
            attribute(1, &[tuple.proto]),
            attribute(2, &tuple.sport.to_be_bytes()),
            attribute(3, &tuple.dport.to_be_bytes()),
        ],
    );
    nested(kind, &[ip, proto])
}

/// A message as the kernel writes it, headers and all; of TCP and UDP only.
fn message(kind: u16, flags: u16, entry: &NetfilterEntry) -> Vec<u8> {
    let NetfilterEntry { key, facts } = entry;
    let mut parts = vec![
        tuple(1, &key.orig),
        tuple(2, &facts.reply),
        attribute(12, &key.id.to_be_bytes()),
        attribute(3, &facts.status.0.to_be_bytes()),
        attribute(18, &key.zone.to_be_bytes()),
    ];
    if let Some(timeout) = facts.timeout_s {
        parts.push(attribute(7, &timeout.to_be_bytes()));
    }
    if let Some(ProtoState::Tcp(state)) = facts.state {
        parts.push(nested(4, &[nested(1, &[attribute(1, &[state])])]));
    }
    if let Some(counters) = facts.counters {
        for (kind, count) in [(9, counters.orig), (10, counters.reply)] {
            let packets = attribute(1, &count.packets.to_be_bytes());
            parts.push(nested(kind, &[packets, attribute(2, &count.bytes.to_be_bytes())]));
        }
    }
    if let Some(start) = facts.start_ns {
        parts.push(nested(20, &[attribute(1, &start.to_be_bytes())]));
    }
    raw(kind, flags, &[&[2, 0, 0, 0][..], &parts.concat()].concat())
}

fn raw(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

const NEW: (u16, u16) = (0x100, 0x600);
const UPDATE: (u16, u16) = (0x100, 0);
const DUMPED: (u16, u16) = (0x100, 2);
const DESTROY: (u16, u16) = (0x102, 0);

fn event((kind, flags): (u16, u16), entry: &NetfilterEntry) -> Vec<u8> {
    message(kind, flags, entry)
}

/// The end of a dump, with an error.
fn done(error: i32) -> Vec<u8> {
    raw(3, 2, &(-error).to_ne_bytes())
}
