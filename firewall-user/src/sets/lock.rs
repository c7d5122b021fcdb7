//! The lock of a set's head: kernel programs that add an entry take it, and so does the daemon. Its value is the tick at
//! which it was taken, so that one whose holder has died can be told.

use std::{
    hint,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    thread,
};

/// Looks before another thread is let run.
const LOOKS: u32 = 128;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    word: &'a AtomicU64,
    tick: u64,
}

/// Takes a lock; waits until it is free, or has been held for more than a second. `now` says the tick, of which there are
/// `rate` a second.
pub fn take<'a>(word: &'a AtomicU64, rate: u64, now: &impl Fn() -> u64) -> Held<'a> {
    let mut looks = 0;
    loop {
        let tick = now().max(1);
        let there = word.load(Relaxed);
        // Clocks of two CPUs may be apart: a lock from the future isn't old.
        let free = there == 0 || tick.saturating_sub(there) > rate;
        if free && word.compare_exchange(there, tick, Acquire, Relaxed).is_ok() {
            return Held { word, tick };
        }
        looks += 1;
        if u32::is_multiple_of(looks, LOOKS) {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}

impl Held<'_> {
    /// Leaves it as if its holder had died.
    #[cfg(test)]
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // If it was stolen meanwhile, it is somebody else's.
        let _ = self.word.compare_exchange(self.tick, 0, Release, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn one_at_a_time() {
        let (word, inside, done) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let held = take(&word, 250, &|| 5);
                        assert_eq!(inside.fetch_add(1, Relaxed), 0);
                        inside.fetch_sub(1, Relaxed);
                        done.fetch_add(1, Relaxed);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!((done.load(Relaxed), word.load(Relaxed)), (4_000, 0));
    }

    #[test]
    fn one_that_was_left_behind_is_stolen_after_a_second() {
        let word = AtomicU64::new(0);
        take(&word, 250, &|| 1_000).abandon();
        let clock = AtomicU64::new(1_001);
        let held = take(&word, 250, &|| clock.fetch_add(1, Relaxed));
        assert_eq!(held.tick, 1_251);
        drop(held);
        assert_eq!(word.load(Relaxed), 0);
        // Whoever was stolen from doesn't free it.
        let late = take(&word, 250, &|| 1_000);
        let thief = take(&word, 250, &|| 2_000);
        drop(late);
        assert_eq!(word.load(Relaxed), 2_000);
        drop(thief);
        assert_eq!(word.load(Relaxed), 0);
    }
}
