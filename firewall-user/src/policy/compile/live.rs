//! What rows don't know of rules: what they ask of live sets, what they add to them, and their limits.

use super::super::ast::{Action, Adds, Conditions, InSet, Limit, LimitUnit, Policy, Rule};
use super::super::slots::Slots;
use super::gates::{Gates, asked as asked_of};
use super::{CompileError, Part};
use crate::sets::Declared;
use firewall_common::abi::limit::{COST_FRACTION, FRACTION, how};
use firewall_common::abi::set::{ASK_WORDS, MAX_SETS, deed, test};
use firewall_common::abi::table::{ACTION_ADDS, ACTION_ASKS, ACTION_LIMITS};

/// [`firewall_common::abi::set`]'s words of a rule.
pub type Asked = [u64; ASK_WORDS as usize];

/// Takes indices for a policy's live sets.
pub fn take(policy: &Policy, slots: &mut Slots, generation: u32) -> Result<(), CompileError> {
    let names: Vec<&str> = policy.live.iter().map(|set| set.name.value.as_str()).collect();
    slots.take_sets(&names, generation).map_err(|seen| CompileError {
        part: Part::LiveSets,
        seen,
        limit: MAX_SETS,
    })
}

/// A policy's live sets, by their indices.
pub fn declared(policy: &Policy, slots: &Slots) -> Vec<(u8, Declared)> {
    let grows = |name: &str| {
        policy.rules.iter().any(|rule| rule.adds.iter().any(|adds| adds.name.value == name))
    };
    let index = |name: &str| slots.set(name).unwrap_or_default();
    let sets = policy.live.iter().map(|set| {
        let name = &set.name.value;
        (index(name), set.declared(grows(name)))
    });
    sets.collect()
}

/// `ACTION_*` of a rule as far as that goes.
pub fn flags(rule: &Rule, gates: &Gates<'_>) -> u8 {
    let of = |is: bool, flag: u8| if is { flag } else { 0 };
    let asks = asked_of(&rule.when).any(|(end, asked)| !gates.has(end, asked));
    of(asks || rule.when.limit.is_some(), ACTION_ASKS)
        | of(!rule.adds.is_empty(), ACTION_ADDS)
        | of(polices(rule), ACTION_LIMITS)
}

/// What rows don't know of a rule; `None`: nothing.
pub fn asked(rule: &Rule, policy: &Policy, gates: &Gates<'_>, slots: &Slots) -> Option<Asked> {
    (flags(rule, gates) != 0).then(|| {
        let mut words = Asked::default();
        words[0] = tests(&rule.when, gates, slots);
        for (i, adds) in rule.adds.iter().take(2).enumerate() {
            words[1] |= u64::from(deed(adds, slots)) << (i * 16);
            let of_set = || policy.live_set(&adds.name.value)?.timeout;
            let ms = adds.timeout.map(u64::from).or_else(of_set).unwrap_or(0);
            words[2] |= ms.min(u32::MAX.into()) << (i * 32);
        }
        if let Some(limit) = &rule.when.limit {
            words[3..6].copy_from_slice(&limited(limit, rule, slots));
        }
        words
    })
}

/// Whether the packets of the flows that a rule lets in are measured.
fn polices(rule: &Rule) -> bool {
    let lets_in = matches!(rule.action, Action::Allow | Action::Bypass) && !rule.no_track;
    let units = [LimitUnit::Packets, LimitUnit::Bits];
    lets_in && rule.when.limit.is_some_and(|limit| units.contains(&limit.unit) && !limit.over)
}

/// A rule's limit, see [`how`].
fn limited(of: &Limit, rule: &Rule, slots: &Slots) -> [u64; 3] {
    let unit = match of.unit {
        LimitUnit::Packets => how::PACKETS,
        LimitUnit::Bits => how::BITS,
        LimitUnit::New => how::NEW,
        LimitUnit::Connections => how::CONNECTIONS,
    };
    let flag = |is: bool, bit: u32| if is { bit } else { 0 };
    let flows = if polices(rule) { how::FLOWS } else { 0 };
    let flags =
        how::IS | flows | unit | flag(of.over, how::OVER) | flag(of.per_source, how::SOURCE);
    let slot = u64::from(slots.rule(&rule.name.value).unwrap_or_default());
    let mut words = [u64::from(flags) | slot << 8, 0, 0];
    if of.unit == LimitUnit::Connections {
        words[0] |= of.count.min(u32::MAX.into()) << 32;
        return words;
    }
    let ns = u128::from(of.per_ms) * 1_000_000;
    let small = |n: u128| u64::try_from(n).unwrap_or(u64::MAX >> 1);
    words[1] = small((ns << COST_FRACTION) / u128::from(of.count.max(1)));
    words[2] = small((ns << FRACTION) * u128::from(of.burst()) / u128::from(of.count.max(1)));
    words
}

/// Those that aren't made before.
fn tests(when: &Conditions, gates: &Gates<'_>, slots: &Slots) -> u64 {
    asked_of(when)
        .filter(|(end, asked)| !gates.has(*end, asked))
        .fold(0, |all, (end, asked)| all | u64::from(test(asked, slots)) << (end * 16))
}

fn index(name: &str, slots: &Slots) -> u32 {
    u32::from(slots.set(name).unwrap_or_default()) + 1
}

fn test(asked: &InSet, slots: &Slots) -> u32 {
    let of = |is: bool, bit: u32| if is { bit } else { 0 };
    index(&asked.name.value, slots) | of(asked.negated, test::NOT) | of(asked.pair, test::PAIR)
}

fn deed(adds: &Adds, slots: &Slots) -> u32 {
    let of = |is: bool, bit: u32| if is { bit } else { 0 };
    index(&adds.name.value, slots)
        | of(adds.renew, deed::RENEW)
        | of(adds.pair, deed::PAIR)
        | of(adds.destination, deed::DESTINATION)
}

#[cfg(test)]
mod tests;
