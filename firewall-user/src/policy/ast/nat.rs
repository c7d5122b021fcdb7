//! `nat` statements.

use super::{AddrItem, AddrRange, Conditions, Endpoint, Family, Match, PortItem};
use crate::policy::span::{Span, Spanned};
use firewall_common::abi::nat::NatKind;
use firewall_common::abi::table::Direction;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One translation.
#[derive(Clone, Debug)]
pub struct Nat {
    /// Its name: owner of its counters. No rule has the same.
    pub name: Spanned<String>,
    /// False where the statement begins with `disabled`.
    pub enabled: bool,
    /// Which packets it is about, as they are written: direction and family follow from the kind and
    /// are filled in. Use [`Nat::halves`] for what is compiled.
    pub when: Conditions,
    /// What becomes of them.
    pub translation: Translation,
    /// From the first to the last word of the statement.
    pub span: Span,
    /// The statement on one line, comments stripped.
    pub text: String,
}

/// What a `nat` statement makes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Source to the address of the interface it leaves through.
    Masquerade(Mapping),
    /// Source to an address of a pool.
    Source {
        /// First and last public address.
        pool: (Ipv4Addr, Ipv4Addr),
        /// How ports are given.
        mapping: Mapping,
        /// A block of ports for each host inside.
        blocks: Option<Blocks>,
    },
    /// Destination to an address inside.
    Destination {
        /// The address.
        to: Ipv4Addr,
        /// The ports there; `None`: the port stays.
        ports: Option<PortTarget>,
        /// Clients inside that use the public address are served, too.
        hairpin: bool,
    },
    /// Destination to the machine itself.
    Redirect {
        /// The ports there; `None`: the port stays.
        ports: Option<PortTarget>,
    },
    /// One to one, both ways.
    Static {
        /// Prefix inside.
        inside: Prefix<Ipv4Addr>,
        /// Prefix outside, of the same length.
        outside: Prefix<Ipv4Addr>,
    },
    /// IPv6 prefix translation, both ways (RFC 6296).
    Prefix {
        /// Prefix inside.
        inside: Prefix<Ipv6Addr>,
        /// Prefix outside, of the same length.
        outside: Prefix<Ipv6Addr>,
    },
}

impl Translation {
    /// The word of the language.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Masquerade(_) => "masquerade",
            Self::Source { .. } => "source",
            Self::Destination { .. } => "destination",
            Self::Redirect { .. } => "redirect",
            Self::Static { .. } => "static",
            Self::Prefix { .. } => "prefix",
        }
    }
}

/// How public ports are given to flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Ports to use, both included.
    pub ports: (u16, u16),
    /// One inside endpoint keeps one public endpoint, whomever it talks to.
    pub endpoint_independent: bool,
}

/// A block of ports for each inside host, by arithmetic (RFC 7422).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Ports of each host.
    pub size: u16,
    /// The hosts.
    pub inside: Prefix<Ipv4Addr>,
}

/// A prefix; no bit is set behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<A> {
    /// First address.
    pub first: A,
    /// Length, bits.
    pub len: u8,
}

/// Ports that a destination is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortTarget {
    /// First and last.
    pub ports: (u16, u16),
    /// First of the range that was asked for, which then is as long as this one. `None`: all go to
    /// the one port.
    pub from: Option<u16>,
}

/// One of the one or two things that the kernel does for a statement.
#[derive(Clone, Debug)]
pub struct Half {
    /// What it does.
    pub kind: NatKind,
    /// To which packets.
    pub when: Conditions,
}

impl Nat {
    /// The statement as the kernel knows it: one rule, or one each way where it translates both ways.
    pub fn halves(&self) -> Vec<Half> {
        let one = |kind, when| vec![Half { kind, when }];
        match &self.translation {
            Translation::Masquerade(_) => one(NatKind::Masquerade, self.when.clone()),
            Translation::Source { .. } => one(NatKind::Source, self.when.clone()),
            Translation::Destination { hairpin, .. } => {
                let mut when = self.when.clone();
                if *hairpin {
                    // Clients inside come in at other interfaces; the address says that they are meant.
                    when.on = None;
                }
                one(NatKind::Destination, when)
            }
            Translation::Redirect { .. } => one(NatKind::Redirect, self.when.clone()),
            Translation::Static { inside, outside } => vec![
                self.half(NatKind::StaticOut, inside.range()),
                self.half(NatKind::StaticIn, outside.range()),
            ],
            Translation::Prefix { inside, outside } => vec![
                self.half(NatKind::PrefixOut, inside.range()),
                self.half(NatKind::PrefixIn, outside.range()),
            ],
        }
    }

    fn half(&self, kind: NatKind, addrs: AddrRange) -> Half {
        let mut when = self.when.clone();
        let outwards = matches!(kind, NatKind::StaticOut | NatKind::PrefixOut);
        when.direction = Some(if outwards { Direction::Out } else { Direction::In });
        let end = if outwards { &mut when.src } else { &mut when.dst };
        end.addrs = Some(alone(AddrItem::Range(addrs)));
        Half { kind, when }
    }

    /// What the rules see of the packets whose destination this translates, one for each of its
    /// [halves](Self::halves); `None` for the others.
    pub fn translated(&self, half: &Half) -> Option<Conditions> {
        let mut when = half.when.clone();
        match (&self.translation, half.kind) {
            (Translation::Destination { to, ports, .. }, _) => {
                when.dst.addrs = Some(alone(AddrItem::Range(AddrRange::prefix((*to).into(), 32))));
                ports.iter().for_each(|ports| ports.put(&mut when.dst));
            }
            (Translation::Redirect { ports }, _) => {
                when.dst.addrs = None;
                ports.iter().for_each(|ports| ports.put(&mut when.dst));
            }
            (Translation::Static { inside, .. }, NatKind::StaticIn) => {
                when.dst.addrs = Some(alone(AddrItem::Range(inside.range())));
            }
            (Translation::Prefix { inside, .. }, NatKind::PrefixIn) => {
                when.dst.addrs = Some(alone(AddrItem::Range(inside.range())));
            }
            _ => return None,
        }
        Some(when)
    }

    /// The family it is about.
    pub const fn family(&self) -> Family {
        match self.translation {
            Translation::Prefix { .. } => Family::V6,
            _ => Family::V4,
        }
    }
}

impl PortTarget {
    /// The port that a packet to `port` goes to.
    pub fn of(&self, port: u16) -> u16 {
        self.from.map_or(self.ports.0, |from| self.ports.0.wrapping_add(port.wrapping_sub(from)))
    }
    fn put(&self, end: &mut Endpoint) {
        end.ports = Some(alone(PortItem::Range(self.ports.0, self.ports.1)));
    }
}

impl<A: Copy + Into<std::net::IpAddr>> Prefix<A> {
    /// All its addresses.
    pub fn range(&self) -> AddrRange {
        AddrRange::prefix(self.first.into(), self.len)
    }
}

/// A list of one that nobody wrote.
fn alone<T>(value: T) -> Match<T> {
    Match { negated: false, items: vec![Spanned::new(value, Span::default())] }
}
