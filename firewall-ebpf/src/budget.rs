//! What a CPU may still do in this tick: bounds the rare, dear work (samples, answers), so that a flood
//! can neither drown the ring buffer nor make the gate an amplifier.

use aya_ebpf::helpers::generated::bpf_jiffies64;

use crate::maps::BUDGETS;

/// Spent so far in the tick.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Budget {
    tick: u64,
    samples: u32,
    answers: u32,
}

/// `jiffies64`; the verifier turns the call into a plain load.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and has no precondition.
    unsafe { bpf_jiffies64() }
}

#[inline(always)]
fn current() -> Option<&'static mut Budget> {
    let budget = BUDGETS.get_ptr_mut(0)?;
    // SAFETY: a per-CPU entry, and programs of one CPU don't nest (both hooks run with softirqs off).
    let budget = unsafe { &mut *budget };
    let tick = now();
    if budget.tick != tick {
        budget.tick = tick;
        budget.samples = 0;
        budget.answers = 0;
    }
    Some(budget)
}

/// Takes one sample of `limit` a tick, if one is left.
#[inline(always)]
pub fn take_sample(limit: u32) -> bool {
    let Some(b) = current() else { return false };
    let left = b.samples < limit;
    b.samples += left as u32;
    left
}

/// Takes one answer of `limit` a tick, if one is left.
#[inline(always)]
pub fn take_answer(limit: u32) -> bool {
    let Some(b) = current() else { return false };
    let left = b.answers < limit;
    b.answers += left as u32;
    left
}
