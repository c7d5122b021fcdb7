//! Events through the one ring buffer: fixed records, numbered per class. What finds the ring full is
//! counted as lost under the number it took, so that produced = delivered + lost.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use firewall_common::{
    abi::{
        event::{Class, Event},
        flow::{Flow, Flow4, bits},
        reason::Reason,
        table::{Settings, Verdict},
    },
    wire::icmp,
};

use crate::{
    atomic, budget,
    maps::{EVENT_COUNTERS, EVENTS, FLOWS4, FLOWS6, WORK},
    nat::{ends, set_address},
    opaque::put,
    words,
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

/// Whose totals an event carries, and whose original direction its ends are.
#[derive(Clone, Copy)]
pub enum About {
    /// No flow.
    Packet,
    /// The flow on its way into the table: `work.flow`.
    Entering,
    /// The flow of the packet's family in this slot.
    Flow(u32),
}

/// Numbers an event about the packet at hand and writes it, unless the ring is full.
#[inline(always)]
pub fn emit(told: Told, slot: u32, about: About) {
    let bits = (told.class as u32)
        | (told.verdict as u32) << 8
        | (told.reason as u32) << 16
        | (told.reply as u32) << 24;
    let (kind, place) = match about {
        About::Packet => (0, 0),
        About::Entering => (1, 0),
        About::Flow(place) => (2, place),
    };
    sluice_tell(bits, slot, kind, place);
}

/// See [`emit`]. A global function: the verifier checks it once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_tell(told: u32, slot: u32, kind: u32, place: u32) -> u32 {
    if let Some(work) = WORK.get_ptr(0) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        let work = unsafe { &*work };
        let flow = if kind == 0 {
            core::ptr::null()
        } else if kind == 1 {
            &raw const work.flow
        } else if work.facts.family == 4 {
            FLOWS4.get_ptr(place).map_or(core::ptr::null(), |record| record.cast::<Flow>())
        } else {
            FLOWS6.get_ptr(place).map_or(core::ptr::null(), |record| record.cast::<Flow>())
        };
        write(work, told, slot, flow, kind == 2);
    }
    0
}

#[inline(always)]
fn write(work: &Work, told: u32, slot: u32, flow: *const Flow, entered: bool) {
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
        let (src, dst) = if reply { (&f.dst, &f.src) } else { (&f.src, &f.dst) };
        words::copy(&raw mut (*e).src, src);
        words::copy(&raw mut (*e).dst, dst);
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
        (*e)._pad = [0; 4];
        (*e).frame_len = work.frame_len;
        (*e)._pad2 = 0;
        if flow.is_null() {
            (*e).flow_id = 0;
            (*e).packets = work.packets;
            (*e).bytes = work.bytes;
            // One by one, or they would be a call of `memset`.
            put(&mut (*e).reply_packets, 0);
            put(&mut (*e).reply_bytes, 0);
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
            // The packet of a translated flow may have another end than its flow, at this hook. (What tells of
            // the mapping itself has put both there.)
            if entered && f.family == 4 && (*flow).nat != 0 && class != Class::NatNew as u32 {
                own_ends(e, flow.cast::<Flow4>());
            }
        }
    }
    record.submit(NO_WAKEUP);
}

/// Gives an event the ends under which its flow began.
#[inline(always)]
unsafe fn own_ends(e: *mut Event, record: *const Flow4) {
    // SAFETY: a live map value; the event is the caller's.
    unsafe {
        let (src, dst) = ends(&(*record).key, (*record).flow.bits & bits::ORIG_IS_A != 0);
        set_address(&mut (*e).src, src.0);
        set_address(&mut (*e).dst, dst.0);
        (*e).sport = src.1;
        if (*e).proto != icmp::PROTO_ICMP {
            (*e).dport = dst.1;
        }
    }
}

/// As [`emit`] without a flow, but within the budget; what is held back is counted.
#[inline(always)]
pub fn emit_sampled(told: Told, slot: u32, settings: &Settings) {
    if budget::take_sample(settings) {
        emit(told, slot, About::Packet);
    } else if let Some(counter) = EVENT_COUNTERS.get_ptr_mut(told.class as u32) {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).suppressed, 1) };
    }
}

/// As [`emit`] for a new flow, `work.flow`, unless the budget for those is spent: the next look at the
/// table shows what wasn't told.
#[inline(always)]
pub fn emit_new(told: Told, slot: u32, settings: &Settings) {
    if budget::take_new(settings) {
        emit(told, slot, About::Entering);
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
