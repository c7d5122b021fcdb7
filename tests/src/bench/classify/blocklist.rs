//! `blocklist v4|v6 benign|listed hot|64k headers`: what one rule about a live set of a million addresses costs more than
//! the same rule about one address, which stands in the rule.

use super::super::Figures;
use super::sluice::Sluice;
use super::{HEADERS, HOT, SLUICE, quantile};
use crate::rng::Rng;
use crate::ruleset::{Key, Prefix, proto};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that stand alone, and prefixes.
const ALONE: usize = 950_000;
const PREFIXES: usize = 50_000;

const UNIT: &str = "ns more";

/// Runs it.
pub(super) fn measure(figures: &mut Figures, rounds: usize) {
    for (family, v6) in [("v4", false), ("v6", true)] {
        for (kind, listed) in [("benign", false), ("listed", true)] {
            let case = format!("blocklist {family} {kind}");
            if figures.wants(&[&format!("{case} hot"), &format!("{case} 64k headers")])
                && let Err(why) = measure_case(figures, &case, v6, listed, rounds)
            {
                figures.missing(SLUICE, &case, why);
            }
        }
    }
}

fn measure_case(
    figures: &mut Figures,
    case: &str,
    v6: bool,
    listed: bool,
    rounds: usize,
) -> Result<(), String> {
    eprintln!("bench: {case}");
    let list = list(v6);
    let keys = keys(&list, v6, listed);
    let (hot, many) = keys.split_at(HOT);
    let start = |policy: &str| Sluice::with_policy(policy, v6, hot, many);
    let short = start(&format!("default in drop\nrule listed drop in from {}\n", unused(v6)))?;
    let long = start("default in drop\nset listed live\nrule listed drop in from @listed\n")?;
    long.load("listed", &text(&list))?;
    if figures.wants(&[&format!("{case} memory")]) {
        let bytes = long.memory().saturating_sub(short.memory());
        figures.add(SLUICE, &format!("{case} memory"), "bytes more", bytes as f64);
    }
    for _ in 0..rounds {
        // Dropped all the same, but by the default: a flow would be known the next time.
        let few = short.round_for("default")?;
        let lots = long.round_for(if listed { "rule" } else { "default" })?;
        let more = quantile(&lots.hot, 0.5) - quantile(&few.hot, 0.5);
        figures.add(SLUICE, &format!("{case} hot"), UNIT, more);
        figures.add(SLUICE, &format!("{case} 64k headers"), UNIT, lots.many - few.many);
    }
    Ok(())
}

/// As blocklists are published.
fn text(list: &[Prefix]) -> String {
    let mut text = String::new();
    for prefix in list {
        let _ = writeln!(text, "{prefix}");
    }
    text
}

/// What no packet here comes from.
fn unused(v6: bool) -> Prefix {
    let address: IpAddr = if v6 { "2001:db8::1" } else { "192.0.2.1" }.parse().expect("an address");
    Prefix::new(address, if v6 { 128 } else { 32 })
}

/// An address that a host may have.
fn address(v6: bool, rng: &mut Rng) -> IpAddr {
    if v6 {
        let bits = u128::from(rng.bits()) << 64 | u128::from(rng.bits());
        // 2000::/3: what is given out.
        return IpAddr::V6(Ipv6Addr::from_bits(bits >> 3 | 1 << 125));
    }
    loop {
        let address = Ipv4Addr::from_bits(rng.bits() as u32);
        if (1..224).contains(&address.octets()[0]) && !address.is_loopback() {
            return IpAddr::V4(address);
        }
    }
}

/// The list: scattered addresses, and prefixes of the lengths that published lists have.
fn list(v6: bool) -> Vec<Prefix> {
    let mut rng = Rng::new(if v6 { 6 } else { 4 });
    let mut seen = HashSet::with_capacity(ALONE + PREFIXES);
    while seen.len() < PREFIXES {
        let len = if v6 { rng.between(32, 64) } else { rng.between(20, 30) };
        seen.insert(Prefix::new(address(v6, &mut rng), len as u8));
    }
    while seen.len() < ALONE + PREFIXES {
        seen.insert(Prefix::new(address(v6, &mut rng), 128));
    }
    let mut list: Vec<Prefix> = seen.into_iter().collect();
    list.sort();
    list
}

/// Datagrams from listed addresses, or from others.
fn keys(list: &[Prefix], v6: bool, listed: bool) -> Vec<Key> {
    let mut rng = Rng::new(7);
    let on_list = |address: IpAddr| {
        // Prefixes may hold listed addresses: whoever begins last before the address need not be the widest.
        let lengths = if v6 { (32..=64).chain(128..=128) } else { (20..=30).chain(32..=32) };
        lengths.into_iter().any(|len| list.binary_search(&Prefix::new(address, len)).is_ok())
    };
    let dst: IpAddr = if v6 { "2001:db8::2" } else { "198.51.100.20" }.parse().expect("an address");
    let mut source = || {
        if listed {
            let noise = u128::from(rng.bits()) << 64 | u128::from(rng.bits());
            return rng.pick(list).with_host(noise);
        }
        loop {
            let address = address(v6, &mut rng);
            if !on_list(address) {
                return address;
            }
        }
    };
    (0..HOT + HEADERS)
        .map(|i| Key {
            src: source(),
            dst,
            proto: proto::UDP,
            sport: 1024 + (i % 60_000) as u16,
            dport: 53,
            flags: 0,
            icmp_type: 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{keys, list};

    #[test]
    fn benign_packets_are_not_listed() {
        let list = list(false);
        assert_eq!(list.len(), 1_000_000);
        let held = |key: &crate::ruleset::Key| list.iter().any(|prefix| prefix.holds(key.src));
        assert!(keys(&list, false, true).iter().take(16).all(held));
        assert!(!keys(&list, false, false).iter().take(16).any(held));
    }
}
