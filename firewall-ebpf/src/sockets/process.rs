//! Reading `struct task_struct`.

use core::ffi::c_void;
use firewall_common::abi::socket::Process;

use crate::sock::{at, layout};

/// The first thread of a thread's process.
///
/// # Safety
/// `task` must be a task.
#[inline(always)]
pub unsafe fn leader(task: *const c_void) -> *const c_void {
    // SAFETY: the caller's promise.
    unsafe { at(task, layout().group_leader()) }
}

/// The number of a task's process.
///
/// # Safety
/// `task` must be a task.
#[inline(always)]
pub unsafe fn number(task: *const c_void) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { at(task, layout().tgid()) }
}

/// Whether the last thread of a task's process has come to its end.
///
/// # Safety
/// `task` must be a task.
#[inline(always)]
pub unsafe fn is_over(task: *const c_void) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let signal: *const c_void = at(task, layout().signal());
        at::<i32>(signal, layout().signal_live()) == 0
    }
}

/// Fills in who a task's process is.
///
/// # Safety
/// `task` must be a task, `process` valid for writes.
#[inline(always)]
pub unsafe fn read(task: *const c_void, process: *mut Process) {
    let of = layout();
    // SAFETY: the caller's promise; what the verifier can't be sure of reads as zero where it isn't there.
    unsafe {
        let first = leader(task);
        (*process).tgid = at(task, of.tgid());
        (*process).start_ns = at(first, of.start_boottime());
        let (from, to) = (of.comm(), (&raw mut (*process).comm).cast::<u64>());
        to.write_unaligned(at(first, from));
        to.add(1).write_unaligned(at(first, from + 8));
        let cred: *const c_void = at(task, of.cred());
        (*process).uid = at(cred, of.cred_uid());
        let set: *const c_void = at(task, of.cgroups());
        let group: *const c_void = at(set, of.default_cgroup());
        let node: *const c_void = at(group, of.cgroup_node());
        (*process).cgroup = at(node, of.node_id());
        let mm: *const c_void = at(task, of.mm());
        let file: *const c_void = at(mm, of.exe_file());
        let inode: *const c_void = at(file, of.file_inode());
        (*process).exe_inode = at(inode, of.inode_number());
        let fs: *const c_void = at(inode, of.inode_super());
        (*process).exe_device = at(fs, of.super_device());
        (*process)._pad = 0;
    }
}

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c): a descriptor of a process.
#[repr(C)]
pub struct TaskFile {
    /// Where records are written.
    pub meta: *const *mut c_void,
    /// Its task.
    pub task: *const c_void,
    /// Its number.
    pub descriptor: u32,
    /// What it stands for.
    pub file: *const c_void,
}
