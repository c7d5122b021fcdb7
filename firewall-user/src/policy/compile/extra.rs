//! Single rules that join a policy which is installed already: a part of their own, in room that its arena leaves for it.
//!
//! The rules of a policy have places with gaps between them ([`GAP`]), so that one more has a place between any two. Behind
//! all else an arena has the `terminal`s of [`EXTRAS`] parts that may be asked one day: 0 until then, so that whatever else
//! stands in such a part decides nothing. One store of one word lets its rules decide, or no more.

use super::super::ast::{Action, Rule};
use super::super::resolved::Resolved;
use super::super::slots::Slots;
use super::arena::Words;
use super::gates::Gates;
use super::part::{self, Member};
use super::{Ask, BESIDE_ROWS, Compiled, action};
use firewall_common::abi::table::{ARENAS, MAX_ALWAYS, Part, RuleAction};

/// Between the places of two rules, where rows know all of every rule.
pub const GAP: u32 = 1 << 12;
/// Rules of one extra part: what one word of `terminal` can tell.
pub const EXTRA_RULES: usize = 64;
/// Parts that an arena has room for behind it, at most.
pub const EXTRAS: usize = 8;
/// Words between the `terminal`s of two of them. The first is in use. A look-up that runs into a part while it is written may
/// take any of them for it, up to what one word of summary tells: it finds none that decides.
pub const EXTRA_WORDS: usize = 64;
/// Words for `terminal`s behind an arena.
pub const TERMINALS: usize = EXTRAS * EXTRA_WORDS;
/// Words of room for each extra part.
const ROOM: usize = 1 << 13;

/// Where a rule stands: the bit of a word of the arena that lets it decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Word of the arena.
    pub word: u32,
    /// Its bit.
    pub bit: u8,
}

/// An extra part that can be written.
#[derive(Clone, Debug)]
pub struct Extra {
    /// The part.
    pub part: Part,
    /// Where its words stand in the arena.
    pub at: u32,
    /// They.
    pub words: Vec<u64>,
    /// `ACTION_*` of its rules.
    pub flags: u32,
}

/// How many extra parts a policy has room for.
pub fn room(compiled: &Compiled) -> usize {
    let table = &compiled.table;
    let words = ARENAS.get(table.size as usize).copied().unwrap_or_default();
    let left = words.saturating_sub(compiled.extras as usize + TERMINALS) / ROOM;
    left.min(MAX_ALWAYS - table.always as usize).min(EXTRAS)
}

/// Writes extra part `index` of the arena whose extra words begin at `extras`: rules, each with its place. `None` where
/// they need more room than there is, or something that only a whole policy has.
pub fn extra(rules: &[(&Rule, u32)], index: usize, extras: u32, slots: &Slots) -> Option<Extra> {
    if rules.len() > EXTRA_RULES || rules.iter().any(|(rule, _)| rule.action == Action::Count) {
        return None;
    }
    let at = extras as usize + TERMINALS + index * ROOM;
    let mut words = Words::behind(at);
    let (resolved, gates) = (Resolved::default(), Gates::default());
    let asks: Vec<Ask<'_>> = rules
        .iter()
        .enumerate()
        .map(|(i, (rule, _))| Ask::new(i, &rule.when, &gates, &resolved, slots))
        .collect();
    let actions: Vec<RuleAction> =
        rules.iter().map(|(rule, _)| action(rule, &gates, slots)).collect();
    let flags = actions.iter().fold(0, |all, action| all | u32::from(action.flags()));
    if flags & BESIDE_ROWS != 0 {
        return None;
    }
    let members: Vec<Member> = rules
        .iter()
        .zip(&actions)
        .map(|((_, place), action)| Member { place: *place, action: *action })
        .collect();
    let asks: Vec<&Ask<'_>> = asks.iter().collect();
    let (mut part, _) = part::write(&members, &asks, 1, &resolved, &mut words);
    part.terminal = extras + (index * EXTRA_WORDS) as u32;
    let words = words.into_inner();
    (words.len() <= ROOM).then_some(Extra { part, at: at as u32, words, flags })
}
