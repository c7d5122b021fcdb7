//! Whether one packet of a box is in none of many others: then they can't have all of the box, whatever they are.
//!
//! Most rules of most policies are told apart by this, at a few look-ups each; what is left is for
//! [`super::candidates`], whose work grows with the number of rules.

use super::super::ranges::{Number, Ranges};
use super::space::Space;
use std::collections::HashMap;

/// Boxes that are looked into for one packet, at most: beyond, the other index is quicker.
const LOOKS: usize = 256;

/// An aligned block of addresses: the power of two that it is long, and which one it is.
type Block = (u32, u128);

/// Boxes by one of their addresses: each stands at the smallest aligned block that holds all of them.
pub struct Corners<'s, T> {
    /// By source, by destination.
    ends: [End<'s, T>; 2],
}

struct End<'s, T> {
    /// Which lengths of blocks there are.
    lengths: Vec<u32>,
    blocks: HashMap<Block, Vec<(usize, &'s Space<T>)>>,
}

impl<'s, T: Number> Corners<'s, T> {
    /// Of boxes, each with its number, which ascend.
    pub fn new(boxes: &[(usize, &'s Space<T>)]) -> Self {
        let mut ends: [End<'s, T>; 2] =
            std::array::from_fn(|_| End { lengths: Vec::new(), blocks: HashMap::new() });
        for (i, space) in boxes {
            let at = [0, 1].map(|end| block(space.addrs(end)));
            let [Some(src), Some(dst)] = at else { continue };
            // Where it is told apart best.
            let (end, at) = if src.0 < dst.0 { (0, src) } else { (1, dst) };
            ends[end].blocks.entry(at).or_default().push((*i, space));
        }
        for end in &mut ends {
            end.lengths = end.blocks.keys().map(|(length, _)| *length).collect();
            end.lengths.sort_unstable();
            end.lengths.dedup();
        }
        Self { ends }
    }

    /// Whether no box below number `before` has one certain packet of `space`. `false` also where that isn't known.
    pub fn are_free(&self, space: &Space<T>, before: usize) -> bool {
        let Some(corner) = space.corner() else { return false };
        let mut looks = 0;
        for (end, of) in self.ends.iter().enumerate() {
            let address: u128 = corner.addrs[end].into();
            for length in &of.lengths {
                let at = (*length, address.checked_shr(*length).unwrap_or(0));
                let Some(boxes) = of.blocks.get(&at) else { continue };
                for (_, other) in boxes.iter().take_while(|(i, _)| *i < before) {
                    looks += 1;
                    if looks > LOOKS || other.has(&corner) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

fn block<T: Number>(addrs: &Ranges<T>) -> Option<Block> {
    let (a, b) = addrs.hull()?;
    let (a, b): (u128, u128) = (a.into(), b.into());
    let length = u128::BITS - (a ^ b).leading_zeros();
    Some((length, a.checked_shr(length).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::super::super::parse;
    use super::super::super::resolved::Resolved;
    use super::super::space::{Boxes, Budget};
    use super::*;

    /// Boxes of the rules, which drop what comes in.
    fn free(rules: &[&str]) -> Vec<bool> {
        let lines = rules.iter().enumerate().map(|(i, rule)| format!("rule r{i} drop in {rule}\n"));
        let policy = parse(&lines.collect::<String>(), "test").unwrap();
        let resolved = Resolved::new(&policy);
        let mut boxes = Boxes::new(&resolved);
        let spaces: Vec<Space<u32>> = policy.rules.iter().map(|r| boxes.of(&r.when).0).collect();
        let all: Vec<(usize, &Space<u32>)> = spaces.iter().enumerate().collect();
        let corners = Corners::new(&all);
        let free: Vec<bool> = all.iter().map(|(i, space)| corners.are_free(space, *i)).collect();
        for (i, space) in &all {
            let within = all[..*i].iter().any(|(_, o)| space.is_within(o, &mut Budget(u64::MAX)));
            assert!(!(free[*i] && within), "r{i} is within one above");
        }
        free
    }

    #[test]
    fn a_packet_that_no_rule_above_has_makes_a_rule_free() {
        let rules = [
            "tcp to 10.0.0.0/24 port 80",
            "tcp to 10.0.0.0/25",
            "tcp to 10.0.1.0/24",
            "udp to 10.0.0.1 port 80",
            "tcp to 10.0.0.128/25 port 80",
            "tcp from 10.0.0.0/8",
            "tcp from 10.0.0.0/8 to 192.0.2.0/24 port 443",
            "from 255.255.255.255 to 255.255.255.255",
        ];
        assert_eq!(free(&rules), [true, true, true, true, false, true, false, true]);
    }

    #[test]
    fn among_too_many_that_may_have_it_nothing_is_said() {
        let ports: Vec<String> = (0..=LOOKS).map(|i| format!("tcp to port {i}")).collect();
        let mut rules: Vec<&str> = ports.iter().map(String::as_str).collect();
        rules.push("tcp to port 60000");
        let free = free(&rules);
        assert_eq!(free.iter().filter(|free| !**free).count(), 1);
        assert_eq!(free.last(), Some(&false));
    }
}
