//! Every map. All are pinned by name: a daemon that is stopped or killed leaves them, and the next one
//! takes them up. Each entry says who writes it and what a race costs; the value types in
//! `firewall_common::abi` say it again beside their fields.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use firewall_common::abi::{
    clock::ClockReading,
    control::Control,
    counter::{EventCounter, ReasonCounter, RuleCounter},
    event::CLASSES,
    flow::{Flow, Key4, Key6},
    frag::{FragFirst, FragKey},
    iface::{IFACE_SLOTS, IFINDEX_LIMIT, Iface},
    names::Name,
    reason::REASONS,
    table::{RULE_SLOTS, RuleTable},
};

use crate::{budget::Budget, work::Work};

/// Live generation. Written by the daemon, one aligned word; programs read it once a packet.
#[map]
pub static CONTROL: Array<Control> = Array::pinned(1, 0);

/// The two policies. The daemon writes the one that isn't live, and waits a grace period after each
/// flip, so no program ever reads an entry that is being written.
#[map]
pub static TABLES: Array<RuleTable> = Array::pinned(2, 0);

/// ifindex to slot. Written by the daemon; a packet that races with it meets the old slot.
#[map]
pub static IFACES: Array<Iface> = Array::pinned(IFINDEX_LIMIT as u32, 0);

/// IPv4 flows. Inserted by programs (NOEXIST: one winner), deleted by programs (a flow is cut or
/// reused) and by the daemon's sweep. A packet that races with a delete makes the flow anew.
#[map]
pub static FLOWS4: HashMap<Key4, Flow> = HashMap::pinned(131_072, 0);

/// IPv6 flows; as `FLOWS4`.
#[map]
pub static FLOWS6: HashMap<Key6, Flow> = HashMap::pinned(131_072, 0);

/// First fragments, for their followers. Written by programs; the LRU bounds it, and a datagram
/// whose entry was pushed out counts as `fragment-without-first`.
#[map]
pub static FRAGMENTS: LruHashMap<FragKey, FragFirst> = LruHashMap::pinned(8192, 0);

/// Counters by rule slot, a copy a CPU: no race.
#[map]
pub static RULE_COUNTERS: PerCpuArray<RuleCounter> = PerCpuArray::pinned(RULE_SLOTS as u32, 0);

/// Counters by verdict and reason (`verdict << 6 | reason`), a copy a CPU: no race.
#[map]
pub static REASON_COUNTERS: PerCpuArray<ReasonCounter> = PerCpuArray::pinned(4 * REASONS as u32, 0);

/// What became of events, by class; atomic adds by every CPU.
#[map]
pub static EVENT_COUNTERS: Array<EventCounter> = Array::pinned(CLASSES as u32, 0);

/// The one ring. Programs reserve under its own lock; the daemon drains it.
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(4 << 20, 0);

/// What this CPU may still sample and answer in this tick; a copy a CPU: no race.
#[map]
pub static BUDGETS: PerCpuArray<Budget> = PerCpuArray::pinned(1, 0);

/// The packet at hand, one a CPU: no race.
#[map]
pub static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// A per-CPU count, from which flow ids are made.
#[map]
pub static FLOW_IDS: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

/// Two clocks at one moment; written by `sluice_clock` in a test run of the daemon's.
#[map]
pub static CLOCK: Array<ClockReading> = Array::pinned(1, 0);

/// Owner of each rule slot. The daemon's own memory, kept here so that it outlives the daemon.
#[map]
pub static RULE_NAMES: Array<Name> = Array::pinned(RULE_SLOTS as u32, 0);

/// Owner of each interface slot; as `RULE_NAMES`.
#[map]
pub static IFACE_NAMES: Array<Name> = Array::pinned(IFACE_SLOTS as u32, 0);
