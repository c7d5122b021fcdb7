//! Which interfaces take part.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Slots for interfaces; slot 0 means "not ours". A slot belongs to an interface *name*, so that a
/// policy outlives an interface that goes and comes back with another index.
pub const IFACE_SLOTS: usize = 64;

/// Highest interface index + 1 that fits map `IFACES`.
pub const IFINDEX_LIMIT: usize = 65_536;

/// One entry of map `IFACES`, indexed by ifindex; written by the daemon only.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Iface {
    /// 1..[`IFACE_SLOTS`], or 0.
    pub slot: u32,
    /// `IFACE_*`.
    pub flags: u32,
    /// First IPv4 address, as on the wire: what masquerade and redirect use; zero if there is none.
    pub address: [u8; 4],
    /// MTU, bytes from the IP header on.
    pub mtu: u32,
    /// Hardware address: what a frame is sent to that is to be forwarded.
    pub mac: [u8; 6],
    /// Explicit padding, zero.
    pub _pad: [u8; 2],
}

/// [`Iface::flags`]: frames come off a wire with whole checksums, so that an XDP program may rewrite
/// them. Those of a veth may not: they carry partial checksums, which XDP can't see.
pub const IFACE_WIRE: u32 = 1;
/// [`Iface::flags`]: its driver takes frames that an XDP program of another interface sends out through
/// it. Where it doesn't, such frames vanish without a word.
pub const IFACE_FAST: u32 = 2;
/// [`Iface::flags`]: packets are judged at XDP. The TC program behind it judges only those that XDP leaves to
/// it (see [`DEFERRED`]): packets to be translated, whose checksums XDP can't see the whole of.
pub const IFACE_XDP: u32 = 4;

/// [`Iface::flags`]: XDP runs in the stack. What it lets by may come to TC without its Ethernet header (the kernel's
/// `skb_pp_cow_data` forgets `mac_len`), so nothing can be left to a program behind it.
pub const IFACE_XDP_GENERIC: u32 = 8;

/// What XDP writes before a frame that it leaves to the TC program (packet metadata, 4 bytes).
pub const DEFERRED: u32 = 0x0511_cede;

/// Queues of an interface that an AF_XDP socket may be bound to.
pub const XSK_QUEUES: usize = 64;

/// Index in map `XSKS` of the socket of a queue. `None`: the interface isn't ours, or the queue is too
/// high. A socket takes frames of its own interface and queue and no other, so that each has a place of
/// its own.
#[inline(always)]
pub const fn xsk_index(slot: u32, queue: u32) -> Option<u32> {
    if slot == 0 || slot >= IFACE_SLOTS as u32 || queue >= XSK_QUEUES as u32 {
        return None;
    }
    Some(slot * XSK_QUEUES as u32 + queue)
}

plain_bytes!(Iface => 24);
