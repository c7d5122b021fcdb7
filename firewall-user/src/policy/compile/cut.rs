//! Many rules into parts: rules about one stretch of destinations (or sources) stand in a part that only packets of that
//! stretch are asked for, the others in parts that every packet is asked for.
//!
//! A part's rows cost as many bits as it has rules, for each of as many values as its rules tell apart: memory grows with the
//! square of a part's rules. So parts are small where there are many rules.

use super::super::ast::{AddrItem, Family, Match};
use super::super::resolved::Resolved;
use super::Ask;
use firewall_common::abi::table::{MAX_ALWAYS, MAX_PARTS, PART_RULES};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Rules of a part that is about a stretch, at most, unless they can't be told apart.
const STRETCH_RULES: usize = 2_048;

/// Fewer, where there are parts enough and no rule has to be asked of every packet for it: rows that are a cache line or two,
/// and a quarter of the memory.
const SHORTER: [usize; 2] = [512, 1_024];

/// Addresses from the first to the second; IPv4's as they are.
type Hull = (u128, u128);

/// A part that only packets of some addresses are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its addresses; stretches don't overlap.
    pub hull: Hull,
    /// They are IPv4's.
    pub is_v4: bool,
    /// Its rules, ascending.
    pub rules: Vec<u32>,
}

impl std::fmt::Display for Stretch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (a, b) = self.hull;
        if self.is_v4 {
            write!(f, "{}-{}", Ipv4Addr::from(a as u32), Ipv4Addr::from(b as u32))
        } else {
            write!(f, "{}-{}", Ipv6Addr::from(a), Ipv6Addr::from(b))
        }
    }
}

/// Which rules stand together, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Those that every packet is asked for.
    pub always: Vec<Vec<u32>>,
    /// By destination.
    pub by_dst: Vec<Stretch>,
    /// By source.
    pub by_src: Vec<Stretch>,
}

/// All in parts that every packet is asked for.
pub fn whole(rules: usize) -> Cut {
    let all: Vec<u32> = (0..rules as u32).collect();
    Cut { always: chunks(&all), ..Cut::default() }
}

fn chunks(rules: &[u32]) -> Vec<Vec<u32>> {
    if rules.is_empty() {
        return vec![Vec::new()];
    }
    rules.chunks(PART_RULES).map(<[u32]>::to_vec).collect()
}

/// Cuts, into stretches as short as there is room for. `pinned`: rules that have to stand in part 0.
pub fn cut(asks: &[Ask<'_>], pinned: &dyn Fn(usize) -> bool, resolved: &Resolved) -> Cut {
    let longest = cut_to(STRETCH_RULES, asks, pinned, resolved);
    let asked = |cut: &Cut| cut.always.iter().map(Vec::len).sum::<usize>();
    for most in SHORTER {
        // Some are half full.
        if asks.len() <= most * (MAX_PARTS - MAX_ALWAYS) {
            let cut = cut_to(most, asks, pinned, resolved);
            let parts = cut.by_dst.len() + cut.by_src.len();
            if parts <= MAX_PARTS - MAX_ALWAYS && asked(&cut) <= asked(&longest) {
                return cut;
            }
        }
    }
    longest
}

/// Cuts into stretches of at most so many rules.
fn cut_to(
    most: usize,
    asks: &[Ask<'_>],
    pinned: &dyn Fn(usize) -> bool,
    resolved: &Resolved,
) -> Cut {
    let all: Vec<u32> = (0..asks.len() as u32).collect();
    let (kept, free): (Vec<u32>, Vec<u32>) = all.into_iter().partition(|i| pinned(*i as usize));
    let (by_dst, rest) = by_end(most, asks, free, resolved, |ask| ask.when.dst.addrs.as_ref());
    let (by_src, rest) = by_end(most, asks, rest, resolved, |ask| ask.when.src.addrs.as_ref());
    let mut always = rest;
    always.extend(kept.iter().copied());
    // Those pinned are few, and first of all: part 0 has room for them.
    always.sort_unstable_by_key(|i| (!pinned(*i as usize), *i));
    let mut always = chunks(&always);
    always.iter_mut().for_each(|part| part.sort_unstable());
    Cut { always, by_dst, by_src }
}

/// Stretches of one end of the packets, and the rules that don't fit any.
fn by_end<'p>(
    most: usize,
    asks: &[Ask<'p>],
    rules: Vec<u32>,
    resolved: &Resolved,
    list: impl Fn(&Ask<'p>) -> Option<&'p Match<AddrItem>>,
) -> (Vec<Stretch>, Vec<u32>) {
    if rules.len() <= most {
        return (Vec::new(), rules);
    }
    let (mut v4, mut v6, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules {
        let ask = &asks[rule as usize];
        match hull(ask.when.family, list(ask), resolved) {
            Some((true, hull)) => v4.push((hull, rule)),
            Some((false, hull)) => v6.push((hull, rule)),
            None => rest.push(rule),
        }
    }
    let mut out = Vec::new();
    for (is_v4, bits, rules) in [(true, 32, v4), (false, 128, v6)] {
        let mut cells = Vec::new();
        halve(most, rules, 0, bits, &mut cells, &mut rest);
        join(most, is_v4, cells, &mut out);
    }
    (out, rest)
}

/// The addresses that a rule is about, where they are of one family and it names them.
fn hull(
    family: Option<Family>,
    list: Option<&Match<AddrItem>>,
    resolved: &Resolved,
) -> Option<(bool, Hull)> {
    let list = list.filter(|list| !list.negated)?;
    let set = resolved.addresses(list);
    let v4 = Some(set.v4.as_slice()).filter(|all| !all.is_empty() && family != Some(Family::V6));
    let v6 = Some(set.v6.as_slice()).filter(|all| !all.is_empty() && family != Some(Family::V4));
    match (v4, v6) {
        (Some([(a, _), .., (_, b)] | [(a, b)]), None) => Some((true, ((*a).into(), (*b).into()))),
        (None, Some([(a, _), .., (_, b)] | [(a, b)])) => Some((false, (*a, *b))),
        _ => None,
    }
}

/// Halves a stretch until its rules are few; those that reach over a middle go to `rest`.
fn halve(
    most: usize,
    rules: Vec<(Hull, u32)>,
    from: u128,
    bits: u32,
    cells: &mut Vec<(Hull, Vec<u32>)>,
    rest: &mut Vec<u32>,
) {
    if rules.is_empty() {
        return;
    }
    let size = 1u128.checked_shl(bits).unwrap_or(0);
    let to = from.wrapping_add(size).wrapping_sub(1);
    if bits == 0 && rules.len() > most {
        // All about one address: the other end may tell them apart.
        rest.extend(rules.into_iter().map(|(_, rule)| rule));
        return;
    }
    if rules.len() <= most {
        cells.push(((from, to), rules.into_iter().map(|(_, rule)| rule).collect()));
        return;
    }
    let middle = from + (1 << (bits - 1));
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for ((a, b), rule) in rules {
        if b < middle {
            low.push(((a, b), rule));
        } else if a >= middle {
            high.push(((a, b), rule));
        } else {
            rest.push(rule);
        }
    }
    halve(most, low, from, bits - 1, cells, rest);
    halve(most, high, middle, bits - 1, cells, rest);
}

/// Joins neighbours that are small together.
fn join(most: usize, is_v4: bool, cells: Vec<(Hull, Vec<u32>)>, out: &mut Vec<Stretch>) {
    let first = out.len();
    for (hull, rules) in cells {
        if let Some(last) = out[first..].last_mut()
            && last.rules.len() + rules.len() <= most
        {
            last.hull.1 = hull.1;
            last.rules.extend(rules);
            continue;
        }
        out.push(Stretch { hull, is_v4, rules });
    }
    out[first..].iter_mut().for_each(|stretch| stretch.rules.sort_unstable());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_one_stretch_or_in_the_rest() {
        let at = |i: u32, width: u128| ((u128::from(i) << 16, (u128::from(i) << 16) + width), i);
        let mut rules: Vec<(Hull, u32)> = (0..10_000).map(|i| at(i, 255)).collect();
        rules.push(((0, u128::from(u32::MAX)), 10_000));
        let (mut cells, mut rest, mut out) = (Vec::new(), Vec::new(), Vec::new());
        halve(STRETCH_RULES, rules, 0, 32, &mut cells, &mut rest);
        assert_eq!(rest, [10_000]);
        join(STRETCH_RULES, true, cells, &mut out);
        assert!(out.iter().all(|stretch| stretch.rules.len() <= STRETCH_RULES));
        assert!(out.windows(2).all(|pair| pair[0].hull.1 < pair[1].hull.0));
        let all: Vec<u32> = out.iter().flat_map(|stretch| stretch.rules.clone()).collect();
        assert_eq!(all, (0..10_000).collect::<Vec<u32>>());
        for stretch in &out {
            let within = |i: &u32| {
                stretch.hull.0 <= u128::from(*i) << 16
                    && (u128::from(*i) << 16) + 255 <= stretch.hull.1
            };
            assert!(stretch.rules.iter().all(within));
        }
    }

    #[test]
    fn rules_about_one_address_are_left_to_the_other_end() {
        let rules = (0..5_000).map(|i| ((7, 7), i)).collect();
        let (mut cells, mut rest) = (Vec::new(), Vec::new());
        halve(STRETCH_RULES, rules, 0, 128, &mut cells, &mut rest);
        assert_eq!((cells.len(), rest.len()), (0, 5_000));
    }
}
