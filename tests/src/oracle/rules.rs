//! Rules as plain structs: what both languages can say alike.

use std::net::IpAddr;

/// Interfaces of both gates that frames come in at: the first is filtered at TC, the second at XDP.
pub const INTERFACES: [&str; 2] = ["wan0", "wan1"];

/// Destination of the frames that tell the end of a batch: a rule of its own lets them by, in both gates.
pub const MARK_TO: &str = "198.18.0.9";

/// Destination port of these frames.
pub const MARK_PORT: u16 = 9;

/// Where the rules stand in nftables, which decides what both may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `netdev`, `ingress`: no connection tracking; here every rule is `no-track`.
    Ingress,
    /// `inet`, `prerouting` before connection tracking; here every rule is `no-track`.
    Raw,
    /// `inet`, `prerouting` behind connection tracking; here rules enter flows. The flag: TCP segments without SYN may
    /// begin a flow.
    Tracked(bool),
}

impl Place {
    /// Whether flows are remembered.
    pub fn tracks(self) -> bool {
        matches!(self, Self::Tracked(_))
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Passes.
    Allow,
    /// Vanishes.
    Drop,
    /// Refused with an answer; the answer isn't compared.
    Reject,
    /// Counted; the next rule is asked.
    Count,
}

/// Addresses of one family, both ends included, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// One.
    One(IpAddr),
    /// A prefix: its first address and its length in bits.
    Prefix(IpAddr, u8),
    /// From the first to the last.
    Range(IpAddr, IpAddr),
}

impl Addresses {
    /// Whether they are IPv4.
    pub fn is_v4(&self) -> bool {
        match self {
            Self::One(a) | Self::Prefix(a, _) | Self::Range(a, _) => a.is_ipv4(),
        }
    }

    /// First and last.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        match *self {
            Self::One(a) => (a, a),
            Self::Range(a, b) => (a, b),
            Self::Prefix(IpAddr::V4(a), bits) => {
                let rest = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
                (IpAddr::V4(a), IpAddr::V4((u32::from(a) | rest).into()))
            }
            Self::Prefix(IpAddr::V6(a), bits) => {
                let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
                (IpAddr::V6(a), IpAddr::V6((u128::from(a) | rest).into()))
            }
        }
    }
}

/// One of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member<T> {
    /// A value.
    Value(T),
    /// All of the named set with this index.
    Set(usize),
}

/// A list, or whatever isn't in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T> {
    /// Turned round.
    pub not: bool,
    /// The members; at least one.
    pub members: Vec<Member<T>>,
}

/// Ports from the first to the last.
pub type Ports = (u16, u16);

/// What a named set holds. Sets of sets are those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// Addresses of both families.
    Addresses(Vec<Member<Addresses>>),
    /// Ports.
    Ports(Vec<Member<Ports>>),
}

/// One end's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Addresses.
    pub addresses: Option<List<Addresses>>,
    /// Ports.
    pub ports: Option<List<Ports>>,
}

/// Conditions on TCP flags; bits as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// All of these are set.
    All(u8),
    /// Of the second, those in the first are set and the others aren't.
    Of(u8, u8),
    /// None is set.
    None,
    /// Exactly these are set.
    Only(u8),
}

/// States. Drawn are `New` and `Stray` alone: which of the two that `Stray` joins it is isn't the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Begins a flow.
    New,
    /// Belongs to none: `invalid` and `untracked`.
    Stray,
    /// `invalid` alone.
    Invalid,
    /// `untracked` alone.
    Untracked,
}

/// One rule, for packets that come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name; that of its counter, too.
    pub name: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// What it does.
    pub action: Action,
    /// Interfaces: turned round or not, and their names.
    pub on: Option<(bool, Vec<&'static str>)>,
    /// IP version, if it is asked for by itself.
    pub family: Option<u8>,
    /// Protocols by number; none asks for nothing.
    pub protos: Vec<u8>,
    /// Source.
    pub from: End,
    /// Destination.
    pub to: End,
    /// TCP flags.
    pub flags: Option<Flags>,
    /// Types of ICMP or ICMPv6, whichever `protos` says, and codes; none asks for nothing.
    pub icmp: Option<(Vec<u8>, Vec<u8>)>,
    /// State.
    pub state: Option<State>,
}

/// A whole policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Seed it was drawn from.
    pub seed: u64,
    /// Where it stands.
    pub place: Place,
    /// What no rule decides passes.
    pub default_allow: bool,
    /// Named sets: the name is `s` and the index.
    pub sets: Vec<Set>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Name of what no rule decides. Names are of one policy alone, so that their counters begin at nought.
    pub fn rest(&self) -> String {
        format!("rest{}", self.seed)
    }

    /// Name of the rule that lets the last frames of a batch by.
    pub fn fence(&self) -> String {
        format!("fence{}", self.seed)
    }

    /// The values of a list of addresses, sets opened.
    pub fn addresses(&self, members: &[Member<Addresses>]) -> Vec<Addresses> {
        let mut all = Vec::new();
        for member in members {
            match member {
                Member::Value(value) => all.push(*value),
                Member::Set(i) => {
                    if let Some(Set::Addresses(inner)) = self.sets.get(*i) {
                        all.extend(self.addresses(inner));
                    }
                }
            }
        }
        all
    }

    /// The values of a list of ports, sets opened.
    pub fn ports(&self, members: &[Member<Ports>]) -> Vec<Ports> {
        let mut all = Vec::new();
        for member in members {
            match member {
                Member::Value(value) => all.push(*value),
                Member::Set(i) => {
                    if let Some(Set::Ports(inner)) = self.sets.get(*i) {
                        all.extend(self.ports(inner));
                    }
                }
            }
        }
        all
    }
}
