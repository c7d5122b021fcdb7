//! A flow as the kernel's table holds it, turned to its original direction.

use firewall_common::abi::flow::Flow;

/// One entry of the flow table. Oriented: `src` began the flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowRecord {
    /// 4 or 6.
    pub family: u8,
    /// IP protocol number.
    pub proto: u8,
    /// Originator's address; IPv4 in the first four bytes.
    pub src: [u8; 16],
    /// Responder's address.
    pub dst: [u8; 16],
    /// Originator's port, host-endian (ICMP: identifier).
    pub sport: u16,
    /// Responder's port, host-endian (ICMP: 0).
    pub dport: u16,
    /// Interface at which an event saw it; 0 where only the table did, which knows slots.
    pub ifindex: u32,
    /// How it is translated, if it is.
    pub nat: Option<NatTuple>,
    /// The record.
    pub flow: Flow,
}

/// The translated tuple of a flow. IPv4 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatTuple {
    /// Source as it goes out.
    pub src: [u8; 4],
    /// Destination as it goes out.
    pub dst: [u8; 4],
    /// Source port, host-endian (ICMP: identifier).
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Slot of the rule.
    pub rule: u16,
    /// The flow's bits, which say which end is translated.
    pub bits: u64,
}
