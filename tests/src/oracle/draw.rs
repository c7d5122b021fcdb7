//! Random rules, from a small world of addresses and ports that nest and meet each other.

use super::rules::{
    Action, Addresses, End, Flags, INTERFACES, List, Member, Place, Ports, Rule, Rules, Set, State,
};
use crate::packet::tcp;
use crate::rng::Rng;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that everything lies around.
const PLACES4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 20, 30, 40),
    Ipv4Addr::new(10, 20, 255, 255),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(198, 51, 100, 128),
    Ipv4Addr::new(203, 0, 113, 77),
];
const PLACES6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0xffff, 0xffff, 0xffff, 0xffff),
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, 0),
    Ipv6Addr::new(0xfd00, 0x20, 0x30, 0x40, 0, 0, 0, 1),
];
const PORTS: [u16; 10] = [0, 1, 22, 53, 80, 443, 1023, 1024, 8080, 65_535];

/// Protocols that a tracked policy is asked about; SCTP and UDP-Lite are tracked in another way by the kernel.
const TRACKED: [u8; 6] = [1, 6, 17, 58, 47, 50];
const STATELESS: [u8; 12] = [1, 2, 4, 6, 17, 41, 47, 50, 58, 89, 132, 136];

/// The types of ICMP that mean the same to both where they are tracked, and some that nobody knows.
pub(super) const ICMP4: [u8; 9] = [0, 3, 5, 8, 9, 11, 13, 14, 40];
/// As [`ICMP4`], of ICMPv6.
pub(super) const ICMP6: [u8; 9] = [1, 2, 3, 4, 128, 129, 130, 132, 151];

/// The rules of a seed.
pub fn rules(seed: u64) -> Rules {
    let mut rng = Rng::new(seed ^ 0x6e66_7400);
    let place = [Place::Ingress, Place::Raw, Place::Tracked(true), Place::Tracked(false)]
        [(seed % 4) as usize];
    let mut drawn =
        Rules { seed, place, default_allow: rng.one_in(2), sets: Vec::new(), rules: Vec::new() };
    for _ in 0..rng.below(5) {
        let set = if rng.one_in(2) {
            Set::Addresses(members(&mut rng, address_sets(&drawn), 8, addresses))
        } else {
            Set::Ports(members(&mut rng, port_sets(&drawn), 6, ports))
        };
        drawn.sets.push(set);
    }
    let count = if rng.one_in(10) { rng.between(40, 90) } else { rng.between(1, 14) };
    for i in 0..count {
        let rule = rule(&mut rng, &drawn, format!("r{i}of{seed}"));
        drawn.rules.push(rule);
    }
    drawn
}

fn address_sets(drawn: &Rules) -> Vec<usize> {
    let is = |set: &Set| matches!(set, Set::Addresses(_));
    drawn.sets.iter().enumerate().filter(|(_, set)| is(set)).map(|(i, _)| i).collect()
}

fn port_sets(drawn: &Rules) -> Vec<usize> {
    let is = |set: &Set| matches!(set, Set::Ports(_));
    drawn.sets.iter().enumerate().filter(|(_, set)| is(set)).map(|(i, _)| i).collect()
}

/// Up to `most` values, and now and then a set among them.
fn members<T>(
    rng: &mut Rng,
    sets: Vec<usize>,
    most: usize,
    value: impl Fn(&mut Rng) -> T,
) -> Vec<Member<T>> {
    let mut all: Vec<Member<T>> =
        (0..rng.between(1, most)).map(|_| Member::Value(value(rng))).collect();
    if !sets.is_empty() && rng.one_in(3) {
        if rng.one_in(2) {
            all.clear();
        }
        all.push(Member::Set(*rng.pick(&sets)));
    }
    all
}

fn rule(rng: &mut Rng, drawn: &Rules, name: String) -> Rule {
    let all: &[u8] = if drawn.place.tracks() { &TRACKED } else { &STATELESS };
    let protos: Vec<u8> = match rng.below(12) {
        0..=3 => vec![6],
        4..=6 => vec![17],
        7 => vec![1],
        8 => vec![58],
        9 => vec![*rng.pick(all)],
        10 => {
            let mut several: Vec<u8> = all.iter().copied().filter(|_| rng.one_in(3)).collect();
            several.truncate(4);
            several
        }
        _ => Vec::new(),
    };
    let with_ports = protos.iter().all(|number| matches!(number, 6 | 17 | 132 | 136));
    let icmp = (matches!(protos[..], [1 | 58]) && !rng.one_in(3)).then(|| {
        let known: &[u8] = if protos == [1] { &ICMP4 } else { &ICMP6 };
        let mut types: Vec<u8> = (0..rng.between(1, 3)).map(|_| *rng.pick(known)).collect();
        types.sort_unstable();
        types.dedup();
        let codes = if rng.one_in(3) { vec![rng.below(3) as u8, 3] } else { Vec::new() };
        (types, codes)
    });
    let family = match protos[..] {
        [1] => Some(4),
        [58] => Some(6),
        _ => None,
    };
    let from = end(rng, drawn, family, with_ports);
    let to = end(rng, drawn, family, with_ports);
    let asks = from.addresses.is_some() || to.addresses.is_some() || icmp.is_some();
    Rule {
        name,
        enabled: !rng.one_in(12),
        action: *rng.pick(&[
            Action::Allow,
            Action::Allow,
            Action::Drop,
            Action::Drop,
            Action::Reject,
            Action::Count,
        ]),
        on: rng.one_in(4).then(|| {
            let names: &[&'static str] = &[INTERFACES[0], INTERFACES[1], "any-wan", "eth77"];
            let mut names: Vec<&str> = names.iter().copied().filter(|_| rng.one_in(2)).collect();
            if names.is_empty() {
                names.push(INTERFACES[0]);
            }
            (rng.one_in(3), names)
        }),
        family: (!asks && rng.one_in(5)).then(|| *rng.pick(&[4, 6])),
        flags: (protos == [6] && rng.one_in(3)).then(|| flags(rng)),
        icmp,
        state: (drawn.place.tracks() && rng.one_in(4))
            .then(|| *rng.pick(&[State::New, State::Stray])),
        protos,
        from,
        to,
    }
}

fn flags(rng: &mut Rng) -> Flags {
    let masks = [tcp::SYN, tcp::SYN | tcp::ACK, tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN, 0xc0];
    let mask = *rng.pick(&masks);
    let set = rng.bits() as u8;
    match rng.below(6) {
        0 => Flags::All(*rng.pick(&masks)),
        1 => Flags::None,
        2 => Flags::Only(*rng.pick(&masks)),
        // `flags none/...` asks that none of the mask be set.
        _ => Flags::Of(set & mask, mask),
    }
}

fn end(rng: &mut Rng, drawn: &Rules, family: Option<u8>, with_ports: bool) -> End {
    let mut end = End::default();
    if rng.one_in(2) {
        let sets = address_sets(drawn);
        let one = |rng: &mut Rng| loop {
            let value = addresses(rng);
            if family.is_none_or(|family| value.is_v4() == (family == 4)) {
                return value;
            }
        };
        let most = if rng.one_in(2) { 1 } else { 5 };
        end.addresses = Some(List { not: rng.one_in(4), members: members(rng, sets, most, one) });
    }
    if with_ports && rng.one_in(2) {
        let most = if rng.one_in(2) { 1 } else { 4 };
        let members = members(rng, port_sets(drawn), most, ports);
        end.ports = Some(List { not: rng.one_in(4), members });
    }
    end
}

/// Ports, mostly those of the list or between two of them.
fn ports(rng: &mut Rng) -> Ports {
    let one = |rng: &mut Rng| if rng.one_in(4) { rng.bits() as u16 } else { *rng.pick(&PORTS) };
    let (a, b) = (one(rng), one(rng));
    if rng.one_in(2) { (a, a) } else { (a.min(b), a.max(b)) }
}

/// Addresses: a place, a prefix around one, or a range that begins near one.
fn addresses(rng: &mut Rng) -> Addresses {
    if rng.one_in(2) {
        let at = u32::from(*rng.pick(&PLACES4));
        let ip = |bits: u32| IpAddr::V4(bits.into());
        return match rng.below(3) {
            0 => Addresses::One(ip(near4(rng, at))),
            1 => {
                let bits = *rng.pick(&[4u8, 8, 9, 12, 15, 16, 17, 22, 24, 25, 30, 31, 32]);
                Addresses::Prefix(ip(at & u32::MAX << (32 - u32::from(bits))), bits)
            }
            _ => {
                let low = near4(rng, at);
                let span = 1 + rng.bits() as u32 % (1 << *rng.pick(&[1u32, 4, 8, 16, 20]));
                Addresses::Range(ip(low), ip(low.saturating_add(span)))
            }
        };
    }
    let at = u128::from(*rng.pick(&PLACES6));
    let ip = |bits: u128| IpAddr::V6(bits.into());
    match rng.below(3) {
        0 => Addresses::One(ip(at ^ rng.below(2) as u128)),
        1 => {
            let bits = *rng.pick(&[7u8, 16, 31, 32, 33, 47, 48, 63, 64, 65, 96, 127, 128]);
            Addresses::Prefix(ip(at & u128::MAX << (128 - u32::from(bits))), bits)
        }
        _ => {
            let span = 1 + u128::from(rng.bits()) % (1 << *rng.pick(&[1u32, 8, 32, 62]));
            Addresses::Range(ip(at), ip(at.saturating_add(span)))
        }
    }
}

fn near4(rng: &mut Rng, at: u32) -> u32 {
    if rng.one_in(2) { at } else { at.wrapping_add(rng.below(300) as u32) }
}
