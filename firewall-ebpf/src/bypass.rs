//! Flows that go to a program with an AF_XDP socket instead of the stack: filtered, counted and entered
//! like all others, then handed to the socket of the queue that they came in at.

use firewall_common::abi::{
    flow::{Flow, bits},
    iface::xsk_index,
};

use aya_ebpf::bindings::xdp_action::XDP_PASS;

use crate::{atomic, maps::XSKS};

/// Bits of such a flow. What its program answers goes past us, so that numbers can't be held against
/// the side that is seen.
pub const BITS: u64 = bits::BYPASS | bits::PICKED_UP;

/// Makes a flow that was judged at ingress one of those, or one no longer.
#[inline(always)]
pub fn mark(flow: *mut Flow, bypass: bool) {
    // SAFETY: a live map value; the field is an aligned word.
    unsafe {
        let seen = (&raw const (*flow).bits).read_volatile();
        if bypass && seen & BITS != BITS {
            atomic::fetch_or(&raw mut (*flow).bits, BITS);
        } else if !bypass && seen & bits::BYPASS != 0 {
            atomic::and(&raw mut (*flow).bits, !bits::BYPASS);
        }
    }
}

/// Chooses the socket for a frame of a queue of an interface's slot; whether there is one. Then the
/// frame goes there, with all that is still written into it.
#[inline(always)]
pub fn choose(slot: u8, queue: u32) -> bool {
    let Some(index) = xsk_index(u32::from(slot), queue) else { return false };
    // A socket of another queue would be asked and refuse, and the frame be lost.
    if XSKS.get(index) != Some(queue) {
        return false;
    }
    XSKS.redirect(index, u64::from(XDP_PASS)).is_ok()
}
