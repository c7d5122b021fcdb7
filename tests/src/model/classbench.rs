//! Rule sets of the shapes that ClassBench (Taylor and Turner, INFOCOM 2005) found in real filters: many rules over
//! addresses that nest, ports that are exact, ephemeral or anything. Packets are drawn from the rules.

use super::generate::{Case, Step};
use super::policy::{Action, End, Policy, Proto, Range, Rule, Way, Window};
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::net::IpAddr;

/// What a set of rules is like.
#[derive(Clone, Copy)]
struct Shape {
    /// Of so many rules one asks for any source, any destination.
    any_src: usize,
    any_dst: usize,
    /// Of so many rules one asks for an exact source port, an exact destination port.
    exact_sport: usize,
    exact_dport: usize,
    /// Prefixes grow by so many bits at most, from one that is there to one within it.
    growth: usize,
}

/// After the seeds of ClassBench: access control lists, firewalls, IP chains.
const SHAPES: [Shape; 3] = [
    Shape { any_src: 20, any_dst: 50, exact_sport: 50, exact_dport: 2, growth: 20 },
    Shape { any_src: 3, any_dst: 5, exact_sport: 3, exact_dport: 2, growth: 12 },
    Shape { any_src: 8, any_dst: 8, exact_sport: 4, exact_dport: 3, growth: 16 },
];

const SERVICES: [u16; 16] =
    [21, 22, 25, 53, 69, 80, 110, 123, 143, 161, 443, 1433, 1521, 1723, 5632, 31_000];

/// The most rules that only count: past a few dozens a policy is refused.
const MOST_COUNTS: usize = 40;

/// A prefix: its first bits, left-aligned as in the address of its family, and how many they are.
#[derive(Clone, Copy)]
struct Prefix {
    v6: bool,
    bits: u128,
    len: u32,
}

impl Prefix {
    fn width(v6: bool) -> u32 {
        if v6 { 128 } else { 32 }
    }

    /// A prefix within this one, up to `growth` bits longer.
    fn within(self, rng: &mut Rng, growth: usize) -> Self {
        let width = Self::width(self.v6);
        let len = (self.len + rng.between(1, growth) as u32).min(width);
        let random = u128::from(rng.bits()) << 64 | u128::from(rng.bits());
        let bits = self.bits | (random & low_bits(width - self.len) & !low_bits(width - len));
        Self { bits, len, ..self }
    }

    fn range(self) -> Range {
        let last = self.bits | low_bits(Self::width(self.v6) - self.len);
        Range { low: address(self.v6, self.bits), high: address(self.v6, last) }
    }
}

fn low_bits(n: u32) -> u128 {
    if n >= 128 { u128::MAX } else { (1 << n) - 1 }
}

fn address(v6: bool, bits: u128) -> IpAddr {
    if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }
}

/// Prefixes that nest: a few roots, and below them ever longer ones.
fn forest(rng: &mut Rng, v6: bool, count: usize, growth: usize) -> Vec<Prefix> {
    let width = Prefix::width(v6);
    let mut all: Vec<Prefix> = (0..rng.between(1, 6))
        .map(|_| {
            let len = if v6 { *rng.pick(&[16, 29, 32, 40]) } else { *rng.pick(&[4, 8, 12, 16]) };
            let random = u128::from(rng.bits()) << (width - len).min(64);
            Prefix { v6, bits: random & low_bits(width) & !low_bits(width - len), len }
        })
        .collect();
    while all.len() < count.max(1) {
        let parent = *rng.pick(&all);
        // A host has nothing within it; its neighbour is as good.
        let parent = if parent.len == width {
            Prefix { bits: parent.bits & !low_bits(8), len: width - 8, ..parent }
        } else {
            parent
        };
        let child = parent.within(rng, growth);
        all.push(child);
    }
    all
}

/// The case of a seed: up to `most` rules. Most cases have some dozens, a few have all.
pub fn case(seed: u64, interfaces: &[&str], most: usize) -> Case {
    let mut rng = Rng::new(seed ^ 0xc1a5_5be4);
    let count = match rng.below(64) {
        0 => most,
        1..=3 => rng.between(most / 4, most),
        4..=15 => rng.between(most.min(100), most.min(300)),
        _ => rng.between(1, most.min(60)),
    };
    drawn(&mut rng, interfaces, count)
}

/// The case of a seed with exactly `count` rules.
pub fn full(seed: u64, interfaces: &[&str], count: usize) -> Case {
    drawn(&mut Rng::new(seed ^ 0xf011), interfaces, count)
}

fn drawn(rng: &mut Rng, interfaces: &[&str], count: usize) -> Case {
    let policy = policy(rng, interfaces, count);
    let mut steps = Vec::new();
    let mut live = policy.clone();
    for _ in 0..rng.between(24, 48) {
        if rng.one_in(40) {
            edit(rng, &mut live);
            steps.push(Step::Swap(live.clone()));
        }
        let way = if rng.one_in(6) { Way::Out } else { Way::In };
        let interface = rng.below(interfaces.len());
        steps.push(Step::Frame { way, interface, bytes: frame(rng, &live) });
    }
    Case { policy, steps }
}

fn policy(rng: &mut Rng, interfaces: &[&str], count: usize) -> Policy {
    let shape = *rng.pick(&SHAPES);
    // IPv4, IPv6, or some of both.
    let families: &[bool] = [&[false][..], &[false], &[true], &[false, true]][rng.below(4)];
    let places = count / rng.between(1, 4);
    let mut pools = Vec::new();
    for v6 in families {
        let sources = forest(rng, *v6, places, shape.growth);
        pools.push((*v6, sources, forest(rng, *v6, places, shape.growth)));
    }
    let mut counts = 0;
    let mut rules = Vec::new();
    for i in 0..count {
        let (v6, sources, destinations) = rng.pick(&pools);
        let mut rule = rule(rng, &shape, *v6, sources, destinations);
        rule.name = format!("r{i}");
        if rng.one_in(30) {
            rule.interfaces.push((*rng.pick(interfaces)).to_owned());
        }
        if rule.action == Action::Count {
            counts += 1;
            if counts > MOST_COUNTS {
                rule.action = Action::Drop;
            }
        }
        rules.push(rule);
    }
    if rng.one_in(2) {
        // As filters have it that are kept by hand: the specific first.
        let size = |end: &End| -> u128 {
            end.addresses.first().map_or(u128::MAX, |range| match (range.low, range.high) {
                (IpAddr::V4(low), IpAddr::V4(high)) => u128::from(u32::from(high) - u32::from(low)),
                (IpAddr::V6(low), IpAddr::V6(high)) => u128::from(high) - u128::from(low),
                _ => u128::MAX,
            })
        };
        rules.sort_by_key(|rule| size(&rule.from).max(size(&rule.to)));
    }
    Policy {
        default_in: *rng.pick(&[Action::Allow, Action::Drop]),
        default_out: *rng.pick(&[Action::Allow, Action::Drop]),
        pickup: rng.one_in(2),
        window: Window::Strict,
        short: Vec::new(),
        malformed_passes: false,
        ethertypes_pass: true,
        fragments_pass: false,
        live: Vec::new(),
        nats: Vec::new(),
        rules,
    }
}

fn rule(
    rng: &mut Rng,
    shape: &Shape,
    v6: bool,
    sources: &[Prefix],
    destinations: &[Prefix],
) -> Rule {
    let proto = match rng.below(20) {
        0..=10 => Some(Proto::Tcp),
        11..=15 => Some(Proto::Udp),
        16 => Some(if v6 { Proto::Icmpv6 } else { Proto::Icmp }),
        17 => Some(Proto::Number(*rng.pick(&[47, 50, 132]))),
        _ => None,
    };
    let mut from = End::default();
    let mut to = End::default();
    if !rng.one_in(shape.any_src) {
        from.addresses.push(rng.pick(sources).range());
    }
    if !rng.one_in(shape.any_dst) {
        to.addresses.push(rng.pick(destinations).range());
    }
    if matches!(proto, Some(Proto::Tcp | Proto::Udp)) {
        from.ports.extend(ports(rng, shape.exact_sport));
        to.ports.extend(ports(rng, shape.exact_dport));
    }
    Rule {
        name: String::new(),
        enabled: !rng.one_in(40),
        action: match rng.below(20) {
            0 => Action::Count,
            1 => Action::Reject,
            2..=10 => Action::Allow,
            _ => Action::Drop,
        },
        way: (!rng.one_in(4)).then_some(Way::In),
        interfaces: Vec::new(),
        flags: (proto == Some(Proto::Tcp) && rng.one_in(10))
            .then(|| *rng.pick(&[(tcp::ACK, tcp::ACK), (0, tcp::SYN), (tcp::SYN, tcp::SYN)])),
        proto,
        from,
        to,
        icmp: None,
        states: Vec::new(),
        no_track: false,
        log: false,
        adds: Vec::new(),
    }
}

/// One port, a range, or any.
fn ports(rng: &mut Rng, exact: usize) -> Option<(u16, u16)> {
    if rng.one_in(exact) {
        let port = *rng.pick(&SERVICES);
        return Some((port, port));
    }
    match rng.below(8) {
        0 => Some((1024, 65_535)),
        1 => Some((0, 1023)),
        2 => {
            let low = rng.bits() as u16;
            Some((low, low.saturating_add(rng.below(5000) as u16)))
        }
        _ => None,
    }
}

/// What people do to a list of rules: take one out, move one, put one in.
fn edit(rng: &mut Rng, policy: &mut Policy) {
    let rules = &mut policy.rules;
    let (i, j) = (rng.below(rules.len()), rng.below(rules.len()));
    match rng.below(3) {
        _ if rules.is_empty() => {}
        0 => drop(rules.remove(i)),
        1 => rules.swap(i, j),
        _ => rules[i].enabled ^= true,
    }
}

/// A packet that a rule asks for, or that is beside it.
fn frame(rng: &mut Rng, policy: &Policy) -> Vec<u8> {
    let empty = End::default();
    let rule = if policy.rules.is_empty() { None } else { Some(rng.pick(&policy.rules)) };
    let (from, to) = rule.map_or((&empty, &empty), |rule| (&rule.from, &rule.to));
    let asked = from.addresses.iter().chain(&to.addresses).next();
    let v6 = asked.map_or_else(|| rng.one_in(3), |range| range.low.is_ipv6());
    let (src, dst) = (pick_address(rng, from, v6), pick_address(rng, to, v6));
    let packet = Packet::new().ip(&src.to_string(), &dst.to_string());
    let (sport, dport) = (pick_port(rng, from), pick_port(rng, to));
    let packet = match rule.and_then(|rule| rule.proto).map_or(17, Proto::number) {
        6 => {
            let flags = *rng.pick(&[tcp::SYN, tcp::SYN, tcp::SYN, tcp::ACK, tcp::ACK | tcp::PSH]);
            packet.tcp(sport, dport).flags(flags)
        }
        17 => packet.udp(sport, dport),
        1 | 58 => packet.ping(sport),
        other => packet.proto(other),
    };
    packet.fill(rng.between(12, 40)).build()
}

/// The first of what is asked for, its last, a neighbour of these, or one within.
fn pick_address(rng: &mut Rng, end: &End, v6: bool) -> IpAddr {
    let random = u128::from(rng.bits()) << 64 | u128::from(rng.bits());
    let Some(range) = end.addresses.first() else { return address(v6, random) };
    let (low, high) = match (range.low, range.high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => (u32::from(low).into(), u32::from(high).into()),
        (IpAddr::V6(low), IpAddr::V6(high)) => (u128::from(low), u128::from(high)),
        _ => (0, 0),
    };
    let picked: u128 = match rng.below(10) {
        0 => low,
        1 => high,
        2 => low.wrapping_sub(1),
        3 => high.wrapping_add(1),
        _ => low + random % (high - low).saturating_add(1),
    };
    address(v6, picked)
}

fn pick_port(rng: &mut Rng, end: &End) -> u16 {
    let Some((low, high)) = end.ports.first().copied() else { return rng.bits() as u16 };
    match rng.below(10) {
        0 => low,
        1 => high,
        2 => low.wrapping_sub(1),
        3 => high.wrapping_add(1),
        _ => low + rng.below(usize::from(high - low) + 1) as u16,
    }
}
