//! The rules by owner: a small policy whose rows are all of one length, looked up as the packets' policy was before it
//! could be large.

use super::{
    iface::IFACE_SLOTS,
    plain_bytes,
    table::{MAX_CONTINUES, RuleAction, SLOT_NONE, STATES, Settings, Verdict},
};
use bytemuck::{Pod, Zeroable};

/// Most rules.
pub const SMALL_RULES: usize = 1024;
/// 64-bit words of a row.
pub const WORDS: usize = SMALL_RULES / 64;
/// Rows in the pool.
pub const MAX_ROWS: usize = 8192;
/// Row 0: no rule. Row 1: every rule.
pub const ROW_NONE: u16 = 0;
/// See [`ROW_NONE`].
pub const ROW_ALL: u16 = 1;
/// Second-level IPv4 entries a direction (source, destination).
pub const V4_LEAVES: usize = 32_768;
/// IPv6 interval starts a direction.
pub const V6_BOUNDS: usize = 8192;

/// IPv4 address to row. `top[high 16 bits]` is a row (bit 31 clear), or `1<<31 | k<<24 | base`: then
/// 2^k leaves from `base` on hold `start<<16 | row`, sorted by `start`, the first with start 0,
/// padded with copies of the last; the row is that of the last leaf whose start <= low 16 bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct V4Map {
    /// First level.
    pub top: [u32; 65_536],
    /// Second level.
    pub leaves: [u32; V4_LEAVES],
}

/// [`V4Map::top`]: the entry points to leaves.
pub const V4_POINTER: u32 = 1 << 31;

/// IPv6 address to row: 2^`log2_len` intervals, sorted by start (two host-endian halves), the first
/// with start 0, padded with (u64::MAX, u64::MAX) and the last real row. The row is that of the last
/// start <= address.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct V6Map {
    /// Upper halves of the starts.
    pub hi: [u64; V6_BOUNDS],
    /// Lower halves.
    pub lo: [u64; V6_BOUNDS],
    /// Rows.
    pub row: [u16; V6_BOUNDS],
    /// See the type.
    pub log2_len: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// The rules.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct SmallTable {
    /// Settings.
    pub settings: Settings,
    /// What each rule does, in order.
    pub actions: [RuleAction; SMALL_RULES],
    /// Bits of the rules that decide; set by [`SmallTable::index_actions`].
    pub terminal: [u64; WORDS],
    /// Indices of the rules that only count or log, ascending; as `terminal`.
    pub continues: [u16; MAX_CONTINUES],
    /// How many of `continues` are in use.
    pub continues_len: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// Row by [`Direction`] and interface slot: `direction * IFACE_SLOTS + slot`.
    pub meta: [u16; 2 * IFACE_SLOTS],
    /// Row by IP protocol number.
    pub proto: [u16; 256],
    /// Row by TCP flags byte; other protocols skip it.
    pub tcp_flags: [u16; 256],
    /// Row by [`State`].
    pub state: [u16; STATES],
    /// Row by source port (host-endian); protocols without ports use entry 0 of `no_port`.
    pub sport: [u16; 65_536],
    /// Row by destination port (host-endian); ICMP and ICMPv6: `type << 8 | code`.
    pub dport: [u16; 65_536],
    /// Rows for packets without ports: source, destination, TCP flags (not TCP), unused.
    pub no_port: [u16; 4],
    /// IPv4 source.
    pub src4: V4Map,
    /// IPv4 destination.
    pub dst4: V4Map,
    /// IPv6 source.
    pub src6: V6Map,
    /// IPv6 destination.
    pub dst6: V6Map,
    /// The pool of rows.
    pub rows: [[u64; WORDS]; MAX_ROWS],
}

impl SmallTable {
    /// Derives `terminal` and `continues` from the actions in use (those with a slot).
    ///
    /// # Errors
    /// The number of rules that only count or log, where that is more than [`MAX_CONTINUES`].
    pub fn index_actions(&mut self) -> Result<(), usize> {
        self.terminal = [0; WORDS];
        let mut n = 0;
        for (i, action) in self.actions.iter().enumerate() {
            if action.slot() == SLOT_NONE {
                continue;
            }
            if action.verdict() != Verdict::Continue as u8 {
                self.terminal[i / 64] |= 1 << (i % 64);
            } else {
                if let Some(slot) = self.continues.get_mut(n) {
                    *slot = i as u16;
                }
                n += 1;
            }
        }
        self.continues_len = n.min(MAX_CONTINUES) as u32;
        if n > MAX_CONTINUES { Err(n) } else { Ok(()) }
    }
}

plain_bytes!(SmallTable => 128 + 4096 + 128 + 128 + 8 + 256 + 512 + 512 + 16 + 131_072 * 2 + 8
    + 2 * (262_144 + 131_072) + 2 * (8192 * 18 + 8) + 1_048_576);
