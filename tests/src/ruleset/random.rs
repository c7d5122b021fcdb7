//! Rule sets made up from a seed.

use super::{ANY_PORT, Detail, Prefix, Rule, proto};
use crate::packet::tcp;
use crate::rng::Rng;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

/// Ports that services have.
const SERVICES: [u16; 24] = [
    20, 21, 22, 23, 25, 53, 67, 69, 80, 88, 110, 119, 123, 135, 137, 139, 143, 161, 389, 443, 445,
    1433, 1521, 8080,
];

/// Percentages of a kind of policy.
#[derive(Clone, Copy)]
struct Shape {
    /// Sources, destinations that may be anything.
    any: (usize, usize),
    /// Sources, destinations that are one host; the others are prefixes.
    host: (usize, usize),
    /// Source, destination ports that may be anything.
    any_port: (usize, usize),
    /// Ports that are ranges, of those that are asked for.
    range: usize,
    /// Rules of TCP, UDP, ICMP; of the rest half ask for no protocol, half for another.
    protocols: (usize, usize, usize),
    /// Rules of TCP that ask for flags.
    flags: usize,
}

/// Access lists, firewalls, chains: percentages as in the samples of ClassBench's seeds.
const SHAPES: [Shape; 3] = [
    Shape {
        any: (1, 2),
        host: (40, 70),
        any_port: (100, 15),
        range: 30,
        protocols: (86, 2, 3),
        flags: 20,
    },
    Shape {
        any: (25, 20),
        host: (30, 35),
        any_port: (60, 45),
        range: 20,
        protocols: (56, 33, 4),
        flags: 90,
    },
    Shape {
        any: (8, 8),
        host: (45, 50),
        any_port: (75, 60),
        range: 15,
        protocols: (30, 38, 2),
        flags: 40,
    },
];

fn percent(rng: &mut Rng, share: usize) -> bool {
    rng.below(100) < share
}

/// `n` different rules like ClassBench's, of one of three kinds: networks, subnets and hosts within few places, services'
/// ports, some flags and types. Rules about any source or destination come last, as people write them.
pub fn classbench_like(n: usize, seed: u64) -> Vec<Rule> {
    let mut rng = Rng::new(seed);
    let shape = *rng.pick(&SHAPES);
    let places: Vec<Prefix> = (0..(n / 24).max(4)).map(|_| network(&mut rng, (12, 22))).collect();
    let mut seen = HashSet::with_capacity(n);
    let mut rules = Vec::with_capacity(n);
    while rules.len() < n {
        let rule = like_classbench(&shape, &places, &mut rng);
        if seen.insert(rule) {
            rules.push(rule);
        }
    }
    rules.sort_by_key(|rule| usize::from(rule.src.is_any()) + usize::from(rule.dst.is_any()));
    rules
}

fn like_classbench(shape: &Shape, places: &[Prefix], rng: &mut Rng) -> Rule {
    let src = end(shape.any.0, shape.host.0, places, rng);
    let dst = end(shape.any.1, shape.host.1, places, rng);
    let (tcp, udp, icmp) = shape.protocols;
    let proto = match rng.below(100) {
        x if x < tcp => Some(proto::TCP),
        x if x < tcp + udp => Some(proto::UDP),
        x if x < tcp + udp + icmp => Some(proto::ICMP),
        // Nobody refuses every packet in the middle of a list.
        x if x % 2 == 0 && !(src.is_any() && dst.is_any()) => None,
        _ => Some(*rng.pick(&[47, 50, 89])),
    };
    let (mut sport, mut dport, mut detail) = (ANY_PORT, ANY_PORT, None);
    match proto {
        Some(proto::TCP | proto::UDP) => {
            sport = port(shape.any_port.0, shape.range, rng);
            dport = port(shape.any_port.1, shape.range, rng);
            if proto == Some(proto::TCP) && percent(rng, shape.flags) {
                let (set, of) = *rng.pick(&[
                    (0, tcp::SYN),
                    (0, tcp::SYN),
                    (tcp::ACK, tcp::ACK),
                    (tcp::SYN, tcp::SYN | tcp::ACK),
                    (tcp::RST, tcp::RST),
                ]);
                detail = Some(Detail::Flags { set, of });
            }
        }
        Some(proto::ICMP) if percent(rng, 70) => {
            detail = Some(Detail::IcmpType(*rng.pick(&[0, 8, 13, 15, 17])));
        }
        _ => {}
    }
    Rule { src, dst, sport, dport, proto, detail }
}

fn end(any: usize, host: usize, places: &[Prefix], rng: &mut Rng) -> Prefix {
    if percent(rng, any) {
        return Prefix::any(false);
    }
    let place = *rng.pick(places);
    let len = if percent(rng, host) { 32 } else { rng.between(place.length().into(), 31) as u8 };
    Prefix::new(place.with_host(rng.bits().into()), len)
}

fn port(any: usize, range: usize, rng: &mut Rng) -> (u16, u16) {
    if percent(rng, any) {
        return ANY_PORT;
    }
    if percent(rng, range) {
        if rng.one_in(2) {
            return (1024, u16::MAX);
        }
        let low = rng.between(1, 60_000) as u16;
        return (low, low + rng.between(1, 5_000) as u16);
    }
    // Some services stand at ports of their own.
    let one = if rng.one_in(3) { rng.between(1, 65_535) as u16 } else { *rng.pick(&SERVICES) };
    (one, one)
}

/// A network of a length between the two, among addresses that hosts have.
fn network(rng: &mut Rng, (shortest, longest): (usize, usize)) -> Prefix {
    loop {
        let address = Ipv4Addr::from_bits(rng.bits() as u32);
        if (1..224).contains(&address.octets()[0]) && !address.is_loopback() {
            return Prefix::new(IpAddr::V4(address), rng.between(shortest, longest) as u8);
        }
    }
}

/// `n` different 5-tuple rules all over the address space: prefixes of /16 to /32, one in 20 of them any; one port, a
/// range or any; TCP or UDP. No rule is about any source and any destination.
pub fn five_tuples(n: usize, seed: u64) -> Vec<Rule> {
    let mut rng = Rng::new(seed);
    let mut seen = HashSet::with_capacity(n);
    let mut rules = Vec::with_capacity(n);
    while rules.len() < n {
        let mut end =
            || if rng.one_in(20) { Prefix::any(false) } else { network(&mut rng, (16, 32)) };
        let (src, dst) = (end(), end());
        if src.is_any() && dst.is_any() {
            continue;
        }
        let rule = Rule {
            src,
            dst,
            sport: port(60, 50, &mut rng),
            dport: port(10, 30, &mut rng),
            proto: Some(*rng.pick(&[proto::TCP, proto::UDP])),
            detail: None,
        };
        if seen.insert(rule) {
            rules.push(rule);
        }
    }
    rules
}

/// `n` rules of UDP no two of which take the same packet, each a source and a destination network, any high source
/// port, and a range of destination ports.
///
/// # Panics
/// Where `n` is above 60,000.
pub fn apart(n: usize) -> Vec<Rule> {
    assert!(n <= 60_000, "{n} networks of 10.0.0.0/8");
    let net =
        |a: u8, b: usize, c: usize| Prefix::new(IpAddr::V4([a, b as u8, c as u8, 0].into()), 24);
    (0..n)
        .map(|i| Rule {
            src: net(10, i / 250, i % 250),
            dst: net(198, 18 + i / 250 % 2, i % 250),
            sport: (1024, u16::MAX),
            dport: (1000 + (i % 5000) as u16, 1100 + (i % 5000) as u16),
            proto: Some(proto::UDP),
            detail: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{apart, classbench_like, five_tuples};
    use crate::ruleset::foreign::overlap;

    #[test]
    fn a_seed_makes_one_set() {
        assert_eq!(classbench_like(500, 3), classbench_like(500, 3));
        assert_ne!(classbench_like(500, 3), classbench_like(500, 4));
        assert_eq!(five_tuples(500, 3).len(), 500);
        assert_eq!(five_tuples(500, 3), five_tuples(500, 3));
    }

    #[test]
    fn rules_that_stand_apart_do() {
        let rules = apart(600);
        for (i, a) in rules.iter().enumerate() {
            assert!(rules[i + 1..].iter().all(|b| !overlap(a, b)));
        }
    }
}
