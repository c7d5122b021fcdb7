//! The oracle's own policies: plain structs, and the text that says the same to the real compiler.

use super::nat::Nat;
use super::sets::{self, Adds, Asks, Contents, LiveSet};
use std::fmt::{self, Display, Write as _};
use std::net::IpAddr;

/// Way through a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Into the machine.
    In,
    /// Out of it.
    Out,
}

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Passes.
    Allow,
    /// Vanishes.
    Drop,
    /// Refused with an answer.
    Reject,
    /// Counted; the next rule is asked.
    Count,
}

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Count => "count",
        })
    }
}

/// What tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Would begin a flow.
    New,
    /// Belongs to one.
    Established,
    /// Tells of one.
    Related,
    /// Belongs to none and can't begin one.
    Invalid,
    /// Neither, and nothing is wrong with it.
    Untracked,
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
            Self::Invalid => "invalid",
            Self::Untracked => "untracked",
        })
    }
}

/// Addresses from `low` to `high`, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub low: IpAddr,
    /// Last.
    pub high: IpAddr,
}

impl Range {
    fn holds(&self, address: IpAddr) -> bool {
        // `IpAddr` sorts every IPv4 before every IPv6, so that families can't mix here.
        self.low <= address && address <= self.high
    }
}

/// One end's conditions; empty lists ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Any of these addresses.
    pub addresses: Vec<Range>,
    /// Any of these port ranges.
    pub ports: Vec<(u16, u16)>,
    /// A live set of addresses, instead; or one of addresses with ports.
    pub live: Option<Asks>,
    /// A live set of ports, instead.
    pub live_ports: Option<Asks>,
}

impl End {
    pub(super) fn matches(&self, address: IpAddr, port: Option<u16>) -> bool {
        let address_ok =
            self.addresses.is_empty() || self.addresses.iter().any(|range| range.holds(address));
        let port_ok = self.ports.is_empty()
            || port.is_some_and(|port| {
                self.ports.iter().any(|(low, high)| (*low..=*high).contains(&port))
            });
        address_ok && port_ok
    }

    fn is_in_sets(&self, sets: &Contents, address: IpAddr, port: Option<u16>) -> bool {
        let asks = [self.live, self.live_ports];
        asks.into_iter().flatten().all(|asks| {
            // Whoever asks for ports is about packets that have them, `not` or not.
            let of_ports = asks.set.starts_with('p');
            (port.is_some() || !of_ports) && sets::holds(sets, asks.set, address, port) != asks.not
        })
    }

    pub(super) fn print(&self, word: &str, out: &mut String) {
        let live = self.live.is_some() || self.live_ports.is_some();
        if self.addresses.is_empty() && self.ports.is_empty() && !live {
            return;
        }
        let _ = write!(out, " {word}");
        if let Some(asks) = self.live {
            let _ = write!(out, " {asks}");
        }
        if !self.addresses.is_empty() {
            let each = self.addresses.iter().map(|range| {
                if range.low == range.high {
                    range.low.to_string()
                } else {
                    format!("{}-{}", range.low, range.high)
                }
            });
            let _ = write!(out, " {}", braces(each));
        }
        if !self.ports.is_empty() {
            let each = self.ports.iter().map(|(low, high)| {
                if low == high { low.to_string() } else { format!("{low}-{high}") }
            });
            let _ = write!(out, " port {}", braces(each));
        }
        if let Some(asks) = self.live_ports {
            let _ = write!(out, " port {asks}");
        }
    }
}

fn braces(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if let [one] = &items[..] { one.clone() } else { format!("{{ {} }}", items.join(", ")) }
}

/// Protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP over IPv4.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// By number.
    Number(u8),
}

impl Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmpv6 => f.write_str("icmpv6"),
            Self::Number(n) => write!(f, "proto {n}"),
        }
    }
}

impl Proto {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Icmpv6 => 58,
            Self::Number(n) => n,
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// What it does.
    pub action: Action,
    /// Only this way.
    pub way: Option<Way>,
    /// Only on these interfaces.
    pub interfaces: Vec<String>,
    /// Only this protocol.
    pub proto: Option<Proto>,
    /// Source.
    pub from: End,
    /// Destination.
    pub to: End,
    /// Of the flags in the second, exactly those in the first are set.
    pub flags: Option<(u8, u8)>,
    /// ICMP type, and code if it matters.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Any of these states.
    pub states: Vec<State>,
    /// What it lets by enters no flow.
    pub no_track: bool,
    /// Tell of each match.
    pub log: bool,
    /// What it adds to live sets.
    pub adds: Vec<Adds>,
}

/// A packet as rules see it.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Way through the hook.
    pub way: Way,
    /// Interface.
    pub interface: &'a str,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: u8,
    /// Source and destination port, where the protocol has them.
    pub ports: Option<(u16, u16)>,
    /// TCP flags.
    pub flags: Option<u8>,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// State.
    pub state: State,
}

impl Rule {
    /// Whether the rule's every condition is met.
    pub fn matches(&self, q: &Question<'_>) -> bool {
        self.enabled
            && self.way.is_none_or(|way| way == q.way)
            && (self.interfaces.is_empty()
                || self.interfaces.iter().any(|name| name == q.interface))
            && self.proto.is_none_or(|proto| proto.number() == q.proto)
            && self.from.matches(q.src, q.ports.map(|ports| ports.0))
            && self.to.matches(q.dst, q.ports.map(|ports| ports.1))
            && self.flags.is_none_or(|(set, mask)| q.flags.is_some_and(|flags| flags & mask == set))
            && self.icmp.is_none_or(|(kind, code)| {
                q.icmp.is_some_and(|(k, c)| k == kind && code.is_none_or(|code| code == c))
            })
            && (self.states.is_empty() || self.states.contains(&q.state))
    }

    /// As [`Self::matches`], live sets asked, too.
    pub fn matches_with(&self, q: &Question<'_>, sets: &Contents) -> bool {
        self.matches(q)
            && self.from.is_in_sets(sets, q.src, q.ports.map(|ports| ports.0))
            && self.to.is_in_sets(sets, q.dst, q.ports.map(|ports| ports.1))
    }

    fn print(&self) -> String {
        let mut out = String::new();
        if !self.enabled {
            out.push_str("disabled ");
        }
        let _ = write!(out, "rule {} {}", self.name, self.action);
        if let Some(way) = self.way {
            let _ = write!(out, " {way}");
        }
        if !self.interfaces.is_empty() {
            let _ = write!(out, " on {}", braces(self.interfaces.iter().cloned()));
        }
        if let Some(proto) = self.proto {
            let _ = write!(out, " {proto}");
        }
        if let Some((kind, code)) = self.icmp {
            let _ = write!(out, " type {kind}");
            if let Some(code) = code {
                let _ = write!(out, " code {code}");
            }
        }
        self.from.print("from", &mut out);
        self.to.print("to", &mut out);
        if let Some((set, mask)) = self.flags {
            let _ = write!(out, " flags {}/{}", flag_names(set), flag_names(mask));
        }
        if !self.states.is_empty() {
            let _ = write!(out, " state {}", braces(self.states.iter().map(State::to_string)));
        }
        if self.no_track {
            out.push_str(" no-track");
        }
        for adds in &self.adds {
            let _ = write!(out, " {adds}");
        }
        if self.log {
            out.push_str(" log");
        }
        out
    }
}

fn flag_names(flags: u8) -> String {
    let names: Vec<_> = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"]
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

/// What becomes of TCP segments that don't fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// They are dropped.
    Strict,
    /// They pass under a reason of their own.
    Liberal,
    /// Nobody looks.
    Off,
}

impl Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Liberal => "liberal",
            Self::Off => "off",
        })
    }
}

/// A whole policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where no rule matches, on the way in.
    pub default_in: Action,
    /// Where no rule matches, on the way out.
    pub default_out: Action,
    /// A TCP segment without SYN may begin a flow.
    pub pickup: bool,
    /// TCP windows.
    pub window: Window,
    /// Time-outs that are as short as may be; the others are long.
    pub short: Vec<&'static str>,
    /// What can't be parsed passes.
    pub malformed_passes: bool,
    /// EtherTypes that are neither IP nor ARP pass.
    pub ethertypes_pass: bool,
    /// Later fragments whose first wasn't seen pass.
    pub fragments_pass: bool,
    /// Live sets, and what they begin with.
    pub live: Vec<LiveSet>,
    /// The translations in order.
    pub nats: Vec<Nat>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

impl Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |passes: bool| if passes { "allow" } else { "drop" };
        writeln!(f, "default in {}", self.default_in)?;
        writeln!(f, "default out {}", self.default_out)?;
        writeln!(f, "option tcp-pickup {}", if self.pickup { "on" } else { "off" })?;
        writeln!(f, "option tcp-window {}", self.window)?;
        self.short.iter().try_for_each(|name| writeln!(f, "option timeout {name} 100ms"))?;
        writeln!(f, "option malformed {}", word(self.malformed_passes))?;
        writeln!(f, "option ethertypes {}", word(self.ethertypes_pass))?;
        writeln!(f, "option fragments {}", word(self.fragments_pass))?;
        self.live.iter().try_for_each(|set| writeln!(f, "{set}"))?;
        self.nats.iter().try_for_each(|nat| writeln!(f, "{nat}"))?;
        self.rules.iter().try_for_each(|rule| writeln!(f, "{}", rule.print()))
    }
}
