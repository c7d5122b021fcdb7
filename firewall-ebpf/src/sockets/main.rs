//! Sluice's socket monitor in the kernel: who owns each socket, what becomes of it. It judges nothing.
//!
//! Whoever calls is known only where a program runs for the caller: `current` in a softirq is anybody. So the
//! owner is stamped when a socket is made, and where it begins to listen or to connect; accepted sockets
//! inherit the stamp of their listener.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the BPF target's atomics are only there as intrinsics")]

#[path = "../atomic.rs"]
#[allow(dead_code, reason = "the filter's programs need more of them")]
mod atomic;
mod drops;
mod events;
mod exits;
mod maps;
#[path = "../object.rs"]
mod object;
#[path = "../opaque.rs"]
#[allow(dead_code, reason = "the filter's programs need more of it")]
mod opaque;
mod process;
mod sock;
mod usage;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{
        bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_seq_write, bpf_sock_from_file,
    },
    macros::{btf_tracepoint, cgroup_sock},
    programs::{BtfTracePointContext, SockContext},
};
use core::ffi::c_void;
use firewall_common::abi::socket::{HeldSocket, SocketClass, Usage};

use events::Change;
use sock::{Sock, at};

/// TCP_ESTABLISHED, TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE, TCP_LISTEN (include/net/tcp_states.h).
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const CLOSE: i32 = 7;
const LISTEN: i32 = 10;

/// MSG_PEEK: what is looked at comes again.
const PEEK: i32 = 2;
/// The cgroup hooks let it be.
const ALLOW: i32 = 1;

/// A socket is made, by its owner (`inet_create` in net/ipv4/af_inet.c).
#[cgroup_sock(sock_create)]
pub fn sluice_sock_create(ctx: SockContext) -> i32 {
    usage::create(ctx.as_ptr());
    ALLOW
}

/// A socket is let go by its last holder. TCP's tell their end themselves.
#[cgroup_sock(sock_release)]
pub fn sluice_sock_release(ctx: SockContext) -> i32 {
    events::released(ctx.as_ptr());
    ALLOW
}

/// A TCP socket changes its state (`inet_sk_set_state` and `tcp_set_state`).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn sluice_state(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock(ctx.arg::<*const c_void>(0));
    let (before, after) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if sk.protocol() != sock::TCP {
        return 0;
    }
    // In the caller's own context, both; all others may be anywhere.
    let ours = before == CLOSE && (after == SYN_SENT || after == LISTEN);
    let class = match after {
        LISTEN => SocketClass::Listening,
        SYN_SENT => SocketClass::Connecting,
        ESTABLISHED => SocketClass::Established,
        CLOSE => SocketClass::Closed,
        _ => {
            if after == SYN_RECV {
                let now = clock();
                usage::stamp(sk, false, now, |usage| usage.asked_ns = now);
            }
            return 0;
        }
    };
    let now = clock();
    let kept = usage::stamp(sk, ours, now, |usage| match after {
        SYN_SENT => usage.asked_ns = now,
        ESTABLISHED => {
            usage.established_ns = now;
            if usage.asked_ns == 0 {
                usage.asked_ns = now;
            }
        }
        _ => {}
    });
    let change = Change { class, before: before as u8, after: after as u8, now };
    events::tell(change, sk, kept);
    0
}

/// A call sent data: how many bytes, or an error.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sluice_sent(ctx: BtfTracePointContext) -> i32 {
    usage::moved(Sock(ctx.arg::<*const c_void>(0)), ctx.arg::<i32>(1), true);
    0
}

/// A call received data.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sluice_received(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(2) & PEEK == 0 {
        usage::moved(Sock(ctx.arg::<*const c_void>(0)), ctx.arg::<i32>(1), false);
    }
    0
}

/// Each descriptor of each process: a record if it is a socket of ours. The first that finds a socket without
/// an owner makes the process that holds it the owner.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn sluice_held(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of this kind of iterator; the kernel's pointers are read as the verifier allows.
    unsafe {
        let ctx = &*ctx.cast::<process::TaskFile>();
        let (task, file) = (ctx.task, ctx.file);
        if task.is_null() || file.is_null() {
            return 0;
        }
        // Threads share their descriptors: once is enough.
        if process::leader(task) != task {
            return 0;
        }
        let socket = bpf_sock_from_file(file.cast_mut().cast());
        if socket.is_null() {
            return 0;
        }
        let sk = Sock(at(socket.cast_const().cast(), sock::layout().socket_sock()));
        if sk.0.is_null() || !sk.is_shown() {
            return 0;
        }
        let Some(held) = maps::HELD.get_ptr_mut(0) else { return 0 };
        process::read(task, &raw mut (*held).holder);
        (*held).descriptor = ctx.descriptor;
        usage::seed(sk, &raw const (*held).holder);
        sk.read(&raw mut (*held).row);
        drops::read(sk.0.cast_mut(), &raw mut (*held).row);
        let kept = usage::get(sk.0.cast_mut(), 0);
        let whole = size_of::<Usage>();
        usage::copy_to(kept, &raw mut (*held).row.usage, whole);
        (*held).row.usage.cookie = usage::cookie(sk.0.cast_mut());
        let owner = &raw const (*held).row.usage.owner;
        if (*owner).tgid == (*held).holder.tgid {
            exits::watch(owner);
            // It may have ended meanwhile.
            exits::has_ended(task);
        }
        let seq = *ctx.meta;
        bpf_seq_write(seq.cast(), held.cast(), size_of::<HeldSocket>() as u32);
    }
    0
}

/// CLOCK_MONOTONIC, ns.
#[inline(always)]
fn clock() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// The process that runs.
#[inline(always)]
fn current() -> *const c_void {
    // SAFETY: takes nothing; the task lives while its program runs.
    unsafe { bpf_get_current_task_btf() as *const c_void }
}
