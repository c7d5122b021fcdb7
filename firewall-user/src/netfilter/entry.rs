//! An entry of the kernel's connection tracking table.

use crate::view::{NETFILTER_SCTP_STATES, NETFILTER_TCP_STATES};
use firewall_common::wire::icmp::{PROTO_ICMP, PROTO_ICMPV6};
use std::net::IpAddr;

/// One direction of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; ICMP: query identifier; GRE: key; else 0.
    pub sport: u16,
    /// Destination port; GRE: key; else 0.
    pub dport: u16,
    /// Protocol.
    pub proto: u8,
    /// ICMP type, 0 for other protocols.
    pub icmp_type: u8,
    /// ICMP code, 0 for other protocols.
    pub icmp_code: u8,
}

impl Tuple {
    /// 4 or 6.
    pub const fn family(&self) -> u8 {
        if self.src.is_ipv4() { 4 } else { 6 }
    }

    /// What a packet of the other direction says if it is turned round: of a reply tuple, the
    /// original as it looks translated. An ICMP identifier is the same in both directions.
    fn turned(&self) -> Endpoints {
        let (sport, dport) = if matches!(self.proto, PROTO_ICMP | PROTO_ICMPV6) {
            (self.sport, 0)
        } else {
            (self.dport, self.sport)
        };
        Endpoints { src: self.dst, sport, dst: self.src, dport }
    }
}

/// Two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Source address.
    pub src: IpAddr,
    /// Source port or ICMP identifier.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

/// What names an entry: the kernel's id is 32 bits of a hash, so that among a million entries some
/// share theirs; with the tuple and the zone it is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryKey {
    /// Original direction.
    pub orig: Tuple,
    /// Connection tracking zone.
    pub zone: u16,
    /// The kernel's id, as `conntrack -L -o id` shows it.
    pub id: u32,
}

/// Status bits of an entry (`IPS_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// A packet of the reply direction was seen.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// Not dropped early when the table is full.
    pub const ASSURED: Self = Self(1 << 2);
    /// The source is translated.
    pub const SRC_NAT: Self = Self(1 << 4);
    /// The destination is translated.
    pub const DST_NAT: Self = Self(1 << 5);

    /// Names by bit. That both kinds of translation were *considered* (bits 7 and 8) is true of nearly
    /// every entry and says nothing: these two have none.
    const NAMES: [&str; 16] = [
        "expected",
        "seen-reply",
        "assured",
        "confirmed",
        "src-nat",
        "dst-nat",
        "seq-adjust",
        "",
        "",
        "dying",
        "fixed-timeout",
        "template",
        "nat-clash",
        "helper",
        "offload",
        "hw-offload",
    ];

    /// Whether these bits are set.
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// In words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let names = Self::NAMES.iter().enumerate();
        names
            .filter(move |(bit, name)| self.0 >> bit & 1 == 1 && !name.is_empty())
            .map(|(_, name)| *name)
    }
}

/// What the protocol's tracker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtoState {
    /// TCP.
    Tcp(u8),
    /// SCTP.
    Sctp(u8),
}

impl ProtoState {
    fn name(self) -> &'static str {
        let (names, raw) = match self {
            Self::Tcp(raw) => (&NETFILTER_TCP_STATES, raw),
            Self::Sctp(raw) => (&NETFILTER_SCTP_STATES, raw),
        };
        names.get(usize::from(raw)).copied().unwrap_or("unknown")
    }
}

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets, as netfilter counts them: an aggregated buffer is one.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// Packets and bytes both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Original direction.
    pub orig: Count,
    /// Reply direction.
    pub reply: Count,
}

/// What changes while an entry lives, or isn't always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Reply direction, as the kernel expects it: translated.
    pub reply: Tuple,
    /// Status bits.
    pub status: Status,
    /// State of the protocol, where it has any.
    pub state: Option<ProtoState>,
    /// Until the entry is forgotten if nothing more comes, seconds.
    pub timeout_s: Option<u32>,
    /// What it carried; `None` where netfilter doesn't count, or didn't say.
    pub counters: Option<Counters>,
    /// When it began, nanoseconds since 1970; `None` where netfilter takes no time.
    pub start_ns: Option<u64>,
    /// When it ended.
    pub stop_ns: Option<u64>,
    /// Connection mark.
    pub mark: Option<u32>,
}

impl Facts {
    /// Takes what a later message says, and keeps what it leaves out.
    pub fn update(&mut self, later: &Self) {
        *self = Self {
            reply: later.reply,
            status: later.status,
            state: later.state.or(self.state),
            timeout_s: later.timeout_s.or(self.timeout_s),
            counters: later.counters.or(self.counters),
            start_ns: later.start_ns.or(self.start_ns),
            stop_ns: later.stop_ns.or(self.stop_ns),
            mark: later.mark.or(self.mark),
        };
    }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetfilterEntry {
    /// Which.
    pub key: EntryKey,
    /// How it is.
    pub facts: Facts,
}

/// How a flow is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat {
    /// The original direction as it leaves the translation.
    pub to: Endpoints,
    /// Whether its source is another.
    pub source: bool,
    /// Whether its destination is another.
    pub destination: bool,
}

impl NetfilterEntry {
    /// The translation, if there is one: the reply direction is not the original turned round.
    pub fn nat(&self) -> Option<Nat> {
        nat(&self.key.orig, &self.facts.reply)
    }

    /// State in words: of TCP and SCTP the tracker's, else `new`, and `established` once a reply was seen.
    pub fn state(&self) -> &'static str {
        match self.facts.state {
            Some(state) => state.name(),
            None if self.facts.status.has(Status::SEEN_REPLY) => "established",
            None => "new",
        }
    }
}

/// See [`NetfilterEntry::nat`].
pub fn nat(orig: &Tuple, reply: &Tuple) -> Option<Nat> {
    let to = reply.turned();
    let source = (to.src, to.sport) != (orig.src, orig.sport);
    let destination = (to.dst, to.dport) != (orig.dst, orig.dport);
    (source || destination).then_some(Nat { to, source, destination })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, sport: u16, dst: &str, dport: u16, proto: u8) -> Tuple {
        Tuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport,
            dport,
            proto,
            icmp_type: 0,
            icmp_code: 0,
        }
    }

    #[test]
    fn translation_is_what_the_reply_says() {
        let orig = tuple("10.0.0.7", 5000, "192.0.2.1", 80, 6);
        assert_eq!(nat(&orig, &tuple("192.0.2.1", 80, "10.0.0.7", 5000, 6)), None);
        let masqueraded = nat(&orig, &tuple("192.0.2.1", 80, "203.0.113.5", 40_021, 6)).unwrap();
        assert!(masqueraded.source && !masqueraded.destination);
        assert_eq!(
            (masqueraded.to.src, masqueraded.to.sport),
            ("203.0.113.5".parse().unwrap(), 40_021)
        );
        // A port alone is a translation too.
        let port = nat(&orig, &tuple("192.0.2.1", 8080, "10.0.0.7", 5000, 6)).unwrap();
        assert!(port.destination && !port.source);
        assert_eq!((port.to.dst, port.to.dport), ("192.0.2.1".parse().unwrap(), 8080));
        // ICMP: the identifier stands in the same place both ways.
        let ping = tuple("10.0.0.7", 77, "192.0.2.1", 0, 1);
        assert_eq!(nat(&ping, &tuple("192.0.2.1", 77, "10.0.0.7", 0, 1)), None);
        let other = nat(&ping, &tuple("192.0.2.1", 78, "203.0.113.5", 0, 1)).unwrap();
        assert_eq!((other.to.sport, other.to.dport, other.destination), (78, 0, false));
    }

    #[test]
    fn status_in_words() {
        let words: Vec<_> = Status(0b1_1001_1110).words().collect();
        assert_eq!(words, ["seen-reply", "assured", "confirmed", "src-nat"]);
        assert!(Status(6).has(Status::ASSURED) && !Status(6).has(Status::SRC_NAT));
    }
}
