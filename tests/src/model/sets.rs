//! Live sets as the oracle has them: lists that are looked through from the beginning.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses and prefixes.
    Addresses,
    /// Addresses with a port.
    Pairs,
    /// Ports.
    Ports,
}

/// One thing in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The first bits of an address.
    Prefix(IpAddr, u32),
    /// An address and a port.
    Pair(IpAddr, u16),
    /// From the first to the second.
    Ports(u16, u16),
}

impl Member {
    fn holds(self, address: IpAddr, port: Option<u16>) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(a) => u128::from(u32::from(a)) << 96,
            IpAddr::V6(a) => u128::from(a),
        };
        match self {
            Self::Prefix(of, len) => {
                of.is_ipv4() == address.is_ipv4()
                    && (len == 0 || (bits(of) ^ bits(address)) >> (128 - len) == 0)
            }
            Self::Pair(of, at) => of == address && port == Some(at),
            Self::Ports(low, high) => port.is_some_and(|port| (low..=high).contains(&port)),
        }
    }
}

impl Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Prefix(of, len) => write!(f, "{of}/{len}"),
            Self::Pair(IpAddr::V4(of), port) => write!(f, "{of}:{port}"),
            Self::Pair(of, port) => write!(f, "[{of}]:{port}"),
            Self::Ports(low, high) => write!(f, "{low}-{high}"),
        }
    }
}

/// `set NAME live`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSet {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it begins with.
    pub members: Vec<Member>,
}

impl Display for LiveSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Addresses => "addresses",
            Kind::Pairs => "pairs",
            Kind::Ports => "ports",
        };
        let all: Vec<String> = self.members.iter().map(Member::to_string).collect();
        write!(f, "set {} live {kind} size 200 = {{ {} }}", self.name, all.join(", "))
    }
}

/// What a rule asks of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    /// The set.
    pub set: &'static str,
    /// It mustn't hold it.
    pub not: bool,
}

impl Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", if self.not { "not " } else { "" }, self.set)
    }
}

/// What a rule adds to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adds {
    /// The set.
    pub set: &'static str,
    /// With its port.
    pub pair: bool,
    /// The destination, not the source.
    pub destination: bool,
}

impl Display for Adds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.destination { "destination" } else { "source" };
        write!(f, "add {end} to @{}", self.set)
    }
}

/// What sets hold now.
pub type Contents = BTreeMap<&'static str, Vec<Member>>;

/// Whether a set holds an end of a packet.
pub fn holds(sets: &Contents, set: &str, address: IpAddr, port: Option<u16>) -> bool {
    sets.get(set).is_some_and(|all| all.iter().any(|member| member.holds(address, port)))
}

/// Adds an end of a packet.
pub fn add(sets: &mut Contents, adds: Adds, address: IpAddr, port: Option<u16>) {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let member = match (adds.pair, port) {
        (false, _) => Member::Prefix(address, whole),
        (true, Some(port)) => Member::Pair(address, port),
        (true, None) => return,
    };
    let all = sets.entry(adds.set).or_default();
    if !all.contains(&member) {
        all.push(member);
    }
}
