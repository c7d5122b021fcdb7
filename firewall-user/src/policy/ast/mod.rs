//! A policy as the parser leaves it: every name checked, nothing compiled.

mod limit;
mod live;
mod nat;
mod options;
mod owner;

pub use limit::{Limit, LimitUnit};
pub use live::{Adds, InSet, LiveSet};
pub use nat::{Blocks, Half, Mapping, Nat, PortTarget, Prefix, Translation};
pub use options::{FlowFull, HalfOpenFull, Options, SynCookies, TcpWindow};
pub use owner::OwnerMatch;

use super::span::{Span, Spanned};
use firewall_common::abi::table::{Direction, State, Verdict};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A whole policy file. Names in it are resolved: each `@set` exists, holds the right kind, and no
/// set holds itself.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file as it was named to the parser.
    pub file: String,
    /// The text it was parsed from; all spans point into it.
    pub source: String,
    /// `interface` statements, in order.
    pub groups: Vec<Group>,
    /// `set` statements, in order, but for those of live sets.
    pub sets: Vec<Set>,
    /// `set NAME live` statements, in order.
    pub live: Vec<LiveSet>,
    /// Verdict where no rule matches, by [`Direction`].
    pub defaults: [Verdict; 2],
    /// `option` statements, or what they default to.
    pub options: Options,
    /// Rules, in order, disabled ones too.
    pub rules: Vec<Rule>,
    /// `nat` statements, in order, disabled ones too.
    pub nats: Vec<Nat>,
}

impl Policy {
    /// Enabled rules that packets are judged by.
    pub fn packet_rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled && !rule.when.owner.is_asked())
    }
    /// Enabled rules that processes' calls are judged by.
    pub fn owner_rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled && rule.when.owner.is_asked())
    }
    /// The rule of this name and its place, from 0.
    pub fn rule(&self, name: &str) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, r)| r.name.value == name)
    }
    /// The translation of this name and its place, from 0.
    pub fn nat(&self, name: &str) -> Option<(usize, &Nat)> {
        self.nats.iter().enumerate().find(|(_, n)| n.name.value == name)
    }
    /// The set of this name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|s| s.name.value == name)
    }
    /// The live set of this name.
    pub fn live_set(&self, name: &str) -> Option<&LiveSet> {
        self.live.iter().find(|s| s.name.value == name)
    }
    /// The interface group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.name.value == name)
    }
}

/// `interface NAME = ...`: a name for one or several interfaces.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Spanned<String>,
    /// Interfaces, or other groups.
    pub members: Vec<Spanned<String>>,
}

/// `set NAME = { ... }`.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name, without `@`.
    pub name: Spanned<String>,
    /// What it holds; `None` where it and all it includes are empty.
    pub kind: Option<SetKind>,
    /// What it was written with.
    pub elements: Vec<Spanned<Element>>,
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// IPv4 and IPv6 addresses.
    Addresses,
    /// Port numbers.
    Ports,
}

impl SetKind {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Ports => "ports",
        }
    }
}

/// One element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// An address, prefix, or range.
    Addr(AddrRange),
    /// A port or range of ports, both ends included.
    Ports(u16, u16),
    /// `@NAME`.
    Set(String),
}

/// Addresses from the first to the second, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddrRange {
    /// IPv4, as host-endian numbers.
    V4(u32, u32),
    /// IPv6, as host-endian numbers.
    V6(u128, u128),
}

impl AddrRange {
    /// The prefix `addr/len`; bits of `addr` below it are ignored. `len` past the family's width
    /// means the address alone.
    pub fn prefix(addr: IpAddr, len: u8) -> Self {
        match addr {
            IpAddr::V4(a) => {
                let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                let first = u32::from(a) & !host;
                Self::V4(first, first | host)
            }
            IpAddr::V6(a) => {
                let host = u128::MAX.checked_shr(len.into()).unwrap_or(0);
                let first = u128::from(a) & !host;
                Self::V6(first, first | host)
            }
        }
    }
    /// First and last address.
    pub fn ends(self) -> (IpAddr, IpAddr) {
        match self {
            Self::V4(a, b) => (Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into()),
            Self::V6(a, b) => (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into()),
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let pass, and enter the flow.
    Allow,
    /// Let vanish.
    Drop,
    /// Refuse with an answer.
    Reject,
    /// Count (and log, if the rule says so) and ask the next rule.
    Count,
    /// Let pass, enter the flow, and hand its packets to the AF_XDP socket of the queue they came in at.
    Bypass,
}

impl Action {
    /// As the kernel knows it.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Allow | Self::Bypass => Verdict::Allow,
            Self::Drop => Verdict::Drop,
            Self::Reject => Verdict::Reject,
            Self::Count => Verdict::Continue,
        }
    }
    /// `allow`, `drop`, `reject`, `count`, `bypass`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            _ => self.verdict().name(),
        }
    }
    /// Whether a packet that meets it goes no further.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Count)
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name: owner of its counters.
    pub name: Spanned<String>,
    /// False where the statement begins with `disabled`.
    pub enabled: bool,
    /// What it does.
    pub action: Action,
    /// Whether it tells of each match.
    pub log: bool,
    /// Whether what it lets by enters no flow.
    pub no_track: bool,
    /// Whether the SYNs it lets by are answered with a cookie.
    pub syn_cookies: bool,
    /// What it enters into live sets: the source, the destination, or both.
    pub adds: Vec<Adds>,
    /// Which packets it is about.
    pub when: Conditions,
    /// From the first to the last word of the statement.
    pub span: Span,
    /// The statement on one line, comments stripped.
    pub text: String,
}

/// What a packet has to meet, all of it. What isn't asked for matches anything.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Which way; `None` is both.
    pub direction: Option<Direction>,
    /// `on`: interfaces and groups.
    pub on: Option<Match<String>>,
    /// `ipv4`, `ipv6`.
    pub family: Option<Family>,
    /// Protocol numbers. A statement that asks for ports or flags without naming a protocol has those
    /// protocols here that can have them.
    pub protos: Option<Vec<u8>>,
    /// `icmp type`, `icmpv6 type`.
    pub icmp: Option<IcmpMatch>,
    /// `from`.
    pub src: Endpoint,
    /// `to`.
    pub dst: Endpoint,
    /// `flags`.
    pub flags: Option<FlagsMatch>,
    /// `state`.
    pub states: Option<Vec<State>>,
    /// `process`, `exe`, `user`, `unit`, `cgroup`.
    pub owner: OwnerMatch,
    /// `limit`, `over`.
    pub limit: Option<Limit>,
}

impl Conditions {
    /// What is asked of live sets.
    pub fn asks_live(&self) -> impl Iterator<Item = &InSet> {
        let ends = [&self.src, &self.dst];
        ends.into_iter().flat_map(|end| end.live.iter().chain(&end.live_ports))
    }
    /// Whether what meets them today meets them tomorrow: no live set is asked, and nothing is limited.
    pub fn are_certain(&self) -> bool {
        self.limit.is_none() && self.asks_live().next().is_none()
    }
}

/// A list, or everything but a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<T> {
    /// `not` stands before it.
    pub negated: bool,
    /// The list.
    pub items: Vec<Spanned<T>>,
}

/// `from` or `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Addresses; `None` is any.
    pub addrs: Option<Match<AddrItem>>,
    /// Ports; `None` is any, and none.
    pub ports: Option<Match<PortItem>>,
    /// A live set that holds the address, or address and port; `addrs` is `None` then.
    pub live: Option<InSet>,
    /// A live set that holds the port; `ports` is `None` then.
    pub live_ports: Option<InSet>,
}

/// An address of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddrItem {
    /// An address, prefix, or range.
    Range(AddrRange),
    /// `@NAME`.
    Set(String),
}

/// A port of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortItem {
    /// From the first to the second, both included.
    Range(u16, u16),
    /// `@NAME`.
    Set(String),
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `icmp type T code C`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpMatch {
    /// ICMPv6, not ICMP.
    pub v6: bool,
    /// Types.
    pub types: Vec<u8>,
    /// Codes; `None` is any.
    pub codes: Option<Vec<u8>>,
}

/// `flags VALUE/MASK`: of the flags in `mask`, those in `value` are set and the others are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlagsMatch {
    /// Flags looked at.
    pub mask: u8,
    /// Those of them that are set.
    pub value: u8,
}
