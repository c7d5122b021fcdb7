//! Per-CPU counters: by rule slot, by reason, by event class.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// One entry of the per-CPU map `RULE_COUNTERS`, indexed by rule slot. Each CPU writes its own copy
/// from softirq; no race. The sum over CPUs is the truth; `last` is the maximum.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct RuleCounter {
    /// Packets that were classified and met this rule (a flow's first packet, each refused packet).
    pub hits: u64,
    /// Every packet the rule decided, those of its established flows (both ways) included.
    pub packets: u64,
    /// Bytes of those packets, from the IP header on.
    pub bytes: u64,
    /// Tick of the last hit; 0 if none.
    pub last: u64,
}

/// One entry of the per-CPU map `REASON_COUNTERS`, indexed by [`super::reason::Reason`].
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ReasonCounter {
    /// Packets (segments, where an skb stands for several).
    pub packets: u64,
    /// Bytes of the frame.
    pub bytes: u64,
}

/// One entry of the map `EVENT_COUNTERS`, indexed by [`super::event::Class`]. Shared by all CPUs,
/// changed with atomic adds. `produced = delivered + lost` holds per class: `delivered` is what
/// user space drained.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct EventCounter {
    /// Events numbered so far (the next event's sequence number).
    pub produced: u64,
    /// Of those, not written: the ring was full.
    pub lost: u64,
    /// Not numbered at all: held back by sampling, so that a flood can't drown the rest.
    pub suppressed: u64,
}

/// The one entry of map `TABLE_COUNTERS`: what befell entries of the flow tables beside being counted as
/// packets. Atomic adds by every CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TableCounter {
    /// Unanswered flows that made room for newer ones.
    pub evicted: u64,
    /// Their packets, both directions.
    pub evicted_packets: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Packets that found a lock held for too long.
    pub busy: u64,
    /// Events of new flows held back since the budget was spent are in `EVENT_COUNTERS`; these are first
    /// packets refused because their source had its share.
    pub source_limited: u64,
}

plain_bytes!(TableCounter => 40, RuleCounter => 32, ReasonCounter => 16, EventCounter => 24);
