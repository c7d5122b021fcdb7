//! From "which rule asks for which values" to "which rules want this value": one walk along the number line of a field.

use super::super::ranges::{Number, Ranges};
use super::arena::Words;
use super::rows::Rows;
use std::borrow::Cow;
use std::collections::HashMap;

/// A set of values, and the rules (bits of a row) that ask for it.
#[derive(Debug)]
struct Atom<'p, T: Clone> {
    ranges: Cow<'p, Ranges<T>>,
    rules: Vec<u32>,
}

/// One field of a packet, gathered. Equal sets are one, so that a thousand rules over one big set cost what one does.
#[derive(Debug)]
pub struct Axis<'p, T: Number> {
    /// Rules that match where none of their sets does.
    negated: Vec<u64>,
    /// Rules that match outside of every set: those that don't ask, and the negated.
    outside: Vec<u64>,
    atoms: Vec<Atom<'p, T>>,
    by_value: HashMap<Ranges<T>, usize>,
    by_name: HashMap<&'p str, usize>,
}

fn set(bits: &mut [u64], rule: u32) {
    bits[rule as usize / 64] |= 1 << (rule % 64);
}

fn clear(bits: &mut [u64], rule: u32) {
    bits[rule as usize / 64] &= !(1 << (rule % 64));
}

impl<'p, T: Number> Axis<'p, T> {
    /// Of no rule, with room for `words` words of them.
    pub fn new(words: usize) -> Self {
        Self {
            negated: vec![0; words],
            outside: vec![0; words],
            atoms: Vec::new(),
            by_value: HashMap::new(),
            by_name: HashMap::new(),
        }
    }

    /// `rule` doesn't ask.
    pub fn any(&mut self, rule: u32) {
        set(&mut self.outside, rule);
    }

    /// `rule` asks for everything but the sets that are added for it.
    pub fn negate(&mut self, rule: u32) {
        set(&mut self.negated, rule);
        set(&mut self.outside, rule);
    }

    /// `rule` asks for these values.
    pub fn add(&mut self, rule: u32, ranges: Ranges<T>) {
        if let Some(at) = self.by_value.get(&ranges) {
            self.atoms[*at].rules.push(rule);
            return;
        }
        self.by_value.insert(ranges.clone(), self.atoms.len());
        self.atoms.push(Atom { ranges: Cow::Owned(ranges), rules: vec![rule] });
    }

    /// `rule` asks for the values of a named set.
    pub fn add_named(&mut self, rule: u32, name: &'p str, ranges: &'p Ranges<T>) {
        if let Some(at) = self.by_name.get(name) {
            self.atoms[*at].rules.push(rule);
            return;
        }
        self.by_name.insert(name, self.atoms.len());
        self.atoms.push(Atom { ranges: Cow::Borrowed(ranges), rules: vec![rule] });
    }

    /// The row of what lies outside of every set: of packets that don't have the field, if they meet no rule that asks.
    pub fn row_of_none(&self, rows: &mut Rows, words: &mut Words) -> u32 {
        // Whoever asks for the field, `not` or not, is about packets that have it.
        let bits: Vec<u64> =
            self.outside.iter().zip(&self.negated).map(|(all, not)| all & !not).collect();
        rows.intern(&bits, words)
    }

    /// Intervals as (start, row): the first starts at 0, each reaches to the next, neighbours differ.
    pub fn sweep(&self, rows: &mut Rows, words: &mut Words) -> Vec<(T, u32)> {
        // (where, atom, begins). The ranges of one atom never touch, so that at one place it either begins or ends.
        let mut events: Vec<(T, u32, bool)> = Vec::new();
        for (i, atom) in self.atoms.iter().enumerate() {
            for (a, b) in atom.ranges.as_slice() {
                events.push((*a, i as u32, true));
                if let Some(end) = b.next() {
                    events.push((end, i as u32, false));
                }
            }
        }
        events.sort_unstable();
        let mut here = Here::new(self);
        let mut out: Vec<(T, u32)> = Vec::new();
        let mut events = events.into_iter().peekable();
        let mut at = T::MIN;
        loop {
            while let Some((_, atom, _)) = events.next_if(|(place, ..)| *place == at) {
                here.toggle(atom);
            }
            let row = here.row(self, rows, words);
            if out.last().is_none_or(|(_, last)| *last != row) {
                out.push((at, row));
            }
            match events.peek() {
                Some((place, ..)) => at = *place,
                None => return out,
            }
        }
    }
}

/// What holds at a place of the number line. The same few combinations of sets come back along it; adding their rules up
/// each time would be what takes long, so that is done where a combination is new, from what has changed since.
struct Here {
    /// Number of the combination: the sum of its atoms', which are drawn at random.
    number: u128,
    known: HashMap<u128, u32>,
    active: Vec<bool>,
    /// Atoms that have changed since `bits` held.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    /// How many active sets a rule has.
    hits: Vec<u32>,
    bits: Vec<u64>,
}

/// A number for an atom: splitmix64, twice. Two combinations of a million have one number with chance 2^-88.
fn number(atom: u32) -> u128 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let seed = u64::from(atom) << 1;
    u128::from(mix(seed)) << 64 | u128::from(mix(mix(seed | 1)))
}

impl Here {
    fn new<T: Number>(axis: &Axis<'_, T>) -> Self {
        Self {
            number: 0,
            known: HashMap::new(),
            active: vec![false; axis.atoms.len()],
            changed: Vec::new(),
            is_changed: vec![false; axis.atoms.len()],
            hits: vec![0; axis.outside.len() * 64],
            bits: axis.outside.clone(),
        }
    }

    fn toggle(&mut self, atom: u32) {
        let at = atom as usize;
        self.active[at] = !self.active[at];
        let number = number(atom);
        self.number = if self.active[at] {
            self.number.wrapping_add(number)
        } else {
            self.number.wrapping_sub(number)
        };
        if !self.is_changed[at] {
            self.changed.push(atom);
        }
        self.is_changed[at] = !self.is_changed[at];
        if !self.is_changed[at] {
            // It is as it was; most often it is the last one.
            if let Some(place) = self.changed.iter().rposition(|other| *other == atom) {
                self.changed.swap_remove(place);
            }
        }
    }

    fn row<T: Number>(&mut self, axis: &Axis<'_, T>, rows: &mut Rows, words: &mut Words) -> u32 {
        if let Some(row) = self.known.get(&self.number) {
            return *row;
        }
        for atom in self.changed.drain(..) {
            let at = atom as usize;
            self.is_changed[at] = false;
            for rule in &axis.atoms[at].rules {
                let (word, bit) = (*rule as usize / 64, 1u64 << (rule % 64));
                let negated = axis.negated[word] & bit != 0;
                let hits = &mut self.hits[*rule as usize];
                let (before, after) =
                    if self.active[at] { (*hits, *hits + 1) } else { (*hits, *hits - 1) };
                *hits = after;
                match (before == 0, after == 0) {
                    (true, false) if negated => clear(&mut self.bits, *rule),
                    (true, false) => set(&mut self.bits, *rule),
                    (false, true) if negated => set(&mut self.bits, *rule),
                    (false, true) => clear(&mut self.bits, *rule),
                    _ => {}
                }
            }
        }
        let row = rows.intern(&self.bits, words);
        self.known.insert(self.number, row);
        row
    }
}
