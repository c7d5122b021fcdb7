//! What rows don't know of a rule: whether live sets hold the packet's ends, and what is added to sets where it is met.
//! Asked only once all else of the rule holds; where it doesn't, the next rule is looked for.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use firewall_common::abi::{
    limit::how,
    set::{deed, test},
    table::{
        ACTION_ADDS, ACTION_ASKS, MAX_ALWAYS, MAX_CONTINUES, MAX_RULES, RuleAction, RuleTable,
    },
};

use crate::{
    classify::meet,
    limits::{MEASURE, sluice_limit, sluice_within},
    maps::{TABLES, WORK},
    opaque::{opaque, put, volatile},
    rules::{self, NOTHING},
    sets::{self, Which},
    work::Work,
};

pub use crate::sets::{Adding, Look};

/// Parts that one packet is asked for, at most: those for all, one for its destination, one for its source.
pub const PARTS_ASKED: usize = 16;
const _: () = assert!(MAX_ALWAYS + 2 <= PARTS_ASKED);

/// What was found in a part.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Found {
    /// As `rules::first` said it.
    said: u64,
    /// The part.
    part: u32,
    /// Number in it behind the rule that was found.
    behind: u32,
}

/// Notes what was found in the part that was asked as number `at`.
#[inline(always)]
pub fn note(work: &mut Work, at: u32, said: u64, part: u32) {
    let behind = volatile(&work.behind);
    // SAFETY: the masked index is below the array's length.
    let to = unsafe { work.found_in.get_unchecked_mut(at as usize & (PARTS_ASKED - 1)) };
    put(to, Found { said, part, behind });
}

/// The first rule whose every condition holds: `met`, whose rows say so, or one behind it; as `rules::first` says it.
/// `asked` parts were noted.
#[inline(always)]
pub fn go_on(table: &RuleTable, work: &mut Work, met: u64, asked: u32) -> u64 {
    // The most common case without a loop: the first one is met.
    if are_met(rules::action(met), table.size, (met >> 32) as u32) {
        return met;
    }
    put(&mut work.met, met);
    put(&mut work.asked, asked);
    put(&mut work.size, table.size);
    // What the callback needs stands in the work: the stack is nearly used up here.
    // SAFETY: the callback takes nothing.
    unsafe { bpf_loop(MAX_RULES as u32, step as *mut c_void, core::ptr::null_mut(), 0) };
    volatile(&work.met)
}

/// Leaves the rule behind that isn't met; 1 where the next one is, or there is none. One after the other, not one in the
/// other, and nothing kept between: the stack again.
extern "C" fn step(_: u64, _: *mut c_void) -> i64 {
    if opaque(sluice_left()) & 1 != 0 {
        return 1;
    }
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    // SAFETY: this CPU's own entry.
    let (size, generation, Found { part, behind, .. }) = unsafe {
        let work = &*work;
        (volatile(&work.size), volatile(&work.generation), volatile(&work.left))
    };
    let said = rules::next(size, generation, part, behind);
    let Some(work) = WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: as above; programs of one CPU don't nest.
    unsafe { put(&mut (*work).left.said, said) };
    if opaque(sluice_next()) != ASK {
        return 1;
    }
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    // SAFETY: this CPU's own entry.
    let (met, size) = unsafe { (volatile(&(*work).met), volatile(&(*work).size)) };
    i64::from(holds(size, (met >> 32) as u32))
}

/// What [`sluice_next`] returns where the next rule has to be asked, too.
const ASK: u32 = 2;

/// Puts the part that `work.met` is of into `work.left`, and where the search goes on there; 1: there is none. No two
/// parts hold one rule.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_left() -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let (met, asked) = (volatile(&work.met), volatile(&work.asked) as usize);
    let mut at = 0;
    while at < PARTS_ASKED && at < asked {
        // SAFETY: the masked index is below the array's length.
        let found = volatile(unsafe { work.found_in.get_unchecked(at & (PARTS_ASKED - 1)) });
        if found.said == met {
            put(&mut work.left, found);
            put(&mut work.left_at, at as u32);
            return 0;
        }
        at += 1;
    }
    1
}

/// Takes what `work.left` says into account, and puts the first rule of all parts that were asked into `work.met`; 1
/// where rows know all of it, or there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_next() -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let left = volatile(&work.left);
    note(work, volatile(&work.left_at), left.said, left.part);
    let asked = volatile(&work.asked) as usize;
    let mut best = NOTHING;
    let mut at = 0;
    while at < PARTS_ASKED && at < asked {
        // SAFETY: the masked index is below the array's length.
        let said = volatile(unsafe { &work.found_in.get_unchecked(at & (PARTS_ASKED - 1)).said });
        best = if said < best { said } else { best };
        at += 1;
    }
    put(&mut work.met, best);
    if best == NOTHING || rules::action(best).flags() & ACTION_ASKS == 0 { 1 } else { ASK }
}

/// Whether what rows don't know of a rule holds.
#[inline(always)]
fn are_met(action: RuleAction, size: u32, place: u32) -> bool {
    action.flags() & ACTION_ASKS == 0 || holds(size, place)
}

/// What [`sluice_met`] returns where there is a limit to be looked at, too.
const LIMIT: u32 = 2;

/// [`are_met`] of a rule of which rows don't know all. The limit last: what is within it is taken off it. One call after
/// the other, not one in the other: the stack.
#[inline(always)]
fn holds(size: u32, place: u32) -> bool {
    let said = opaque(sluice_met(size, place));
    if said != LIMIT {
        return said != 0;
    }
    let said = opaque(sluice_limit());
    if said == MEASURE { opaque(sluice_within()) != 0 } else { said != 0 }
}

/// Whether live sets hold what the rule at `place` asks; 0, 1 or [`LIMIT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_met(size: u32, place: u32) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    if !rules::read_ask(size, work.generation, place) {
        return 0;
    }
    let tests = volatile(&work.ask[0]);
    let mut end = 0;
    while end < 4 {
        let test = (tests >> (end * 16)) as u32 & 0xffff;
        if test != 0 {
            let which =
                Which { port: end >= 2, destination: end & 1 != 0, pair: test & test::PAIR != 0 };
            let held = sets::hold((test & test::SET) - 1, which);
            if held == (test & test::NOT != 0) {
                return 0;
            }
        }
        end += 1;
    }
    if volatile(&work.ask[3]) as u32 & how::IS == 0 { 1 } else { LIMIT }
}

/// Notes a rule that only counts or logs, and of which rows don't know all, or that adds to sets.
#[inline(always)]
pub fn note_passing(work: &mut Work, said: u64) {
    put(&mut work.passing, said);
}

/// Goes on with the rules before place `end` that only count or log, from the one that was noted on; `behind` is the
/// number behind it.
#[inline(always)]
pub fn pass(work: &mut Work, size: u32, end: u32, behind: u32) {
    put(&mut work.size, size);
    put(&mut work.pass_end, end);
    put(&mut work.passed, behind);
    // SAFETY: the callback takes nothing.
    unsafe {
        bpf_loop(MAX_CONTINUES as u32, pass_step as *mut c_void, core::ptr::null_mut(), 0);
    }
}

/// Asks the rule that was noted, counts it and adds what it adds, and looks for the next one; 1: there is none. One
/// after the other, not one in the other, and nothing kept between: the stack is nearly used up here.
extern "C" fn pass_step(_: u64, _: *mut c_void) -> i64 {
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    // SAFETY: this CPU's own entry.
    let (size, generation, passing) = unsafe {
        let work = &*work;
        (volatile(&work.size), volatile(&work.generation), volatile(&work.passing))
    };
    let place = (passing >> 32) as u32;
    if are_met(rules::action(passing), size, place) && opaque(sluice_passing()) & 1 != 0 {
        sluice_add(generation, size, place);
    }
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    // SAFETY: this CPU's own entry.
    let (size, generation, end, from) = unsafe {
        let work = &*work;
        let (size, generation) = (volatile(&work.size), volatile(&work.generation));
        (size, generation, volatile(&work.pass_end), volatile(&work.passed))
    };
    let stopped = opaque(rules::pass(size, generation, end, from));
    let Some(work) = WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: as above; programs of one CPU don't nest.
    unsafe { put(&mut (*work).passed, stopped) };
    i64::from(stopped == 0)
}

/// Counts and logs the rule that was noted; 1: it adds to sets, too.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_passing() -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let passing = volatile(&work.passing);
    let action = rules::action(passing);
    let Some(table) = TABLES.get_ptr(volatile(&work.generation) & 1) else { return 0 };
    // SAFETY: a live map value, which isn't written while its generation is live.
    let table = unsafe { &*table };
    meet(action, table, work);
    u32::from(action.flags() & ACTION_ADDS != 0)
}

/// Adds the packet to the sets that the rule at `place` names.
#[inline(always)]
pub fn add(size: u32, generation: u32, place: u32) {
    sluice_add(generation, size, place);
}

/// See [`add`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_add(generation: u32, size: u32, place: u32) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    if !rules::read_ask(size, generation, place) {
        return 0;
    }
    let (deeds, times) = (volatile(&work.ask[1]), volatile(&work.ask[2]));
    let mut i = 0;
    while i < 2 {
        let deed = (deeds >> (i * 16)) as u32 & 0xffff;
        if deed != 0 {
            let which = Which {
                port: false,
                destination: deed & deed::DESTINATION != 0,
                pair: deed & deed::PAIR != 0,
            };
            let renew = deed & deed::RENEW != 0;
            sets::add((deed & deed::SET) - 1, which, renew, (times >> (i * 32)) as u32);
        }
        i += 1;
    }
    0
}
