//! The flow tables from user space: open-coded hashes whose memory is mapped here (their layout is
//! described in [`firewall_common::abi::bucket`]).
//!
//! Everything but [`mmap`] and [`maps`] works on words wherever they lie, so that the tests walk and sweep
//! tables of their own.

mod entry;
mod maps;
mod mmap;
mod ports;
mod scan;
mod sweep;
mod totals;
mod view;

pub(super) use entry::{Entry, FlowEntry};
pub(super) use maps::{Sizes, TableMaps};
pub(super) use scan::Which;
pub(super) use sweep::{Going, Part, Swept};
pub(super) use view::Table;

use entry::tuple;
use firewall_common::abi::{
    flow::{Flow4, Flow6},
    nat::Alias4,
};
use std::sync::atomic::AtomicU64;

/// All tables, and what is kept beside them, as they lie in memory.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    /// IPv4 flows.
    pub v4: Table<'a, Flow4>,
    /// IPv6 flows.
    pub v6: Table<'a, Flow6>,
    /// Other tuples of translated flows.
    pub aliases: Table<'a, Alias4>,
    /// Map `PORTS`.
    pub ports: &'a [AtomicU64],
    /// Map `NAT_RULES`.
    pub rules: &'a [AtomicU64],
    /// Map `NAT_HOSTS`.
    pub hosts: &'a [AtomicU64],
    /// Map `SOURCES`.
    pub sources: &'a [AtomicU64],
    /// Secret of the hashes.
    pub seed: u64,
}

#[cfg(test)]
mod tests;
