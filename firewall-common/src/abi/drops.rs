//! What the stack dropped, sent again and reset: counters of the socket monitor.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Rows of map `DROPS`, by the kernel's number of the reason (`enum skb_drop_reason`); the last is for all that
/// have none: those of subsystems, and of kernels with more.
pub const DROP_REASONS: usize = 256;

/// IP packets that were dropped for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DropCount {
    /// All of them.
    pub packets: u64,
    /// Those whose socket is known.
    pub known: u64,
}

/// What TCP did on all sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TcpTotals {
    /// Segments sent again.
    pub retransmits: u64,
    /// Resets sent, also those that answer what belongs to no socket.
    pub resets_sent: u64,
    /// Resets received that ended a connection.
    pub resets_received: u64,
}

/// Packets of a socket that the stack dropped: kept in its storage from the first on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketDrops {
    /// How many; plain additions: a lost race costs one.
    pub packets: u32,
    /// The kernel's number of the reason of the last.
    pub reason: u32,
}

plain_bytes!(DropCount => 16, TcpTotals => 24, SocketDrops => 8);
