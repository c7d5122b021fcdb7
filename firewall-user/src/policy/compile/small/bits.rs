//! Rows: sets of rules as bit vectors, each distinct one stored once.

use firewall_common::abi::small::{MAX_ROWS, ROW_ALL, ROW_NONE, WORDS};
use std::collections::HashMap;

/// Rules, by their place among the enabled ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits(pub [u64; WORDS]);

impl Bits {
    /// Adds a rule.
    pub fn set(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }
    /// Adds all rules of another.
    pub fn or(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a |= b;
        }
    }
    /// Keeps only rules that are in another, too.
    pub fn and(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a &= b;
        }
    }
    /// Takes out all rules of another.
    pub fn and_not(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a &= !b;
        }
    }
}

/// The pool of distinct rows. Counts on past the limit, so that an error can say how many a policy
/// needs.
pub struct Pool {
    rows: Vec<Bits>,
    by_bits: HashMap<Bits, u16>,
}

impl Pool {
    /// Row 0 is no rule, row 1 is each of `rules` and no bit beyond: where nothing asks for anything,
    /// the AND of all rows must not name a rule that isn't there.
    pub fn new(rules: impl Iterator<Item = usize>) -> Self {
        let mut all = Bits::default();
        rules.for_each(|rule| all.set(rule));
        let mut by_bits = HashMap::with_capacity(1024);
        by_bits.insert(all, ROW_ALL);
        by_bits.insert(Bits::default(), ROW_NONE);
        Self { rows: vec![Bits::default(), all], by_bits }
    }

    /// The row that holds exactly these bits.
    pub fn intern(&mut self, bits: &Bits) -> u16 {
        if let Some(row) = self.by_bits.get(bits) {
            return *row;
        }
        // Past the limit the number no longer matters: the policy will be refused.
        let number = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
        self.rows.push(*bits);
        self.by_bits.insert(*bits, number);
        number
    }

    /// Distinct rows so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Stores the rows; those past the limit are left out.
    pub fn write(&self, rows: &mut [[u64; WORDS]; MAX_ROWS]) {
        for (to, from) in rows.iter_mut().zip(&self.rows) {
            *to = from.0;
        }
    }
}
