//! Two kernel calls that aya doesn't offer, as thin as they can be: a look-up straight into the heap, and
//! waiting for a grace period.

use bytemuck::Pod;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

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
