//! Three kernel calls that aya doesn't offer, as thin as they can be: batch look-up (a table of a million
//! flows in a thousand calls, not two million), look-up-and-delete (a flow's last totals, with no gap
//! between reading and removing), and waiting for a grace period.

use bytemuck::Pod;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// `union bpf_attr`, member `batch` (include/uapi/linux/bpf.h).
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr`, the anonymous member of the element commands.
#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(cmd: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: `attr` is the member of `union bpf_attr` that `cmd` takes, with its size; pointers in
    // it are set by the callers below from live slices of the right length.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Every entry of a hash map. Entries that come or go meanwhile may be missed or seen.
///
/// # Errors
/// What the kernel says; EFAULT and friends don't happen with live slices.
pub fn entries<K: Pod, V: Pod>(map: BorrowedFd) -> io::Result<Vec<(K, V)>> {
    let mut chunk = 1024usize;
    let mut found = Vec::new();
    let (mut from, mut to) = (0u64, 0u64);
    let mut first = true;
    loop {
        let mut keys = vec![K::zeroed(); chunk];
        let mut values = vec![V::zeroed(); chunk];
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { std::ptr::from_mut(&mut from) as u64 },
            out_batch: std::ptr::from_mut(&mut to) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: chunk as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        let result = bpf(BPF_MAP_LOOKUP_BATCH, &mut attr);
        let end = match result {
            Ok(()) => false,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                // One bucket holds more than the chunk.
                chunk *= 2;
                continue;
            }
            Err(e) => return Err(e),
        };
        let n = attr.count as usize;
        found.extend(keys.into_iter().zip(values).take(n));
        if end {
            return Ok(found);
        }
        from = to;
        first = false;
    }
}

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;

/// Reads an entry straight into `value`: for values that don't fit a stack.
///
/// # Errors
/// What the kernel says; ENOENT where there is no such entry.
pub fn get<K: Pod, V: Pod>(map: BorrowedFd, key: &K, value: &mut V) -> io::Result<()> {
    let mut attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        _pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)
}

/// Takes an entry out and returns what it held at that moment; `None` if it was gone.
///
/// # Errors
/// What the kernel says.
pub fn take<K: Pod, V: Pod>(map: BorrowedFd, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        _pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) {
        Ok(()) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Waits until every program that was running has ended: a program runs within an RCU read-side
/// section, and MEMBARRIER_CMD_GLOBAL is `synchronize_rcu` (kernel/sched/membarrier.c).
///
/// # Errors
/// What the kernel says.
pub fn grace_period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes no pointers.
    let rc = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
