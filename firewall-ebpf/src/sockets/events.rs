//! Events of sockets through their ring: fixed records, numbered by class. What finds the ring full is counted
//! as lost under the number it took, so that produced = delivered + lost.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use core::ffi::c_void;
use firewall_common::abi::{
    counter::EventCounter,
    socket::{SocketClass, SocketEvent, SocketRow, Usage},
};

use crate::{
    atomic,
    maps::{SOCKET_COUNTERS, SOCKET_EVENTS},
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

/// Tells of a socket.
#[inline(always)]
pub fn tell(class: SocketClass, before: u8, after: u8, sk: Sock) {
    let Some((seq, counter)) = number(class) else { return };
    let Some(mut record) = SOCKET_EVENTS.reserve::<SocketEvent>(0) else {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).lost, 1) };
        return;
    };
    let e = record.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and every field of it is written.
    unsafe {
        head(e, seq, class, before);
        sk.read(&raw mut (*e).row);
        if after != 0 {
            (*e).row.state = after;
        }
        fill_usage(e, sk.0.cast_mut());
    }
    record.submit(NO_WAKEUP);
}

#[inline(always)]
unsafe fn head(e: *mut SocketEvent, seq: u64, class: SocketClass, before: u8) {
    // SAFETY: the caller's record.
    unsafe {
        (*e).seq = seq;
        (*e).time_ns = bpf_ktime_get_ns();
        (*e).class = class as u8;
        (*e).before = before;
        (*e)._pad = [0; 6];
    }
}

#[inline(always)]
unsafe fn fill_usage(e: *mut SocketEvent, sk: *mut c_void) {
    // SAFETY: the caller's record, a socket.
    unsafe {
        usage::copy_to(sk, &raw mut (*e).row.usage);
    }
}

/// A socket without a connection is let go, if it was ever used. The program sees little of the socket: the row
/// has what was kept of it and zeros.
#[inline(always)]
pub fn released(sk: *mut c_void) {
    // SAFETY: the program's context.
    unsafe {
        let kept = usage::get(sk, 0);
        if kept.is_null() || (*kept).established_ns == 0 || (*kept).asked_ns != 0 {
            return;
        }
        let Some((seq, counter)) = number(SocketClass::Closed) else { return };
        let Some(mut record) = SOCKET_EVENTS.reserve::<SocketEvent>(0) else {
            atomic::add(&raw mut (*counter).lost, 1);
            return;
        };
        let e = record.as_mut_ptr();
        head(e, seq, SocketClass::Closed, 0);
        let row = (&raw mut (*e).row).cast::<u64>();
        let mut i = size_of::<Usage>() / 8;
        while i < size_of::<SocketRow>() / 8 {
            row.add(i).write_volatile(0);
            i += 1;
        }
        fill_usage(e, sk);
        record.submit(NO_WAKEUP);
    }
}
