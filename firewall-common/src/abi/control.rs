//! The one word that says which policy is live.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// The single entry of map `CONTROL`. Written by the daemon only; every program reads
/// `generation` once per packet. A torn read can't happen: it is one aligned word.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Control {
    /// [`super::ABI_VERSION`] of whoever made the maps.
    pub abi_version: u32,
    /// Number of the live policy, from 1. Its table is `TABLES[generation & 1]`. 0: no policy was
    /// ever installed, and every packet passes, uncounted by rules.
    pub generation: u32,
    /// Secret of the hash tables; drawn once, when the maps are made.
    pub seed: u64,
    /// Buckets of the IPv4 flow table.
    pub buckets4: u32,
    /// Buckets of the IPv6 flow table.
    pub buckets6: u32,
    /// Buckets of the aliases' table.
    pub alias_buckets: u32,
    /// 1 once any policy had translation rules: then packets without a flow are looked for among the
    /// aliases.
    pub nat: u32,
}

plain_bytes!(Control => 32);
