//! What a rule's addresses and ports lie between: a line of the cache for two rules, so that those which have nothing in common
//! with one of them are told apart without that each rule, and its lists, are fetched from all over the memory.

use super::super::ast::{AddrItem, AddrRange, Conditions, Endpoint, Family, Match, PortItem};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    src: End,
    dst: End,
    v6: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// IPv4 addresses from the first to the second; none where that is the smaller.
    v4: (u32, u32),
    ports: (u16, u16),
}

impl Glance {
    /// Of what a rule asks.
    pub fn of(when: &Conditions) -> Self {
        let is_four = |end: &Endpoint| end.addrs.as_ref().is_some_and(only_v4);
        let v6 = when.family != Some(Family::V4) && !is_four(&when.src) && !is_four(&when.dst);
        let end = |end: &Endpoint| End {
            v4: match &end.addrs {
                _ if when.family == Some(Family::V6) => (1, 0),
                None => (0, u32::MAX),
                Some(list) => v4(list),
            },
            ports: end.ports.as_ref().map_or((0, u16::MAX), ports),
        };
        Self { src: end(&when.src), dst: end(&when.dst), v6 }
    }

    /// False where no packet meets both for certain.
    pub const fn may_meet(&self, other: &Self) -> bool {
        let (a, b) = (self, other);
        const fn v4(a: End, b: End) -> bool {
            a.v4.0 <= b.v4.1 && b.v4.0 <= a.v4.1
        }
        const fn ports(a: End, b: End) -> bool {
            a.ports.0 <= b.ports.1 && b.ports.0 <= a.ports.1
        }
        (v4(a.dst, b.dst) && v4(a.src, b.src) || a.v6 && b.v6)
            && ports(a.dst, b.dst)
            && ports(a.src, b.src)
    }
}

fn only_v4(list: &Match<AddrItem>) -> bool {
    let is_v4 = |item: &AddrItem| matches!(item, AddrItem::Range(AddrRange::V4(..)));
    !list.negated && list.items.iter().all(|item| is_v4(&item.value))
}

fn v4(list: &Match<AddrItem>) -> (u32, u32) {
    if list.negated {
        return (0, u32::MAX);
    }
    list.items.iter().fold((u32::MAX, 0), |(from, to), item| match &item.value {
        AddrItem::Range(AddrRange::V4(a, b)) => (from.min(*a), to.max(*b)),
        AddrItem::Range(AddrRange::V6(..)) => (from, to),
        AddrItem::Set(_) => (0, u32::MAX),
    })
}

fn ports(list: &Match<PortItem>) -> (u16, u16) {
    if list.negated {
        return (0, u16::MAX);
    }
    list.items.iter().fold((u16::MAX, 0), |(from, to), item| match &item.value {
        PortItem::Range(a, b) => (from.min(*a), to.max(*b)),
        PortItem::Set(_) => (0, u16::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{parse, resolved::Resolved};
    use super::super::space::{Boxes, Budget};
    use super::*;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = String> {
        let address = || {
            prop_oneof![
                Just(String::new()),
                (0u8..4).prop_map(|a| format!(" 10.0.0.{a}")),
                Just(" not 10.0.0.1".to_owned()),
                Just(" { 10.0.0.1, 2001:db8::1 }".to_owned()),
                (1u8..4).prop_map(|a| format!(" 2001:db8::{a}")),
                Just(" @s".to_owned()),
            ]
        };
        let ports = prop_oneof![
            Just(" port 80"),
            Just(" port 20-90"),
            Just(" port not 80"),
            Just(" port { 7, 443 }"),
            Just(" port @p"),
        ];
        let family = prop_oneof![Just(""), Just("ipv4 "), Just("ipv6 ")];
        (family, address(), address(), ports).prop_map(|(family, from, to, ports)| {
            let from = if from.is_empty() { from } else { format!("from{from} ") };
            format!("drop {family}udp {from}to{to}{ports}")
        })
    }

    proptest! {
        #[test]
        fn who_may_not_meet_at_a_glance_does_not(a in rule(), b in rule()) {
            let text = format!("set s = {{ 10.0.0.3 }}\nset p = {{ 80, 443 }}\nrule a {a}\nrule b {b}\n");
            let policy = parse(&text, "test").unwrap();
            let resolved = Resolved::new(&policy);
            let mut boxes = Boxes::new(&resolved);
            let [a, b] = [0, 1].map(|i| &policy.rules[i].when);
            let ((a4, a6), (b4, b6)) = (boxes.of(a), boxes.of(b));
            let budget = &mut Budget(u64::MAX);
            let meet = [a4.is_empty() || b4.is_empty() || !a4.meets(&b4, budget), a6.is_empty() || b6.is_empty() || !a6.meets(&b6, budget)];
            let glance = Glance::of(a).may_meet(&Glance::of(b));
            prop_assert_eq!(glance, Glance::of(b).may_meet(&Glance::of(a)));
            prop_assert!(glance || meet == [true, true], "{}", text);
        }
    }
}
