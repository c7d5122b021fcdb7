//! Events of sockets through their ring: records of two lengths, numbered by class. What finds the ring full is counted
//! as lost under the number it took, so that produced = delivered + lost.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use core::{ffi::c_void, mem::offset_of};
use firewall_common::abi::{
    counter::EventCounter,
    socket::{BRIEF, SocketClass, SocketEvent, SocketRow, Usage},
};

use crate::{
    atomic,
    maps::{SOCKET_COUNTERS, SOCKET_EVENTS},
    process,
    sock::Sock,
    usage,
};

/// BPF_RB_NO_WAKEUP: the daemon drains on its own clock; a wake-up costs twenty times an event.
const NO_WAKEUP: u64 = 1;

/// Takes a number of a class.
#[inline(always)]
fn number(class: SocketClass) -> Option<(u64, *mut EventCounter)> {
    let counter = SOCKET_COUNTERS.get_ptr_mut(class as u32)?;
    // SAFETY: a live map value; the field is an aligned word.
    Some((unsafe { atomic::fetch_add(&raw mut (*counter).produced, 1) }, counter))
}

/// What a socket has become, and when.
#[derive(Clone, Copy)]
pub struct Change {
    pub class: SocketClass,
    /// States of TCP's; `after` 0: as the socket says.
    pub before: u8,
    pub after: u8,
    /// CLOCK_MONOTONIC: asking for it costs, once is enough for a run.
    pub now: u64,
}

/// Tells of a TCP socket, of which `kept` is kept, stamped (null: nothing).
#[inline(always)]
pub fn tell(change: Change, sk: Sock, kept: *const Usage) {
    // SAFETY: what is kept of the socket.
    if unsafe { kept.as_ref() }.is_some_and(usage::moved_any) {
        return tell_whole(change, sk, kept, true);
    }
    let Change { class, before, after, now } = change;
    let Some((seq, counter)) = number(class) else { return };
    let Some(mut record) = SOCKET_EVENTS.reserve_bytes(BRIEF, 0) else {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).lost, 1) };
        return;
    };
    let e: *mut SocketEvent = record.as_mut_ptr().cast();
    // SAFETY: the record is ours until it is submitted, and is written up to where it ends.
    unsafe {
        head(e, seq, class, before, now);
        fill(&raw mut (*e).row, after, sk);
        usage::copy_to(kept, &raw mut (*e).row.usage, usage::KEPT);
        name(sk, kept, e, true);
    }
    record.submit(NO_WAKEUP);
}

/// Gives the row the socket's cookie, where what is kept needn't have it: not `stamped`, or kept before there was one, or
/// by another that it was cloned from.
#[inline(always)]
unsafe fn name(sk: Sock, kept: *const Usage, e: *mut SocketEvent, stamped: bool) {
    if !stamped || kept.is_null() {
        // SAFETY: the caller's record and socket.
        unsafe { (*e).row.usage.cookie = usage::cookie(sk.0.cast_mut()) };
    }
}

/// Tells of a socket on which a call has moved data.
#[inline(always)]
pub fn tell_whole(change: Change, sk: Sock, kept: *const Usage, stamped: bool) {
    let Change { class, before, after, now } = change;
    let Some((seq, counter)) = number(class) else { return };
    let Some(mut record) = SOCKET_EVENTS.reserve::<SocketEvent>(0) else {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).lost, 1) };
        return;
    };
    let e = record.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and every field of it is written.
    unsafe {
        head(e, seq, class, before, now);
        fill(&raw mut (*e).row, after, sk);
        usage::copy_to(kept, &raw mut (*e).row.usage, size_of::<Usage>());
        name(sk, kept, e, stamped);
    }
    record.submit(NO_WAKEUP);
}

/// Fills a row, but for what is kept of the socket; `after`: the state that it enters, 0: as it says.
#[inline(always)]
unsafe fn fill(row: *mut SocketRow, after: u8, sk: Sock) {
    // SAFETY: the caller's record.
    unsafe {
        sk.read(row);
        if after != 0 {
            (*row).state = after;
        }
    }
}

#[inline(always)]
unsafe fn head(e: *mut SocketEvent, seq: u64, class: SocketClass, before: u8, now: u64) {
    // SAFETY: the caller's record.
    unsafe {
        (*e).seq = seq;
        (*e).time_ns = now;
        (*e).class = class as u8;
        (*e).before = before;
        (*e)._pad = [0; 6];
    }
}

/// Counts what is not to be told.
#[inline(always)]
pub fn suppressed(class: SocketClass) {
    if let Some(counter) = SOCKET_COUNTERS.get_ptr_mut(class as u32) {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).suppressed, 1) };
    }
}

/// A process that owned sockets has ended: a record of its owner alone.
#[inline(always)]
pub fn exited(task: *const c_void) {
    let Some((seq, counter)) = number(SocketClass::Exited) else { return };
    let Some(mut record) = SOCKET_EVENTS.reserve_bytes(BRIEF, 0) else {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).lost, 1) };
        return;
    };
    let e: *mut SocketEvent = record.as_mut_ptr().cast();
    // SAFETY: the record is ours until it is submitted, and is written up to where it ends.
    unsafe {
        let words = e.cast::<u64>();
        let mut i = 0;
        while i < BRIEF / 8 {
            words.add(i).write_volatile(0);
            i += 1;
        }
        head(e, seq, SocketClass::Exited, 0, bpf_ktime_get_ns());
        process::read(task, &raw mut (*e).row.usage.owner);
    }
    record.submit(NO_WAKEUP);
}

/// A socket without a connection is let go, if it was ever used. The program sees little of the socket: the row
/// has what was kept of it and zeros.
#[inline(always)]
pub fn released(sk: *mut c_void) {
    // SAFETY: the program's context.
    unsafe {
        let kept = usage::get(sk, 0).cast_const();
        if kept.is_null() || (*kept).established_ns == 0 || (*kept).asked_ns != 0 {
            return;
        }
        let Some((seq, counter)) = number(SocketClass::Closed) else { return };
        let Some(mut record) = SOCKET_EVENTS.reserve::<SocketEvent>(0) else {
            atomic::add(&raw mut (*counter).lost, 1);
            return;
        };
        let e = record.as_mut_ptr();
        head(e, seq, SocketClass::Closed, 0, bpf_ktime_get_ns());
        let row = (&raw mut (*e).row).cast::<u64>();
        let mut i = 0;
        while i < offset_of!(SocketRow, usage) / 8 {
            row.add(i).write_volatile(0);
            i += 1;
        }
        usage::copy_to(kept, &raw mut (*e).row.usage, size_of::<Usage>());
        (*e).row.usage.cookie = usage::cookie(sk);
        record.submit(NO_WAKEUP);
    }
}
