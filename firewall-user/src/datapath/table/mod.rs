//! The flow tables from user space: open-coded hashes whose memory is mapped here (their layout is
//! described in [`firewall_common::abi::bucket`]).
//!
//! Everything but [`mmap`] and [`maps`] works on words wherever they lie, so that the tests walk and sweep
//! tables of their own.

mod accounts;
mod copy;
mod entry;
mod maps;
mod mmap;
pub(super) use mmap::Mapping;
mod ports;
mod reading;
mod scan;
mod sweep;
mod totals;
mod view;

pub use copy::Kept;
pub use maps::{Tables, secret};

use entry::{Entry, FlowEntry};
use scan::Which;
use sweep::{Going, Part, Swept};
use view::Table;

use firewall_common::abi::{
    flow::{Flow4, Flow6},
    nat::Alias4,
};
use std::sync::atomic::AtomicU64;

/// All tables, and what is kept beside them, as they lie in memory.
#[derive(Clone, Copy)]
struct View<'a> {
    /// IPv4 flows.
    v4: Table<'a, Flow4>,
    /// IPv6 flows.
    v6: Table<'a, Flow6>,
    /// Other tuples of translated flows.
    aliases: Table<'a, Alias4>,
    /// Map `PORTS`.
    ports: &'a [AtomicU64],
    /// Map `NAT_RULES`.
    rules: &'a [AtomicU64],
    /// Map `NAT_HOSTS`.
    hosts: &'a [AtomicU64],
    /// Map `SOURCES`.
    sources: &'a [AtomicU64],
    /// Secret of the hashes.
    pub seed: u64,
}

#[cfg(test)]
mod tests;
