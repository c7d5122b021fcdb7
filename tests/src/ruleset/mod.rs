//! Sets of many rules on addresses, ports, protocol and flags: read, made up, written for every filter, asked.
//!
//! - [`classbench`]: reads the files of the ClassBench generator.
//! - [`random`]: makes up sets of any size from a seed, with the shapes of ClassBench's and without.
//! - [`v6`]: the IPv6 twin of a set.
//! - [`policy`]: a set as Sluice's policy.
//! - [`foreign`]: a set as nftables' and iptables' rules.
//! - [`draw`]: packets that some rule matches.
//!
//! The first rule that matches decides, as everywhere here; all rules of a set mean the same family.

pub mod classbench;
pub mod draw;
pub mod foreign;
pub mod policy;
mod prefix;
pub mod random;
pub mod v6;

pub use draw::Key;
pub use prefix::Prefix;

/// Protocol numbers that rules ask ports or details of.
pub mod proto {
    /// ICMP over IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// Any port.
pub const ANY_PORT: (u16, u16) = (0, u16::MAX);

/// What a rule asks of the transport header beside ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detail {
    /// TCP: of the flags in `of`, exactly those in `set` are set.
    Flags {
        /// These.
        set: u8,
        /// Of these.
        of: u8,
    },
    /// ICMP or ICMPv6: this type.
    IcmpType(u8),
}

/// One rule. Ports (both ends included) are asked of TCP and UDP only: a rule of another protocol, or of any, has
/// [`ANY_PORT`] twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// Source addresses.
    pub src: Prefix,
    /// Destination addresses.
    pub dst: Prefix,
    /// Source ports.
    pub sport: (u16, u16),
    /// Destination ports.
    pub dport: (u16, u16),
    /// Protocol number; `None`: any.
    pub proto: Option<u8>,
    /// What else.
    pub detail: Option<Detail>,
}

impl Rule {
    /// Whether it asks for ports.
    pub fn has_ports(&self) -> bool {
        self.sport != ANY_PORT || self.dport != ANY_PORT
    }

    /// Whether its addresses are IPv6's.
    pub fn is_v6(&self) -> bool {
        self.src.is_v6()
    }

    /// Whether it takes the packet.
    pub fn matches(&self, key: &Key) -> bool {
        let within = |(low, high): (u16, u16), port| (low..=high).contains(&port);
        self.src.holds(key.src)
            && self.dst.holds(key.dst)
            && self.proto.is_none_or(|proto| proto == key.proto)
            && (!self.has_ports() || within(self.sport, key.sport) && within(self.dport, key.dport))
            && match self.detail {
                None => true,
                Some(Detail::Flags { set, of }) => key.flags & of == set,
                Some(Detail::IcmpType(kind)) => key.icmp_type == kind,
            }
    }
}

/// Which rule decides, by asking one after the other.
pub fn first_match(rules: &[Rule], key: &Key) -> Option<usize> {
    rules.iter().position(|rule| rule.matches(key))
}

/// Name of rule number `i`, in every filter that has names.
pub fn name(i: usize) -> String {
    format!("r{:06}", i + 1)
}
