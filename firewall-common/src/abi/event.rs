//! The fixed record of the ring buffer.

use super::{numbers, plain_bytes};
use bytemuck::{Pod, Zeroable};

numbers! {
    /// Class of an event; each has its own sequence and its own loss counter.
    Class(u8) {
        /// A flow was entered into the table.
        FlowNew = 0 => "new",
        /// A flow saw its handshake complete (TCP) or its first reply (UDP, ICMP query).
        FlowEstablished = 1 => "established",
        /// A flow ended: closed, reset, cut by a new policy. (Time-outs are told by the sweep.) A translated one
        /// that was closed is told once more when a new flow takes its tuple, as `reused`.
        FlowClosed = 2 => "closed",
        /// A packet was refused (drop or reject), sampled.
        Verdict = 3 => "verdict",
        /// A rule with `log` was met, sampled.
        Log = 4 => "log",
        /// A translation came into force. The event's addresses and ports are the original ones; bytes 4
        /// to 7 of `src` and `dst` are the translated address, 8 and 9 the translated port.
        NatNew = 5 => "nat",
        /// A rule by owner refused a call for the network, or was met with `log`; sampled. `flow_id` is the process
        /// (tgid in the low half, user in the high one), `packets` its start (nanoseconds since boot), `bytes` the
        /// socket's cookie, `reply_packets` and `reply_bytes` are the sixteen bytes of its name.
        Call = 6 => "call",
    }
}

/// How many classes there are: the size of map `EVENT_COUNTERS`.
pub const CLASSES: usize = 7;

/// One event. 128 bytes, host-endian unless said otherwise.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// Sequence number within the class, from 0, without gaps unless events were lost.
    pub seq: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// The flow's id; 0 where there is no flow.
    pub flow_id: u64,
    /// Packets and bytes of the flow so far (original direction); else of this packet.
    pub packets: u64,
    /// See `packets`.
    pub bytes: u64,
    /// Reply direction's packets; 0 without a flow.
    pub reply_packets: u64,
    /// Reply direction's bytes (from the IP header on).
    pub reply_bytes: u64,
    /// Source address; IPv4 in the first four bytes, the rest zero. Original direction for flows.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Policy generation that judged.
    pub generation: u32,
    /// Interface the packet was seen on.
    pub ifindex: u32,
    /// Source port, big-endian; ICMP: query identifier.
    pub sport: [u8; 2],
    /// Destination port, big-endian; ICMP: type, code.
    pub dport: [u8; 2],
    /// Rule slot ([`super::table`]), 0 if no rule was asked.
    pub rule: u32,
    /// Outer VLAN id, 0 if untagged.
    pub vlan: u16,
    /// [`Class`].
    pub class: u8,
    /// [`super::reason::Reason`].
    pub reason: u8,
    /// [`super::table::Verdict`].
    pub verdict: u8,
    /// [`super::table::Direction`] of the hook.
    pub direction: u8,
    /// 4, 6, or 0 where the packet isn't IP.
    pub family: u8,
    /// IP protocol number.
    pub proto: u8,
    /// TCP flags byte of the packet.
    pub tcp_flags: u8,
    /// [`crate::flow::tcp::TcpState`] for TCP flows.
    pub tcp_state: u8,
    /// EtherType, big-endian.
    pub ethertype: [u8; 2],
    /// Explicit padding.
    pub _pad: [u8; 4],
    /// Length of the frame, bytes.
    pub frame_len: u32,
    /// Explicit padding.
    pub _pad2: u32,
}

plain_bytes!(Event => 128);
