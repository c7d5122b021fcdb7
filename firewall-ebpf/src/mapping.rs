//! What is known of a translation on its way: the mapping that is being made, and how the packet at hand is
//! rewritten.

use crate::{conntrack::Key, table};

/// Which end of a packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// Neither.
    Nothing = 0,
    /// Destination, at ingress.
    Destination = 1,
    /// Source, at egress.
    Source = 2,
}

/// How the packet at hand is rewritten at this hook.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rewrite {
    /// IPv4: new address.
    pub address: [u8; 4],
    /// New port; ICMP: identifier.
    pub port: [u8; 2],
    /// Which end.
    pub side: Side,
    /// The packet that an ICMPv6 error quotes is rewritten too, at its other end.
    pub quotes: bool,
    /// IPv6: new address.
    pub prefix: [u8; 16],
    /// IPv6: new address of the quoted packet.
    pub quoted: [u8; 16],
}

/// The mapping that is being made, and its alias on the way into the table.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Mapping {
    /// Real source.
    pub src: [u8; 4],
    /// Real destination.
    pub dst: [u8; 4],
    /// Real source port.
    pub sport: [u8; 2],
    /// Real destination port.
    pub dport: [u8; 2],
    /// Public source, or the real one.
    pub to: [u8; 4],
    /// IP protocol.
    pub proto: u8,
    /// Flags of the alias.
    pub flags: u8,
    /// Stable slot of the rule.
    pub rule: u32,
    /// Index in `PORTS` of the public address, plus 1.
    pub pool: u16,
    /// Ports to choose from.
    pub ports: [u16; 2],
    /// Slot of the flow.
    pub flow: u32,
    /// Slot of the alias, once it is there.
    pub alias: u32,
    /// Key of the alias.
    pub key: Key,
    /// Key of the endpoint.
    pub endpoint: Key,
    /// Room in its buckets.
    pub scan: table::Scan,
}
