//! The words of a policy as they are put together.

/// Words, and halves of them, one behind the other. The kernel maps them as they stand.
#[derive(Debug, Default)]
pub struct Words {
    words: Vec<u64>,
    /// Words of the arena before the first.
    base: usize,
}

impl Words {
    /// Words that will stand behind `base` others, a multiple of eight.
    pub const fn behind(base: usize) -> Self {
        Self { words: Vec::new(), base }
    }

    /// How many words there are.
    pub const fn len(&self) -> usize {
        self.words.len()
    }

    /// Words `at .. at + len`.
    pub fn get(&self, at: u32, len: usize) -> &[u64] {
        &self.words[at as usize - self.base..][..len]
    }

    /// Puts words behind the others; where they begin.
    pub fn push(&mut self, words: &[u64]) -> u32 {
        let at = self.base + self.words.len();
        self.words.extend_from_slice(words);
        at as u32
    }

    /// Puts half-words behind the others, such that those of a line of the cache (16) don't stand in two where they are
    /// as many as a power of two; where they begin, in halves.
    pub fn push_halves(&mut self, halves: &[u32]) -> u32 {
        let align = halves.len().next_power_of_two().clamp(2, 16) / 2;
        self.words.resize(self.words.len().next_multiple_of(align), 0);
        let at = (self.base + self.words.len()) as u32 * 2;
        self.words.extend(halves.chunks(2).map(|pair| {
            let second = pair.get(1).copied().unwrap_or(0);
            if cfg!(target_endian = "little") {
                u64::from(second) << 32 | u64::from(pair[0])
            } else {
                u64::from(pair[0]) << 32 | u64::from(second)
            }
        }));
        at
    }

    /// All of them.
    pub fn into_inner(self) -> Vec<u64> {
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firewall_common::classify::Arena as _;

    #[test]
    fn halves_are_read_where_they_were_put() {
        let mut words = Words::default();
        words.push(&[7]);
        let at = words.push_halves(&[1, 2, 3]);
        let line = words.push_halves(&[9; 16]);
        assert_eq!((at, line), (4, 16));
        let all = words.into_inner();
        let read: Vec<u32> = (at..at + 4).map(|i| all.as_slice().half(i)).collect();
        assert_eq!((all[0], read), (7, vec![1, 2, 3, 0]));
        assert_eq!(all.as_slice().half(31), 9);
    }
}
