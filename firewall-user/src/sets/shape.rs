//! How much room entries need, and where in an arena what stands.
//!
//! Half of the slots are to stay free: whoever adds an entry tries [`PROBES`] of them. An arena has as many slots as fit,
//! so that a set grows within it; only in the largest may more than half be taken when it is filled.

use super::SetKind;
use firewall_common::abi::set::{PROBES, SET_ARENAS, SHAPE, SLOT4, SLOT6};
use thiserror::Error;

/// Words of the bits of all ports.
pub const PORT_WORDS: u32 = 1 << 10;
/// Least slots of a table: a look-up tries so many, and the walk mustn't come round.
const LEAST: u64 = 2 * PROBES as u64;
/// Largest class, as `SetHead::class` counts.
pub const CLASSES: u32 = SET_ARENAS.len() as u32;

/// Entries of the tables, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// IPv4.
    pub four: u64,
    /// IPv6.
    pub six: u64,
}

impl Counts {
    /// Both.
    pub const fn total(self) -> u64 {
        self.four + self.six
    }

    /// Twice as many.
    #[must_use]
    pub const fn doubled(self) -> Self {
        Self { four: self.four * 2, six: self.six * 2 }
    }
}

/// More entries than the largest arena holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "{} entries ({} IPv4, {} IPv6) are too many; a live set has room for {room} of these",
    .seen.total(), .seen.four, .seen.six
)]
pub struct TooMany {
    /// How many there are.
    pub seen: Counts,
    /// For how many of such a mixture there is room.
    pub room: u64,
}

/// Where in an arena what stands: first words, and how many there are of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// 1 plus the index of the arena's size.
    pub class: u32,
    /// First word of the gate; 0: none.
    pub gate: u32,
    /// How far a hash of 32 bits is shifted down to be the number of one of its bits.
    pub gate_shift: u32,
    /// First word of the ports' bits; 0: none.
    pub ports: u32,
    /// First word of the filter.
    pub filter: u32,
    /// Bits of the filter less 1.
    pub filter_mask: u32,
    /// First word of the IPv4 slots.
    pub first4: u32,
    /// IPv4 slots.
    pub slots4: u32,
    /// First word of the IPv6 slots.
    pub first6: u32,
    /// IPv6 slots.
    pub slots6: u32,
}

/// A part of the slots that may be taken.
#[derive(Clone, Copy)]
struct Load {
    of: u64,
    taken: u64,
}

const HALF: Load = Load { of: 2, taken: 1 };
const MOST: Load = Load { of: 4, taken: 3 };

impl Load {
    const fn slots(self, entries: u64) -> u64 {
        let slots = (entries * self.of).div_ceil(self.taken);
        if slots < LEAST { LEAST } else { slots }
    }
}

/// Words of the gate of an arena: half as many bits as there may be bytes, 9 or more for each entry of a table of IPv4
/// that is half full. In the largest, each IPv4 network that the gate knows has its own.
const fn gate_words(words: u64) -> u64 {
    words / 32
}

/// Words of an arena of `class` that slots and their filter share out, and those of the filter: 16 bits for each entry of
/// a table that is half full.
fn room(class: u32) -> (u64, u64) {
    let words = SET_ARENAS.get(class as usize - 1).copied().unwrap_or(0) as u64;
    let room = words - u64::from(SHAPE) - gate_words(words);
    let filter = 1 << (room / 9).ilog2();
    (room - filter, filter)
}

/// The smallest arena that holds so many entries, and how it is shared out.
///
/// # Errors
/// None does.
pub fn plan(kind: SetKind, counts: Counts) -> Result<Shape, TooMany> {
    if kind == SetKind::Ports {
        return Ok(of_ports());
    }
    (1..=CLASSES)
        .find_map(|class| shaped(class, counts, HALF))
        .or_else(|| shaped(CLASSES, counts, MOST))
        .ok_or_else(|| TooMany { seen: counts, room: most(counts) })
}

/// As [`plan`], with room for as many again if there is any.
///
/// # Errors
/// As there.
pub fn plan_grown(kind: SetKind, counts: Counts) -> Result<Shape, TooMany> {
    plan(kind, counts.doubled()).or_else(|_| plan(kind, counts))
}

/// Entries of a mixture like `counts` that the largest arena holds.
pub fn most(counts: Counts) -> u64 {
    let counts = if counts.total() == 0 { Counts { four: 1, six: 0 } } else { counts };
    let scaled = |n: u64| Counts {
        four: (u128::from(counts.four) * u128::from(n) / u128::from(counts.total())) as u64,
        six: (u128::from(counts.six) * u128::from(n)).div_ceil(u128::from(counts.total())) as u64,
    };
    let (mut fits, mut too_many) = (0u64, SET_ARENAS[SET_ARENAS.len() - 1] as u64);
    while fits + 1 < too_many {
        let n = u64::midpoint(fits, too_many);
        if shaped(CLASSES, scaled(n), MOST).is_some() { fits = n } else { too_many = n }
    }
    fits
}

fn of_ports() -> Shape {
    let ports = SHAPE;
    let filter = ports + PORT_WORDS;
    let slots = Shape {
        class: 1,
        gate: 0,
        gate_shift: 0,
        ports,
        filter,
        filter_mask: 63,
        first4: filter + 1,
        slots4: 0,
        first6: filter + 1,
        slots6: 0,
    };
    debug_assert!((slots.first6 as usize) < SET_ARENAS[0]);
    slots
}

fn shaped(class: u32, counts: Counts, load: Load) -> Option<Shape> {
    const W4: u64 = SLOT4 as u64;
    const W6: u64 = SLOT6 as u64;
    let (room, filter_words) = room(class);
    let (need4, need6) = (load.slots(counts.four), load.slots(counts.six));
    let spare = room.checked_sub(need4 * W4 + need6 * W6)?;
    // What isn't needed is shared out as the entries are, with something for a family that may yet come.
    let some = counts.total() / 8 + 1;
    let (weight4, weight6) = ((counts.four + some) * W4, (counts.six + some) * W6);
    let spare6 = (u128::from(spare) * u128::from(weight6) / u128::from(weight4 + weight6)) as u64;
    let slots6 = need6 + spare6 / W6;
    let slots4 = need4 + (spare - spare6) / W4;
    let gate_words = gate_words(SET_ARENAS[class as usize - 1] as u64) as u32;
    let filter = SHAPE + gate_words;
    let first4 = filter + filter_words as u32;
    Some(Shape {
        class,
        gate: SHAPE,
        gate_shift: 32 - (gate_words * 64).ilog2(),
        ports: 0,
        filter,
        filter_mask: (filter_words * 64 - 1) as u32,
        first4,
        slots4: slots4 as u32,
        first6: first4 + (slots4 * W4) as u32,
        slots6: slots6 as u32,
    })
}

impl Shape {
    /// Words of the gate.
    pub const fn gate_words(&self) -> u32 {
        if self.gate == 0 { 0 } else { 1 << (32 - self.gate_shift - 6) }
    }

    /// Words of its arena.
    pub fn words(&self) -> usize {
        SET_ARENAS.get(self.class as usize - 1).copied().unwrap_or(0)
    }

    /// Whether half of the slots of a family are taken by so many entries.
    pub const fn is_full(&self, counts: Counts) -> bool {
        counts.four * 2 > self.slots4 as u64 || counts.six * 2 > self.slots6 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn four(n: u64) -> Counts {
        Counts { four: n, six: 0 }
    }

    fn class(counts: Counts) -> u32 {
        plan(SetKind::Addresses, counts).expect("fits").class
    }

    #[test]
    fn the_smallest_arena_that_stays_half_empty_is_taken() {
        assert_eq!([0, 1_700, 2_000].map(|n| class(four(n))), [1, 1, 2]);
        assert_eq!([29_000, 32_000].map(|n| class(four(n))), [2, 3]);
        assert_eq!([230_000, 250_000, 1_000_000, 2_000_000].map(|n| class(four(n))), [3, 4, 4, 4]);
        assert_eq!(class(Counts { four: 0, six: 1_000_000 }), 4);
        assert_eq!(plan(SetKind::Ports, four(0)).expect("fits").class, 1);
    }

    #[test]
    fn too_many_says_how_many_and_how_many_fit() {
        let error = plan(SetKind::Addresses, four(5_000_000)).expect_err("too many");
        assert_eq!(error.seen, four(5_000_000));
        assert!((2_500_000..3_000_000).contains(&error.room), "{error}");
        assert!(plan(SetKind::Addresses, four(error.room)).is_ok());
        assert!(plan(SetKind::Addresses, four(error.room + 1)).is_err());
        let said = error.to_string();
        assert!(
            said.contains("5000000 entries") && said.contains(&error.room.to_string()),
            "{said}"
        );
        // Growing takes what there is where twice as much isn't to be had.
        assert_eq!(plan_grown(SetKind::Addresses, four(error.room)).expect("fits").class, CLASSES);
        assert_eq!(plan_grown(SetKind::Addresses, four(1_800)).expect("fits").class, 2);
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_all_of_it_fits(a in 0u64..2_600_000, b in 0u64..1_300_000, bits in 0u32..22) {
            let counts = Counts { four: a >> bits, six: b >> bits };
            let Ok(shape) = plan(SetKind::Pairs, counts) else {
                prop_assert!(most(counts) < counts.total());
                return Ok(());
            };
            let filter_words = (shape.filter_mask + 1) / 64;
            let mut parts = vec![
                (0, SHAPE),
                (shape.filter, filter_words),
                (shape.first4, shape.slots4 * SLOT4),
                (shape.first6, shape.slots6 * SLOT6),
            ];
            prop_assert!(shape.gate_words() >= 64);
            parts.push((shape.gate, shape.gate_words()));
            parts.sort_unstable();
            for pair in parts.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{parts:?}");
            }
            let (last, words) = parts[parts.len() - 1];
            prop_assert!((last + words) as usize <= shape.words());
            prop_assert!((shape.filter_mask + 1).is_power_of_two());
            prop_assert!(shape.slots4 > PROBES && shape.slots6 > PROBES);
            let of_four = if shape.class == CLASSES { 3 } else { 2 };
            prop_assert!(counts.four * 4 <= u64::from(shape.slots4) * of_four);
            prop_assert!(counts.six * 4 <= u64::from(shape.slots6) * of_four);
            let slots = u64::from(shape.slots4 + shape.slots6);
            if shape.class < CLASSES {
                prop_assert!(u64::from(shape.filter_mask) + 1 >= 16 * counts.total(), "{slots}");
            }
        }
    }
}
