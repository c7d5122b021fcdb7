//! Processes that own sockets, and their ends: who passes a socket on and exits is its owner still.
//!
//! Every thread that ends passes here. Of a process without sockets that costs one look into a table.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use core::ffi::c_void;
use firewall_common::abi::socket::{OWNING_PROCESSES, Process, SocketClass};

use crate::{events, process};

/// Start of each living process that owns sockets, or did, by its number.
#[map]
static OWNING: HashMap<u32, u64> =
    HashMap::with_max_entries(OWNING_PROCESSES as u32, BPF_F_NO_PREALLOC);

/// Watches for the end of a process that owns a socket from now on.
///
/// # Safety
/// `process` must be valid for reads, and live until this returns (or see [`has_ended`] after it).
#[inline(always)]
pub unsafe fn watch(process: *const Process) {
    // SAFETY: the caller's promise; values of this map are words.
    unsafe {
        let (tgid, start) = ((*process).tgid, (*process).start_ns);
        if OWNING.get(&tgid).is_some_and(|known| *known == start) {
            return;
        }
        if OWNING.insert(&tgid, &start, 0).is_err() {
            events::suppressed(SocketClass::Exited);
        }
    }
}

/// Tells of the end of a task's process, if that is over and was watched for. Whoever takes it out of the table tells:
/// once.
///
/// # Safety
/// `task` must be a task.
#[inline(always)]
pub unsafe fn has_ended(task: *const c_void) {
    // SAFETY: the caller's promise; values of this map are words.
    unsafe {
        let tgid = process::number(task);
        if OWNING.get(&tgid).is_none() || !process::is_over(task) {
            return;
        }
        if OWNING.remove(&tgid).is_ok() {
            events::exited(task);
        }
    }
}

/// A thread ends (`do_exit` in kernel/exit.c): before its descriptors are closed.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sluice_exited(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's first argument is the task.
    unsafe { has_ended(ctx.arg::<*const c_void>(0)) };
    0
}
