//! Rules as plain values: random ones, what they match, how they are written.

use firewall_common::abi::table::{Direction, State, Verdict};
use firewall_user::policy::classify::Probe;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses live where tables have seams: both ends of the number line, both sides of a /16.
pub fn v4() -> impl Strategy<Value = IpAddr> {
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

pub fn v6() -> impl Strategy<Value = IpAddr> {
    let part = || prop_oneof![Just(0u128), Just(1), Just(u64::MAX as u128), 0u128..4];
    prop_oneof![
        (part(), part())
            .prop_map(|(hi, lo)| Ipv6Addr::from((hi & u64::MAX as u128) << 64 | lo).into()),
        (0u128..4).prop_map(|n| Ipv6Addr::from(u128::MAX - n).into()),
        (0u128..4).prop_map(|n| Ipv6Addr::from((0x2001_0db8u128 << 96) + n).into()),
    ]
}

pub fn addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4(), v6()]
}

pub fn port() -> impl Strategy<Value = u16> {
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
pub enum Addrs {
    Prefix(IpAddr, u8),
    Range(IpAddr, IpAddr),
}

pub fn bits(addr: IpAddr) -> (bool, u128) {
    match addr {
        IpAddr::V4(a) => (true, u32::from(a).into()),
        IpAddr::V6(a) => (false, a.into()),
    }
}

impl Addrs {
    pub fn any() -> impl Strategy<Value = Self> {
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
    pub fn text(&self) -> String {
        match self {
            Self::Prefix(a, len) => format!("{a}/{len}"),
            Self::Range(a, b) => format!("{a}-{b}"),
        }
    }
    pub fn holds(&self, addr: IpAddr) -> bool {
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
pub struct List<T> {
    pub negated: bool,
    pub items: Vec<T>,
    /// How many of the items stand in a set instead.
    pub named: usize,
}

pub fn list<T: Clone + std::fmt::Debug>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = List<T>> {
    (any::<bool>(), proptest::collection::vec(item, 1..4), 0usize..4)
        .prop_map(|(negated, items, named)| List { negated, named: named.min(items.len()), items })
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub enabled: bool,
    pub action: usize,
    pub direction: Option<Direction>,
    pub on: Option<(bool, Vec<u8>)>,
    pub family: Option<bool>,
    pub proto: ProtoClause,
    pub src: Option<List<Addrs>>,
    pub dst: Option<List<Addrs>>,
    pub sport: Option<List<(u16, u16)>>,
    pub dport: Option<List<(u16, u16)>>,
    pub states: Option<Vec<State>>,
}

/// Protocol, with what only some have.
#[derive(Clone, Debug)]
pub enum ProtoClause {
    Any,
    Some(Vec<u8>),
    Icmp { v6: bool, types: Vec<u8>, codes: Option<Vec<u8>> },
    Tcp { value: u8, mask: u8 },
}

pub const ACTIONS: [(&str, Option<Verdict>); 4] = [
    ("allow", Some(Verdict::Allow)),
    ("drop", Some(Verdict::Drop)),
    ("reject", Some(Verdict::Reject)),
    ("count", None),
];
pub const PROTOS: [u8; 8] = [1, 6, 17, 58, 132, 136, 47, 255];
pub const WITH_PORTS: [u8; 4] = [6, 17, 132, 136];
pub const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

pub fn rule() -> impl Strategy<Value = Rule> {
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
    pub const fn proto_is_any(&self) -> bool {
        matches!(self.proto, ProtoClause::Any)
    }
    pub fn matches(&self, p: &Probe, iface: u8) -> bool {
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
    pub fn write(&self, n: usize, out: &mut String) {
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

pub fn braces(items: impl Iterator<Item = impl ToString>) -> String {
    format!("{{ {} }}", items.map(|i| i.to_string()).collect::<Vec<_>>().join(", "))
}

pub fn list_text<T>(
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

pub fn packet() -> impl Strategy<Value = (Probe, u8)> {
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
