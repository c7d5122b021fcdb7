//! What a CPU may still do in this window (an eighth of a second): bounds the rare, dear work (samples, answers), so that a flood
//! can neither drown the ring buffer nor make the gate an amplifier.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_common::abi::table::Settings;

use crate::maps::BUDGETS;

/// Spent so far in the window.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Budget {
    window: u64,
    samples: u32,
    answers: u32,
    new: u32,
    syns: u32,
}

/// `jiffies64`; the verifier turns the call into a plain load.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and has no precondition.
    unsafe { bpf_jiffies64() }
}

#[inline(always)]
fn current(settings: &Settings) -> Option<&'static mut Budget> {
    let budget = BUDGETS.get_ptr_mut(0)?;
    // SAFETY: a per-CPU entry, and programs of one CPU don't nest (both hooks run with softirqs off).
    let budget = unsafe { &mut *budget };
    // Division by zero is zero in BPF; the daemon writes at least 1.
    let window = now() / u64::from(settings.budget_window.max(1));
    if budget.window != window {
        budget.window = window;
        budget.samples = 0;
        budget.answers = 0;
        budget.new = 0;
        budget.syns = 0;
    }
    Some(budget)
}

/// Takes one sample, if one is left.
#[inline(always)]
pub fn take_sample(settings: &Settings) -> bool {
    let Some(b) = current(settings) else { return false };
    let left = b.samples < settings.sample_budget;
    b.samples += left as u32;
    left
}

/// Takes one answer, if one is left.
#[inline(always)]
pub fn take_answer(settings: &Settings) -> bool {
    let Some(b) = current(settings) else { return false };
    let left = b.answers < settings.reject_budget;
    b.answers += left as u32;
    left
}

/// Counts a SYN that may pass; whether it is one too many (see `Settings::cookie_rate`).
#[inline(always)]
pub fn is_flooded(settings: &Settings) -> bool {
    if settings.cookie_rate == 0 {
        return false;
    }
    let Some(b) = current(settings) else { return false };
    b.syns = b.syns.saturating_add(1);
    b.syns >= settings.cookie_rate
}

/// Takes one event of a new flow, if one is left.
#[inline(always)]
pub fn take_new(settings: &Settings) -> bool {
    let Some(b) = current(settings) else { return false };
    let left = b.new < settings.new_budget;
    b.new += left as u32;
    left
}
