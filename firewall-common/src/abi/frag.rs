//! What later fragments need of their first.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Key of map `FRAGMENTS` (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FragKey {
    /// Source address; IPv4 in the first four bytes.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Identification, as on the wire (IPv4: in the first two bytes).
    pub id: [u8; 4],
    /// IP protocol (IPv4; 0 for IPv6, whose key leaves it out).
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    /// Explicit padding, zero.
    pub _pad: [u8; 2],
}

/// Value of map `FRAGMENTS` (LRU): the transport facts of the first fragment. Written by the CPU
/// that sees the first fragment; a race is between equal values.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct FragFirst {
    /// Tick at which the first fragment was seen; good for 30 s (RFC 791's lower bound is 15).
    pub tick: u64,
    /// Source port, as on the wire (ICMP: identifier).
    pub sport: [u8; 2],
    /// Destination port, as on the wire (ICMP: type, code).
    pub dport: [u8; 2],
    /// IP protocol.
    pub proto: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Bit 0: an ICMP query's answer (see `wire::icmp`).
    pub kind: u8,
    /// Explicit padding, zero.
    pub _pad: u8,
}

plain_bytes!(FragKey => 40, FragFirst => 16);
