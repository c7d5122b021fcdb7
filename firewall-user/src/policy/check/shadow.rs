//! Rules that can never match: those that contradict themselves, and those whose packets earlier
//! rules all take.

use super::super::ast::Rule;
use super::super::ranges::Number;
use super::super::resolved::Resolved;
use super::candidates::Candidates;
use super::corners::Corners;
use super::space::{Boxes, Budget, Space};
use super::{Report, contradiction, rule_span};

/// Steps for the whole policy, of which only rules that may meet cost any: well under a second.
pub const STEPS: u64 = 20_000_000;
/// Pieces that one rule may be cut into before it is given up: it is hardly covered then.
const MAX_PIECES: usize = 64;

/// The packets of a rule, by family.
type Pair = (Space<u32>, Space<u128>);

/// Warns of each enabled rule that can never match.
pub fn check(resolved: &Resolved, report: &mut Report<'_>) {
    let policy = report.policy;
    let mut boxes = Boxes::new(resolved);
    let mut budget = Budget(STEPS);
    let rules: Vec<(&Rule, Pair)> =
        policy.packet_rules().map(|rule| (rule, boxes.of(&rule.when))).collect();
    // What a rule takes that asks a live set, or has a limit, changes.
    let takes = |rule: &Rule| rule.action.is_terminal() && rule.when.are_certain();
    let decide = || rules.iter().enumerate().filter(|(_, (rule, _))| takes(rule));
    let four: Vec<(usize, &Space<u32>)> = decide().map(|(i, (_, (s, _)))| (i, s)).collect();
    let six: Vec<(usize, &Space<u128>)> = decide().map(|(i, (_, (_, s)))| (i, s)).collect();
    let (mut four, mut six) = (Earlier::new(&four), Earlier::new(&six));
    for (i, (rule, (v4, v6))) in rules.iter().enumerate() {
        if v4.is_empty() && v6.is_empty() {
            let why = contradiction(&rule.when, resolved);
            let message = format!("rule `{}` can never match: {why}", rule.name.value);
            report.warn("never-matches", rule_span(rule), message, None);
            continue;
        }
        let mut takers = Vec::new();
        let covered = four.cover(v4, i, |j| &rules[j].1.0, &mut takers, &mut budget)
            && six.cover(v6, i, |j| &rules[j].1.1, &mut takers, &mut budget);
        if covered && !budget.is_spent() {
            takers.sort_unstable();
            takers.dedup();
            let names: Vec<String> =
                takers.iter().map(|i| format!("`{}`", rules[*i].0.name.value)).collect();
            let line = |rule: &Rule| policy.source[..rule.span.start].matches('\n').count() + 1;
            let hint = match takers.as_slice() {
                [one] => {
                    let other = rules[*one].0;
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
    }
}

/// Rules that decide, by what they match.
struct Earlier<'s, T> {
    rules: &'s [(usize, &'s Space<T>)],
    corners: Corners<'s, T>,
    /// Made where it is asked for: of a hundred thousand rules it takes a hundred megabytes.
    index: Option<Candidates<T>>,
    /// Where those that may matter are put: a list for each rule would be as many allocations.
    near: Vec<usize>,
}

impl<'r, T: Number> Earlier<'r, T> {
    fn new(rules: &'r [(usize, &'r Space<T>)]) -> Self {
        Self { rules, corners: Corners::new(rules), index: None, near: Vec::new() }
    }

    /// Whether those before rule `i` leave nothing of `space`, see [`covered`].
    fn cover<'s>(
        &mut self,
        space: &Space<T>,
        i: usize,
        of: impl Fn(usize) -> &'s Space<T>,
        takers: &mut Vec<usize>,
        budget: &mut Budget,
    ) -> bool
    where
        T: 's,
    {
        if space.is_empty() {
            return true;
        }
        if self.corners.are_free(space, i) {
            return false;
        }
        let index = self.index.get_or_insert_with(|| Candidates::new(self.rules));
        index.of(space, i, &mut self.near);
        let near: Vec<(usize, &Space<T>)> = self.near.iter().map(|j| (*j, of(*j))).collect();
        covered(space, &near, takers, budget)
    }
}

/// Whether `before` (each with its number) leave nothing of `space`; the numbers of those that took something are added
/// to `takers`.
pub fn covered<T: Number>(
    space: &Space<T>,
    before: &[(usize, &Space<T>)],
    takers: &mut Vec<usize>,
    budget: &mut Budget,
) -> bool {
    if space.is_empty() {
        return true;
    }
    // One that takes everything is the better explanation than many that take a part each.
    for (i, other) in before {
        if space.is_within(other, budget) {
            takers.push(*i);
            return true;
        }
        if budget.is_spent() {
            return false;
        }
    }
    let mut pieces = vec![space.clone()];
    for (i, other) in before {
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
            takers.push(*i);
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
