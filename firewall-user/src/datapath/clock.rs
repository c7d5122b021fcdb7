//! Ticks to time: the kernel's clocks, read at one moment by a program of ours.

use super::error::{DatapathError, chain};
use crate::monitor::Clock;
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use firewall_common::abi::clock::ClockReading;
use rustix::time::{ClockId, clock_getres};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tick rates that Linux can be built with (kernel/Kconfig.hz), per second.
const RATES: [u64; 4] = [100, 250, 300, 1000];

/// Reads both kernel clocks at one moment.
pub(super) fn read(
    ebpf: &Ebpf,
    map: &Array<MapData, ClockReading>,
) -> Result<ClockReading, DatapathError> {
    let program: &SchedClassifier = ebpf
        .program("sluice_clock")
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| DatapathError::Load("the object has no program sluice_clock".to_owned()))?;
    let frame = [0u8; 64];
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
    program.test_run(options).map_err(|e| DatapathError::Load(chain(&e)))?;
    map.get(&0, 0).map_err(DatapathError::map("CLOCK"))
}

/// Ticks a second: the coarse clock steps once a tick (`KTIME_LOW_RES`, include/linux/ktime.h). To measure it would be to
/// believe a busy or a paused machine.
pub(super) fn rate() -> u64 {
    let step = clock_getres(ClockId::MonotonicCoarse);
    let ns = step.tv_sec.unsigned_abs() * 1_000_000_000 + step.tv_nsec.unsigned_abs();
    nearest(1_000_000_000 / ns.max(1))
}

fn nearest(told: u64) -> u64 {
    RATES.into_iter().min_by_key(|r| r.abs_diff(told)).unwrap_or(250)
}

/// All clocks at once.
pub(super) fn now(reading: ClockReading, rate: u64) -> Clock {
    let unix_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    Clock {
        unix_ns,
        monotonic_ns: reading.monotonic_ns,
        ticks: reading.ticks,
        tick_ns: 1_000_000_000 / rate,
        tick_zero_ns: None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_rate_is_one_that_exists() {
        // A third of 10 ms is no whole number of nanoseconds.
        assert_eq!(super::nearest(1_000_000_000 / 3_333_333), 300);
        assert_eq!(super::nearest(1_000_000_000 / 4_000_000), 250);
        assert!(super::RATES.contains(&super::rate()));
    }
}
