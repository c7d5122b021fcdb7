//! Rows of a part: sets of its rules as bit vectors, each distinct one stored once.

use super::arena::Words;
use std::collections::HashMap;

/// How long the rows of a part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Words of rules.
    pub words: usize,
    /// Words that sum those up.
    pub summaries: usize,
    /// Words of translation rules behind them: 0 or 1.
    pub nats: usize,
}

impl Shape {
    /// For so many rules, and translations or none.
    pub const fn new(rules: usize, nats: bool) -> Self {
        let words = rules.div_ceil(64);
        Self { words, summaries: words.div_ceil(64), nats: nats as usize }
    }

    /// Words of bits: rules', then translations'.
    pub const fn bits(self) -> usize {
        self.words + self.nats
    }
}

/// A number for a row. Tens of thousands of long rows are asked for theirs, so it is the quickest that will do: rows with the
/// same number are compared.
fn hash(bits: &[u64]) -> u64 {
    // The odd number nearest to 2^64 over the golden ratio (Knuth, volume 3, 6.4).
    bits.iter().fold(0, |hash: u64, word| {
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// The distinct rows of a part.
#[derive(Debug)]
pub struct Rows {
    /// How long they are.
    pub shape: Shape,
    by_hash: HashMap<u64, Vec<u32>>,
    /// Where a row is put together.
    row: Vec<u64>,
    count: usize,
}

impl Rows {
    /// None yet.
    pub fn new(shape: Shape) -> Self {
        Self { shape, by_hash: HashMap::new(), row: Vec::new(), count: 0 }
    }

    /// Where the row stands that holds exactly these bits.
    pub fn intern(&mut self, bits: &[u64], words: &mut Words) -> u32 {
        let Shape { summaries, .. } = self.shape;
        let same = self.by_hash.entry(hash(bits)).or_default();
        let stands = |at: &&u32| words.get(**at + summaries as u32, bits.len()) == bits;
        if let Some(at) = same.iter().find(stands) {
            return *at;
        }
        self.row.clear();
        self.row.resize(summaries, 0);
        for (i, word) in bits[..self.shape.words].iter().enumerate() {
            if *word != 0 {
                self.row[i / 64] |= 1 << (i % 64);
            }
        }
        self.row.extend_from_slice(bits);
        // A row of no rules at all still has a summary that can be read.
        if self.row.is_empty() {
            self.row.push(0);
        }
        let at = words.push(&self.row);
        same.push(at);
        self.count += 1;
        at
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_one_and_are_summed_up() {
        let mut words = Words::default();
        let mut rows = Rows::new(Shape::new(4161, true));
        assert_eq!(rows.shape, Shape { words: 66, summaries: 2, nats: 1 });
        let mut bits = vec![0; 67];
        bits[0] = 1;
        bits[65] = 2;
        let first = rows.intern(&bits, &mut words);
        let same = rows.intern(&bits, &mut words);
        bits[66] = 1;
        let other = rows.intern(&bits, &mut words);
        assert_eq!((first, same, other, rows.len()), (0, 0, 69, 2));
        assert_eq!(words.get(0, 4), [1, 2, 1, 0]);
        assert_eq!(words.get(69, 2), [1, 2], "translations aren't summed up");
    }
}
