//! Flow table: keys and the one record per flow. The table itself is described in [`super::bucket`].

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Key of an IPv4 flow: the canonical 5-tuple (see [`crate::flow::key`]): `a` is the smaller
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

/// Key of an IPv6 flow; as [`Key4`].
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
/// generation (bits 63..32), rule slot (31..8), verdict (7..4), 1 if ever judged (0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Judgement(pub u64);

impl Judgement {
    /// Packs a judgement.
    #[inline(always)]
    pub const fn new(generation: u32, slot: u32, verdict: u8) -> Self {
        Self(
            (generation as u64) << 32
                | (slot as u64 & 0xff_ffff) << 8
                | (verdict as u64 & 15) << 4
                | 1,
        )
    }
    /// Generation of the policy that judged.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Slot of the rule that decided.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 as u32 >> 8
    }
    /// [`super::table::Verdict`], raw.
    #[inline(always)]
    pub const fn verdict(self) -> u8 {
        (self.0 >> 4) as u8 & 15
    }
    /// Whether the flow's original direction ever passed this hook.
    #[inline(always)]
    pub const fn is_set(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Bits of [`Flow::bits`], set with an atomic OR and never cleared: each is a thing that happens
/// once. But for [`BYPASS`], which follows the judgement at ingress, and those of a TCP connection that
/// another takes the place of ([`crate::flow::resync::FORGOTTEN`]).
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
    /// Not followed from its SYN on: taken up in mid-stream, or there were packets whose numbers nobody
    /// looked at (fragments, a policy that leaves windows alone). Numbers are followed and not enforced.
    pub const PICKED_UP: u64 = 1 << 6;
    /// The originator's SYN offered a window scale (RFC 7323).
    pub const SCALE_ORIG: u64 = 1 << 7;
    /// The responder's SYN did, too: both scales count.
    pub const SCALE_REPLY: u64 = 1 << 8;
    /// The originator's SYN permitted SACK (RFC 2018).
    pub const SACK_ORIG: u64 = 1 << 9;
    /// The responder's did, too.
    pub const SACK_REPLY: u64 = 1 << 10;
    /// UDP: packets went both ways for longer than the first exchange: a stream.
    pub const STREAM: u64 = 1 << 11;
    /// The source is translated: [`super::Flow::nat`] is the slot of the alias that holds the tuple.
    pub const NAT_SOURCE: u64 = 1 << 12;
    /// The destination is translated.
    pub const NAT_DESTINATION: u64 = 1 << 13;
    /// The handshake was made by SYN cookies.
    pub const COOKIE: u64 = 1 << 14;
    /// The original direction's packets go to an AF_XDP socket, as the rule says that let it in.
    pub const BYPASS: u64 = 1 << 15;
    /// No room in the table of established flows' sources: not counted there.
    pub const SOURCE_COUNTED: u64 = 1 << 16;
    /// The source translation was looked for, and no rule wanted it.
    pub const NAT_SETTLED: u64 = 1 << 17;
    /// TCP: the originator's FIN went by.
    pub const FIN_ORIG: u64 = 1 << 18;
    /// TCP: the responder's FIN went by.
    pub const FIN_REPLY: u64 = 1 << 19;
    /// The rule that let it by at an ingress hook limits packets or bits.
    pub const LIMITED_IN: u64 = 1 << 20;
    /// The same at an egress hook.
    pub const LIMITED_OUT: u64 = 1 << 21;
}

/// What one end of a TCP connection has sent and may send, as sequence numbers (RFC 9293 section 3.3.1,
/// seen from between; the names are those of netfilter's `ip_ct_tcp_state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Window {
    /// Highest sequence number sent, plus the segment's length.
    pub end: u32,
    /// Highest that the other end allows: its last ACK plus its window.
    pub max_end: u32,
    /// Highest ACK sent.
    pub max_ack: u32,
}

/// Both ends' windows. Each field is written by packets of one direction only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Windows {
    /// The originator's and the responder's. ICMP: see [`Flow::icmp`].
    pub ends: [Window; 2],
    /// Largest window that each end offered, in units of its scale, rounded up; 0: nothing seen of it.
    pub largest: [u16; 2],
}

/// One flow. Made by the CPU that sees its first packet (one winner: see [`super::bucket`]), then changed
/// by every CPU that sees a packet of it: counters with atomic adds, [`bits`] with atomic OR, the rest
/// with plain word stores, field by field, where a lost race costs one tick of `last`, or one TCP step or
/// window edge of its own direction that the next packet makes again. Deleted by user space's sweep, and by the kernel when the flow is
/// cut.
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
    /// See [`bits`].
    pub bits: u64,
    /// Judgement at ingress, of the original direction.
    pub judged_in: Judgement,
    /// Judgement at egress, of the original direction.
    pub judged_out: Judgement,
    /// Unique while the table lives: CPU in the top 16 bits, a per-CPU count below.
    pub id: u64,
    /// Tick of the last packet, low 32 bits (at 250 ticks a second they come round in 198 days).
    pub last: u32,
    /// Tick of the first packet, low 32 bits; the next eight are in `first_high`.
    pub first: u32,
    /// TCP: what both ends have sent and allowed.
    pub windows: Windows,
    /// Slot of the alias with the translated tuple, plus 1; 0: not translated.
    pub nat: u32,
    /// TCP: window scales, originator's in the low four bits, responder's in the high.
    pub scales: u8,
    /// [`crate::flow::tcp::TcpState`]; 0 for other protocols.
    pub tcp_state: u8,
    /// TCP flags of the packet that made the flow, so that a new policy can judge it as it was.
    pub first_flags: u8,
    /// Interface slot at which the original direction came in (0: none).
    pub if_in: u8,
    /// Interface slot at which the original direction went out (0: none).
    pub if_out: u8,
    /// Bits 32..39 of the tick of the first packet.
    pub first_high: u8,
    /// Outer VLAN id of the first packet, 0 if untagged.
    pub vlan: u16,
}

impl Flow {
    /// Type and code of the query that began an ICMP flow.
    #[inline(always)]
    pub const fn icmp(&self) -> [u8; 2] {
        let b = self.windows.ends[0].end.to_le_bytes();
        [b[0], b[1]]
    }
    /// Sets what [`Flow::icmp`] returns.
    #[inline(always)]
    pub const fn set_icmp(&mut self, icmp: [u8; 2]) {
        self.windows.ends[0].end = u32::from_le_bytes([icmp[0], icmp[1], 0, 0]);
    }
    /// Tick of the first packet, 40 bits.
    pub const fn first_tick(&self) -> u64 {
        self.first as u64 | (self.first_high as u64) << 32
    }
    /// Tick of the last packet: the latest not after `now` that ends in the 32 bits that are kept. (A
    /// packet of another CPU may be a few ticks ahead of `now`.)
    pub const fn last_tick(&self, now: u64) -> u64 {
        now.wrapping_sub(self.idle(now) as u64)
    }
    /// Ticks since the last packet at `now`; 0 where another CPU wrote a later tick than ours.
    #[inline(always)]
    pub const fn idle(&self, now: u64) -> u32 {
        let idle = (now as u32).wrapping_sub(self.last);
        if idle > 0xffff_0000 { 0 } else { idle }
    }
}

/// A record of map `FLOWS4`: two cache lines.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Flow4 {
    /// The flow.
    pub flow: Flow,
    /// Its key.
    pub key: Key4,
}

/// A record of map `FLOWS6`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Flow6 {
    /// The flow.
    pub flow: Flow,
    /// Its key.
    pub key: Key6,
}

plain_bytes!(Key4 => 16, Key6 => 40, Judgement => 8, Window => 12, Windows => 28, Flow => 112, Flow4 => 128, Flow6 => 152);
