//! Two clocks read at the same moment by the `sluice_clock` program, so that user space can turn
//! the kernel's ticks into time.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// One simultaneous reading. Written by the `sluice_clock` program during a test run, read by the
/// daemon right after; nobody else touches it.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ClockReading {
    /// `jiffies64`: ticks since five minutes before boot (INITIAL_JIFFIES, include/linux/jiffies.h).
    pub ticks: u64,
    /// `bpf_ktime_get_ns`: CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: u64,
}

plain_bytes!(ClockReading => 16);
