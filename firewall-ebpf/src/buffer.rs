//! A packet at the hooks of cgroups (`struct __sk_buff`): its bytes from the IP header on, and its socket.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
};
use core::ffi::c_void;

/// Fills `length` bytes at `into` with the packet's from `at` on; packets of several segments and pages alike.
///
/// # Safety
/// The context of a `cgroup_skb` program, and room for so many bytes.
#[inline(always)]
pub unsafe fn load(skb: *mut __sk_buff, at: u32, into: *mut u8, length: u32) -> Option<()> {
    // SAFETY: the caller's promise.
    let done = unsafe { bpf_skb_load_bytes(skb.cast::<c_void>(), at, into.cast(), length) };
    (done == 0).then_some(())
}

/// A member of the context or of a socket, read whole as the verifier wants it.
///
/// # Safety
/// `member` must be valid for reads.
#[inline(always)]
pub unsafe fn word(member: *const u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { member.read_volatile() }
}

/// A packet's socket; null where it has none, or one that is only half made.
///
/// # Safety
/// The context of a `cgroup_skb` program.
#[inline(always)]
pub unsafe fn socket_of(skb: *mut __sk_buff) -> *mut bpf_sock {
    // SAFETY: the caller's context; what it has of a socket is checked as the verifier wants.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() { sk } else { bpf_sk_fullsock(sk) }
    }
}
