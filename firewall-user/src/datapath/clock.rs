//! Ticks to time: the kernel's clocks, read at one moment by a program of ours.

use super::error::{DatapathError, chain};
use crate::monitor::Clock;
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use firewall_common::abi::clock::ClockReading;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Ticks a second, measured between two tick edges and rounded to what Linux can be built with.
pub(super) fn rate(ebpf: &Ebpf, map: &Array<MapData, ClockReading>) -> Result<u64, DatapathError> {
    let edge = || -> Result<ClockReading, DatapathError> {
        let before = read(ebpf, map)?.ticks;
        loop {
            let now = read(ebpf, map)?;
            if now.ticks != before {
                return Ok(now);
            }
        }
    };
    let from = edge()?;
    std::thread::sleep(Duration::from_millis(50));
    let to = edge()?;
    let ns = (to.monotonic_ns - from.monotonic_ns).max(1);
    Ok(nearest((to.ticks - from.ticks) * 1_000_000_000 / ns))
}

fn nearest(measured: u64) -> u64 {
    RATES.into_iter().min_by_key(|r| r.abs_diff(measured)).unwrap_or(250)
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
    fn a_measured_rate_snaps_to_one_that_exists() {
        assert_eq!(super::nearest(97), 100);
        assert_eq!(super::nearest(262), 250);
        assert_eq!(super::nearest(288), 300);
        assert_eq!(super::nearest(1003), 1000);
    }
}
