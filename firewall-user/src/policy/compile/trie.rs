//! Intervals into the kernel's level-compressed trie (`firewall_common::classify::trie`).

use super::arena::Words;
use firewall_common::classify::{LIST, LIST_BITS, NODE, link};
use std::collections::HashMap;

/// Fewest bits of the key that a node takes, unless fewer are left.
const NARROW: u32 = 4;
/// Most bits: what the entry's four bits of size can say.
const WIDE: u32 = 16;

/// Writes intervals (start, value), the first from 0, ascending; keys have `bits` bits that count, from the top one of 32.
/// Returns the root.
pub fn write(steps: &[(u32, u32)], bits: u32, words: &mut Words) -> u32 {
    let mut writer = Writer { steps, words, known: HashMap::new() };
    writer.entry(0, 0, bits, 0..steps.len())
}

struct Writer<'w> {
    steps: &'w [(u32, u32)],
    words: &'w mut Words,
    /// The same pattern below several nodes is stored once.
    known: HashMap<Vec<u32>, u32>,
}

impl Writer<'_> {
    /// The entry for keys from `from` on whose upper `used` bits are its own, of which `bits` more count. `inside`: the
    /// intervals that reach into it.
    fn entry(&mut self, from: u32, used: u32, bits: u32, inside: std::ops::Range<usize>) -> u32 {
        let starts = inside.len() - 1;
        if starts == 0 {
            return self.steps[inside.start].1;
        }
        let size = (inside.len() as u32).next_power_of_two().ilog2();
        if size <= LIST_BITS && (bits > NARROW || 1 << bits > 2 << size) {
            return self.list(from, size, inside);
        }
        // As many entries as there are intervals, or up to twice as many.
        let wide = (starts as u32).ilog2() + 1;
        let take = wide.clamp(NARROW, WIDE).min(bits);
        self.node(from, used, take, bits, inside)
    }

    fn list(&mut self, from: u32, size: u32, inside: std::ops::Range<usize>) -> u32 {
        let steps = &self.steps[inside];
        let len = 1 << size;
        let last = steps[steps.len() - 1];
        let padded = steps.iter().copied().chain(std::iter::repeat(last)).take(len);
        let (mut starts, values): (Vec<u32>, Vec<u32>) = padded.unzip();
        // What began before begins here, for whoever gets here.
        starts[0] = from;
        starts.extend(values);
        self.store(LIST, size, starts)
    }

    fn node(
        &mut self,
        from: u32,
        used: u32,
        take: u32,
        bits: u32,
        inside: std::ops::Range<usize>,
    ) -> u32 {
        let shift = 32 - used - take;
        let mut entries = Vec::with_capacity(1 << take);
        let mut first = inside.start;
        for i in 0..1u64 << take {
            let start = u64::from(from) + (i << shift);
            let end = start + (1 << shift);
            while first + 1 < inside.end && u64::from(self.steps[first + 1].0) <= start {
                first += 1;
            }
            let mut behind = first + 1;
            // Few are inside: a walk is as quick as a search, and intervals are walked once a level.
            while behind < inside.end && u64::from(self.steps[behind].0) < end {
                behind += 1;
            }
            entries.push(self.entry(start as u32, used + take, bits - take, first..behind));
        }
        self.store(NODE, take - 1, entries)
    }

    fn store(&mut self, kind: u32, size: u32, entries: Vec<u32>) -> u32 {
        if let Some(known) = self.known.get(&entries)
            && known >> 26 == kind << 4 | size
        {
            return *known;
        }
        let entry = link(kind, size, self.words.push_halves(&entries));
        self.known.insert(entries, entry);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firewall_common::classify::trie;
    use proptest::prelude::*;

    fn naive(steps: &[(u32, u32)], key: u32) -> u32 {
        steps[steps.partition_point(|(start, _)| *start <= key) - 1].1
    }

    proptest! {
        #[test]
        fn every_key_finds_its_interval(
            starts in proptest::collection::btree_set(prop_oneof![any::<u32>(), 0x0a00_0000u32..0x0a00_1000], 0..600),
            keys in proptest::collection::vec(any::<u32>(), 50),
        ) {
            let mut starts: Vec<u32> = starts.into_iter().collect();
            if starts.first() != Some(&0) {
                starts.insert(0, 0);
            }
            let steps: Vec<(u32, u32)> = starts.iter().enumerate().map(|(i, s)| (*s, i as u32)).collect();
            let mut words = Words::default();
            let root = write(&steps, 32, &mut words);
            let arena = words.into_inner();
            let near = starts.iter().flat_map(|s| [s.wrapping_sub(1), *s, s.wrapping_add(1)]);
            for key in keys.into_iter().chain(near) {
                prop_assert_eq!(trie(arena.as_slice(), root, key), naive(&steps, key), "{:#x}", key);
            }
        }

        #[test]
        fn every_port_finds_its_interval(starts in proptest::collection::btree_set(any::<u16>(), 0..300)) {
            let mut starts: Vec<u32> = starts.into_iter().map(|s| u32::from(s) << 16).collect();
            if starts.first() != Some(&0) {
                starts.insert(0, 0);
            }
            let steps: Vec<(u32, u32)> = starts.iter().enumerate().map(|(i, s)| (*s, i as u32)).collect();
            let mut words = Words::default();
            let root = write(&steps, 16, &mut words);
            let arena = words.into_inner();
            for port in 0..=u16::MAX {
                let key = u32::from(port) << 16;
                prop_assert_eq!(trie(arena.as_slice(), root, key), naive(&steps, key), "{}", port);
            }
        }
    }
}
