//! Kernel calls that aya doesn't offer, as thin as they can be: a look-up straight into the heap, waiting
//! for a grace period, and what programs there are at a hook.

use bytemuck::Pod;
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
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

/// A descriptor where the command makes one, else 0.
fn bpf<T>(cmd: libc::c_long, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is the member of `union bpf_attr` that `cmd` takes, with its size; pointers in
    // it are set by the callers below from live slices of the right length.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as libc::c_int) }
}

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;

const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;

/// A command about the entry at `key`; `value` is where the kernel reads or writes it, 0 where it does neither.
fn element<K: Pod>(cmd: libc::c_long, map: BorrowedFd, key: &K, value: u64) -> io::Result<()> {
    let key = std::ptr::from_ref(key) as u64;
    let mut attr = ElemAttr { map_fd: map.as_raw_fd() as u32, _pad: 0, key, value, flags: 0 };
    bpf(cmd, &mut attr).map(drop)
}

/// Reads an entry straight into `value`: for values that don't fit a stack.
///
/// # Errors
/// What the kernel says; ENOENT where there is no such entry.
pub fn get<K: Pod, V: Pod>(map: BorrowedFd, key: &K, value: &mut V) -> io::Result<()> {
    element(BPF_MAP_LOOKUP_ELEM, map, key, std::ptr::from_mut(value) as u64)
}

/// Sets an entry.
///
/// # Errors
/// What the kernel says.
pub fn set<K: Pod, V: Pod>(map: BorrowedFd, key: &K, value: &V) -> io::Result<()> {
    element(BPF_MAP_UPDATE_ELEM, map, key, std::ptr::from_ref(value) as u64)
}

/// `union bpf_attr`, the member of the commands about many entries.
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

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Reads entries of an array from `first` on, by one call. `cpus` values are an entry's: those of all possible CPUs of a
/// per-CPU array, whose size is a multiple of eight.
///
/// # Errors
/// What the kernel says; there are fewer entries.
pub fn get_some<V: Pod>(
    map: BorrowedFd,
    first: u32,
    cpus: usize,
    values: &mut [V],
) -> io::Result<()> {
    let count = values.len() / cpus.max(1);
    let mut keys = vec![0u32; count];
    // The kernel goes on behind the key that it is given.
    let (before, mut last) = (first.wrapping_sub(1), 0u32);
    let mut attr = BatchAttr {
        in_batch: if first == 0 { 0 } else { std::ptr::from_ref(&before) as u64 },
        out_batch: std::ptr::from_mut(&mut last) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(count).map_err(io::Error::other)?,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // It says so where the map ends with the last of them, too.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ if attr.count as usize == count => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOENT)),
    }
}

/// Takes an entry out.
///
/// # Errors
/// What the kernel says; ENOENT where there is none.
pub fn remove<K: Pod>(map: BorrowedFd, key: &K) -> io::Result<()> {
    element(BPF_MAP_DELETE_ELEM, map, key, 0)
}

/// `union bpf_attr`, the member of BPF_MAP_CREATE up to the name.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Makes an array of one entry of `bytes` bytes, which can be mapped. `name`: 15 bytes at most.
///
/// # Errors
/// What the kernel says.
pub fn mapped_array(name: &str, bytes: usize) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: u32::try_from(bytes).map_err(io::Error::other)?,
        max_entries: 1,
        map_flags: MMAPABLE,
        ..CreateAttr::default()
    };
    attr.map_name.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    let fd = bpf(BPF_MAP_CREATE, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr`, the member of BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
#[derive(Default)]
struct PinAttr {
    path: u64,
    fd: u32,
    file_flags: u32,
}

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Gives a map a name on a BPF file system.
///
/// # Errors
/// What the kernel says; EEXIST where something has that name.
pub fn pin(map: BorrowedFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let path = path.as_ptr() as u64;
    bpf(BPF_OBJ_PIN, &mut PinAttr { path, fd: map.as_raw_fd() as u32, file_flags: 0 }).map(drop)
}

/// Opens a map by its name on a BPF file system.
///
/// # Errors
/// What the kernel says; ENOENT where there is none.
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let path = path.as_ptr() as u64;
    let fd = bpf(BPF_OBJ_GET, &mut PinAttr { path, ..PinAttr::default() })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Id of a map.
///
/// # Errors
/// What the kernel says.
pub fn map_id(map: BorrowedFd) -> io::Result<u32> {
    // `struct bpf_map_info` begins with type and id.
    let mut info = [0u32; 2];
    let mut attr = InfoAttr {
        fd: map.as_raw_fd() as u32,
        len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info[1])
}

/// Opens a map by its id. Takes CAP_SYS_ADMIN (kernel/bpf/syscall.c, `bpf_map_get_fd_by_id`).
///
/// # Errors
/// What the kernel says.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_MAP_GET_FD_BY_ID, &mut IdAttr { id, ..IdAttr::default() })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an array of maps, each like `like`. `name`: 15 bytes at most.
///
/// # Errors
/// What the kernel says.
pub fn array_of_maps(name: &str, entries: u32, like: BorrowedFd) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr {
        map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: entries,
        inner_map_fd: like.as_raw_fd() as u32,
        ..CreateAttr::default()
    };
    attr.map_name.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    let fd = bpf(BPF_MAP_CREATE, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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

/// `union bpf_attr`, the `query` member.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    _pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

const BPF_PROG_QUERY: libc::c_long = 16;
/// BPF_MPROG_MAX (kernel/bpf/mprog.c): no row is longer.
const ROW: usize = 64;

/// Ids of the programs at an interface's hook. aya's query opens each program too, which takes
/// CAP_SYS_ADMIN; the ids alone don't.
///
/// # Errors
/// What the kernel says.
pub fn query(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; ROW];
    let mut attr = QueryAttr {
        target_ifindex: ifindex,
        attach_type,
        prog_ids: ids.as_mut_ptr() as u64,
        count: ROW as u32,
        ..QueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    ids.truncate(attr.count as usize);
    Ok(ids)
}

/// `union bpf_attr`, the member of BPF_*_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
    _pad: u32,
}

/// `union bpf_attr`, the `info` member.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `struct bpf_prog_info` up to the end of `name`, and where that begins.
const INFO_LEN: usize = 80;
const NAME_AT: usize = 64;

/// Name of a program, as the kernel keeps it: 15 bytes at most.
///
/// # Errors
/// What the kernel says.
pub fn program_name(id: u32) -> io::Result<String> {
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut IdAttr { id, ..IdAttr::default() })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0u8; INFO_LEN];
    let mut attr = InfoAttr {
        fd: fd.as_raw_fd() as u32,
        len: INFO_LEN as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name = &info[NAME_AT..];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}
