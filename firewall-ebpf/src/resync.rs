//! Where SYNs on flows that aren't over are remembered: see `firewall_common::flow::resync`.

use firewall_common::{
    abi::flow::Flow,
    flow::{
        resync::{self, Syn},
        tcp::TcpState,
    },
};

use crate::{
    atomic,
    conntrack::segment,
    maps::{SYNS, WORK},
    table::{Table, V4, V6},
};

/// SYNs that are remembered: a power of two.
pub const PLACES: u32 = 4096;

#[inline(always)]
fn record(slot: u32, family: u32) -> Option<*mut Flow> {
    if family == 4 {
        V4::record(slot).map(|record| record.cast::<Flow>())
    } else {
        V6::record(slot).map(|record| record.cast::<Flow>())
    }
}

#[inline(always)]
fn place(slot: u32) -> Option<*mut Syn> {
    SYNS.get_ptr_mut(slot & (PLACES - 1))
}

/// Remembers the packet at hand, of the originator of the flow in `slot`, if it is a SYN that its windows had
/// no use for.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_remember_syn(slot: u32, family: u32) -> u32 {
    let (Some(work), Some(flow), Some(place)) =
        (WORK.get_ptr(0), record(slot, family), place(slot))
    else {
        return 0;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &*work };
    let s = segment(&work.facts);
    // SAFETY: live map values. What another CPU tears is a SYN that no SYN-ACK acknowledges.
    unsafe {
        if resync::is_unused(&(*flow).windows, &s) {
            *place = Syn::of((*flow).id, &s, &work.options);
        }
    }
    0
}

/// Begins the flow in `slot` anew if the packet at hand, its responder's, answers a SYN that was remembered;
/// whether it did: then the packet fits.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_resync(slot: u32, family: u32) -> u32 {
    let (Some(work), Some(flow), Some(place)) =
        (WORK.get_ptr(0), record(slot, family), place(slot))
    else {
        return 0;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let s = segment(unsafe { &(*work).facts });
    // SAFETY: live map values; races as `abi::flow::Flow` allows.
    unsafe {
        let syn = &mut *place;
        if !syn.is_answered((*flow).id, &s) {
            return 0;
        }
        // Once: a SYN-ACK that comes late must not do it to the connection that was made.
        syn.flow = 0;
        syn.begin(&mut (*flow).windows);
        (*flow).scales = syn.scales;
        (*flow).tcp_state = TcpState::SynSent as u8;
        let word = &raw mut (*flow).bits;
        atomic::and(word, !resync::FORGOTTEN);
        atomic::fetch_or(word, syn.options);
    }
    1
}
