//! The kernel's two clocks against wall time.

/// One moment, read on all clocks at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds since 1970 (UTC).
    pub unix_ns: i64,
    /// CLOCK_MONOTONIC, nanoseconds: what events carry.
    pub monotonic_ns: u64,
    /// `jiffies64`: what flows and counters carry.
    pub ticks: u64,
    /// Length of a tick, nanoseconds.
    pub tick_ns: u64,
    /// Wall time of tick 0, where that is known better than from this one reading: see [`Steady`].
    pub tick_zero_ns: Option<i64>,
}

/// Finds the wall time at which ticks change.
///
/// A single reading is late by up to a tick, by another part of it each time: the same tick would be
/// shown as another time with each look. The least late of all readings is kept, and rounded to whole
/// ticks, so that two daemons agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steady {
    zero_ns: Option<i64>,
}

impl Steady {
    /// Learns from a reading, and completes it.
    pub fn apply(&mut self, clock: Clock) -> Clock {
        let tick = clock.tick_ns.max(1) as i64;
        let seen = (i128::from(clock.unix_ns) - i128::from(clock.ticks) * i128::from(tick)) as i64;
        let zero = match self.zero_ns {
            // Wall time was set forward: later readings know better.
            Some(known) if seen - known >= 2 * tick => seen,
            Some(known) => known.min(seen),
            None => seen,
        };
        self.zero_ns = Some(zero);
        let rounded = (zero + tick / 2).div_euclid(tick) * tick;
        Clock { tick_zero_ns: Some(rounded), ..clock }
    }
}

impl Clock {
    /// Wall time, nanoseconds since 1970, of a tick; 0 means "never".
    pub fn tick_to_unix(&self, tick: u64) -> Option<i64> {
        if let Some(zero) = self.tick_zero_ns {
            let unix_ns = i128::from(zero) + i128::from(tick) * i128::from(self.tick_ns);
            return (tick != 0).then_some(unix_ns as i64);
        }
        (tick != 0).then(|| {
            let ago = i128::from(self.ticks) - i128::from(tick);
            (i128::from(self.unix_ns) - ago * i128::from(self.tick_ns)) as i64
        })
    }
    /// Wall time, nanoseconds since 1970, of a CLOCK_MONOTONIC reading.
    pub fn monotonic_to_unix(&self, ns: u64) -> i64 {
        (i128::from(self.unix_ns) - (i128::from(self.monotonic_ns) - i128::from(ns))) as i64
    }
    /// Milliseconds since a tick; 0 where the tick is ahead (another CPU's clock update).
    pub fn ms_since_tick(&self, tick: u64) -> u64 {
        self.ticks.saturating_sub(tick).saturating_mul(self.tick_ns) / 1_000_000
    }
    /// The tick that was current at a CLOCK_MONOTONIC reading.
    pub fn monotonic_to_tick(&self, ns: u64) -> u64 {
        let ago = self.monotonic_ns.saturating_sub(ns) / self.tick_ns.max(1);
        self.ticks.saturating_sub(ago).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_and_future_readings_map_to_wall_time() {
        let clock = Clock {
            unix_ns: 10_000_000_000,
            monotonic_ns: 5_000_000_000,
            ticks: 1_000,
            tick_ns: 4_000_000,
            tick_zero_ns: None,
        };
        assert_eq!(clock.tick_to_unix(0), None);
        assert_eq!(clock.tick_to_unix(750), Some(9_000_000_000));
        assert_eq!(clock.tick_to_unix(1_001), Some(10_004_000_000));
        assert_eq!(clock.monotonic_to_unix(4_000_000_000), 9_000_000_000);
        assert_eq!(clock.ms_since_tick(750), 1_000);
        assert_eq!(clock.ms_since_tick(1_001), 0);
        assert_eq!(clock.monotonic_to_tick(4_000_000_000), 750);
    }

    #[test]
    fn the_same_tick_is_the_same_time_at_every_look_and_for_every_daemon() {
        // Tick 0 began at 1,234,001,900 us; ticks last 4 ms.
        let zero_us = 1_234_001_900i64;
        let reading = |us_later: i64| Clock {
            unix_ns: (zero_us + us_later) * 1000,
            monotonic_ns: 0,
            ticks: (us_later / 4000) as u64,
            tick_ns: 4_000_000,
            tick_zero_ns: None,
        };
        let (mut one, mut other) = (Steady::default(), Steady::default());
        one.apply(reading(40_020));
        other.apply(reading(80_090));
        let times: Vec<_> = [41_000, 43_999, 52_345, 99_999]
            .map(reading)
            .map(|clock| (one.apply(clock).tick_to_unix(9), other.apply(clock).tick_to_unix(9)))
            .into();
        let right = (zero_us + 36_000) * 1000;
        assert!(times.iter().all(|(a, b)| a == b && *a == times[0].0), "{times:?}");
        assert!(times[0].0.is_some_and(|time| (time - right).abs() <= 2_000_000), "{times:?}");
        // The wall clock is set forward by a minute, then back.
        let jumped =
            Clock { unix_ns: reading(100_000).unix_ns + 60_000_000_000, ..reading(100_000) };
        assert!(
            one.apply(jumped).tick_to_unix(9).is_some_and(|time| time - right > 59_000_000_000)
        );
        let back = one.apply(reading(104_001)).tick_to_unix(9);
        assert!(back.is_some_and(|time| (time - right).abs() <= 2_000_000), "{back:?}");
    }
}
