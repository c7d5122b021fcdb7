//! Numbers to the words people read.

use jiff::Timestamp;
use std::net::{Ipv4Addr, Ipv6Addr};

pub use firewall_common::wire::{
    icmp::{PROTO_ICMP as ICMP, PROTO_ICMPV6 as ICMPV6},
    transport::{TCP, UDP},
};

/// RFC 3339, UTC, milliseconds.
pub fn time(unix_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns))
        .map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

/// A flow's id.
pub fn flow_id(id: u64) -> String {
    format!("{id:016x}")
}

/// An address; empty where the packet isn't IP.
pub fn address(family: u8, bytes: &[u8; 16]) -> String {
    match family {
        4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).to_string(),
        6 => Ipv6Addr::from(*bytes).to_string(),
        _ => String::new(),
    }
}

/// A protocol's name, or its number.
pub fn proto(number: u8) -> String {
    match number {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        ICMP => "icmp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// What isn't IP.
pub fn ethertype(bytes: [u8; 2]) -> String {
    match u16::from_be_bytes(bytes) {
        0x0806 => "arp".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

/// TCP flags by name, in header order from the lowest bit.
pub fn tcp_flags(byte: u8) -> String {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set: Vec<&str> = (0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| NAMES[bit]).collect();
    set.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(time(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123Z");
        assert_eq!(tcp_flags(0x12), "syn,ack");
        assert_eq!(tcp_flags(0), "");
        assert_eq!(ethertype([0x88, 0xcc]), "0x88cc");
        assert_eq!(address(4, &[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "10.0.0.1");
        assert_eq!(address(0, &[0; 16]), "");
    }
}
