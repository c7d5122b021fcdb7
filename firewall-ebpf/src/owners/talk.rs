//! Datagrams have no connection: who has asked may be answered, and an answer is no question.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use core::mem::MaybeUninit;
use firewall_common::abi::owner::TalkKey;

use crate::{call::Call, maps::TALKS};

/// The socket's exchange with the other end, made in place.
#[inline(always)]
pub fn key<'a>(place: &'a mut MaybeUninit<TalkKey>, call: &Call, socket: u64) -> &'a TalkKey {
    let (remote, port) =
        if call.comes_in() { (&call.src, call.sport) } else { (&call.dst, call.dport) };
    let words = place.as_mut_ptr().cast::<u64>();
    // SAFETY: within the value, four words, which are all written.
    unsafe {
        words.write_volatile(socket);
        words.add(1).write_volatile(u64::from(remote[0]) | u64::from(remote[1]) << 32);
        words.add(2).write_volatile(u64::from(remote[2]) | u64::from(remote[3]) << 32);
        words.add(3).write_volatile(u64::from(port));
        place.assume_init_ref()
    }
}

/// Whether the two have spoken before.
#[inline(always)]
pub fn is_known(key: &TalkKey) -> bool {
    TALKS.get_ptr(key).is_some()
}

/// The two speak from now on.
#[inline(always)]
pub fn begin(key: &TalkKey) {
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    // An LRU map takes it, or there is no memory: then the answer is judged as a question.
    let _ = TALKS.insert(key, &now, 0);
}
