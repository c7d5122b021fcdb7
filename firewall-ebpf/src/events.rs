//! Events through the one ring buffer: fixed records, numbered per class. What finds the ring full is
//! counted as lost under the number it took, so that produced = delivered + lost.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use firewall_common::{
    abi::{
        event::{Class, Event},
        flow::Flow,
        reason::Reason,
        table::{Settings, Verdict},
    },
    wire::icmp,
};

use crate::{
    atomic, budget,
    maps::{EVENT_COUNTERS, EVENTS},
    work::Work,
};

/// BPF_RB_NO_WAKEUP: the daemon drains on its own clock; a wake-up an event costs twenty times the
/// event.
const NO_WAKEUP: u64 = 1;

/// What an event tells beyond the packet.
#[derive(Clone, Copy)]
pub struct Told {
    /// Class.
    pub class: Class,
    /// Verdict.
    pub verdict: Verdict,
    /// Reason.
    pub reason: Reason,
    /// The packet goes against its flow's original direction.
    pub reply: bool,
}

/// Numbers an event and writes it, unless the ring is full. With a `flow` (or null), the record's ends
/// are those of its original direction.
#[inline(always)]
pub fn emit(work: &Work, told: Told, slot: u16, flow: *const Flow) {
    let bits = (told.class as u32)
        | (told.verdict as u32) << 8
        | (told.reason as u32) << 16
        | (told.reply as u32) << 24;
    write(work, bits, slot, flow);
}

/// Out of line, five registers at most: events are rare.
#[inline(never)]
fn write(work: &Work, told: u32, slot: u16, flow: *const Flow) {
    let class = told & 0xff;
    let Some(counter) = EVENT_COUNTERS.get_ptr_mut(class) else {
        return;
    };
    // SAFETY: a live map value; the fields are aligned words.
    let seq = unsafe { atomic::fetch_add(&raw mut (*counter).produced, 1) };
    let Some(mut record) = EVENTS.reserve::<Event>(0) else {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*counter).lost, 1) };
        return;
    };
    let f = &work.facts;
    let reply = told >> 24 != 0;
    let e = record.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and every field of it is written.
    unsafe {
        (*e).seq = seq;
        (*e).time_ns = bpf_ktime_get_ns();
        (*e).src = if reply { f.dst } else { f.src };
        (*e).dst = if reply { f.src } else { f.dst };
        (*e).sport = if reply { f.dport } else { f.sport };
        (*e).dport = if reply { f.sport } else { f.dport };
        (*e).generation = work.generation;
        (*e).ifindex = work.ifindex;
        (*e).rule = slot;
        (*e).vlan = f.vlan;
        (*e).class = class as u8;
        (*e).verdict = (told >> 8) as u8;
        (*e).reason = (told >> 16) as u8;
        (*e).direction = work.direction as u8;
        (*e).family = f.family;
        (*e).proto = f.proto;
        (*e).tcp_flags = f.tcp_flags;
        (*e).ethertype = f.ethertype.to_be_bytes();
        (*e)._pad = [0; 6];
        (*e).frame_len = work.frame_len;
        (*e)._pad2 = 0;
        if flow.is_null() {
            (*e).flow_id = 0;
            (*e).packets = work.packets;
            (*e).bytes = work.bytes;
            (*e).reply_packets = 0;
            (*e).reply_bytes = 0;
            (*e).tcp_state = 0;
        } else {
            (*e).flow_id = (*flow).id;
            (*e).packets = (*flow).packets;
            (*e).bytes = (*flow).bytes;
            (*e).reply_packets = (*flow).reply_packets;
            (*e).reply_bytes = (*flow).reply_bytes;
            (*e).tcp_state = (*flow).tcp_state;
            if matches!(f.proto, icmp::PROTO_ICMP | icmp::PROTO_ICMPV6) {
                (*e).sport = f.sport;
                (*e).dport = (*flow).icmp();
            }
        }
    }
    record.submit(NO_WAKEUP);
}

/// As [`emit`] without a flow, but within the budget; what is held back is counted.
#[inline(always)]
pub fn emit_sampled(work: &Work, told: Told, slot: u16, settings: &Settings) {
    if budget::take_sample(settings) {
        emit(work, told, slot, core::ptr::null());
    } else if let Some(counter) = EVENT_COUNTERS.get_ptr_mut(told.class as u32) {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).suppressed, 1) };
    }
}

/// As [`emit`] for a new flow, `work.flow`, unless the budget for those is spent: the next look at the
/// table shows what wasn't told.
#[inline(always)]
pub fn emit_new(work: &Work, told: Told, slot: u16, settings: &Settings) {
    if budget::take_new(settings) {
        emit(work, told, slot, &raw const work.flow);
    } else if let Some(counter) = EVENT_COUNTERS.get_ptr_mut(told.class as u32) {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).suppressed, 1) };
    }
}

/// Sets `bit` of the flow; whether this CPU was the one that did.
#[inline(always)]
pub fn first_to(flow: *mut Flow, bit: u64) -> bool {
    // SAFETY: a live map value; the field is an aligned word.
    unsafe { atomic::fetch_or(&raw mut (*flow).bits, bit) & bit == 0 }
}
