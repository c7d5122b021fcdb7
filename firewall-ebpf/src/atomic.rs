//! The atomics that the BPF target has but `core::sync::atomic` doesn't offer it.
//!
//! BPF's memory model (Documentation/bpf/standardization/instruction-set.rst, "Atomic operations")
//! gives fetching operations full ordering; a relaxed intrinsic is enough here.

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

/// `*word += n`; the old value.
///
/// # Safety
/// `word` must point to eight aligned bytes of a map value that stays valid for the call.
#[inline(always)]
pub unsafe fn add(word: *mut u64, n: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, n) }
}

/// `*word |= bits`; the old value.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn or(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(word, bits) }
}
