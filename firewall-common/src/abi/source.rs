//! How many flows a source has.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Counters in map `SOURCES`. A source's index is a hash of its address (IPv6: of its /64) with the
/// tables' secret; sources that share an index share the limit, which one in 65,536 pairs does.
pub const SOURCES: usize = 65_536;

/// Live flows by source. Atomic adds by whoever enters a flow or takes it out.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Sources {
    /// Flows.
    pub flows: [u64; SOURCES],
}

plain_bytes!(Sources => 8 * SOURCES);
