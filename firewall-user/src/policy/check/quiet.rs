//! Whether a rule can join a policy that nothing was said about, or leave it, and there is still nothing to be said: asked
//! of the rule and of those that it may meet, not of all. Where that isn't certain, the whole policy has to be checked.

use super::super::ast::{
    Action, AddrItem, AddrRange, Conditions, Endpoint, Match, Policy, PortItem, Rule,
};
use super::super::resolved::Resolved;
use super::Glance;
use super::shadow::{STEPS, covered};
use super::space::{Boxes, Budget, Space};
use firewall_common::abi::table::Direction;

/// TCP's protocol number (RFC 9293).
const TCP: u8 = 6;
/// Elements of all sets from which on it takes as long to expand them as to check everything.
const MANY_ELEMENTS: usize = 1_000;
/// Rules below the new one that it may meet, at most.
const MANY_RULES: usize = 16;

/// What has to be known of the machine.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    /// Its interfaces.
    pub interfaces: Vec<String>,
    /// Ports of ssh servers: a rule about one may cut somebody off.
    pub ssh_ports: Vec<u16>,
}

impl Quiet {
    /// Whether rule number `index` leaves in silence.
    pub fn leaves(&self, policy: &Policy, index: usize) -> bool {
        policy.rules.get(index).is_some_and(|rule| self.is_plain(policy, rule))
    }

    /// Whether `rule` joins in silence, as number `index`; `policy` is the one without it, `glances` are of its rules.
    pub fn joins(&self, policy: &Policy, glances: &[Glance], index: usize, rule: &Rule) -> bool {
        let elements: usize = policy.sets.iter().map(|set| set.elements.len()).sum();
        let speaks_of_icmpv6 = rule.when.icmp.as_ref().is_some_and(|icmp| icmp.v6);
        if !self.is_plain(policy, rule) || speaks_of_icmpv6 || elements > MANY_ELEMENTS {
            return false;
        }
        let near = |when: &Conditions, from: usize, to: usize| -> Vec<usize> {
            let own = Glance::of(when);
            let glances = glances.iter().enumerate().take(to).skip(from);
            let near = glances.filter(|(_, other)| own.may_meet(other)).map(|(i, _)| i);
            near.filter(|i| policy.rules.get(*i).is_some_and(|rule| may_meet(when, &rule.when)))
                .collect()
        };
        let above = |when: &Conditions, to: usize| -> Vec<usize> {
            near(when, 0, to).into_iter().filter(|i| decides(&policy.rules[*i])).collect()
        };
        let mut below = near(&rule.when, index, policy.rules.len());
        below.retain(|i| is_judged(&policy.rules[*i]));
        if below.len() > MANY_RULES {
            return false;
        }
        let resolved = Resolved::new(policy);
        let mut boxes = Boxes::new(&resolved);
        let mut budget = Budget(STEPS);
        let own = boxes.of(&rule.when);
        if own.0.is_empty() && own.1.is_empty() {
            return false;
        }
        let mut is_covered = |of: &Pair, above: &[&Pair]| {
            let four: Vec<(usize, &Space<u32>)> =
                above.iter().map(|pair| &pair.0).enumerate().collect();
            let six: Vec<(usize, &Space<u128>)> =
                above.iter().map(|pair| &pair.1).enumerate().collect();
            let mut takers = Vec::new();
            covered(&of.0, &four, &mut takers, &mut budget)
                && covered(&of.1, &six, &mut takers, &mut budget)
        };
        let mut boxes_of = |rules: Vec<usize>| -> Vec<Pair> {
            rules.into_iter().map(|i| boxes.of(&policy.rules[i].when)).collect()
        };
        let takers = boxes_of(above(&rule.when, index));
        if is_covered(&own, &takers.iter().collect::<Vec<_>>()) {
            return false;
        }
        below.into_iter().all(|i| {
            let of = boxes_of(vec![i]);
            let takers = boxes_of(above(&policy.rules[i].when, i));
            let all: Vec<&Pair> = takers.iter().chain([&own]).collect();
            of.iter().all(|of| !is_covered(of, &all))
        })
    }

    /// Whether all that may be said of a rule is that it is shadowed, or shadows others.
    fn is_plain(&self, policy: &Policy, rule: &Rule) -> bool {
        let when = &rule.when;
        let here = |name: &String| policy.group(name).is_none() && self.interfaces.contains(name);
        decides(rule)
            && rule.action != Action::Bypass
            && !rule.syn_cookies
            && when.states.is_none()
            && when.are_certain()
            && rule.adds.is_empty()
            && when.on.iter().flat_map(|on| &on.items).all(|item| here(&item.value))
            && [&when.src, &when.dst].into_iter().all(names_no_set)
            && !self.may_be_ssh(when)
            && policy.nats.is_empty()
    }

    /// Whether packets of a session with an ssh server may be meant.
    fn may_be_ssh(&self, when: &Conditions) -> bool {
        let listed = |list: &Match<PortItem>| {
            let is_in = |port: &u16| {
                let within = |item: &PortItem| match item {
                    PortItem::Range(a, b) => (a..=b).contains(&port),
                    PortItem::Set(_) => true,
                };
                list.items.iter().any(|item| within(&item.value)) != list.negated
            };
            self.ssh_ports.iter().any(is_in)
        };
        when.direction != Some(Direction::Out)
            && when.protos.as_ref().is_none_or(|protos| protos.contains(&TCP))
            && when.icmp.is_none()
            && when.dst.ports.as_ref().is_none_or(listed)
    }
}

/// The packets of a rule, by family.
type Pair = (Space<u32>, Space<u128>);

fn is_judged(rule: &Rule) -> bool {
    rule.enabled && !rule.when.owner.is_asked()
}

fn decides(rule: &Rule) -> bool {
    is_judged(rule) && rule.action.is_terminal()
}

fn names_no_set(end: &Endpoint) -> bool {
    let addrs = end.addrs.iter().flat_map(|list| &list.items);
    let ports = end.ports.iter().flat_map(|list| &list.items);
    addrs.into_iter().all(|item| matches!(item.value, AddrItem::Range(_)))
        && ports.into_iter().all(|item| matches!(item.value, PortItem::Range(..)))
}

/// False where no packet meets both, as a glance tells.
fn may_meet(a: &Conditions, b: &Conditions) -> bool {
    let both = |a: Option<Direction>, b: Option<Direction>| a.is_none() || b.is_none() || a == b;
    addresses_meet(&a.dst, &b.dst)
        && addresses_meet(&a.src, &b.src)
        && ports_meet(&a.dst, &b.dst)
        && ports_meet(&a.src, &b.src)
        && both(a.direction, b.direction)
        && match (&a.protos, &b.protos) {
            (Some(a), Some(b)) => a.iter().any(|proto| b.contains(proto)),
            _ => true,
        }
}

fn addresses_meet(a: &Endpoint, b: &Endpoint) -> bool {
    let (Some(a), Some(b)) = (&a.addrs, &b.addrs) else { return true };
    let meet = |a: &AddrItem, b: &AddrItem| match (a, b) {
        (AddrItem::Range(AddrRange::V4(a, b)), AddrItem::Range(AddrRange::V4(c, d))) => {
            a <= d && c <= b
        }
        (AddrItem::Range(AddrRange::V6(a, b)), AddrItem::Range(AddrRange::V6(c, d))) => {
            a <= d && c <= b
        }
        (AddrItem::Range(_), AddrItem::Range(_)) => false,
        _ => true,
    };
    lists_meet(a, b, meet)
}

fn ports_meet(a: &Endpoint, b: &Endpoint) -> bool {
    let (Some(a), Some(b)) = (&a.ports, &b.ports) else { return true };
    let meet = |a: &PortItem, b: &PortItem| match (a, b) {
        (PortItem::Range(a, b), PortItem::Range(c, d)) => a <= d && c <= b,
        _ => true,
    };
    lists_meet(a, b, meet)
}

fn lists_meet<T>(a: &Match<T>, b: &Match<T>, meet: impl Fn(&T, &T) -> bool) -> bool {
    a.negated
        || b.negated
        || a.items.iter().any(|a| b.items.iter().any(|b| meet(&a.value, &b.value)))
}

#[cfg(test)]
mod tests {
    use super::super::super::{edit::Spot, parse, splice};
    use super::super::{CheckContext, check};
    use super::*;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = String> {
        let end = || {
            prop_oneof![
                Just(String::new()),
                (0u8..4).prop_map(|a| format!(" 10.0.0.{a}")),
                (29u8..32).prop_map(|len| format!(" 10.0.0.0/{len}")),
                Just(" not 10.0.0.1".to_owned()),
            ]
        };
        let rest = prop_oneof![
            Just(" port 80".to_owned()),
            Just(" port 80-90".to_owned()),
            Just(" port not 80".to_owned()),
            Just(" port { 80, 443 }".to_owned()),
            Just(" port 20-30".to_owned()),
        ];
        let more = prop_oneof![
            4 => Just(""), 1 => Just(" on lo"), 1 => Just(" on nowhere"), 1 => Just(" state new"), 1 => Just(" log"),
        ];
        let what = prop_oneof![
            Just("drop in tcp"),
            Just("allow udp"),
            Just("count in tcp"),
            Just("reject out udp")
        ];
        (what, end(), end(), rest, more).prop_map(|(what, from, to, port, more)| {
            let from = if from.is_empty() { from } else { format!(" from{from}") };
            format!("{what}{more}{from} to{to}{port}").replace("to port", "to port")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        /// Who joins or leaves in silence leaves nothing to be said.
        #[test]
        fn silence_means_that_nothing_would_be_said(
            rules in proptest::collection::vec(rule(), 0..8),
            new in rule(),
            at in any::<usize>(),
        ) {
            let context = CheckContext { interfaces: Some(vec!["lo".into()]), ..CheckContext::default() };
            let quiet = Quiet { interfaces: vec!["lo".into()], ssh_ports: vec![22] };
            // As many of them as nothing is said of.
            let mut policy = parse("", "test").unwrap();
            for (i, rule) in rules.iter().enumerate() {
                let text = format!("rule r{i} {rule}");
                let mut more = policy.clone();
                let joins = splice::joining(&more, &text, Spot::Last).unwrap();
                splice::join(&mut more, joins);
                if check(&more, &context).is_empty() {
                    policy = more;
                }
            }
            let at = at % (policy.rules.len() + 1);
            let spot = if at == policy.rules.len() { Spot::Last } else { Spot::Above(at) };
            let joins = splice::joining(&policy, &format!("rule new {new}"), spot).unwrap();
            let glances: Vec<Glance> =
                policy.rules.iter().map(|rule| Glance::of(&rule.when)).collect();
            let silent = quiet.joins(&policy, &glances, joins.index, &joins.rule);
            let mut more = policy.clone();
            splice::join(&mut more, joins);
            let said = check(&more, &context);
            prop_assert!(!silent || said.is_empty(), "{}\n{said:?}", more.source);
            for index in 0..policy.rules.len() {
                let mut less = policy.clone();
                splice::leave(&mut less, index);
                let silent = quiet.leaves(&policy, index);
                prop_assert!(!silent || check(&less, &context).is_empty(), "{}", less.source);
            }
        }
    }

    #[test]
    fn what_may_be_about_ssh_or_names_sets_is_not_plain() {
        let policy = parse(
            "set s = { 10.0.0.1 }\ninterface wan = lo\nrule a drop from @s on wan to port 7000",
            "test",
        )
        .unwrap();
        let quiet = Quiet { interfaces: vec!["lo".into()], ssh_ports: vec![22, 2222] };
        let joins = |text: &str| {
            let rule =
                parse(&format!("{text}\nset s = {{ 10.0.0.1 }}"), "test").unwrap().rules.remove(0);
            quiet.joins(&policy, &[Glance::of(&policy.rules[0].when)], 1, &rule)
        };
        for yes in [
            "rule b drop in tcp to port 80",
            "rule b allow in on lo udp",
            "rule b drop out tcp to port 22",
            "rule b drop in tcp to port 23-2221",
            "rule b drop in icmp",
        ] {
            assert!(joins(yes), "{yes}");
        }
        for no in [
            "rule b drop in",
            "rule b drop tcp to port 22",
            "rule b drop tcp to port 1-3000",
            "rule b drop tcp to port not 80",
            "rule b drop in udp from @s to port 53",
            "rule b drop in on wan udp",
            "rule b drop in on eth9 udp",
            "rule b drop in udp state new",
            "rule b count in udp",
            "rule b allow in tcp to port 80 syn-cookies",
            "rule b allow out udp user root",
            "rule b drop icmpv6 type 135",
        ] {
            assert!(!joins(no), "{no}");
        }
    }
}
