//! What stands for `asks` where the object is built without live sets: no rule asks or adds anything that rows don't know.

use firewall_common::abi::table::{RuleAction, RuleTable};

use crate::work::Work;

/// Whether rules may ask live sets.
pub const ON: bool = false;
/// See the other `asks`.
pub const PARTS_ASKED: usize = 0;

/// See the other `asks`.
#[derive(Clone, Copy)]
pub struct Found;

/// See `sets`.
#[derive(Clone, Copy)]
pub struct Adding;

/// Notes nothing.
#[inline(always)]
pub fn note(_: &mut Work, _: u32, _: u64, _: u32) {}

/// The rule that rows say.
#[inline(always)]
pub fn go_on(_: &RuleTable, _: &mut Work, met: u64, _: u32) -> u64 {
    met
}

/// Rows have said all.
#[inline(always)]
pub fn are_met(_: RuleAction, _: &RuleTable, _: u32) -> bool {
    true
}

/// Adds nothing.
#[inline(always)]
pub fn add(_: &RuleTable, _: u32, _: u32) {}
