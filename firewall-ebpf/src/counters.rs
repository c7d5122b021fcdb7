//! Per-CPU counters.

use firewall_common::abi::{counter::RuleCounter, reason::Reason, table::Verdict};

use crate::maps::{REASON_COUNTERS, RULE_COUNTERS};

/// Counts the packet under its verdict and reason; every packet comes by here exactly once a hook.
#[inline(always)]
pub fn reason(verdict: Verdict, reason: Reason, packets: u64, bytes: u64) {
    let index = (verdict as u32) << 6 | reason as u32;
    if let Some(c) = REASON_COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        unsafe {
            (*c).packets += packets;
            (*c).bytes += bytes;
        }
    }
}

#[inline(always)]
fn rule(slot: u32) -> Option<&'static mut RuleCounter> {
    let c = RULE_COUNTERS.get_ptr_mut(slot)?;
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    Some(unsafe { &mut *c })
}

/// Counts a packet that was judged by the rule.
#[inline(always)]
pub fn rule_hit(slot: u32, packets: u64, bytes: u64, now: u64) {
    if let Some(c) = rule(slot) {
        c.hits += 1;
        c.packets += packets;
        c.bytes += bytes;
        c.last = now;
    }
}

/// Counts a packet of a flow that the rule let in.
#[inline(always)]
pub fn rule_flow(slot: u32, packets: u64, bytes: u64) {
    if let Some(c) = rule(slot) {
        c.packets += packets;
        c.bytes += bytes;
    }
}
