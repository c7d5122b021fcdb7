//! Which unit and which cgroup a process is in, as rows. Names are read from the kernel's own tree, so that a unit is
//! known from its first call on.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use core::{ffi::c_void, mem::MaybeUninit};
use firewall_common::abi::owner::{CgroupKey, OwnerTable, PlaceRows, UNIT_NAME, UnitKey};

use crate::{
    atomic,
    maps::{OWNER_CGROUPS, OWNER_COUNTERS, OWNER_PLACES, OWNER_UNITS},
    sock::{at, layout},
};

/// Cgroups above each other that are looked at.
const DEPTH: u32 = 16;

/// Where the kernel's `struct kernfs_node` has what a walk up needs: byte offsets. Set by user space from the kernel's
/// BTF.
#[repr(C)]
pub struct Tree {
    /// `name` (pointer to a string).
    name: u32,
    /// `__parent` (before Linux 6.15: `parent`).
    parent: u32,
    /// `struct net`: `net_cookie` (u64).
    net_cookie: u32,
}

#[unsafe(no_mangle)]
static TREE: Tree = Tree { name: 0, parent: 0, net_cookie: 0 };

/// Offset of `struct net`'s cookie.
#[inline(always)]
pub fn net_cookie() -> u32 {
    // SAFETY: a static of this type; the compiler must not know the value.
    unsafe { (&raw const TREE.net_cookie).read_volatile() }
}

/// Rows of the cgroup `id`, as it was worked out before. `None`: it wasn't.
#[inline(always)]
pub fn known(id: u64, table: u32) -> Option<PlaceRows> {
    let key = CgroupKey { id, table, _pad: 0 };
    OWNER_PLACES.get_ptr(&key).map(|rows| {
        // SAFETY: a live map value.
        unsafe { rows.read_volatile() }
    })
}

/// Rows of a task's cgroup, `id`, by table number `table`: packed, the unit's in the low half.
#[inline(never)]
pub fn of_task(task: *const c_void, id: u64, rules: &OwnerTable, table: u32) -> u32 {
    let rows = known(id, table).unwrap_or_else(|| {
        let rows = walk(task, rules, table);
        let key = CgroupKey { id, table, _pad: 0 };
        if OWNER_PLACES.insert(&key, &rows, 0).is_err()
            && let Some(counter) = OWNER_COUNTERS.get_ptr_mut(0)
        {
            // SAFETY: a live map value; the field is an aligned word.
            unsafe { atomic::add(&raw mut (*counter).places_full, 1) };
        }
        rows
    });
    u32::from(rows.unit) | u32::from(rows.cgroup) << 16
}

/// From a task's cgroup up to the root.
#[inline(always)]
fn walk(task: *const c_void, rules: &OwnerTable, table: u32) -> PlaceRows {
    let mut rows = PlaceRows { unit: rules.unlisted[3], cgroup: rules.unlisted[4] };
    let mut found = false;
    let mut key = UnitKey { name: [0; UNIT_NAME], table, _pad: 0 };
    // SAFETY: a task; members are where the kernel says, and the verifier checks them.
    unsafe {
        let set: *const c_void = at(task, layout().cgroups());
        let group: *const c_void = at(set, layout().default_cgroup());
        let mut node: *const c_void = at(group, layout().cgroup_node());
        let mut left = DEPTH;
        while left != 0 && !node.is_null() {
            if !found {
                let named = CgroupKey { id: at(node, layout().node_id()), table, _pad: 0 };
                if let Some(row) = OWNER_CGROUPS.get_ptr(&named) {
                    rows.cgroup = row.read_volatile() as u16;
                    found = true;
                }
            }
            let words = (&raw mut key.name).cast::<u64>();
            let mut i = 0;
            while i < UNIT_NAME / 8 {
                words.add(i).write_volatile(0);
                i += 1;
            }
            let name: *const c_void = at(node, (&raw const TREE.name).read_volatile());
            let length =
                bpf_probe_read_kernel_str((&raw mut key.name).cast(), UNIT_NAME as u32, name);
            if is_unit(name, length) {
                // The outermost counts: below it names are whatever its owner likes.
                rows.unit = OWNER_UNITS
                    .get_ptr(&key)
                    .map_or(rules.unlisted[3], |row| row.read_volatile() as u16);
            }
            node = at(node, (&raw const TREE.parent).read_volatile());
            left -= 1;
        }
    }
    rows
}

/// Endings of units that processes are in, as the last eight bytes of a name in one word, and which of its bits they
/// are.
const ENDINGS: [(u64, u64); 5] = [
    ending(b".service"),
    ending(b".scope"),
    ending(b".socket"),
    ending(b".mount"),
    ending(b".swap"),
];

const fn ending(text: &[u8]) -> (u64, u64) {
    let (mut word, mut mask) = ([0; 8], [0; 8]);
    let mut i = 0;
    while i < text.len() {
        word[8 - text.len() + i] = text[i];
        mask[8 - text.len() + i] = 0xff;
        i += 1;
    }
    (u64::from_ne_bytes(word), u64::from_ne_bytes(mask))
}

/// Whether a name of `length` bytes, the zero among them, is that of a unit which processes are in.
#[inline(always)]
unsafe fn is_unit(name: *const c_void, length: i64) -> bool {
    if length < 10 {
        return false;
    }
    let mut last = MaybeUninit::<u64>::uninit();
    // SAFETY: the caller's promise, that `length` bytes of it can be read; the helper checks.
    let last = unsafe {
        let end = name.byte_add(length as usize - 9);
        if bpf_probe_read_kernel(last.as_mut_ptr().cast(), 8, end) != 0 {
            return false;
        }
        last.assume_init()
    };
    let mut i = 0;
    let mut is = false;
    while i < ENDINGS.len() {
        is |= last & ENDINGS[i].1 == ENDINGS[i].0;
        i += 1;
    }
    is
}
