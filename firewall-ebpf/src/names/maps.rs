//! Every map of what names are read from. None is pinned: they end with the daemon.

use aya_ebpf::{
    macros::map,
    maps::{Array, RingBuf},
};
use firewall_common::abi::{counter::EventCounter, observed::OBSERVED_KINDS};

/// The ring; the daemon drains it on its own clock.
#[map]
pub static OBSERVED: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What became of records, by kind; atomic adds by every CPU.
#[map]
pub static OBSERVED_COUNTERS: Array<EventCounter> =
    Array::with_max_entries(OBSERVED_KINDS as u32, 0);
