//! Which of many boxes may have something in common with one: an index over their fields, so that ten thousand rules
//! aren't compared with each other one by one.
//!
//! Of each field only the outermost values of a box are known here (of fields with few values, all). What the index leaves
//! out has nothing in common with the box for certain; what it names is for [`Space::without`] to look at.

use super::super::ranges::{Number, Ranges};
use super::space::{Few, Space};
use std::collections::HashMap;

/// Entries between two places where a bit vector is kept of all before.
const STRIDE: usize = 64;

/// Boxes by their fields. Each has a number; those asked for are below one.
pub struct Candidates<T> {
    few: [Kinds; 5],
    ports: [Axis<u16>; 2],
    addrs: [Axis<T>; 2],
    /// Those that are in it.
    all: Vec<u64>,
}

impl<T: Number> Candidates<T> {
    /// Of boxes, each with its number, which ascend.
    pub fn new(boxes: &[(usize, &Space<T>)]) -> Self {
        let words = boxes.last().map_or(0, |(last, _)| last / 64 + 1);
        let mut all = vec![0; words];
        boxes.iter().for_each(|(i, _)| set(&mut all, *i));
        let ends = |d: usize| boxes.iter().map(move |(i, s)| (*i, s.ports(d)));
        let addrs = |d: usize| boxes.iter().map(move |(i, s)| (*i, s.addrs(d)));
        Self {
            few: std::array::from_fn(|d| {
                Kinds::new(boxes.iter().map(|(i, s)| (*i, s.few(d))), words)
            }),
            ports: std::array::from_fn(|d| Axis::new(ends(d), words)),
            addrs: std::array::from_fn(|d| Axis::new(addrs(d), words)),
            all,
        }
    }

    /// Numbers below `end`, ascending, of all that may have something in common with `space`.
    pub fn of(&mut self, space: &Space<T>, end: usize, out: &mut Vec<usize>) {
        out.clear();
        let words = end.div_ceil(64).min(self.all.len());
        let mut bits = self.all[..words].to_vec();
        for (d, kinds) in self.few.iter_mut().enumerate() {
            kinds.keep(space.few(d), &mut bits);
        }
        for d in 0..2 {
            self.addrs[d].keep(space.addrs(d), &mut bits);
            self.ports[d].keep(space.ports(d), &mut bits);
        }
        for (i, word) in bits.into_iter().enumerate() {
            let mut left = word;
            while left != 0 {
                out.push(i * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
        out.truncate(out.partition_point(|i| *i < end));
    }
}

fn set(bits: &mut [u64], i: usize) {
    if let Some(word) = bits.get_mut(i / 64) {
        *word |= 1 << (i % 64);
    }
}

/// A field with few values: boxes that have the same ones stand together.
struct Kinds {
    kinds: Vec<(Few, Vec<u64>)>,
    /// Boxes of all kinds that have something in common with these values.
    known: HashMap<Few, Vec<u64>>,
}

impl Kinds {
    fn new<'s>(boxes: impl Iterator<Item = (usize, &'s Few)>, words: usize) -> Self {
        let mut kinds: HashMap<Few, Vec<u64>> = HashMap::new();
        for (i, few) in boxes {
            set(kinds.entry(*few).or_insert_with(|| vec![0; words]), i);
        }
        Self { kinds: kinds.into_iter().collect(), known: HashMap::new() }
    }

    fn keep(&mut self, few: &Few, bits: &mut [u64]) {
        let kinds = &self.kinds;
        let met = self.known.entry(*few).or_insert_with(|| {
            let mut all = vec![0; kinds.first().map_or(0, |(_, bits)| bits.len())];
            for (other, boxes) in kinds {
                if few.iter().zip(other).any(|(a, b)| a & b != 0) {
                    all.iter_mut().zip(boxes).for_each(|(all, boxes)| *all |= boxes);
                }
            }
            all
        });
        bits.iter_mut().zip(met).for_each(|(bits, met)| *bits &= *met);
    }
}

/// A field of numbers.
struct Axis<T> {
    starts: Sums<T>,
    ends: Sums<T>,
}

impl<T: Number> Axis<T> {
    fn new<'s>(boxes: impl Iterator<Item = (usize, &'s Ranges<T>)>, words: usize) -> Self
    where
        T: 's,
    {
        let (starts, ends) =
            boxes.filter_map(|(i, r)| r.hull().map(|(a, b)| ((a, i), (b, i)))).unzip();
        Self { starts: Sums::new(starts, words), ends: Sums::new(ends, words) }
    }

    fn keep(&self, ranges: &Ranges<T>, bits: &mut [u64]) {
        let Some((first, last)) = ranges.hull() else { return bits.fill(0) };
        // Those meet that have begun by its end, but those that have ended before its start.
        self.starts.apply(|at| at <= last, bits, |bits, begun| *bits &= begun);
        self.ends.apply(|at| at < first, bits, |bits, ended| *bits &= !ended);
    }
}

/// Boxes by one number each, and the sets of those up to every so-manieth.
struct Sums<T> {
    sorted: Vec<(T, usize)>,
    sums: Vec<u64>,
    words: usize,
}

impl<T: Number> Sums<T> {
    fn new(mut sorted: Vec<(T, usize)>, words: usize) -> Self {
        sorted.sort_unstable();
        let mut here = vec![0; words];
        let mut sums = Vec::with_capacity((sorted.len() / STRIDE + 1) * words);
        for chunk in sorted.chunks(STRIDE) {
            sums.extend_from_slice(&here);
            chunk.iter().for_each(|(_, i)| set(&mut here, *i));
        }
        sums.extend_from_slice(&here);
        Self { sorted, sums, words }
    }

    /// Changes each word of `bits` by the boxes whose number is one of the first that `is_in` says yes to.
    fn apply(&self, is_in: impl Fn(T) -> bool, bits: &mut [u64], change: impl Fn(&mut u64, u64)) {
        let len = self.sorted.partition_point(|(at, _)| is_in(*at));
        let at = len / STRIDE;
        let mut sum = self.sums[at * self.words..][..bits.len()].to_vec();
        self.sorted[at * STRIDE..len].iter().for_each(|(_, i)| set(&mut sum, *i));
        bits.iter_mut().zip(sum).for_each(|(bits, sum)| change(bits, sum));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::parse;
    use super::super::super::resolved::Resolved;
    use super::super::space::{Boxes, Budget};
    use super::*;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = String> {
        let ports = prop_oneof![
            Just(String::new()),
            (0u16..40, 0u16..40).prop_map(|(a, b)| format!(" port {}-{}", a.min(b), a.max(b))),
            (0u16..40).prop_map(|a| format!(" port {{ {a}, 65535 }}")),
            (1u16..40).prop_map(|a| format!(" port not {a}")),
        ];
        let address = prop_oneof![
            Just(String::new()),
            (0u8..8).prop_map(|a| format!(" 10.0.0.{a}")),
            (0u8..2, 28u8..32).prop_map(|(a, len)| format!(" 10.0.{a}.0/{len}")),
            Just(" { 10.0.0.1, 10.0.0.9-10.0.1.2 }".to_owned()),
        ];
        (prop_oneof![Just("in tcp"), Just("udp"), Just("out tcp")], address, ports).prop_map(
            |(what, address, ports)| {
                let to = if address.is_empty() && ports.is_empty() { "" } else { " to" };
                format!("drop {what}{to}{address}{ports}")
            },
        )
    }

    proptest! {
        #[test]
        fn who_has_something_in_common_is_named(rules in proptest::collection::vec(rule(), 1..100)) {
            let lines = rules.iter().enumerate().map(|(i, rule)| format!("rule r{i} {rule}\n"));
            let policy = parse(&lines.collect::<String>(), "test").unwrap();
            let resolved = Resolved::new(&policy);
            let mut boxes = Boxes::new(&resolved);
            let spaces: Vec<Space<u32>> =
                policy.rules.iter().map(|rule| boxes.of(&rule.when).0).collect();
            // Every third is left out, as those are that only count.
            let inside: Vec<(usize, &Space<u32>)> =
                spaces.iter().enumerate().filter(|(i, _)| i % 3 != 1).collect();
            let mut index = Candidates::new(&inside);
            let mut named = Vec::new();
            for (i, space) in spaces.iter().enumerate() {
                index.of(space, i, &mut named);
                prop_assert!(named.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(named.iter().all(|j| *j < i && j % 3 != 1), "{named:?}");
                for (j, other) in &inside {
                    let meet = space.meets(other, &mut Budget(u64::MAX));
                    prop_assert!(*j >= i || !meet || named.contains(j), "{i} and {j}");
                }
            }
        }
    }
}
