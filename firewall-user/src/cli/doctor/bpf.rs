//! Asks the kernel's bpf(2) directly: the smallest programs that would load if larger ones can.

use super::Finding;
use std::{
    fs, io,
    os::fd::{FromRawFd, OwnedFd},
};

/// BPF_PROG_TYPE_XDP.
pub const XDP: u32 = 6;
/// BPF_PROG_TYPE_SCHED_CLS.
pub const SCHED_CLS: u32 = 3;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_QUERY: libc::c_int = 16;
/// BPF_TCX_INGRESS.
const TCX_INGRESS: u32 = 46;

/// `r0 = 0; exit` (struct bpf_insn, two of them).
static NOTHING: [u64; 2] = [0xb7, 0x95];

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The beginning of `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most the size given, which is that of the type; the
    // pointers inside lead to statics.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Loads a program that does nothing.
pub fn load(what: &'static str, prog_type: u32) -> Finding {
    let mut attr = Load {
        prog_type,
        insn_cnt: NOTHING.len() as u32,
        insns: NOTHING.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    match bpf(BPF_PROG_LOAD, &mut attr) {
        Ok(fd) => {
            // SAFETY: the kernel just gave us this descriptor; nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
            Finding::ok(what, "can be loaded")
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Finding::fail(
            what,
            "not permitted",
            "run as root, or with CAP_BPF and CAP_NET_ADMIN; in a container allow bpf(2)",
        ),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Finding::fail(
            what,
            "this kernel has no bpf(2)",
            "use a kernel with CONFIG_BPF_SYSCALL=y",
        ),
        Err(error) => Finding::fail(
            what,
            error.to_string(),
            "use a kernel with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_XDP_SOCKETS",
        ),
    }
}

/// TCX came with 6.6; before, a clsact qdisc does the same.
pub fn tcx() -> Finding {
    let what = "TCX hooks";
    // SAFETY: the name is a C string.
    let loopback = unsafe { libc::if_nametoindex(c"lo".as_ptr()) };
    let mut attr = Query { target_ifindex: loopback, attach_type: TCX_INGRESS, ..Query::default() };
    match bpf(BPF_PROG_QUERY, &mut attr) {
        Ok(_) => Finding::ok(what, "there"),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Finding::ok(what, "there"),
            Some(libc::EPERM) => Finding::warn(what, "not permitted to look", "run as root"),
            _ if fs::exists("/sys/module/sch_ingress").unwrap_or(false) => Finding::warn(
                what,
                "not in this kernel",
                "a clsact qdisc is used instead; `tc qdisc del dev IFACE clsact` would remove it",
            ),
            _ => Finding::warn(
                what,
                "not in this kernel",
                "a clsact qdisc is used instead (CONFIG_NET_SCH_INGRESS)",
            ),
        },
    }
}
