//! Records of messages.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns},
};
use firewall_common::abi::observed::{Observed, ObservedKind};

use crate::{
    atomic,
    buffer::{load, word},
    maps::{OBSERVED, OBSERVED_COUNTERS},
    opaque::opaque,
    packet::Packet,
    socket,
};

/// BPF_RB_NO_WAKEUP.
const NO_WAKEUP: u64 = 1;

/// A record with room for so many bytes.
#[repr(C)]
struct Record<const MOST: usize> {
    head: Observed,
    data: [u8; MOST],
}

/// Tells of a message that begins at byte `at` of a packet of `sk`.
///
/// # Safety
/// The context of a `cgroup_skb` program, and its socket.
#[inline(always)]
pub unsafe fn tell<const MOST: usize>(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    packet: &Packet,
    at: u32,
    kind: ObservedKind,
) -> Option<()> {
    // SAFETY: the caller's promise; the record is ours until it is submitted, and every field of it that means anything
    // is written.
    unsafe {
        let whole = word(&raw const (*skb).len).checked_sub(at)?;
        let mut length = opaque(whole);
        if length == 0 {
            return None;
        }
        if length > MOST as u32 {
            length = MOST as u32;
        }
        let counter = OBSERVED_COUNTERS.get_ptr_mut(kind as u32)?;
        atomic::add(&raw mut (*counter).produced, 1);
        let netns = socket::netns(sk);
        let cookie = bpf_get_socket_cookie(skb.cast());
        let time_ns = bpf_ktime_get_ns();
        let Some(mut record) = OBSERVED.reserve::<Record<MOST>>(0) else {
            atomic::add(&raw mut (*counter).lost, 1);
            return None;
        };
        let e = record.as_mut_ptr();
        let head = &raw mut (*e).head;
        (*head).cookie = cookie;
        (*head).time_ns = time_ns;
        let remote = (&raw mut (*head).remote).cast::<u64>();
        remote.write_volatile(0);
        remote.add(1).write_volatile(0);
        (*head).netns = netns;
        (*head).whole = whole;
        (*head).length = length as u16;
        (*head).kind = kind as u8;
        (*head).family = packet.family;
        (*head)._pad = 0;
        let source = matches!(kind, ObservedKind::Answer);
        if packet.address(skb, source, remote.cast()).is_none()
            || load(skb, at, (&raw mut (*e).data).cast(), length).is_none()
        {
            record.discard(NO_WAKEUP);
            atomic::add(&raw mut (*counter).lost, 1);
            return None;
        }
        record.submit(NO_WAKEUP);
    }
    Some(())
}
