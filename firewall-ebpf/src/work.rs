//! What is known of the packet at hand. It lives in a per-CPU map, because 512 bytes of stack are not
//! enough for it; programs of one CPU don't nest, so each packet has it to itself.

use firewall_common::{
    abi::{flow::Flow, table::Direction},
    wire::Facts,
};

/// The packet at hand.
#[repr(C)]
pub struct Work {
    /// What the parser found.
    pub facts: Facts,
    /// The original direction's facts, where a reply is judged; the packet within an ICMP error.
    pub other: Facts,
    /// A flow on its way into the table.
    pub flow: Flow,
    /// An answer on its way into the packet.
    pub answer: [u8; 96],
    /// Tick at which the packet met the hook.
    pub now: u64,
    /// Segments.
    pub packets: u64,
    /// Bytes from the IP header on, of all segments.
    pub bytes: u64,
    /// Generation that judges.
    pub generation: u32,
    /// Interface.
    pub ifindex: u32,
    /// Frame length, bytes.
    pub frame_len: u32,
    /// Slot of the interface.
    pub iface: u8,
    /// Hook.
    pub direction: Direction,
}
