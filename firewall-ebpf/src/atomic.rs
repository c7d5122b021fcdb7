//! The atomics that the BPF target has but `core::sync::atomic` doesn't offer it.
//!
//! An operation whose result is used must not be relaxed: LLVM 22 then emits the form without a result,
//! and the register keeps the operand.

use core::intrinsics::{AtomicOrdering, atomic_and, atomic_cxchg, atomic_or, atomic_xadd};

/// `*word += n`.
///
/// # Safety
/// `word` must point to eight aligned bytes of a map value that stays valid for the call.
#[inline(always)]
pub unsafe fn add(word: *mut u64, n: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, n) };
}

/// `*word += n`; the old value.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, n: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, n) }
}

/// `*word |= bits`; the old value.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn fetch_or(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) }
}

/// `*word &= bits`.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn and(word: *mut u64, bits: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_and::<u64, u64, { AtomicOrdering::Relaxed }>(word, bits) };
}

/// `*word = new` if it is `old`; whether it was.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn swap_if(word: *mut u64, old: u64, new: u64) -> bool {
    const SEQ: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: the caller's promise.
    unsafe { atomic_cxchg::<u64, { SEQ }, { SEQ }>(word, old, new).1 }
}
