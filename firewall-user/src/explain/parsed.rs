//! Frames to what the rules see of them.

use crate::policy::{meet::Seen, meet::flag_names, words};
use firewall_common::{
    abi::{
        reason::Reason,
        table::{Direction, State},
    },
    flow::tcp,
    wire::{self, Facts, Fragment, Parsed, Slice, facts::IcmpKind},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a parser made of a frame.
#[derive(Clone, Debug)]
pub struct Understood {
    /// What it is; or why it can't be told.
    pub parsed: Result<Parsed, Reason>,
    /// What was found out up to there.
    pub facts: Facts,
}

/// Parses a frame as the kernel does: by the same parser.
pub fn understand(frame: &[u8]) -> Understood {
    let mut facts = Facts::default();
    let parsed = wire::parse(&Slice(frame), &mut facts);
    Understood { parsed, facts }
}

impl Understood {
    /// Whether it is an IP packet.
    pub const fn is_ip(&self) -> bool {
        matches!(self.parsed, Ok(Parsed::Ip))
    }

    /// Addresses, of an IP packet.
    pub fn ends(&self) -> Option<(IpAddr, IpAddr)> {
        self.is_ip().then(|| {
            (address(self.facts.family, self.facts.src), address(self.facts.family, self.facts.dst))
        })
    }

    /// Ports, of a packet that has them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let facts = &self.facts;
        let whole = self.is_ip() && facts.has_ports() && facts.fragment != Fragment::Later;
        whole.then(|| (u16::from_be_bytes(facts.sport), u16::from_be_bytes(facts.dport)))
    }

    /// ICMP type and code, of a packet that has them.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let facts = &self.facts;
        let is = matches!((facts.family, facts.proto), (4, words::ICMP) | (6, words::ICMPV6));
        let whole = self.is_ip() && is && facts.fragment != Fragment::Later;
        whole.then(|| (facts.dport[0], facts.dport[1]))
    }

    /// What connection tracking says where no flow is known, and whether the packet would begin one. `pickup`: the
    /// policy's `tcp-pickup`.
    pub fn fresh(&self, pickup: bool) -> (State, bool) {
        let facts = &self.facts;
        let (state, begins) = if facts.proto == words::TCP {
            let begins = tcp::begins(facts.tcp_flags, pickup);
            (if begins { State::New } else { State::Invalid }, begins)
        } else if matches!((facts.family, facts.proto), (4, words::ICMP) | (6, words::ICMPV6)) {
            match facts.icmp {
                IcmpKind::Query => (State::New, true),
                IcmpKind::Other => (State::Untracked, false),
                IcmpKind::Answer | IcmpKind::Error => (State::Invalid, false),
            }
        } else {
            (State::New, true)
        };
        (state, begins && facts.fragment != Fragment::Later)
    }

    /// What the rules see of it in state `state`; `None` of what never meets them.
    pub fn seen(&self, direction: Direction, iface: &str, state: State) -> Option<Seen> {
        let (src, dst) = self.ends()?;
        let (sport, dport) = self.ports().unwrap_or_default();
        Some(Seen {
            direction,
            iface: iface.to_owned(),
            src,
            dst,
            proto: self.facts.proto,
            sport,
            dport,
            icmp: self.icmp().unwrap_or_default(),
            flags: self.facts.tcp_flags,
            state,
        })
    }

    /// In one line: `tcp 203.0.113.9:4242 > 10.0.0.5:22 syn ttl 64, 40 bytes of IP`.
    pub fn line(&self) -> String {
        let facts = &self.facts;
        let vlan = if facts.vlan == 0 { String::new() } else { format!("vlan {} ", facts.vlan) };
        let (src, dst) = match (self.parsed, self.ends()) {
            (Err(reason), _) => return format!("{vlan}not understood: {}", reason.name()),
            (Ok(Parsed::Arp), _) => return format!("{vlan}arp"),
            (Ok(_), None) => return format!("{vlan}EtherType {:#06x}", facts.ethertype),
            (Ok(_), Some(ends)) => ends,
        };
        let proto = words::protocol_name(facts.proto);
        let with = |addr: IpAddr, port: u16| match addr {
            IpAddr::V4(addr) => format!("{addr}:{port}"),
            IpAddr::V6(addr) => format!("[{addr}]:{port}"),
        };
        let mut line = match self.ports() {
            Some((sport, dport)) => {
                format!("{vlan}{proto} {} > {}", with(src, sport), with(dst, dport))
            }
            None => format!("{vlan}{proto} {src} > {dst}"),
        };
        if facts.fragment != Fragment::Later && facts.proto == words::TCP {
            line.push_str(&format!(" {}", flag_names(facts.tcp_flags)));
        }
        if let Some((kind, code)) = self.icmp() {
            let table = if facts.family == 6 { words::ICMPV6_TYPES } else { words::ICMP_TYPES };
            let name = words::name_of(table, kind).map_or_else(|| kind.to_string(), str::to_owned);
            line.push_str(&format!(" type {name} code {code}"));
        }
        match facts.fragment {
            Fragment::Whole => {}
            Fragment::First => line.push_str(" first fragment"),
            Fragment::Later => line.push_str(" later fragment"),
        }
        format!("{line} ttl {}, {} bytes of IP", facts.ttl, facts.ip_len)
    }
}

fn address(family: u8, bytes: [u8; 16]) -> IpAddr {
    if family == 4 {
        let [a, b, c, d, ..] = bytes;
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        Ipv6Addr::from(bytes).into()
    }
}
