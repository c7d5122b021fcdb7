//! Translations as a policy says them, and what they make of one tuple.
//!
//! Ingress rewrites destinations, egress sources, in both directions of a flow. Rules see the inside: the
//! destination translated already, the source not yet.

use super::parse::Ends;
use super::policy::{End, Proto};
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ports that sources get where the policy doesn't say which.
const PORTS: (u16, u16) = (1024, 65_535);

/// What a translation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Source, to the address of the interface it leaves through.
    Masquerade,
    /// Source, to one of these addresses.
    Source(Ipv4Addr, Ipv4Addr),
    /// Destination, to this address, and these ports.
    Destination(Ipv4Addr, Option<(u16, u16)>),
    /// Destination, to the machine itself.
    Redirect(Option<(u16, u16)>),
    /// One to one between two prefixes of this length: inside, outside.
    Static(Ipv4Addr, Ipv4Addr, u8),
    /// IPv6 prefixes (RFC 6296): inside, outside.
    Prefix(Ipv6Addr, Ipv6Addr, u8),
}

/// One `nat` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// At which interface.
    pub interface: String,
    /// Only this protocol.
    pub proto: Option<Proto>,
    /// Only from here.
    pub from: End,
    /// Only to there.
    pub to: End,
    /// Public ports of sources.
    pub ports: Option<(u16, u16)>,
    /// Ports of each host inside (RFC 7422); `from` is one prefix then.
    pub blocks: Option<u16>,
    /// One endpoint inside keeps one outside (RFC 4787 REQ-1).
    pub endpoint_independent: bool,
    /// Clients inside are served, too.
    pub hairpin: bool,
}

/// A flow's translation.
#[derive(Clone, Debug)]
pub struct Translated {
    /// As the two ends really are: the originator, and the destination inside.
    pub real: Ends,
    /// As it is outside.
    pub outer: Ends,
    /// The source is another.
    pub source: bool,
    /// The destination is another.
    pub destination: bool,
    /// Its clients inside are served, too.
    pub hairpin: bool,
    /// Name of the translation of the source.
    pub by: Option<String>,
}

/// How the packet at hand is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The source; else the destination.
    pub source: bool,
    /// New address.
    pub address: IpAddr,
    /// New port, or identifier; none: there is none.
    pub port: Option<u16>,
    /// IPv6 prefixes: new address of the packet that an error quotes, at its other end.
    pub quoted: Option<IpAddr>,
}

/// An address under another prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This one.
    To(Ipv6Addr),
    /// It has no counterpart (RFC 6296 section 3.5, 3.6).
    Nowhere,
}

/// What a source may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// First and last address.
    pub addresses: (Ipv4Addr, Ipv4Addr),
    /// First and last port; none: it keeps its own.
    pub ports: Option<(u16, u16)>,
}

/// Whether a protocol's ports (or identifiers) can be others: those of SCTP are under a checksum that
/// covers the whole packet (RFC 9260 section 6.8).
pub fn has_free_ports(proto: u8) -> bool {
    matches!(proto, 1 | 6 | 17 | 136)
}

fn mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn moved(address: IpAddr, from: Ipv4Addr, to: Ipv4Addr, len: u8) -> Option<Ipv4Addr> {
    let IpAddr::V4(v4) = address else { return None };
    let (number, mask) = (u32::from(v4), mask(len));
    (number & mask == u32::from(from) & mask).then(|| (u32::from(to) | number & !mask).into())
}

impl Nat {
    /// A translation without conditions.
    pub fn new(name: &str, interface: &str, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            interface: interface.into(),
            proto: None,
            from: End::default(),
            to: End::default(),
            ports: None,
            blocks: None,
            endpoint_independent: false,
            hairpin: false,
        }
    }

    fn meets(&self, ends: &Ends, ports: bool) -> bool {
        // Ports can only be asked of protocols that have them, and a target's port asks, too.
        let needs_ports = matches!(
            self.kind,
            Kind::Destination(_, Some(_)) | Kind::Redirect(Some(_)) if self.proto.is_none()
        );
        let (sport, dport) =
            if ports { (Some(ends.sport), Some(ends.dport)) } else { (None, None) };
        ends.src.is_ipv4()
            && self.proto.is_none_or(|proto| proto.number() == ends.proto)
            && (!needs_ports || matches!(ends.proto, 6 | 17))
            && self.from.matches(ends.src, sport)
            && self.to.matches(ends.dst, dport)
    }

    /// Whether it translates the destination of a packet that comes in at `interface`.
    pub fn takes_destination(&self, interface: &str, ends: &Ends) -> bool {
        let ports = matches!(ends.proto, 6 | 17 | 132 | 136);
        match &self.kind {
            Kind::Destination(..) if self.hairpin => self.meets(ends, ports),
            Kind::Destination(..) | Kind::Redirect(_) => {
                self.interface == interface && self.meets(ends, ports)
            }
            Kind::Static(_, outside, len) => {
                self.interface == interface && moved(ends.dst, *outside, *outside, *len).is_some()
            }
            _ => false,
        }
    }

    /// The destination inside; none: there is none.
    pub fn destination(&self, ends: &Ends, own: Option<Ipv4Addr>) -> Option<Ends> {
        let mut to = ends.clone();
        let ports = match &self.kind {
            Kind::Destination(address, ports) => {
                to.dst = (*address).into();
                *ports
            }
            Kind::Redirect(ports) => {
                to.dst = own?.into();
                *ports
            }
            Kind::Static(inside, outside, len) => {
                to.dst = moved(ends.dst, *outside, *inside, *len)?.into();
                None
            }
            _ => return None,
        };
        if let Some((low, high)) = ports {
            // A range keeps the distance from the first port that was asked for.
            let asked = self.to.ports.first().filter(|_| low != high);
            let port = low + asked.map_or(0, |(first, _)| ends.dport - first);
            to.dport = port;
        }
        Some(to)
    }

    /// Whether it translates the source of a packet that leaves through `interface`.
    pub fn takes_source(&self, interface: &str, ends: &Ends) -> bool {
        let ports = matches!(ends.proto, 6 | 17 | 132 | 136);
        self.interface == interface
            && match &self.kind {
                Kind::Masquerade | Kind::Source(..) => self.meets(ends, ports),
                Kind::Static(inside, _, len) => moved(ends.src, *inside, *inside, *len).is_some(),
                _ => false,
            }
    }

    /// What the source may become; none: this can't be done.
    pub fn source(&self, ends: &Ends, own: Option<Ipv4Addr>) -> Option<Choice> {
        let IpAddr::V4(src) = ends.src else { return None };
        let ports = has_free_ports(ends.proto).then(|| self.ports.unwrap_or(PORTS));
        match &self.kind {
            Kind::Masquerade => own.map(|own| Choice { addresses: (own, own), ports }),
            Kind::Static(inside, outside, len) => {
                let to = moved(src.into(), *inside, *outside, *len)?;
                Some(Choice { addresses: (to, to), ports: None })
            }
            Kind::Source(first, last) => {
                let Some(block) = self.blocks else {
                    return Some(Choice { addresses: (*first, *last), ports });
                };
                let IpAddr::V4(inside) = self.from.addresses.first()?.low else { return None };
                let host = u32::from(src) - u32::from(inside);
                let (low, high) = self.ports.unwrap_or(PORTS);
                let each = ((u32::from(high) - u32::from(low) + 1) / u32::from(block)).max(1);
                let address = Ipv4Addr::from(u32::from(*first) + host / each);
                let start = low + (host % each) as u16 * block;
                let ports = ports.map(|_| (start, start + (block - 1)));
                (address <= *last).then_some(Choice { addresses: (address, address), ports })
            }
            _ => None,
        }
    }
}

/// An address under another prefix of the same length, with the same checksum (RFC 6296 section 3).
/// None: it isn't under the first.
pub fn prefix(address: Ipv6Addr, from: Ipv6Addr, to: Ipv6Addr, len: u8) -> Option<Moved> {
    let mask = u128::MAX << (128 - u32::from(len));
    if u128::from(address) & mask != u128::from(from) & mask {
        return None;
    }
    let moved = Ipv6Addr::from(u128::from(to) & mask | u128::from(address) & !mask);
    let sum = |words: [u16; 8]| words.iter().map(|word| u64::from(*word)).sum::<u64>() % 0xffff;
    let wanted = sum(address.segments());
    let mut words = moved.segments();
    // The subnet's word, or with longer prefixes the first of the rest that isn't all ones (3.4, 3.5).
    let at = if len <= 48 { Some(3) } else { (4..8).find(|at| words[*at] != 0xffff) };
    let Some(at) = at.filter(|at| words[*at] != 0xffff) else { return Some(Moved::Nowhere) };
    words[at] = 0;
    let rest = sum(words);
    // What is missing, in one's complement, where all ones is written as zero.
    words[at] = ((wanted + 0xffff - rest) % 0xffff) as u16;
    Some(Moved::To(words.into()))
}

impl Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |ports: &Option<(u16, u16)>| match ports {
            None => String::new(),
            Some((low, high)) if low == high => format!(" port {low}"),
            Some((low, high)) => format!(" port {low}-{high}"),
        };
        let (word, target) = match &self.kind {
            Kind::Masquerade => ("masquerade", String::new()),
            Kind::Source(first, last) if first == last => ("source", format!(" => {first}")),
            Kind::Source(first, last) => ("source", format!(" => {first}-{last}")),
            Kind::Destination(to, ports) => ("destination", format!(" => {to}{}", port(ports))),
            Kind::Redirect(ports) => ("redirect", format!(" =>{}", port(ports))),
            Kind::Static(a, b, len) => ("static", format!(" {a}/{len} <=> {b}/{len}")),
            Kind::Prefix(a, b, len) => ("prefix", format!(" {a}/{len} <=> {b}/{len}")),
        };
        write!(f, "nat {} {word} on {}", self.name, self.interface)?;
        if let Some(proto) = self.proto {
            write!(f, " {proto}")?;
        }
        let mut ends = String::new();
        self.from.print("from", &mut ends);
        self.to.print("to", &mut ends);
        f.write_str(&ends)?;
        if let Some((low, high)) = self.ports {
            write!(f, " ports {low}-{high}")?;
        }
        if let Some(size) = self.blocks {
            write!(f, " blocks {size}")?;
        }
        if self.endpoint_independent {
            f.write_str(" endpoint-independent")?;
        }
        if self.hairpin {
            f.write_str(" hairpin")?;
        }
        f.write_str(&target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    /// The examples of RFC 6296 (section 3.3 and appendix B).
    #[test]
    fn prefixes_as_in_the_rfc() {
        let (inside, outside) = (v6("fd01:203:405::"), v6("2001:db8:1::"));
        let out = prefix(v6("fd01:203:405:1::1234"), inside, outside, 48);
        assert_eq!(out, Some(Moved::To(v6("2001:db8:1:d550::1234"))));
        let back = prefix(v6("2001:db8:1:d550::1234"), outside, inside, 48);
        assert_eq!(back, Some(Moved::To(v6("fd01:203:405:1::1234"))));
        assert_eq!(prefix(v6("fd01:203:406:1::1234"), inside, outside, 48), None);
    }

    #[test]
    fn prefixes_there_and_back() {
        let mut rng = crate::rng::Rng::new(7);
        for len in 1..=64u8 {
            for _ in 0..200 {
                let wide = |rng: &mut crate::rng::Rng| {
                    Ipv6Addr::from(u128::from(rng.bits()) << 64 | u128::from(rng.bits()))
                };
                let (a, b, host) = (wide(&mut rng), wide(&mut rng), wide(&mut rng));
                let mask = u128::MAX << (128 - u32::from(len));
                let host = Ipv6Addr::from(u128::from(a) & mask | u128::from(host) & !mask);
                let Some(Moved::To(out)) = prefix(host, a, b, len) else { continue };
                assert_eq!(u128::from(out) & mask, u128::from(b) & mask);
                let sum = |a: Ipv6Addr| {
                    a.segments().iter().map(|word| u64::from(*word)).sum::<u64>() % 0xffff
                };
                assert_eq!(sum(out), sum(host), "/{len} {host} {out}");
                assert_eq!(prefix(out, b, a, len), Some(Moved::To(host)), "/{len}");
            }
        }
    }

    #[test]
    fn blocks_do_not_overlap() {
        let mut nat = Nat::new(
            "b",
            "wan0",
            Kind::Source(Ipv4Addr::new(203, 0, 113, 0), Ipv4Addr::new(203, 0, 113, 3)),
        );
        let low = "100.64.0.0".parse().expect("an address");
        let high = "100.64.0.127".parse().expect("an address");
        nat.from.addresses.push(super::super::policy::Range { low, high });
        (nat.ports, nat.blocks) = (Some((1024, 65_535)), Some(1000));
        let mut seen = std::collections::BTreeSet::new();
        for host in 0..128u32 {
            let src = IpAddr::V4((u32::from(Ipv4Addr::new(100, 64, 0, 0)) + host).into());
            let dst = "192.0.2.1".parse().expect("an address");
            let ends = Ends { src, dst, proto: 17, sport: 1, dport: 2 };
            let choice = nat.source(&ends, None).expect("a block");
            let (low, high) = choice.ports.expect("ports");
            assert_eq!(high - low, 999);
            assert!((low..=high).all(|port| seen.insert((choice.addresses.0, port))), "{host}");
        }
    }
}
