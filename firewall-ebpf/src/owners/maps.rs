//! Every map of the rules by owner. All are pinned beside the filter's: rules hold on while no daemon runs. Those that
//! the filter has, too, are the filter's own.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use core::{ffi::c_void, ptr};
use firewall_common::abi::{
    control::Control,
    counter::{EventCounter, RuleCounter},
    event::CLASSES,
    owner::{
        CgroupKey, ExeKey, NameKey, Owned, OwnerCounter, OwnerTable, PlaceRows, TalkKey, UnitKey,
        UserKey,
    },
    table::RULE_SLOTS,
};

use crate::budget::Budget;

/// As the filter's: one word for both says which policy is live.
#[map]
pub static CONTROL: Array<Control> = Array::pinned(1, 0);

/// As the filter's. What interrupts a call may count on the same CPU: atomic adds.
#[map]
pub static RULE_COUNTERS: PerCpuArray<RuleCounter> = PerCpuArray::pinned(RULE_SLOTS as u32, 0);

/// As the filter's.
#[map]
pub static EVENT_COUNTERS: Array<EventCounter> = Array::pinned(CLASSES as u32, 0);

/// As the filter's.
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(4 << 20, 0);

/// As the filter's. A call may be interrupted in the midst of it: then one sample is told too many or too few.
#[map]
pub static BUDGETS: PerCpuArray<Budget> = PerCpuArray::pinned(1, 0);

/// The two policies' rules by owner; as `TABLES`.
#[map]
pub static OWNER_TABLES: Array<OwnerTable> = Array::pinned(2, 0);

/// Users that rules name. Written by the daemon.
#[map]
pub static OWNER_USERS: HashMap<UserKey, u32> = HashMap::pinned(4096, 0);

/// Executables that rules name: file system and inode; the daemon follows files that are replaced.
#[map]
pub static OWNER_EXES: HashMap<ExeKey, u32> = HashMap::pinned(4096, 0);

/// Names of processes that rules name. Written by the daemon.
#[map]
pub static OWNER_PROCESSES: HashMap<NameKey, u32> = HashMap::pinned(4096, 0);

/// Units that rules name. Written by the daemon.
#[map]
pub static OWNER_UNITS: HashMap<UnitKey, u32> = HashMap::pinned(4096, 0);

/// Cgroups that rules name and that are there. Written by the daemon.
#[map]
pub static OWNER_CGROUPS: HashMap<CgroupKey, u32> = HashMap::pinned(4096, 0);

/// What was worked out of cgroups that were met. Programs enter them; the daemon takes out those of the idle table.
#[map]
pub static OWNER_PLACES: HashMap<CgroupKey, PlaceRows> = HashMap::pinned(16_384, 0);

/// Who exchanges datagrams with whom: an answer is no question. Programs enter them; the least used makes room.
#[map]
pub static TALKS: LruHashMap<TalkKey, u64> = LruHashMap::pinned(65_536, 0);

/// What became of calls; atomic adds.
#[map]
pub static OWNER_COUNTERS: Array<OwnerCounter> = Array::pinned(1, 0);

/// Storage of sockets, pinned. (The one in aya-ebpf can't be.)
#[repr(C)]
pub struct PinnedStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
    pinning: *const [i32; 1],
}

// SAFETY: never read: the loader makes a map of its types.
unsafe impl<T> Sync for PinnedStorage<T> {}

impl<T> PinnedStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
            pinning: ptr::null(),
        }
    }

    /// The map, as helpers take it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}

/// Who made a socket. Written as it is made, or by the look at those that were there.
#[btf_map]
pub static OWNED: PinnedStorage<Owned> = PinnedStorage::new();
