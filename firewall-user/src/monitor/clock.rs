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
}

impl Clock {
    /// Wall time, nanoseconds since 1970, of a tick; 0 means "never".
    pub fn tick_to_unix(&self, tick: u64) -> Option<i64> {
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
        };
        assert_eq!(clock.tick_to_unix(0), None);
        assert_eq!(clock.tick_to_unix(750), Some(9_000_000_000));
        assert_eq!(clock.tick_to_unix(1_001), Some(10_004_000_000));
        assert_eq!(clock.monotonic_to_unix(4_000_000_000), 9_000_000_000);
        assert_eq!(clock.ms_since_tick(750), 1_000);
        assert_eq!(clock.ms_since_tick(1_001), 0);
        assert_eq!(clock.monotonic_to_tick(4_000_000_000), 750);
    }
}
