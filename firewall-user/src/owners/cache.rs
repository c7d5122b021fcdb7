//! What is remembered of processes, cgroups, executables and users: each a table of fixed size, out of which
//! what was asked for least lately goes first, and is counted.

use hashlink::LruCache;
use std::hash::Hash;

/// A table of fixed size.
pub struct Cache<K, V> {
    known: LruCache<K, V>,
    forgotten: u64,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// With room for so many.
    pub fn new(room: usize) -> Self {
        Self { known: LruCache::new(room), forgotten: 0 }
    }

    /// Looks without a trace.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.known.peek(key)
    }

    /// Looks, so that it stays.
    pub fn touch(&mut self, key: &K) -> Option<&mut V> {
        self.known.get_mut(key)
    }

    /// Puts something in, in the place of what was asked for least lately.
    pub fn put(&mut self, key: K, value: V) {
        if self.known.len() == self.known.capacity() && !self.known.contains_key(&key) {
            self.known.remove_lru();
            self.forgotten += 1;
        }
        self.known.insert(key, value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// How many made room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let mut cache = Cache::new(3);
        for i in 0..3 {
            cache.put(i, i * 10);
        }
        assert_eq!(cache.touch(&0), Some(&mut 0));
        assert_eq!(cache.peek(&1), Some(&10), "which leaves no trace");
        cache.put(3, 30);
        assert_eq!((cache.peek(&1), cache.peek(&0), cache.len()), (None, Some(&0), 3));
        cache.put(3, 31);
        assert_eq!((cache.forgotten(), cache.peek(&3)), (1, Some(&31)), "one by one");
    }
}
