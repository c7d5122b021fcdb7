//! Events of calls, through the filter's ring: numbered, counted where they don't fit, within the policy's budget.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use firewall_common::abi::{
    event::{Class, Event},
    reason::Reason,
    table::RuleAction,
};

use crate::{
    atomic, budget,
    judge::Asked,
    maps::{EVENT_COUNTERS, EVENTS},
};

/// BPF_RB_NO_WAKEUP.
const NO_WAKEUP: u64 = 1;

/// Tells of a call that met a rule.
#[inline(never)]
pub fn call(asked: &Asked<'_>, action: RuleAction) {
    let Some(counter) = EVENT_COUNTERS.get_ptr_mut(Class::Call as u32) else { return };
    if !budget::take_sample(&asked.table.rules.settings) {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).suppressed, 1) };
        return;
    }
    // SAFETY: as above.
    let seq = unsafe { atomic::fetch_add(&raw mut (*counter).produced, 1) };
    let Some(mut record) = EVENTS.reserve::<Event>(0) else {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*counter).lost, 1) };
        return;
    };
    let e = record.as_mut_ptr();
    let (call, who) = (asked.call, asked.who);
    // SAFETY: the record is ours until it is submitted, and every field of it is written.
    unsafe {
        (*e).seq = seq;
        (*e).time_ns = bpf_ktime_get_ns();
        (*e).flow_id = u64::from(who.tgid) | u64::from(who.uid) << 32;
        (*e).packets = who.start_ns;
        (*e).bytes = asked.socket;
        let comm = (&raw const who.comm).cast::<u64>();
        (*e).reply_packets = comm.read_unaligned();
        (*e).reply_bytes = comm.add(1).read_unaligned();
        let (src, dst) = ((&raw mut (*e).src).cast::<u32>(), (&raw mut (*e).dst).cast::<u32>());
        let mut i = 0;
        while i < 4 {
            src.add(i).write_volatile(call.src[i]);
            dst.add(i).write_volatile(call.dst[i]);
            i += 1;
        }
        (*e).generation = asked.generation;
        (*e).ifindex = 0;
        (*e).sport = (call.sport as u16).to_ne_bytes();
        (*e).dport = (call.dport as u16).to_ne_bytes();
        (*e).rule = action.slot();
        (*e).vlan = 0;
        (*e).class = Class::Call as u8;
        (*e).reason = Reason::Rule as u8;
        (*e).verdict = action.verdict();
        (*e).direction = call.direction() as u8;
        (*e).family = call.family as u8;
        (*e).proto = call.proto as u8;
        (*e).tcp_flags = 0;
        (*e).tcp_state = 0;
        (*e).ethertype = [0; 2];
        (*e)._pad = [0; 4];
        (*e).frame_len = 0;
        (*e)._pad2 = 0;
    }
    record.submit(NO_WAKEUP);
}
