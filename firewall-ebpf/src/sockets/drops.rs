//! What the stack drops, sends again and resets: counted for the machine, and drops for the socket where that is known.
//!
//! These hooks run in anybody's context; they ask who it is of the packet alone.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use core::{ffi::c_void, ptr};
use firewall_common::abi::{
    drops::{DROP_REASONS, DropCount, SocketDrops, TcpTotals},
    socket::SocketRow,
};

use crate::{
    maps::SOCKET_DROPS,
    opaque::opaque,
    sock::{at, layout},
};

/// SKB_DROP_REASON_NOT_SPECIFIED and below: nothing was dropped, or nobody says why (include/net/dropreason-core.h).
const NOT_SPECIFIED: u32 = 2;
/// ETH_P_IP, ETH_P_IPV6.
const IP: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// BPF_SK_STORAGE_GET_F_CREATE.
const CREATE: u64 = 1;

/// The kernel's number for `queue-purge` (SKB_DROP_REASON_QUEUE_PURGE), 0 where it has none. Set by user space.
#[unsafe(no_mangle)]
static QUEUE_PURGE: u32 = 0;

/// What was in a queue when its socket was closed, as a rule the other end's FIN: each connection has one, and it is no
/// drop that a socket's row is to show.
#[inline(always)]
fn is_purged(reason: u32) -> bool {
    // SAFETY: a static of this type; the compiler must not know the value.
    reason == unsafe { (&raw const QUEUE_PURGE).read_volatile() }
}

/// IP packets dropped, by reason; a copy a CPU.
#[map]
static DROPS: PerCpuArray<DropCount> = PerCpuArray::with_max_entries(DROP_REASONS as u32, 0);

/// What TCP did; a copy a CPU.
#[map]
static TCP_TOTALS: PerCpuArray<TcpTotals> = PerCpuArray::with_max_entries(1, 0);

/// A buffer is freed without having been used up (`kfree_skb_reason`, `sk_skb_reason_drop` in net/core/skbuff.c).
#[btf_tracepoint(function = "kfree_skb")]
pub fn sluice_dropped(ctx: BtfTracePointContext) -> i32 {
    let reason = ctx.arg::<u32>(2);
    if reason <= NOT_SPECIFIED {
        return 0;
    }
    let skb = ctx.arg::<*const c_void>(0);
    // SAFETY: a buffer, whose members the verifier checks; null where it has no socket.
    let known = unsafe {
        let protocol = u16::from_be(at(skb, layout().buffer_protocol()));
        if protocol != IP && protocol != IPV6 {
            return 0;
        }
        // Who was to receive it, where the kernel says so; or who sent it.
        !is_purged(reason)
            && (layout().drop_receiver() != 0 && note(receiver(&ctx), reason)
                || note(at(skb, layout().buffer_sock()), reason))
    };
    let row = if reason < DROP_REASONS as u32 { reason } else { DROP_REASONS as u32 - 1 };
    if let Some(count) = DROPS.get_ptr_mut(opaque(row)) {
        // SAFETY: this CPU's row.
        unsafe {
            (*count).packets += 1;
            (*count).known += known as u64;
        }
    }
    0
}

/// The fourth argument of `kfree_skb`, where it has one.
#[inline(always)]
fn receiver(ctx: &BtfTracePointContext) -> *const c_void {
    // SAFETY: arguments are words; where there is none of this number, the verifier doesn't come here.
    unsafe { ctx.as_ptr().cast::<*const c_void>().add(3).read_volatile() }
}

/// Counts a drop on the socket; whether there is one.
#[inline(always)]
unsafe fn note(sk: *const c_void, reason: u32) -> bool {
    if sk.is_null() {
        return false;
    }
    // SAFETY: a socket, as the verifier has it.
    unsafe {
        let drops: *mut SocketDrops =
            bpf_sk_storage_get(SOCKET_DROPS.as_ptr(), sk.cast_mut(), ptr::null_mut(), CREATE)
                .cast();
        if drops.is_null() {
            return false;
        }
        (*drops).packets = (*drops).packets.wrapping_add(1);
        (*drops).reason = reason;
    }
    true
}

/// Puts what was dropped of a socket into its row.
///
/// # Safety
/// `sk` must be a socket, `row` valid for writes.
#[inline(always)]
pub unsafe fn read(sk: *mut c_void, row: *mut SocketRow) {
    // SAFETY: the caller's promise.
    unsafe {
        let drops: *const SocketDrops =
            bpf_sk_storage_get(SOCKET_DROPS.as_ptr(), sk, ptr::null_mut(), 0).cast();
        let (packets, reason) =
            if drops.is_null() { (0, 0) } else { ((*drops).packets, (*drops).reason) };
        (*row).drops = packets;
        (*row).drop_reason = reason;
    }
}

#[inline(always)]
fn total(add: impl FnOnce(&mut TcpTotals)) {
    if let Some(totals) = TCP_TOTALS.get_ptr_mut(0) {
        // SAFETY: this CPU's row.
        add(unsafe { &mut *totals });
    }
}

/// A segment is sent again. (Each socket has the number itself.)
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn sluice_resent(_ctx: BtfTracePointContext) -> i32 {
    total(|totals| totals.retransmits += 1);
    0
}

/// A reset is sent: for a socket, or for what belongs to none.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn sluice_reset_sent(_ctx: BtfTracePointContext) -> i32 {
    total(|totals| totals.resets_sent += 1);
    0
}

/// A reset ends a connection.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn sluice_reset_received(_ctx: BtfTracePointContext) -> i32 {
    total(|totals| totals.resets_received += 1);
    0
}
