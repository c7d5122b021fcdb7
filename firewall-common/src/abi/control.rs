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
    /// Number of the live policy, from 1, and of what live sets made of it ([`Self::installed`]). Its table is
    /// `TABLES[generation & 1]`. 0: no policy was ever installed, and every packet passes, uncounted by rules.
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
    /// Secret of SYN cookies; as `seed`.
    pub cookie_key: [u64; 2],
    /// `COOKIES_*`; changed by the daemon as the machine's settings change.
    pub cookies: u32,
    /// `generation` as it was when the live policy was installed; 0: as it is. Live sets change what a policy says while
    /// it stays, and `generation` goes on by 2 then: the table is the same, whatever was judged is judged anew. Programs
    /// don't read this.
    pub installed: u32,
}

/// [`Control::cookies`]: a connection that a cookie made can be handed to its listener; else none is sent.
pub const COOKIES_ON: u32 = 1;
/// [`Control::cookies`]: the machine's TCP takes timestamps (`net.ipv4.tcp_timestamps`).
pub const COOKIES_TIMESTAMPS: u32 = 2;
/// [`Control::cookies`]: it scales windows (`net.ipv4.tcp_window_scaling`).
pub const COOKIES_SCALE: u32 = 4;
/// [`Control::cookies`]: it knows SACK (`net.ipv4.tcp_sack`).
pub const COOKIES_SACK: u32 = 8;

/// The single entry of map `COOKIES`: when a cookie was last sent, as a period ([`crate::flow::cookie`]) plus
/// 1; 0: never. Written by programs, at most once a period and CPU; only while it is recent are ACKs without
/// a flow looked at as cookies.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct CookieClock {
    /// See the type.
    pub last: u64,
    /// Connections that a cookie made and that the kernel wouldn't give to their listener; atomic adds.
    pub refused: u64,
}

plain_bytes!(Control => 56, CookieClock => 16);
