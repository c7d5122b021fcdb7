//! Flow table: keys and the one record per flow.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Key of map `FLOWS4`: the canonical 5-tuple (see [`crate::flow::key`]): `a` is the smaller
/// (address, port) end, so both directions meet one record. VLAN is not part of it (as in
/// netfilter): a routed flow is the same flow on each of its links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Key4 {
    /// Smaller end's address, as on the wire.
    pub a: [u8; 4],
    /// Larger end's address.
    pub b: [u8; 4],
    /// Smaller end's port, big-endian (ICMP: the query's identifier).
    pub a_port: [u8; 2],
    /// Larger end's port (ICMP: the identifier again).
    pub b_port: [u8; 2],
    /// IP protocol number.
    pub proto: u8,
    /// Explicit padding, zero.
    pub _pad: [u8; 3],
}

/// Key of map `FLOWS6`; as [`Key4`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Key6 {
    /// Smaller end's address, as on the wire.
    pub a: [u8; 16],
    /// Larger end's address.
    pub b: [u8; 16],
    /// Smaller end's port, big-endian (ICMP: the query's identifier).
    pub a_port: [u8; 2],
    /// Larger end's port (ICMP: the identifier again).
    pub b_port: [u8; 2],
    /// IP protocol number.
    pub proto: u8,
    /// Explicit padding, zero.
    pub _pad: [u8; 3],
}

/// A policy's judgement at one hook, in one word that is read and written whole:
/// generation (bits 63..32), rule slot (31..16), verdict (15..8), 1 if ever judged (0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Judgement(pub u64);

impl Judgement {
    /// Packs a judgement.
    #[inline(always)]
    pub const fn new(generation: u32, slot: u16, verdict: u8) -> Self {
        Self((generation as u64) << 32 | (slot as u64) << 16 | (verdict as u64) << 8 | 1)
    }
    /// Generation of the policy that judged.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Slot of the rule that decided.
    #[inline(always)]
    pub const fn slot(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// [`super::table::Verdict`], raw.
    #[inline(always)]
    pub const fn verdict(self) -> u8 {
        (self.0 >> 8) as u8
    }
    /// Whether the flow's original direction ever passed this hook.
    #[inline(always)]
    pub const fn is_set(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Bits of [`Flow::bits`], set with an atomic OR and never cleared: each is a thing that happens
/// once.
pub mod bits {
    /// The original direction's source is end `a` of the key.
    pub const ORIG_IS_A: u64 = 1 << 0;
    /// The original direction was seen at an ingress hook: it is counted there and nowhere else.
    pub const ORIG_AT_INGRESS: u64 = 1 << 1;
    /// The reply direction was seen at an ingress hook: counted there and nowhere else.
    pub const REPLY_AT_INGRESS: u64 = 1 << 2;
    /// A reply was seen.
    pub const SEEN_REPLY: u64 = 1 << 3;
    /// The `established` event was told.
    pub const TOLD_ESTABLISHED: u64 = 1 << 4;
    /// The `closed` event was told.
    pub const TOLD_CLOSED: u64 = 1 << 5;
    /// Taken up in mid-stream: no SYN was seen.
    pub const PICKED_UP: u64 = 1 << 6;
}

/// One flow. Made by the CPU that sees its first packet (BPF_NOEXIST: one winner), then changed by
/// every CPU that sees a packet of it: counters with atomic adds, [`bits`] with atomic OR, the rest
/// with plain word stores, where a lost race costs one tick of `last` or one TCP step that the next
/// packet makes again. Deleted by user space's sweep, and by the kernel when the flow is cut.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Flow {
    /// Packets of the original direction.
    pub packets: u64,
    /// Bytes of the original direction, from the IP header on, as on the wire (an aggregated skb
    /// counts as the segments it stands for).
    pub bytes: u64,
    /// Packets of the reply direction.
    pub reply_packets: u64,
    /// Bytes of the reply direction.
    pub reply_bytes: u64,
    /// Tick of the last packet.
    pub last: u64,
    /// See [`bits`].
    pub bits: u64,
    /// Judgement at ingress, of the original direction.
    pub judged_in: Judgement,
    /// Judgement at egress, of the original direction.
    pub judged_out: Judgement,
    /// Tick of the first packet.
    pub first: u64,
    /// Unique while the table lives: CPU in the top 16 bits, a per-CPU count below.
    pub id: u64,
    /// Interface slot at which the original direction came in (0: none).
    pub if_in: u8,
    /// Interface slot at which the original direction went out (0: none).
    pub if_out: u8,
    /// [`crate::flow::tcp::TcpState`]; 0 for other protocols.
    pub tcp_state: u8,
    /// TCP flags of the packet that made the flow, so that a new policy can judge it as it was.
    pub first_flags: u8,
    /// Outer VLAN id of the first packet, 0 if untagged.
    pub vlan: u16,
    /// ICMP: type and code of the query.
    pub icmp: [u8; 2],
    /// Interface index of the first packet.
    pub ifindex: u32,
    /// Explicit padding.
    pub _pad: u32,
}

plain_bytes!(Key4 => 16, Key6 => 40, Judgement => 8, Flow => 96);
