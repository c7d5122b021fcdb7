//! Translations that can never be made, that nobody lets in, or that hide packets from rules.

use super::super::ast::{Action, AddrRange, Conditions, Half, Nat, PortItem, Translation};
use super::super::resolved::Resolved;
use super::super::span::Spanned;
use super::shadow::{STEPS, covered};
use super::space::{Boxes, Budget, Space};
use super::{Report, contradiction, words};
use firewall_common::abi::nat::NatKind;
use firewall_common::abi::table::{Direction, Verdict};

/// The packets of one half of a translation.
type Pair = (Space<u32>, Space<u128>);

/// All warnings about translations.
pub fn check(resolved: &Resolved, report: &mut Report<'_>) {
    let policy = report.policy;
    let mut boxes = Boxes::new(resolved);
    let mut budget = Budget(STEPS);
    let mut earlier: Vec<(&Nat, Pair)> = Vec::new();
    for nat in policy.nats.iter().filter(|n| n.enabled) {
        let halves: Vec<(Half, Pair)> = nat
            .halves()
            .into_iter()
            .map(|half| {
                let space = boxes.of(&half.when);
                (half, space)
            })
            .collect();
        for (half, space) in &halves {
            let name = &nat.name.value;
            if space.0.is_empty() && space.1.is_empty() {
                // The family is the kind's: nobody wrote it.
                let asked = Conditions { family: None, ..half.when.clone() };
                let of_other = boxes.of(&asked);
                let why = if of_other.0.is_empty() && of_other.1.is_empty() {
                    contradiction(&asked, resolved)
                } else {
                    format!("`{}` translates IPv4 only", nat.translation.name())
                };
                let message = format!("nat `{name}` can never match: {why}");
                report.warn("never-matches", nat.name.span, message, None);
                continue;
            }
            if let Some(takers) = shadowed(space, &earlier, &mut budget) {
                let all: Vec<String> =
                    takers.iter().map(|n| format!("`{}`", n.name.value)).collect();
                let what = match half.kind {
                    NatKind::StaticOut | NatKind::PrefixOut => "never translates what leaves",
                    NatKind::StaticIn | NatKind::PrefixIn => "never translates what comes in",
                    _ => "can never match",
                };
                let take = if takers.len() > 1 { "take" } else { "takes" };
                let message = format!(
                    "nat `{name}` {what}: {} above {take} all its packets",
                    words::one_of(&all)
                );
                let hint = format!("move it above {}, or delete it", all[0]);
                report.warn("shadowed-nat", nat.name.span, message, hint);
            }
            if matches!(half.kind, NatKind::Destination | NatKind::Redirect) {
                let_in(nat, half, &mut boxes, &mut budget, report);
            }
        }
        earlier.extend(halves.into_iter().map(|(_, space)| (nat, space)));
    }
    hidden_rules(&mut boxes, &mut budget, report);
}

/// The earlier translations that leave nothing of this one, if they do.
fn shadowed<'p>(
    space: &Pair,
    earlier: &[(&'p Nat, Pair)],
    budget: &mut Budget,
) -> Option<Vec<&'p Nat>> {
    let before4: Vec<(usize, &Space<u32>)> =
        earlier.iter().map(|(_, s)| &s.0).enumerate().collect();
    let before6: Vec<(usize, &Space<u128>)> =
        earlier.iter().map(|(_, s)| &s.1).enumerate().collect();
    let mut takers = Vec::new();
    let all = covered(&space.0, &before4, &mut takers, budget)
        && covered(&space.1, &before6, &mut takers, budget);
    if !all || budget.is_spent() {
        return None;
    }
    takers.sort_unstable();
    let mut takers: Vec<&Nat> = takers.iter().map(|i| earlier[*i].0).collect();
    takers.dedup_by(|a, b| std::ptr::eq(*a, *b));
    Some(takers)
}

/// Rules see where a packet goes to behind the translation: one of them has to let it in.
fn let_in(
    nat: &Nat,
    half: &Half,
    boxes: &mut Boxes<'_>,
    budget: &mut Budget,
    report: &mut Report<'_>,
) {
    let policy = report.policy;
    if policy.defaults[usize::from(Direction::In.raw())] == Verdict::Allow {
        return;
    }
    let Some(seen) = nat.translated(half) else { return };
    let space = boxes.of(&seen).0;
    let allows = |action: Action| matches!(action, Action::Allow | Action::Bypass);
    let let_in = policy
        .rules
        .iter()
        .filter(|rule| rule.enabled && !rule.when.owner.is_asked() && allows(rule.action))
        .any(|rule| space.meets(&boxes.of(&rule.when).0, budget));
    if let_in || budget.is_spent() {
        return;
    }
    let name = &nat.name.value;
    let proto = match seen.protos.as_deref() {
        Some([one]) => format!(" {}", words::protocol_name(*one)),
        _ => String::new(),
    };
    let to = match &nat.translation {
        Translation::Destination { to, .. } => format!(" {to}"),
        _ => String::new(),
    };
    let port = match seen.dst.ports.as_ref().map(|list| (list.negated, list.items.as_slice())) {
        Some((false, [Spanned { value: PortItem::Range(a, b), .. }])) if a == b => {
            format!(" port {a}")
        }
        Some((false, [Spanned { value: PortItem::Range(a, b), .. }])) => format!(" port {a}-{b}"),
        Some((false, [Spanned { value: PortItem::Set(set), .. }])) => format!(" port @{set}"),
        _ => String::new(),
    };
    let end =
        if to.is_empty() && port.is_empty() { String::new() } else { format!(" to{to}{port}") };
    report.warn(
        "nat-not-let-in",
        nat.name.span,
        format!("no rule lets in what nat `{name}` translates"),
        format!("rules see where it goes to then: `rule NAME allow in{proto}{end}`"),
    );
}

/// Rules that ask for a public address which is translated before they are asked.
fn hidden_rules(boxes: &mut Boxes<'_>, budget: &mut Budget, report: &mut Report<'_>) {
    let policy = report.policy;
    let mut taken: Vec<(&Nat, Pair)> = Vec::new();
    let mut given: Vec<Pair> = Vec::new();
    for nat in policy.nats.iter().filter(|n| n.enabled) {
        for half in nat.halves() {
            if let Some(seen) = nat.translated(&half) {
                taken.push((nat, boxes.of(&half.when)));
                given.push(boxes.of(&seen));
            }
        }
    }
    if taken.is_empty() {
        return;
    }
    for rule in policy.packet_rules() {
        // Those that ask for no address may mean packets that nobody translates.
        if rule.when.direction != Some(Direction::In) || rule.when.dst.addrs.is_none() {
            continue;
        }
        let space = boxes.of(&rule.when);
        if space.0.is_empty() && space.1.is_empty() {
            continue;
        }
        let Some(takers) = shadowed(&space, &taken, budget) else { continue };
        let reached =
            given.iter().any(|g| space.0.meets(&g.0, budget) || space.1.meets(&g.1, budget));
        let Some(nat) = takers.first().filter(|_| !reached && !budget.is_spent()) else { continue };
        let inside = match &nat.translation {
            Translation::Destination { to, .. } => to.to_string(),
            Translation::Static { inside, .. } => prefix(inside.range(), inside.len),
            Translation::Prefix { inside, .. } => prefix(inside.range(), inside.len),
            _ => "this machine".to_owned(),
        };
        report.warn(
            "nat-hides-packets",
            rule.name.span,
            format!(
                "rule `{}` can never match: nat `{}` translates its packets first",
                rule.name.value, nat.name.value
            ),
            format!("rules see where they go to then: ask for `to {inside}`"),
        );
    }
}

fn prefix(range: AddrRange, len: u8) -> String {
    let (first, last) = range.ends();
    if first == last { first.to_string() } else { format!("{first}/{len}") }
}
