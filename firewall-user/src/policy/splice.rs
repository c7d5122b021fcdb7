//! One rule in or out of a policy that was read already, without reading the rest again: the text changes, and the places of
//! all that stands behind.

use super::ast::{
    Adds, Conditions, Endpoint, Group, InSet, LiveSet, Match, OwnerMatch, Policy, Rule, Set,
};
use super::edit::{self, Spot};
use super::parse;
use super::span::{Span, Spanned};

/// A rule that can be put in.
#[derive(Clone, Debug)]
pub struct Joining {
    /// It, with the places that it will have.
    pub rule: Rule,
    /// The number that it will have, from 0.
    pub index: usize,
    at: usize,
    text: String,
}

/// Reads a statement that is to be added, with a name that no other has. `None`: it can't be told by itself what becomes of
/// it, or not this way; then [`edit::add`] knows.
pub fn joining(policy: &Policy, text: &str, spot: Spot) -> Option<Joining> {
    let text = text.trim();
    // What a backslash hides may be the end of a line that matters.
    if !policy.nats.is_empty() || text.contains('\\') {
        return None;
    }
    let mut alone = parse(text, &policy.file).ok()?;
    let is_one = alone.rules.len() == 1
        && alone.nats.is_empty()
        && alone.sets.is_empty()
        && alone.live.is_empty()
        && alone.groups.is_empty()
        && alone.source.trim_start().starts_with("rule");
    let mut rule = alone.rules.pop().filter(|_| is_one)?;
    let index = match spot {
        Spot::Above(index) => index,
        Spot::Below(index) => index + 1,
        Spot::Last => policy.rules.len(),
    };
    let (at, text) = edit::insertion(policy, text, spot)?;
    let is_behind = index == 0 || policy.rules.get(index - 1)?.span.end <= at;
    let is_before = policy.rules.get(index).is_none_or(|next| next.span.start >= at);
    if !is_behind || !is_before || continues(&policy.source, at) {
        return None;
    }
    let before = text.len() - text.trim_start().len();
    move_rule(&mut rule, &Move { from: 0, by: (at + before) as isize });
    Some(Joining { rule, index, at, text })
}

/// Puts it in.
pub fn join(policy: &mut Policy, joining: Joining) {
    let Joining { rule, index, at, text } = joining;
    policy.source.insert_str(at, &text);
    shift(policy, &Move { from: at, by: text.len() as isize });
    policy.rules.insert(index.min(policy.rules.len()), rule);
}

/// Whether rule number `index` can be taken out by [`leave`]; else [`edit::delete`] knows.
pub fn can_leave(policy: &Policy, index: usize) -> bool {
    let Some(rule) = policy.rules.get(index) else { return false };
    let lines = edit::lines(&policy.source, rule.span);
    policy.nats.is_empty()
        && !continues(&policy.source, lines.start)
        && !policy.source[lines].contains('\\')
}

/// Takes a rule out, its lines with it.
pub fn leave(policy: &mut Policy, index: usize) {
    let rule = policy.rules.remove(index);
    let lines = edit::lines(&policy.source, rule.span);
    policy.source.replace_range(lines.clone(), "");
    shift(policy, &Move { from: lines.start, by: -(lines.len() as isize) });
}

/// Whether the line before the one that begins at `at` may go on in it.
fn continues(source: &str, at: usize) -> bool {
    let before = source[..at].trim_end_matches(['\n', '\r']);
    before[before.rfind('\n').map_or(0, |i| i + 1)..].contains('\\')
}

/// What stands from a byte on stands elsewhere.
struct Move {
    from: usize,
    by: isize,
}

impl Move {
    fn span(&self, span: &mut Span) {
        if span.start >= self.from {
            span.start = span.start.wrapping_add_signed(self.by);
            span.end = span.end.wrapping_add_signed(self.by);
        }
    }

    fn all<T>(&self, all: &mut [Spanned<T>]) {
        all.iter_mut().for_each(|one| self.span(&mut one.span));
    }

    fn list<T>(&self, list: &mut Option<Match<T>>) {
        list.iter_mut().for_each(|list| self.all(&mut list.items));
    }
}

fn shift(policy: &mut Policy, by: &Move) {
    for Group { name, members } in &mut policy.groups {
        by.span(&mut name.span);
        by.all(members);
    }
    for Set { name, kind: _, elements } in &mut policy.sets {
        by.span(&mut name.span);
        by.all(elements);
    }
    for LiveSet { name, kind: _, size: _, timeout: _, file: _, entries: _ } in &mut policy.live {
        by.span(&mut name.span);
    }
    let behind = policy.rules.partition_point(|rule| rule.span.start < by.from);
    policy.rules[behind..].iter_mut().for_each(|rule| move_rule(rule, by));
}

/// Every field is named: who adds one sees that its places have to be moved, too.
fn move_rule(rule: &mut Rule, by: &Move) {
    let Rule {
        name,
        enabled: _,
        action: _,
        log: _,
        no_track: _,
        syn_cookies: _,
        adds,
        when,
        span,
        text: _,
    } = rule;
    by.span(&mut name.span);
    by.span(span);
    for Adds { name, destination: _, pair: _, renew: _, timeout: _ } in adds {
        by.span(&mut name.span);
    }
    let Conditions {
        direction: _,
        on,
        family: _,
        protos: _,
        icmp: _,
        src,
        dst,
        flags: _,
        states: _,
        owner: OwnerMatch { processes, exes, users, units, cgroups },
        limit: _,
    } = when;
    by.list(on);
    for Endpoint { addrs, ports, live, live_ports } in [src, dst] {
        by.list(addrs);
        by.list(ports);
        for InSet { name, negated: _, pair: _ } in live.iter_mut().chain(live_ports) {
            by.span(&mut name.span);
        }
    }
    [processes, exes, users, units, cgroups].into_iter().for_each(|list| by.list(list));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::edit::Place;

    const TEXT: &str = "\
# The gate.
interface wan = { eth0, ppp0 }
default in drop

# ssh, for admins
rule ssh allow in on wan tcp from @admins to port 22   # keep!
set admins = { 10.0.0.0/24, 192.0.2.1 }
# web
  rule web  allow in tcp to { 192.0.2.7, 192.0.2.8 } port {
    80, 443   # both
  }
rule old allow in tcp from not 10.0.0.0/8 to port 8080
rule mine drop out process { curl, \"a b\" } user root
disabled rule off drop in on eth0
set later = { 22, 23 }
";

    fn policy(text: &str) -> Policy {
        parse(text, "test").unwrap_or_else(|e| panic!("{e}"))
    }

    fn same(left: &Policy, right: &Policy) {
        assert_eq!(format!("{left:#?}"), format!("{right:#?}"));
    }

    /// The two ways to say where.
    fn spot(policy: &Policy, place: &Place) -> Option<Spot> {
        let index = |name: &str| policy.rule(name).map(|(index, _)| index);
        match place {
            Place::Last => Some(Spot::Last),
            Place::At(n) if *n == policy.rules.len() + 1 => Some(Spot::Last),
            Place::At(n) => n.checked_sub(1).map(Spot::Above),
            Place::Before(name) => index(name).map(Spot::Above),
            Place::After(name) => index(name).map(Spot::Below),
        }
    }

    fn joining(policy: &Policy, text: &str, place: &Place) -> Option<Joining> {
        super::joining(policy, text, spot(policy, place)?)
    }

    #[test]
    fn what_joins_stands_as_if_it_had_been_read() {
        let before = policy(TEXT);
        let text = "rule dns allow in udp from { 10.0.0.1, 10.0.0.9 } to port 53 # new";
        for place in [
            Place::Last,
            Place::At(1),
            Place::At(3),
            Place::At(6),
            Place::Before("web".into()),
            Place::After("web".into()),
            Place::After("off".into()),
        ] {
            let mut spliced = before.clone();
            let joining = joining(&spliced, text, &place).unwrap();
            join(&mut spliced, joining);
            same(&spliced, &edit::add(&before, text, &place).unwrap());
            let (index, _) = spliced.rule("dns").unwrap();
            assert!(can_leave(&spliced, index));
            leave(&mut spliced, index);
            same(&spliced, &before);
        }
        let open = policy("  rule a drop");
        let mut spliced = open.clone();
        let last = joining(&open, text, &Place::Last).unwrap();
        join(&mut spliced, last);
        same(&spliced, &edit::add(&open, text, &Place::Last).unwrap());
    }

    #[test]
    fn what_leaves_leaves_the_rest_as_it_was_read() {
        let before = policy(TEXT);
        for (index, rule) in before.rules.iter().enumerate() {
            let mut spliced = before.clone();
            leave(&mut spliced, index);
            same(&spliced, &edit::delete(&before, &rule.name.value).unwrap());
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_others() {
        let before = policy(TEXT);
        for text in [
            "",
            "rule x drop\nrule y drop",
            "default out drop",
            "nat x masquerade on wan",
            "rule x drop from @admins",
            "disabled rule x drop",
            "rule x drop \\\n in",
            "rule x dorp",
        ] {
            assert!(joining(&before, text, &Place::Last).is_none(), "{text}");
        }
        for place in [Place::At(0), Place::At(7), Place::Before("no".into())] {
            assert!(joining(&before, "rule x drop", &place).is_none(), "{place:?}");
        }
        let hidden = policy("rule a drop \\\n\nrule b drop\n");
        assert!(joining(&hidden, "rule x drop", &Place::After("a".into())).is_none());
        assert!(!can_leave(&hidden, 0));
    }
}
