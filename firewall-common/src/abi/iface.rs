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
    /// Explicit padding.
    pub _pad: u32,
}

plain_bytes!(Iface => 8);
