//! A flow as the kernel's table holds it, turned to its original direction.

use firewall_common::abi::flow::Flow;

/// Under which tuple a translated flow goes out: see [`firewall_common::abi::nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatTuple {
    /// Originator's address as the other side sees it.
    pub src: [u8; 4],
    /// Responder's address as it is reached.
    pub dst: [u8; 4],
    /// Originator's port, host-endian (ICMP: identifier).
    pub sport: u16,
    /// Responder's port, host-endian (ICMP: 0).
    pub dport: u16,
    /// Slot of the rule that translates.
    pub rule: u32,
}

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
    /// Its translated tuple, where it has one.
    pub nat: Option<NatTuple>,
    /// The record.
    pub flow: Flow,
}
