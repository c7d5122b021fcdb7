//! Every map. All are pinned by name: a daemon that is stopped or killed leaves them, and the next one
//! takes them up. Each entry says who writes it and what a race costs; the value types in
//! `firewall_common::abi` say it again beside their fields.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf, XskMap},
};
use firewall_common::{
    abi::{
        bucket::{Bucket, Locks, PLANNED, SLOTS},
        clock::ClockReading,
        control::{Control, CookieClock},
        counter::{EventCounter, ReasonCounter, RuleCounter, TableCounter},
        event::CLASSES,
        flow::{Flow4, Flow6},
        frag::{FragFirst, FragKey},
        iface::{IFACE_SLOTS, IFINDEX_LIMIT, Iface, XSK_QUEUES},
        limit::{LIMIT_BUCKETS, LimitBucket, LimitStats, Limited},
        names::Name,
        nat::{Alias4, NAT_HOSTS as HOSTS, NatTotals, POOL_ADDRESSES, Ports},
        reason::REASONS,
        set::{MAX_SETS, SetHead},
        source::Sources,
        table::{RULE_SLOTS, RuleTable},
    },
    flow::resync::Syn,
};

use crate::{
    budget::Budget,
    opaque::volatile,
    resync,
    way::{PLACES, Way},
    work::Work,
};

/// The policy of a generation and the packet at hand.
#[inline(always)]
pub fn at_hand(generation: u32) -> Option<(&'static RuleTable, &'static mut Work)> {
    let (table, work) = (TABLES.get_ptr(generation & 1)?, WORK.get_ptr_mut(0)?);
    // SAFETY: live map values; the table isn't written while its generation is live, the work is this CPU's own, and
    // programs of one CPU don't nest.
    Some(unsafe { (&*table, &mut *work) })
}

/// [`at_hand`] where nobody tells the generation: in a callback, and where a stage begins.
#[inline(always)]
pub fn again_at_hand() -> Option<(u32, &'static RuleTable, &'static mut Work)> {
    let work = WORK.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry, and programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let generation = volatile(&work.generation);
    let table = TABLES.get_ptr(generation & 1)?;
    // SAFETY: a live map value; the table isn't written while its generation is live.
    Some((generation, unsafe { &*table }, work))
}

/// When a cookie was last sent: see `CookieClock`.
#[map]
pub static COOKIES: Array<CookieClock> = Array::pinned(1, 0);

/// Live generation. Written by the daemon, one aligned word; programs read it once a packet.
#[map]
pub static CONTROL: Array<Control> = Array::pinned(1, 0);

/// The two policies but for their rows ([`crate::rules`]). The daemon writes the one that isn't live, and waits a grace
/// period after each flip, so no program ever reads an entry that is being written.
#[map]
pub static TABLES: Array<RuleTable> = Array::pinned(2, 0);

/// Live sets, but for what they hold ([`crate::sets`]). The daemon configures; counters are atomic adds.
#[map]
pub static SETS: Array<SetHead> = Array::pinned(MAX_SETS as u32, MMAPABLE);

/// ifindex to slot. Written by the daemon; a packet that races with it meets the old slot.
#[map]
pub static IFACES: Array<Iface> = Array::pinned(IFINDEX_LIMIT as u32, 0);

/// BPF_F_MMAPABLE: user space reads the array in place.
pub const MMAPABLE: u32 = 1 << 10;

/// Buckets of a table of 131,072 keys; the daemon sets what the configuration says.
const BUCKETS: u32 = 131_072u32.div_ceil(PLANNED) * 2;

/// Tags of the IPv4 flows. Changed by compare-and-swap alone (see `firewall_common::abi::bucket`), by
/// programs and by the daemon's sweep.
#[map]
pub static BUCKETS4: Array<Bucket> = Array::pinned(BUCKETS, MMAPABLE);

/// IPv4 flows. An entry is written by whoever claimed its tag, then changed as `Flow` says.
#[map]
pub static FLOWS4: Array<Flow4> = Array::pinned(BUCKETS * SLOTS as u32, MMAPABLE);

/// Tags of the IPv6 flows; as `BUCKETS4`.
#[map]
pub static BUCKETS6: Array<Bucket> = Array::pinned(BUCKETS, MMAPABLE);

/// IPv6 flows; as `FLOWS4`.
#[map]
pub static FLOWS6: Array<Flow6> = Array::pinned(BUCKETS * SLOTS as u32, MMAPABLE);

/// Tags of the aliases; as `BUCKETS4`.
#[map]
pub static ALIAS_BUCKETS: Array<Bucket> = Array::pinned(BUCKETS, MMAPABLE);

/// Other tuples of translated flows; as `FLOWS4`, and never changed while live but for its flags.
#[map]
pub static ALIASES: Array<Alias4> = Array::pinned(BUCKETS * SLOTS as u32, MMAPABLE);

/// Locks of those who enter keys, by stripe of the key's hash. Programs only.
#[map]
pub static LOCKS: Array<Locks> = Array::pinned(1, 0);

/// Ports in use by public address and protocol: a hint (see `Ports`). Bits are set by programs, cleared
/// by the sweep; a lost race costs a probe.
#[map]
pub static PORTS: Array<Ports> = Array::pinned(3 * POOL_ADDRESSES as u32, MMAPABLE);

/// Totals of ended translated flows by rule slot; atomic adds of whoever ended the flow.
#[map]
pub static NAT_RULES: Array<NatTotals> = Array::pinned(RULE_SLOTS as u32, MMAPABLE);

/// The same by inside host; the last row is for those that found none.
#[map]
pub static NAT_HOSTS: Array<NatTotals> = Array::pinned(HOSTS as u32 + 1, MMAPABLE);

/// Flows by source; atomic adds.
#[map]
pub static SOURCES: Array<Sources> = Array::pinned(1, MMAPABLE);

/// What became of the tables' entries; atomic adds.
#[map]
pub static TABLE_COUNTERS: Array<TableCounter> = Array::pinned(1, 0);

/// First fragments, for their followers. Written by programs; the LRU bounds it, and a datagram
/// whose entry was pushed out counts as `fragment-without-first`.
#[map]
pub static FRAGMENTS: LruHashMap<FragKey, FragFirst> = LruHashMap::pinned(8192, 0);

/// Counters by rule slot, a copy a CPU: no race.
#[map]
pub static RULE_COUNTERS: PerCpuArray<RuleCounter> = PerCpuArray::pinned(RULE_SLOTS as u32, 0);

/// Limits of rules, by their slots. Programs write: compare and swap, atomic adds.
#[map]
pub static LIMITS: Array<Limited> = Array::pinned(RULE_SLOTS as u32, MMAPABLE);

/// Limits of sources. Programs write; a source that owes nothing makes room, and who is forgotten is counted.
#[map]
pub static LIMIT_SOURCES: Array<LimitBucket> = Array::pinned(LIMIT_BUCKETS as u32, 0);

/// What went wrong with limits.
#[map]
pub static LIMIT_STATS: Array<LimitStats> = Array::pinned(1, 0);

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

/// Ways past the stack, a copy a CPU: no race.
#[map]
pub static WAYS: PerCpuArray<Way> = PerCpuArray::with_max_entries(PLACES, 0);

/// SYNs on flows that weren't over, by flow slot: a hint (see `resync`). Programs only; one that loses its place
/// to another leaves its flow to its time-out.
#[map]
pub static SYNS: Array<Syn> = Array::with_max_entries(resync::PLACES, 0);

/// The packet at hand, one a CPU: no race.
#[map]
pub static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// A per-CPU count, from which flow ids are made.
#[map]
pub static FLOW_IDS: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

/// AF_XDP sockets by interface slot and queue (`xsk_index`). Written by whoever has the sockets, through
/// the pin; the kernel takes a socket out that is closed.
#[map]
pub static XSKS: XskMap = XskMap::pinned((IFACE_SLOTS * XSK_QUEUES) as u32, 0);

/// Two clocks at one moment; written by `sluice_clock` in a test run of the daemon's.
#[map]
pub static CLOCK: Array<ClockReading> = Array::pinned(1, 0);

/// Owner of each rule slot. The daemon's own memory, kept here so that it outlives the daemon.
#[map]
pub static RULE_NAMES: Array<Name> = Array::pinned(RULE_SLOTS as u32, MMAPABLE);

/// Owner of each interface slot; as `RULE_NAMES`.
#[map]
pub static IFACE_NAMES: Array<Name> = Array::pinned(IFACE_SLOTS as u32, 0);

/// Owner of each live set's index; as `RULE_NAMES`.
#[map]
pub static SET_NAMES: Array<Name> = Array::pinned(MAX_SETS as u32, MMAPABLE);
