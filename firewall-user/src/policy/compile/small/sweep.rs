//! From "which rule asks for which values" to "which rules want this value": one walk along the
//! number line.

use super::super::super::ranges::{Number, Ranges};
use super::bits::{Bits, Pool};
use std::collections::{BTreeSet, HashMap};

/// A set of values, and the rules that ask for it.
pub struct Atom<'c, T> {
    /// The values.
    pub ranges: &'c Ranges<T>,
    /// Rules that match in it.
    pub with: &'c Bits,
    /// Rules that match outside of it only.
    pub without: &'c Bits,
}

/// One field of a packet.
pub struct Field<'c, T> {
    /// Rules that don't ask.
    pub any: Bits,
    /// All rules that match outside of their atoms only.
    pub negated: Bits,
    /// Rules that may match at all; `None`: all.
    pub mask: Option<Bits>,
    /// What is asked for.
    pub atoms: Vec<Atom<'c, T>>,
}

impl<T> Field<'_, T> {
    fn bits(&self, active: &BTreeSet<u32>) -> Bits {
        let mut bits = self.any;
        let mut outside = self.negated;
        for atom in active {
            let atom = &self.atoms[*atom as usize];
            bits.or(atom.with);
            outside.and_not(atom.without);
        }
        bits.or(&outside);
        if let Some(mask) = &self.mask {
            bits.and(mask);
        }
        bits
    }
}

/// Intervals as (start, row): the first starts at 0, each reaches to the next, neighbours differ.
pub fn sweep<T: Number>(field: &Field<'_, T>, pool: &mut Pool) -> Vec<(T, u16)> {
    // (where, atom, begins). The ranges of one atom never touch, so that at one place it either
    // begins or ends.
    let mut events: Vec<(T, u32, bool)> = Vec::new();
    for (i, atom) in field.atoms.iter().enumerate() {
        for (a, b) in atom.ranges.as_slice() {
            events.push((*a, i as u32, true));
            if let Some(end) = b.next() {
                events.push((end, i as u32, false));
            }
        }
    }
    events.sort_unstable();
    let mut active = BTreeSet::new();
    // The same few combinations come back along the line; with many sets over one another, adding
    // them up each time would be what takes long.
    let mut known: HashMap<Vec<u32>, u16> = HashMap::new();
    let mut out: Vec<(T, u16)> = Vec::new();
    let mut events = events.into_iter().peekable();
    let mut at = T::MIN;
    loop {
        while let Some((_, atom, begins)) = events.next_if(|(place, ..)| *place == at) {
            if begins {
                active.insert(atom);
            } else {
                active.remove(&atom);
            }
        }
        let key: Vec<u32> = active.iter().copied().collect();
        let row = *known.entry(key).or_insert_with(|| pool.intern(&field.bits(&active)));
        if out.last().is_none_or(|(_, last)| *last != row) {
            out.push((at, row));
        }
        match events.peek() {
            Some((place, ..)) => at = *place,
            None => return out,
        }
    }
}
