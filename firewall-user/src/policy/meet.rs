//! Which of a rule's conditions a packet meets, and which it misses, worked out of the policy as it was parsed.
//! What the kernel does is another matter: this says why.

use super::ast::{
    AddrItem, AddrRange, Conditions, Family, InSet, Match, Nat, Policy, PortItem, Rule, Translation,
};
use super::classify::end;
use super::resolved::Resolved;
use super::span::Spanned;
use super::words::{ICMP, ICMP_TYPES, ICMPV6, ICMPV6_TYPES, TCP, TCP_FLAGS, WITH_PORTS};
use super::words::{name_of, protocol_name};
use crate::sets::Entry;
use firewall_common::abi::nat::{NatKind, NatRule};
use firewall_common::abi::table::{Direction, State};
use firewall_common::flow::nptv6;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the rules get to see of a packet. Both addresses are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which way.
    pub direction: Direction,
    /// Interface it comes in at or leaves through.
    pub iface: String,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Source port; only of protocols with ports.
    pub sport: u16,
    /// Destination port; only of protocols with ports.
    pub dport: u16,
    /// Type and code; only of ICMP and ICMPv6.
    pub icmp: (u8, u8),
    /// Flags byte; only of TCP.
    pub flags: u8,
    /// What connection tracking says.
    pub state: State,
}

/// A condition that a packet doesn't meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// `direction`, `interface`, `family`, `proto`, `icmp`, `icmp-type`, `icmp-code`, `src`, `dst`, `sport`,
    /// `dport`, `flags`, `state`.
    pub field: &'static str,
    /// What the packet has.
    pub seen: String,
    /// What the rule asks for.
    pub expected: String,
}

/// Whether the live set of a name holds an end of a packet.
pub type Holds<'p> = Box<dyn Fn(&str, Entry) -> bool + Send + Sync + 'p>;

/// The rules of a policy, ready to be asked.
pub struct Meeting<'p> {
    policy: &'p Policy,
    resolved: Resolved,
    holds: Holds<'p>,
}

impl<'p> Meeting<'p> {
    /// Expands the policy's sets and groups. Live sets are taken as they are written.
    pub fn new(policy: &'p Policy) -> Self {
        Self::with_sets(
            policy,
            Box::new(|name, end| {
                let entries = policy.live_set(name).map(|set| set.entries.as_slice());
                entries.unwrap_or_default().iter().any(|(entry, _)| end.within(*entry))
            }),
        )
    }

    /// As [`Self::new`], with live sets as somebody else knows them.
    pub fn with_sets(policy: &'p Policy, holds: Holds<'p>) -> Self {
        Self { policy, resolved: Resolved::new(policy), holds }
    }

    /// The policy.
    pub const fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// What of a rule the packet misses, in the order in which the fields are looked at; empty: it is met.
    pub fn misses(&self, rule: &Rule, seen: &Seen) -> Vec<Miss> {
        let mut found = Vec::new();
        self.look(&rule.when, seen, &mut |miss| found.push(miss()));
        found
    }

    /// Whether a rule is met.
    pub fn meets(&self, when: &Conditions, seen: &Seen) -> bool {
        let mut met = true;
        self.look(when, seen, &mut |_| met = false);
        met
    }

    /// The first rule that decides; `None`: the default does.
    pub fn decides(&self, seen: &Seen) -> Option<&'p Rule> {
        self.policy
            .packet_rules()
            .find(|rule| rule.action.is_terminal() && self.meets(&rule.when, seen))
    }

    /// The interfaces that a name of the policy stands for; itself where it is no group's.
    pub fn interfaces(&self, name: &str) -> Vec<String> {
        self.resolved
            .groups
            .get(name)
            .map_or_else(|| vec![name.to_owned()], |members| members.iter().cloned().collect())
    }

    /// What the rules see once the destination is translated, and by which statement: of a packet that comes
    /// in, and begins something unless it is IPv6. `own` is the first IPv4 address of its interface.
    pub fn inside(&self, seen: &Seen, own: Option<Ipv4Addr>) -> Option<(&'p Nat, Seen)> {
        if seen.direction != Direction::In {
            return None;
        }
        let begins = seen.state == State::New;
        self.policy.nats.iter().filter(|nat| nat.enabled).find_map(|nat| {
            nat.halves().into_iter().find_map(|half| {
                let counts = match half.kind {
                    NatKind::PrefixIn => true,
                    NatKind::Destination | NatKind::Redirect | NatKind::StaticIn => begins,
                    _ => false,
                };
                if !counts || !self.meets(&half.when, seen) {
                    return None;
                }
                Some((nat, translated(nat, seen, own)?))
            })
        })
    }

    fn look(&self, when: &Conditions, seen: &Seen, miss: &mut dyn FnMut(&dyn Fn() -> Miss)) {
        let said = |field, seen: String, expected: String| Miss { field, seen, expected };
        if let Some(direction) = when.direction
            && direction != seen.direction
        {
            miss(&|| {
                said("direction", seen.direction.name().to_owned(), direction.name().to_owned())
            });
        }
        if let Some(on) = &when.on
            && on.items.iter().any(|item| self.is_on(&item.value, &seen.iface)) == on.negated
        {
            miss(&|| said("interface", seen.iface.clone(), self.list(on, |name| name.clone())));
        }
        let family = if seen.src.is_ipv4() { Family::V4 } else { Family::V6 };
        if let Some(asked) = when.family
            && asked != family
        {
            let name = |family| if family == Family::V4 { "ipv4" } else { "ipv6" }.to_owned();
            miss(&|| said("family", name(family), name(asked)));
        }
        if let Some(protos) = &when.protos
            && !protos.contains(&seen.proto)
        {
            let names = || protos.iter().map(|proto| protocol_name(*proto)).collect::<Vec<_>>();
            miss(&|| said("proto", protocol_name(seen.proto), braces(&names())));
        }
        if let Some(icmp) = &when.icmp {
            let proto = if icmp.v6 { ICMPV6 } else { ICMP };
            let table = if icmp.v6 { ICMPV6_TYPES } else { ICMP_TYPES };
            let name =
                |kind: u8| name_of(table, kind).map_or_else(|| kind.to_string(), str::to_owned);
            if seen.proto != proto {
                miss(&|| said("icmp", protocol_name(seen.proto), protocol_name(proto)));
            } else {
                if !icmp.types.contains(&seen.icmp.0) {
                    let names = || icmp.types.iter().map(|kind| name(*kind)).collect::<Vec<_>>();
                    miss(&|| said("icmp-type", name(seen.icmp.0), braces(&names())));
                }
                if let Some(codes) = &icmp.codes
                    && !codes.contains(&seen.icmp.1)
                {
                    let names = || codes.iter().map(u8::to_string).collect::<Vec<_>>();
                    miss(&|| said("icmp-code", seen.icmp.1.to_string(), braces(&names())));
                }
            }
        }
        let ends = [
            ("src", "sport", &when.src, seen.src, seen.sport),
            ("dst", "dport", &when.dst, seen.dst, seen.dport),
        ];
        for (addr_field, port_field, end, addr, port) in ends {
            if let Some(list) = &end.addrs
                && list.items.iter().any(|item| self.holds(&item.value, addr)) == list.negated
            {
                miss(&|| said(addr_field, addr.to_string(), self.list(list, addr_text)));
            }
            if let Some(list) = &end.ports {
                if !WITH_PORTS.contains(&seen.proto) {
                    let none = format!("none ({})", protocol_name(seen.proto));
                    miss(&|| said(port_field, none.clone(), self.list(list, port_text)));
                } else if list.items.iter().any(|item| self.has_port(&item.value, port))
                    == list.negated
                {
                    miss(&|| said(port_field, port.to_string(), self.list(list, port_text)));
                }
            }
        }
        for asked in when.asks_live() {
            let (field, end) = self.end_of(when, asked, seen);
            let held = end.is_some_and(|end| (self.holds)(&asked.name.value, end));
            if held == asked.negated {
                let not = if asked.negated { "not " } else { "" };
                let seen = || match end {
                    Some(Entry::Ports(port, _)) => port.to_string(),
                    Some(end) => end.to_string(),
                    None => format!("none ({})", protocol_name(seen.proto)),
                };
                miss(&|| said(field, seen(), format!("{not}@{}", asked.name.value)));
            }
        }
        // Nothing was sent before, as far as anybody knows here.
        if let Some(limit) = when.limit.filter(|limit| limit.over) {
            miss(&|| said("limit", "within".to_owned(), limit.to_string()));
        }
        if let Some(flags) = when.flags
            && (seen.proto != TCP || seen.flags & flags.mask != flags.value)
        {
            let asked = || {
                if flags.mask == flags.value {
                    flag_names(flags.value)
                } else {
                    format!("{}/{}", flag_names(flags.value), flag_names(flags.mask))
                }
            };
            let has = || match seen.proto {
                TCP => flag_names(seen.flags),
                other => format!("none ({})", protocol_name(other)),
            };
            miss(&|| said("flags", has(), asked()));
        }
        if let Some(states) = &when.states
            && !states.contains(&seen.state)
        {
            let names = || states.iter().map(|state| state.name().to_owned()).collect::<Vec<_>>();
            miss(&|| said("state", seen.state.name().to_owned(), braces(&names())));
        }
    }

    /// What is asked of a live set: which field that is, and what stands there; `None`: the packet has none.
    fn end_of(
        &self,
        when: &Conditions,
        asked: &InSet,
        seen: &Seen,
    ) -> (&'static str, Option<Entry>) {
        let is = |of: &Option<InSet>| of.as_ref().is_some_and(|of| std::ptr::eq(of, asked));
        let has_ports = WITH_PORTS.contains(&seen.proto);
        let end = |address, port: u16| match asked.pair {
            true => has_ports.then(|| end(address, Some(port))),
            false => Some(end(address, None)),
        };
        if is(&when.src.live) {
            ("src", end(seen.src, seen.sport))
        } else if is(&when.dst.live) {
            ("dst", end(seen.dst, seen.dport))
        } else if is(&when.src.live_ports) {
            ("sport", has_ports.then_some(Entry::Ports(seen.sport, seen.sport)))
        } else {
            ("dport", has_ports.then_some(Entry::Ports(seen.dport, seen.dport)))
        }
    }

    fn is_on(&self, name: &str, iface: &str) -> bool {
        self.resolved.groups.get(name).map_or(name == iface, |members| members.contains(iface))
    }

    fn holds(&self, item: &AddrItem, addr: IpAddr) -> bool {
        match (item, addr) {
            (AddrItem::Range(AddrRange::V4(a, b)), IpAddr::V4(addr)) => {
                (*a..=*b).contains(&u32::from(addr))
            }
            (AddrItem::Range(AddrRange::V6(a, b)), IpAddr::V6(addr)) => {
                (*a..=*b).contains(&u128::from(addr))
            }
            (AddrItem::Range(_), _) => false,
            (AddrItem::Set(name), _) => {
                self.resolved.addrs.get(name).is_some_and(|set| match addr {
                    IpAddr::V4(addr) => within(set.v4.as_slice(), u32::from(addr)),
                    IpAddr::V6(addr) => within(set.v6.as_slice(), u128::from(addr)),
                })
            }
        }
    }

    fn has_port(&self, item: &PortItem, port: u16) -> bool {
        match item {
            PortItem::Range(a, b) => (*a..=*b).contains(&port),
            PortItem::Set(name) => {
                self.resolved.ports.get(name).is_some_and(|set| within(set.as_slice(), port))
            }
        }
    }

    /// A list as it was written; long ones cut short.
    fn list<T>(&self, list: &Match<T>, text: impl Fn(&T) -> String) -> String {
        let written = |item: &Spanned<T>| {
            let there = self.policy.source.get(item.span.start..item.span.end);
            there.filter(|text| !text.is_empty()).map_or_else(|| text(&item.value), str::to_owned)
        };
        let items: Vec<String> = list.items.iter().take(SHOWN).map(written).collect();
        let all = braces_of(&items, list.items.len());
        if list.negated { format!("not {all}") } else { all }
    }
}

/// Most items of a list that are shown.
const SHOWN: usize = 8;

fn braces(items: &[String]) -> String {
    braces_of(&items[..items.len().min(SHOWN)], items.len())
}

fn braces_of(items: &[String], total: usize) -> String {
    match (items, total) {
        ([one], 1) => one.clone(),
        (some, total) if some.len() < total => {
            format!("{{{}, ... {} more}}", some.join(", "), total - some.len())
        }
        (all, _) => format!("{{{}}}", all.join(", ")),
    }
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= value);
    behind > 0 && value <= ranges[behind - 1].1
}

/// Flags as the language writes them.
pub fn flag_names(flags: u8) -> String {
    let set: Vec<&str> =
        TCP_FLAGS.iter().filter(|(_, bit)| flags & bit != 0).map(|(name, _)| *name).collect();
    match set.len() {
        0 => "none".to_owned(),
        8 => "all".to_owned(),
        _ => set.join(","),
    }
}

fn addr_text(item: &AddrItem) -> String {
    match item {
        AddrItem::Range(range) => {
            let (first, last) = range.ends();
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        }
        AddrItem::Set(name) => format!("@{name}"),
    }
}

fn port_text(item: &PortItem) -> String {
    match item {
        PortItem::Range(a, b) if a == b => a.to_string(),
        PortItem::Range(a, b) => format!("{a}-{b}"),
        PortItem::Set(name) => format!("@{name}"),
    }
}

/// The packet as a statement that translates destinations leaves it.
fn translated(nat: &Nat, seen: &Seen, own: Option<Ipv4Addr>) -> Option<Seen> {
    let mut out = seen.clone();
    match &nat.translation {
        Translation::Destination { to, ports, .. } => {
            out.dst = (*to).into();
            ports.iter().for_each(|ports| out.dport = ports.of(seen.dport));
        }
        Translation::Redirect { ports } => {
            out.dst = own?.into();
            ports.iter().for_each(|ports| out.dport = ports.of(seen.dport));
        }
        Translation::Static { inside, outside } => {
            let IpAddr::V4(dst) = seen.dst else { return None };
            let host = u32::from(dst).wrapping_sub(outside.first.into());
            out.dst = Ipv4Addr::from(u32::from(inside.first).wrapping_add(host)).into();
        }
        Translation::Prefix { inside, outside } => {
            let IpAddr::V6(dst) = seen.dst else { return None };
            let (from, to) = (outside.first.octets(), inside.first.octets());
            let rule = NatRule {
                prefix_len: inside.len,
                prefix: to,
                adjust: nptv6::adjustment(&from, &to),
                ..NatRule::default()
            };
            let mut address = dst.octets();
            if !nptv6::translate(&mut address, &rule) {
                return None;
            }
            out.dst = Ipv6Addr::from(address).into();
        }
        Translation::Masquerade(_) | Translation::Source { .. } => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    const POLICY: &str = "
interface wan = { eth0, ppp0 }
set admins = { 10.0.0.0/24, 2001:db8::/64 }
set ports = { 80, 443 }
nat dnat destination on wan tcp to 203.0.113.5 port 8000-8010 => 10.0.0.7 port 9000-9010
nat npt prefix on wan fd00:1::/48 <=> 2001:db8:1::/48
rule lan    allow in on not wan
rule ssh    allow in on wan tcp from @admins to port 22
rule web    allow in on wan tcp to port @ports flags syn/syn,ack
rule pings  allow in icmp type { echo-request, 13 } code 0
rule many   allow in udp to port { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }
rule old    allow out ipv6 state established,related
";

    fn seen() -> Seen {
        Seen {
            direction: Direction::In,
            iface: "eth0".into(),
            src: "192.0.2.1".parse().unwrap(),
            dst: "10.0.0.7".parse().unwrap(),
            proto: TCP,
            sport: 4242,
            dport: 22,
            icmp: (0, 0),
            flags: 0x10,
            state: State::New,
        }
    }

    fn told(name: &str, seen: &Seen) -> String {
        let policy = parse(POLICY, "test").unwrap();
        let meeting = Meeting::new(&policy);
        let misses = meeting.misses(policy.rule(name).unwrap().1, seen);
        let line = |miss: &Miss| format!("{}: {} for {}", miss.field, miss.seen, miss.expected);
        misses.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_condition_that_is_missed_is_named_as_written() {
        assert_eq!(told("lan", &seen()), "interface: eth0 for not wan");
        assert_eq!(told("ssh", &seen()), "src: 192.0.2.1 for @admins");
        assert_eq!(told("web", &seen()), "dport: 22 for @ports; flags: ack for syn/syn,ack");
        assert_eq!(told("pings", &seen()), "proto: tcp for icmp; icmp: tcp for icmp");
        assert_eq!(
            told("many", &seen()),
            "proto: tcp for udp; dport: 22 for {1, 2, 3, 4, 5, 6, 7, 8, ... 2 more}"
        );
        assert_eq!(
            told("old", &seen()),
            "direction: in for out; family: ipv4 for ipv6; state: new for {established, related}"
        );
        let ping = Seen { proto: ICMP, icmp: (8, 1), ..seen() };
        assert_eq!(told("pings", &ping), "icmp-code: 1 for 0");
        assert_eq!(
            told("ssh", &ping),
            "proto: icmp for tcp; src: 192.0.2.1 for @admins; dport: none (icmp) for 22"
        );
    }

    #[test]
    fn what_is_met_has_no_misses() {
        let admin = Seen { src: "10.0.0.200".parse().unwrap(), ..seen() };
        assert_eq!(told("ssh", &admin), "");
        let policy = parse(POLICY, "test").unwrap();
        let meeting = Meeting::new(&policy);
        assert_eq!(meeting.decides(&admin).unwrap().name.value, "ssh");
        assert!(meeting.decides(&seen()).is_none());
        assert_eq!(meeting.interfaces("wan"), ["eth0", "ppp0"]);
    }

    #[test]
    fn destinations_are_translated_before_the_rules_are_asked() {
        let policy = parse(POLICY, "test").unwrap();
        let meeting = Meeting::new(&policy);
        let web = Seen { dst: "203.0.113.5".parse().unwrap(), dport: 8003, ..seen() };
        let (nat, inside) = meeting.inside(&web, None).unwrap();
        assert_eq!(nat.name.value, "dnat");
        assert_eq!((inside.dst.to_string().as_str(), inside.dport), ("10.0.0.7", 9003));
        assert!(meeting.inside(&Seen { state: State::Invalid, ..web.clone() }, None).is_none());
        assert!(meeting.inside(&Seen { direction: Direction::Out, ..web }, None).is_none());
        let six = Seen {
            src: "2001:db8:9::1".parse().unwrap(),
            dst: "2001:db8:1:d550::1".parse().unwrap(),
            state: State::Invalid,
            ..seen()
        };
        let (nat, inside) = meeting.inside(&six, None).unwrap();
        assert_eq!(nat.name.value, "npt");
        assert!(inside.dst.to_string().starts_with("fd00:1:"), "{}", inside.dst);
    }
}
