//! The first rule of a part that a packet meets.

use super::{Arena, intervals, trie};
use crate::abi::{
    iface::IFACE_SLOTS,
    set::GATES,
    table::{PART_WORDS, Part, STATES},
};

/// What a packet is looked up by.
///
/// In the kernel it stands in memory of a map and is read from there at each use: whoever checks the program then knows
/// nothing of it, and walks a loop once instead of once for each protocol.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Fields {
    /// Source and destination: IPv4 host-endian in the lower 32 bits of the first word; IPv6 as two halves.
    pub src: [u64; 2],
    /// See `src`.
    pub dst: [u64; 2],
    /// Source port.
    pub sport: u32,
    /// Destination port; `type << 8 | code`.
    pub dport: u32,
    /// Protocol; TCP: 256 + flags.
    pub kind: u32,
    /// `(direction * IFACE_SLOTS + slot) * STATES + state`, and times `PLACES` what the policy's gates say
    /// ([`crate::abi::table::RuleTable::gates`]).
    pub place: u32,
    /// `HAS_*`.
    pub has: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// [`Fields::has`]: the addresses are IPv4's.
pub const HAS_V4: u32 = 1;
/// [`Fields::has`]: a source port.
pub const HAS_SPORT: u32 = 2;
/// [`Fields::has`]: a destination port, or type and code.
pub const HAS_DPORT: u32 = 4;

/// Values of [`Fields::kind`].
pub const KINDS: usize = 512;
/// Values of [`Fields::place`], for each answer of the gates.
pub const PLACES: usize = 2 * IFACE_SLOTS * STATES;
/// What [`Fields::place`] is at most, plus 1.
const ALL_PLACES: u32 = (PLACES as u32) << GATES;

/// Rows of the six fields.
pub type Rows = [u32; 6];

/// Words that sum a row up, at most.
const SUMMARIES: u32 = (PART_WORDS / 64) as u32;

/// What [`first`] says where no rule is met.
pub const NO_RULE: u32 = u32::MAX;

/// Stores a row where whoever checks the program forgets what it knows of it: what was learnt on the many ways through one
/// look-up would be multiplied by those through the next.
#[inline(always)]
fn put(rows: &mut Rows, field: usize, row: u32) {
    // SAFETY: a reference is valid for writes.
    unsafe { (&raw mut rows[field]).write_volatile(row) };
}

/// Looks every field up. In the kernel `out` is memory of a map.
#[inline(always)]
pub fn rows<A: Arena + ?Sized>(arena: &A, part: &Part, f: &Fields, out: &mut Rows) {
    let [src, dst] = [&f.src, &f.dst].map(|end| [volatile(&end[0]), volatile(&end[1])]);
    if volatile(&f.has) & HAS_V4 != 0 {
        put(out, 0, trie(arena, part.src4, src[0] as u32));
        put(out, 1, trie(arena, part.dst4, dst[0] as u32));
    } else {
        put(out, 0, intervals(arena, &part.src6, src[0], src[1]));
        put(out, 1, intervals(arena, &part.dst6, dst[0], dst[1]));
    }
    if volatile(&f.has) & HAS_SPORT != 0 {
        put(out, 2, trie(arena, part.sport, volatile(&f.sport) << 16));
    } else {
        put(out, 2, part.no_sport);
    }
    if volatile(&f.has) & HAS_DPORT != 0 {
        put(out, 3, trie(arena, part.dport, volatile(&f.dport) << 16));
    } else {
        put(out, 3, part.no_dport);
    }
    put(out, 4, arena.half(part.kind + (volatile(&f.kind) & (KINDS as u32 - 1))));
    put(out, 5, arena.half(part.place + (volatile(&f.place) & (ALL_PLACES - 1))));
}

#[inline(always)]
fn volatile<T: Copy>(value: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(value).read_volatile() }
}

/// Word `at` of all rows: the bits that all have.
#[inline(always)]
fn all<A: Arena + ?Sized>(arena: &A, rows: &Rows, at: u32) -> u64 {
    arena.word(rows[0] + at)
        & arena.word(rows[1] + at)
        & arena.word(rows[2] + at)
        & arena.word(rows[3] + at)
        & arena.word(rows[4] + at)
        & arena.word(rows[5] + at)
}

/// The first rule that decides and whose conditions all hold, by its place in the part; [`NO_RULE`].
#[inline(always)]
#[must_use]
pub fn first<A: Arena + ?Sized>(arena: &A, part: &Part, rows: &Rows) -> u32 {
    if part.words == 1 {
        // Nothing to sum up.
        let met = all(arena, rows, part.summaries) & arena.word(part.terminal);
        return if met == 0 { NO_RULE } else { met.trailing_zeros() };
    }
    let mut block = 0;
    while block < SUMMARIES && block < part.summaries {
        let mut summary = all(arena, rows, block);
        let mut left = 64;
        while left != 0 && summary != 0 {
            let word = block * 64 + summary.trailing_zeros();
            let met = all(arena, rows, part.summaries + word) & arena.word(part.terminal + word);
            if met != 0 {
                return word * 64 + met.trailing_zeros();
            }
            summary &= summary - 1;
            left -= 1;
        }
        block += 1;
    }
    NO_RULE
}

/// Where a search stands that goes on behind a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This rule decides, and its conditions hold.
    Found(u32),
    /// Go on from this place.
    From(u32),
    /// No rule is left.
    Over,
}

/// One step of a search for what [`first`] says from place `from` on. A step and not a loop: a kernel's verifier would walk
/// a loop from each place where it may begin, a step it walks once.
#[inline(always)]
#[must_use]
pub fn step<A: Arena + ?Sized>(arena: &A, part: &Part, rows: &Rows, from: u32) -> Step {
    let (word, block) = (from >> 6, from >> 12);
    // Behind a row stands another.
    if word >= part.words {
        return Step::Over;
    }
    let met = all(arena, rows, part.summaries + word)
        & arena.word(part.terminal + word)
        & (!0u64 << (from & 63));
    if met != 0 {
        return Step::Found(word * 64 + met.trailing_zeros());
    }
    // Words behind this one; in two steps, as one of 64 would be none.
    let summary = all(arena, rows, block) & (!0u64 << (word & 63) << 1);
    if summary != 0 {
        return Step::From((block * 64 + summary.trailing_zeros()) * 64);
    }
    Step::From((block + 1) << 12)
}

/// Whether a rule of the part is met, by its place in it.
#[inline(always)]
#[must_use]
pub fn meets<A: Arena + ?Sized>(arena: &A, part: &Part, rows: &Rows, rule: u32) -> bool {
    all(arena, rows, part.summaries + rule / 64) >> (rule % 64) & 1 != 0
}

/// The translation rules that are met: `word` is `Settings::nat_word`.
#[inline(always)]
#[must_use]
pub fn nat_word<A: Arena + ?Sized>(arena: &A, rows: &Rows, word: u32) -> u64 {
    all(arena, rows, word)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::{vec, vec::Vec};

    #[test]
    fn steps_find_each_rule_that_is_met() {
        const RULES: [u32; 7] = [0, 63, 64, 4095, 4096, 5000, 8319];
        let (words, summaries) = (130u32, 3u32);
        // Words of no part, a row, and the rules that decide: all but one that is met.
        let row = 5usize;
        let terminal = row + (summaries + words) as usize;
        // What stands behind both would say yes to everything.
        let mut arena = vec![0u64; terminal + words as usize + 8];
        for rule in RULES {
            let word = rule as usize / 64;
            arena[row + word / 64] |= 1 << (word % 64);
            arena[row + summaries as usize + word] |= 1 << (rule % 64);
        }
        arena[terminal..].fill(!0);
        arena[terminal + 5000 / 64] &= !(1 << (5000 % 64));
        let part = Part { words, summaries, terminal: terminal as u32, ..Part::default() };
        let rows = [row as u32; 6];
        let (mut found, mut from) = (Vec::new(), 0);
        for _ in 0..2 * (words + summaries) {
            match step(arena.as_slice(), &part, &rows, from) {
                Step::Over => break,
                Step::From(next) => {
                    assert!(next > from, "{next} is not behind {from}");
                    from = next;
                }
                Step::Found(rule) => {
                    found.push(rule);
                    from = rule + 1;
                }
            }
        }
        assert_eq!(found, [0, 63, 64, 4095, 4096, 8319]);
        assert_eq!(first(arena.as_slice(), &part, &rows), 0);
    }
}
