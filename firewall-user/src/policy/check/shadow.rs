//! Rules that can never match: those that contradict themselves, and those whose packets earlier
//! rules all take.

use super::super::ast::Rule;
use super::super::ranges::Number;
use super::super::resolved::Resolved;
use super::space::{Boxes, Budget, Space};
use super::{Report, contradiction, rule_span};

/// Steps for the whole policy: well under a second.
pub const STEPS: u64 = 20_000_000;
/// Pieces that one rule may be cut into before it is given up: it is hardly covered then.
const MAX_PIECES: usize = 64;

/// Warns of each enabled rule that can never match.
pub fn check(resolved: &Resolved, report: &mut Report<'_>) {
    let policy = report.policy;
    let mut boxes = Boxes::new(resolved);
    let mut budget = Budget(STEPS);
    let mut earlier: Vec<(&Rule, Space<u32>, Space<u128>)> = Vec::new();
    for rule in policy.packet_rules() {
        let (v4, v6) = boxes.of(&rule.when);
        if v4.is_empty() && v6.is_empty() {
            let why = contradiction(&rule.when, resolved);
            let message = format!("rule `{}` can never match: {why}", rule.name.value);
            report.warn("never-matches", rule_span(rule), message, None);
            continue;
        }
        let before4: Vec<&Space<u32>> = earlier.iter().map(|(_, s, _)| s).collect();
        let before6: Vec<&Space<u128>> = earlier.iter().map(|(_, _, s)| s).collect();
        let mut takers = Vec::new();
        let covered = covered(&v4, &before4, &mut takers, &mut budget)
            && covered(&v6, &before6, &mut takers, &mut budget);
        if covered && !budget.is_spent() {
            takers.sort_unstable();
            takers.dedup();
            let names: Vec<String> =
                takers.iter().map(|i| format!("`{}`", earlier[*i].0.name.value)).collect();
            let line = |rule: &Rule| policy.source[..rule.span.start].matches('\n').count() + 1;
            let hint = match takers.as_slice() {
                [one] => {
                    let other = earlier[*one].0;
                    let (name, line) = (&names[0], line(other));
                    let does = |r: &Rule| (r.action, r.no_track, r.syn_cookies);
                    if does(other) == does(rule) {
                        format!("delete it: {name} on line {line} does the same")
                    } else {
                        format!("move it above {name} on line {line}, or delete it")
                    }
                }
                _ => "delete it, or move it above them".to_owned(),
            };
            let which = match names.len() {
                1 => format!("{} above takes all its packets", names[0]),
                2..=4 => format!("{} above together take all its packets", names.join(", ")),
                n => format!(
                    "{}, ... ({n} rules above) together take all its packets",
                    names[..3].join(", ")
                ),
            };
            let message = format!("rule `{}` can never match: {which}", rule.name.value);
            report.warn("shadowed-rule", rule_span(rule), message, hint);
        }
        if rule.action.is_terminal() {
            earlier.push((rule, v4, v6));
        }
    }
}

/// Whether `before` leave nothing of `space`; those that took something are added to `takers`.
pub fn covered<T: Number>(
    space: &Space<T>,
    before: &[&Space<T>],
    takers: &mut Vec<usize>,
    budget: &mut Budget,
) -> bool {
    if space.is_empty() {
        return true;
    }
    // One that takes everything is the better explanation than many that take a part each.
    for (i, other) in before.iter().enumerate() {
        if space.without(other, budget).is_some_and(|left| left.is_empty()) {
            takers.push(i);
            return true;
        }
        if budget.is_spent() {
            return false;
        }
    }
    let mut pieces = vec![space.clone()];
    for (i, other) in before.iter().enumerate() {
        let mut left = Vec::new();
        let mut took = false;
        for piece in pieces {
            match piece.without(other, budget) {
                None => left.push(piece),
                Some(parts) => {
                    took = true;
                    left.extend(parts);
                }
            }
        }
        if took {
            takers.push(i);
        }
        if left.is_empty() {
            return true;
        }
        if left.len() > MAX_PIECES || budget.is_spent() {
            return false;
        }
        pieces = left;
    }
    false
}
