//! The compiled tables against a model that knows nothing of rows, ranges or parsers: random rules
//! are kept as plain values, written out as policy text, and judged one after the other by asking
//! each condition. What the tables say of random packets must be the same.

use firewall_common::abi::table::{Direction, State, Verdict};
use firewall_user::policy::classify::{Probe, classify, translation};
use firewall_user::policy::{Slots, compile, parse};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses live where tables have seams: both ends of the number line, both sides of a /16.
fn v4() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..2, 0u8..=255).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b).into()),
        (0u8..3, prop_oneof![Just(0u8), Just(255), Just(128)])
            .prop_map(|(a, b)| Ipv4Addr::new(10, a, b, b).into()),
        prop_oneof![
            Just(Ipv4Addr::UNSPECIFIED),
            Just(Ipv4Addr::BROADCAST),
            Just(Ipv4Addr::new(128, 0, 0, 0))
        ]
        .prop_map(IpAddr::from),
    ]
}

fn v6() -> impl Strategy<Value = IpAddr> {
    let part = || prop_oneof![Just(0u128), Just(1), Just(u64::MAX as u128), 0u128..4];
    prop_oneof![
        (part(), part())
            .prop_map(|(hi, lo)| Ipv6Addr::from((hi & u64::MAX as u128) << 64 | lo).into()),
        (0u128..4).prop_map(|n| Ipv6Addr::from(u128::MAX - n).into()),
        (0u128..4).prop_map(|n| Ipv6Addr::from((0x2001_0db8u128 << 96) + n).into()),
    ]
}

fn addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4(), v6()]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(22),
        Just(80),
        Just(443),
        Just(2048),
        Just(2303),
        Just(2304),
        Just(65535),
        any::<u16>()
    ]
}

/// Addresses as somebody writes them, and as somebody checks them.
#[derive(Clone, Debug)]
enum Addrs {
    Prefix(IpAddr, u8),
    Range(IpAddr, IpAddr),
}

fn bits(addr: IpAddr) -> (bool, u128) {
    match addr {
        IpAddr::V4(a) => (true, u32::from(a).into()),
        IpAddr::V6(a) => (false, a.into()),
    }
}

impl Addrs {
    fn any() -> impl Strategy<Value = Self> {
        let prefix = (addr(), 0u8..=128).prop_map(|(addr, len)| {
            // Cut off what lies behind the prefix, bit by bit: the language refuses it.
            match addr {
                IpAddr::V4(a) => {
                    let len = len % 33;
                    let mut n = u32::from(a);
                    (0..32 - len).for_each(|i| n &= !(1 << i));
                    Self::Prefix(Ipv4Addr::from(n).into(), len)
                }
                IpAddr::V6(a) => {
                    let mut n = u128::from(a);
                    (0..128 - len).for_each(|i| n &= !(1 << i));
                    Self::Prefix(Ipv6Addr::from(n).into(), len)
                }
            }
        });
        let range = prop_oneof![(v4(), v4()), (v6(), v6())].prop_map(|(a, b)| {
            if bits(a) <= bits(b) { Self::Range(a, b) } else { Self::Range(b, a) }
        });
        prop_oneof![prefix, range]
    }
    fn text(&self) -> String {
        match self {
            Self::Prefix(a, len) => format!("{a}/{len}"),
            Self::Range(a, b) => format!("{a}-{b}"),
        }
    }
    fn holds(&self, addr: IpAddr) -> bool {
        match self {
            Self::Prefix(net, len) => {
                let ((four, net), (other, addr)) = (bits(*net), bits(addr));
                let width = if four { 32 } else { 128 };
                four == other
                    && (0..u32::from(*len)).all(|i| {
                        let bit = 1u128 << (width - 1 - i);
                        net & bit == addr & bit
                    })
            }
            Self::Range(a, b) => {
                a.is_ipv4() == addr.is_ipv4()
                    && bits(*a).1 <= bits(addr).1
                    && bits(addr).1 <= bits(*b).1
            }
        }
    }
}

/// `[not] { ... }`; some of it may have gone into a named set.
#[derive(Clone, Debug)]
struct List<T> {
    negated: bool,
    items: Vec<T>,
    /// How many of the items stand in a set instead.
    named: usize,
}

fn list<T: Clone + std::fmt::Debug>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = List<T>> {
    (any::<bool>(), proptest::collection::vec(item, 1..4), 0usize..4)
        .prop_map(|(negated, items, named)| List { negated, named: named.min(items.len()), items })
}

#[derive(Clone, Debug)]
struct Rule {
    enabled: bool,
    action: usize,
    direction: Option<Direction>,
    on: Option<(bool, Vec<u8>)>,
    family: Option<bool>,
    proto: ProtoClause,
    src: Option<List<Addrs>>,
    dst: Option<List<Addrs>>,
    sport: Option<List<(u16, u16)>>,
    dport: Option<List<(u16, u16)>>,
    states: Option<Vec<State>>,
}

/// Protocol, with what only some have.
#[derive(Clone, Debug)]
enum ProtoClause {
    Any,
    Some(Vec<u8>),
    Icmp { v6: bool, types: Vec<u8>, codes: Option<Vec<u8>> },
    Tcp { value: u8, mask: u8 },
}

const ACTIONS: [(&str, Option<Verdict>); 4] = [
    ("allow", Some(Verdict::Allow)),
    ("drop", Some(Verdict::Drop)),
    ("reject", Some(Verdict::Reject)),
    ("count", None),
];
const PROTOS: [u8; 8] = [1, 6, 17, 58, 132, 136, 47, 255];
const WITH_PORTS: [u8; 4] = [6, 17, 132, 136];
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

fn rule() -> impl Strategy<Value = Rule> {
    let proto = prop_oneof![
        3 => Just(ProtoClause::Any),
        3 => proptest::collection::vec(proptest::sample::select(&PROTOS[..]), 1..3).prop_map(ProtoClause::Some),
        1 => (any::<bool>(), proptest::collection::vec(prop_oneof![Just(8u8), Just(0), Just(128)], 1..3),
              proptest::option::of(proptest::collection::vec(0u8..3, 1..3)))
            .prop_map(|(v6, types, codes)| ProtoClause::Icmp { v6, types, codes }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(value, mask)| ProtoClause::Tcp { value: value & mask, mask }),
    ];
    let ports = || {
        let range = (port(), port()).prop_map(|(a, b)| (a.min(b), a.max(b)));
        proptest::option::weighted(0.3, list(range))
    };
    let addrs = || proptest::option::weighted(0.4, list(Addrs::any()));
    let direction = proptest::option::of(proptest::sample::select(Direction::ALL));
    let on =
        proptest::option::weighted(0.3, (any::<bool>(), proptest::collection::vec(0u8..4, 1..3)));
    let states = proptest::option::weighted(
        0.3,
        proptest::collection::vec(proptest::sample::select(State::ALL), 1..3),
    );
    (
        (
            proptest::bool::weighted(0.9),
            0usize..4,
            direction,
            on,
            proptest::option::weighted(0.2, any::<bool>()),
            proto,
        ),
        (addrs(), addrs(), ports(), ports(), states),
    )
        .prop_map(
            |(
                (enabled, action, direction, on, family, proto),
                (src, dst, sport, dport, states),
            )| {
                // Ports can be asked of protocols that have them only.
                let has = match &proto {
                    ProtoClause::Any | ProtoClause::Tcp { .. } => true,
                    ProtoClause::Some(protos) => protos.iter().all(|p| WITH_PORTS.contains(p)),
                    ProtoClause::Icmp { .. } => false,
                };
                let (sport, dport) = if has { (sport, dport) } else { (None, None) };
                Rule {
                    enabled,
                    action,
                    direction,
                    on,
                    family,
                    proto,
                    src,
                    dst,
                    sport,
                    dport,
                    states,
                }
            },
        )
}

impl Rule {
    const fn proto_is_any(&self) -> bool {
        matches!(self.proto, ProtoClause::Any)
    }
    fn matches(&self, p: &Probe, iface: u8) -> bool {
        let asks_ports = self.sport.is_some() || self.dport.is_some();
        let addr_ok = |list: &Option<List<Addrs>>, addr| {
            list.as_ref().is_none_or(|l| l.items.iter().any(|a| a.holds(addr)) != l.negated)
        };
        let port_ok = |list: &Option<List<(u16, u16)>>, port| {
            list.as_ref()
                .is_none_or(|l| l.items.iter().any(|(a, b)| *a <= port && port <= *b) != l.negated)
        };
        self.enabled
            && self.direction.is_none_or(|d| d == p.direction)
            && self.on.as_ref().is_none_or(|(negated, names)| names.contains(&iface) != *negated)
            && self.family.is_none_or(|v4| v4 == p.src.is_ipv4())
            && match &self.proto {
                ProtoClause::Any => true,
                ProtoClause::Some(protos) => protos.contains(&p.proto),
                ProtoClause::Icmp { v6, types, codes } => {
                    p.proto == if *v6 { 58 } else { 1 }
                        && types.contains(&p.icmp.0)
                        && codes.as_ref().is_none_or(|c| c.contains(&p.icmp.1))
                }
                ProtoClause::Tcp { value, mask } => {
                    p.proto == 6
                        && (0..8)
                            .all(|i| mask >> i & 1 == 0 || value >> i & 1 == p.tcp_flags >> i & 1)
                }
            }
            && (!asks_ports || WITH_PORTS.contains(&p.proto))
            && addr_ok(&self.src, p.src)
            && addr_ok(&self.dst, p.dst)
            && port_ok(&self.sport, p.sport)
            && port_ok(&self.dport, p.dport)
            && self.states.as_ref().is_none_or(|s| s.contains(&p.state))
    }

    /// Writes the rule, and the sets it needs in front of it.
    fn write(&self, n: usize, out: &mut String) {
        let mut line = String::new();
        if !self.enabled {
            line.push_str("disabled ");
        }
        write!(line, "rule r{n} {}", ACTIONS[self.action].0).unwrap();
        // Clauses may stand in any order: here it turns with the rule's number.
        let mut clauses: Vec<String> = Vec::new();
        if let Some((negated, names)) = &self.on {
            let names: Vec<String> = names.iter().map(|i| format!("if{i}")).collect();
            clauses.push(format!(
                "on {}{{ {} }}",
                if *negated { "not " } else { "" },
                names.join(", ")
            ));
        }
        clauses.extend(self.direction.map(|d| d.name().to_owned()));
        clauses.extend(self.family.map(|v4| if v4 { "ipv4" } else { "ipv6" }.to_owned()));
        match &self.proto {
            ProtoClause::Any => {}
            ProtoClause::Some(protos) => clauses.push(format!("proto {}", braces(protos.iter()))),
            ProtoClause::Icmp { v6, types, codes } => {
                let codes = codes
                    .as_ref()
                    .map(|c| format!(" code {}", braces(c.iter())))
                    .unwrap_or_default();
                clauses.push(format!(
                    "{} type {}{codes}",
                    if *v6 { "icmpv6" } else { "icmp" },
                    braces(types.iter())
                ));
            }
            ProtoClause::Tcp { value, mask } => {
                let names = |byte: u8| {
                    let set: Vec<&str> =
                        (0..8).filter(|i| byte >> i & 1 == 1).map(|i| FLAGS[i]).collect();
                    if set.is_empty() { "none".to_owned() } else { set.join(",") }
                };
                // A mask of nothing can't be written, and asks for nothing.
                clauses.push(if *mask == 0 {
                    "tcp".into()
                } else {
                    format!("tcp flags {}/{}", names(*value), names(*mask))
                });
            }
        }
        for (end, addrs, ports) in
            [("from", &self.src, &self.sport), ("to", &self.dst, &self.dport)]
        {
            let mut clause = String::new();
            if let Some(list) = addrs {
                clause.push_str(&list_text(list, &format!("a{n}{end}"), out, Addrs::text));
            }
            if let Some(list) = ports {
                let text = list_text(list, &format!("p{n}{end}"), out, |(a, b)| {
                    if a == b { a.to_string() } else { format!("{a}-{b}") }
                });
                write!(clause, " port {text}").unwrap();
            }
            if !clause.is_empty() {
                clauses.push(format!("{end} {clause}"));
            }
        }
        if let Some(states) = &self.states {
            clauses.push(format!(
                "state {}",
                states.iter().map(|s| s.name()).collect::<Vec<_>>().join(",")
            ));
        }
        let turn = n % clauses.len().max(1);
        clauses.rotate_left(turn);
        writeln!(out, "{line} {}", clauses.join(" ")).unwrap();
    }
}

fn braces(items: impl Iterator<Item = impl ToString>) -> String {
    format!("{{ {} }}", items.map(|i| i.to_string()).collect::<Vec<_>>().join(", "))
}

fn list_text<T>(
    list: &List<T>,
    set: &str,
    out: &mut String,
    text: impl Fn(&T) -> String,
) -> String {
    let (named, plain) = list.items.split_at(list.named);
    let mut items: Vec<String> = plain.iter().map(&text).collect();
    if !named.is_empty() {
        // Half of the sets hold another one that holds the elements.
        if named.len() > 1 {
            writeln!(
                out,
                "set {set} = {{ @{set}.inner }}\nset {set}.inner = {}",
                braces(named.iter().map(&text))
            )
            .unwrap();
        } else {
            writeln!(out, "set {set} = {}", braces(named.iter().map(&text))).unwrap();
        }
        items.push(format!("@{set}"));
    }
    let items = if items.len() == 1 { items.remove(0) } else { braces(items.iter()) };
    format!("{}{items}", if list.negated { "not " } else { "" })
}

fn packet() -> impl Strategy<Value = (Probe, u8)> {
    let ends = prop_oneof![(v4(), v4()), (v6(), v6())];
    (
        (
            proptest::sample::select(Direction::ALL),
            0u8..6,
            ends,
            proptest::sample::select(&PROTOS[..]),
        ),
        (
            port(),
            port(),
            prop_oneof![Just(8u8), Just(0), Just(128), any::<u8>()],
            0u8..4,
            any::<u8>(),
        ),
        proptest::sample::select(State::ALL),
    )
        .prop_map(
            |(
                (direction, iface, (src, dst), proto),
                (sport, dport, kind, code, tcp_flags),
                state,
            )| {
                let probe = Probe {
                    direction,
                    iface: 0,
                    src,
                    dst,
                    proto,
                    sport,
                    dport,
                    icmp: (kind, code),
                    tcp_flags,
                    state,
                };
                (probe, iface)
            },
        )
}

/// First match, asked rule by rule: verdict, deciding rule, rules that counted.
fn judge(
    rules: &[Rule],
    probe: &Probe,
    iface: u8,
    default: Verdict,
) -> (Verdict, Option<usize>, Vec<usize>) {
    let mut counted = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        if rule.matches(probe, iface) {
            match ACTIONS[rule.action].1 {
                Some(verdict) => return (verdict, Some(i), counted),
                None => counted.push(i),
            }
        }
    }
    (default, None, counted)
}

fn write_policy(rules: &[Rule]) -> String {
    let mut text = String::from("default in drop\ndefault out reject\n");
    for (i, rule) in rules.iter().enumerate() {
        rule.write(i, &mut text);
    }
    text
}

fn compare(rules: &[Rule], packets: &[(Probe, u8)]) -> Result<(), TestCaseError> {
    let text = write_policy(rules);
    let policy = parse(&text, "random").map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
    let mut slots = Slots::new();
    let compiled =
        compile(&policy, &mut slots, 1).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for (probe, iface) in packets {
        let default =
            if probe.direction == Direction::In { Verdict::Drop } else { Verdict::Reject };
        let (verdict, rule, counted) = judge(rules, probe, *iface, default);
        let probe =
            Probe { iface: slots.iface(&format!("if{iface}")).unwrap_or(0), ..probe.clone() };
        let got = classify(&compiled.table, &probe);
        let name = |slot: u16| slots.rule_name(slot).map(str::to_owned);
        prop_assert_eq!(got.verdict, verdict, "{}\n{:?}", text, probe);
        prop_assert_eq!(
            got.rule.and_then(|_| name(got.slot)),
            rule.map(|i| format!("r{i}")),
            "{}\n{:?}",
            text,
            probe
        );
        let got: Vec<_> = got.counted.iter().filter_map(|s| name(*s)).collect();
        prop_assert_eq!(
            got,
            counted.iter().map(|i| format!("r{i}")).collect::<Vec<_>>(),
            "{}\n{:?}",
            text,
            probe
        );
    }
    Ok(())
}

/// A translation: its kind, and what it asks for, as a rule would.
fn nat() -> impl Strategy<Value = (usize, Rule)> {
    (0usize..4, rule()).prop_map(|(kind, mut rule)| {
        // What the language doesn't let a translation ask for.
        (rule.states, rule.action, rule.family) = (None, 0, Some(true));
        rule.direction = Some(if kind < 2 { Direction::Out } else { Direction::In });
        rule.on.get_or_insert((false, vec![1]));
        let v4 = |list: List<Addrs>| {
            let ours = |a: &Addrs| match a {
                Addrs::Prefix(a, _) | Addrs::Range(a, _) => a.is_ipv4(),
            };
            let items: Vec<Addrs> = list.items.into_iter().filter(ours).collect();
            (!items.is_empty()).then_some(List { named: 0, items, ..list })
        };
        rule.src = rule.src.and_then(v4);
        rule.dst = rule.dst.and_then(v4);
        rule.proto = match rule.proto {
            ProtoClause::Some(protos) if kind != 3 => ProtoClause::Some(protos),
            ProtoClause::Some(_) => ProtoClause::Some(vec![17]),
            _ => ProtoClause::Any,
        };
        if rule.proto_is_any() && (rule.sport.is_some() || rule.dport.is_some()) {
            // Without a protocol, ports are those of TCP and UDP.
            rule.proto = ProtoClause::Some(vec![6, 17]);
        }
        (kind, rule)
    })
}

const NATS: [(&str, &str); 4] = [
    ("masquerade", ""),
    ("source", " => 203.0.113.1-203.0.113.2"),
    ("destination", " => 10.9.9.9"),
    ("redirect", " => port 5353"),
];

/// The translation that is met first, asked one by one.
fn translated(nats: &[(usize, Rule)], probe: &Probe, iface: u8) -> Option<usize> {
    nats.iter().position(|(kind, rule)| {
        // A port can be given to TCP and UDP only.
        let ports = *kind != 3 || [6, 17].contains(&probe.proto);
        rule.enabled && ports && rule.matches(probe, iface)
    })
}

fn compare_nats(
    rules: &[Rule],
    nats: &[(usize, Rule)],
    packets: &[(Probe, u8)],
) -> Result<(), TestCaseError> {
    let mut text = write_policy(rules);
    for (i, (kind, nat)) in nats.iter().enumerate() {
        let mut line = String::new();
        nat.write(1000 + i, &mut line);
        // Sets stand in front of the rule, which is the last line. The kind says direction and family.
        let (sets, line) = line.trim_end().rsplit_once('\n').unwrap_or(("", line.trim_end()));
        let (name, target) = NATS[*kind];
        let line = line
            .replace(&format!("rule r{} allow", 1000 + i), &format!("nat n{i} {name}"))
            .replace(" ipv4", "")
            .replace(" out", "")
            .replace(" in", "");
        writeln!(text, "{sets}\n{line}{target}").unwrap();
    }
    let policy = parse(&text, "random").map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
    let mut slots = Slots::new();
    let compiled =
        compile(&policy, &mut slots, 1).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for (probe, iface) in packets {
        let expected = translated(nats, probe, *iface).map(|i| format!("n{i}"));
        let judged = judge(rules, probe, *iface, Verdict::Drop).1;
        let probe =
            Probe { iface: slots.iface(&format!("if{iface}")).unwrap_or(0), ..probe.clone() };
        let found = translation(&compiled.table, &probe).map(|i| compiled.table.nat[i].slot);
        let found = found.and_then(|slot| slots.rule_name(slot)).map(str::to_owned);
        prop_assert_eq!(found, expected, "{}\n{:?}", text, probe);
        // Translations beside them change nothing about the rules.
        let rule = classify(&compiled.table, &probe).rule;
        prop_assert_eq!(rule.is_some(), judged.is_some(), "{}\n{:?}", text, probe);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn translations_are_met_as_they_are_written(
        rules in proptest::collection::vec(rule(), 0..4),
        nats in proptest::collection::vec(nat(), 1..8),
        packets in proptest::collection::vec(packet(), 64),
    ) {
        compare_nats(&rules, &nats, &packets)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_say_what_the_rules_say(
        rules in proptest::collection::vec(rule(), 0..12),
        packets in proptest::collection::vec(packet(), 64),
    ) {
        compare(&rules, &packets)?;
    }

    /// Whatever is in the file: a policy or errors with places in it, never a panic.
    #[test]
    fn any_words_are_read(words in proptest::collection::vec(proptest::sample::select(&[
        "rule", "set", "default", "option", "interface", "disabled", "nat", "masquerade", "source", "destination", "static", "prefix",
        "redirect", "=>", "<=>", "hairpin", "blocks", "ports", "endpoint-independent", "bypass", "xsk", "no-track", "syn-cookies",
        "fd00:1::/48", "10.0.0.0/29", "203.0.113.8/29", "a", "b", "@a", "=", "{", "}", ",", "\n", "\n", "allow",
        "drop", "in", "out", "on", "tcp", "icmp", "type", "code", "from", "to", "port", "not", "flags", "syn/ack", "state",
        "new", "log", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "::1", "22", "80-90", "timeout", "udp-new", "30s", "é", "!", "#x",
        "\\", "\"", "\t", "\u{0}",
    ][..]), 0..60)) {
        let text = words.join(" ");
        match parse(&text, "words") {
            Ok(policy) => { let _ = compile(&policy, &mut Slots::new(), 1); }
            Err(errors) => {
                prop_assert!(!errors.items.is_empty());
                for error in &errors.items {
                    let line = text.split('\n').nth(error.line as usize - 1);
                    prop_assert!(line.is_some_and(|l| error.column as usize <= l.chars().count() + 1), "{error:?}");
                }
                let _ = errors.render(true);
            }
        }
    }
}

proptest! {
    // Each case takes a hundred times longer in a build without optimisation.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules that cross the border of a 64-bit word, and then some.
    #[test]
    fn many_rules_too(
        rules in proptest::collection::vec(rule(), 60..140),
        packets in proptest::collection::vec(packet(), 32),
    ) {
        compare(&rules, &packets)?;
    }
}

/// A policy that is as large as this issue asks for: 1000 rules, 10,000 prefixes in ten sets.
fn large() -> String {
    let mut text = String::new();
    for set in 0..10u32 {
        write!(text, "set s{set} = {{").unwrap();
        for i in 0..1000u32 {
            // Spread over 4096 /16s, /20 to /24 long.
            let n = (set * 1000 + i).wrapping_mul(2_654_435_761) >> 8;
            let len = 20 + n % 5;
            let addr =
                Ipv4Addr::from((0x2000_0000 + (n << 8 & 0x0fff_ff00)) & (u32::MAX << (32 - len)));
            write!(text, "{addr}/{len}, ").unwrap();
        }
        text.push_str("}\n");
    }
    for i in 0..1000 {
        writeln!(
            text,
            "rule r{i} drop in tcp from @s{} to 10.0.{}.0/24 port {}",
            i % 10,
            i % 250,
            1 + i % 7
        )
        .unwrap();
    }
    text
}

#[test]
fn a_thousand_rules_over_ten_thousand_prefixes_compile_in_time() {
    let text = large();
    let start = std::time::Instant::now();
    let policy = parse(&text, "large").unwrap_or_else(|e| panic!("{e}"));
    let parsed = start.elapsed();
    let compiled = compile(&policy, &mut Slots::new(), 1).unwrap_or_else(|e| panic!("{e}"));
    let total = start.elapsed();
    println!("parsed in {parsed:?}, compiled by {total:?}: {:?}", compiled.usage);
    let warnings = firewall_user::policy::check(&policy, &Default::default());
    println!("checked by {:?}, {} warnings", start.elapsed(), warnings.len());
    // Unoptimised builds and shared machines take their time; the bound is for what people run.
    let bound = if cfg!(debug_assertions) { 5000 } else { 300 };
    assert!(total.as_millis() < bound, "{total:?}");
}
