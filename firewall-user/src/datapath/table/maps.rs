//! The tables in the kernel's maps.

use super::{Going, Part, Swept, Table, Tables, Which, mmap::Mapping, ports::Suspects};
use crate::{
    datapath::{error::DatapathError, raw},
    monitor::FlowRecord,
};
use aya::{Ebpf, EbpfLoader, maps::Map};
use firewall_common::abi::{
    bucket::{PLANNED, SLOTS, buckets_for},
    control::Control,
    table::TIMEOUTS,
};
use std::os::fd::AsFd as _;

/// How large to make the tables.
pub struct Sizes {
    buckets: u32,
}

impl Sizes {
    /// For so many flows of each family.
    pub fn of(max_flows: u32) -> Self {
        Self { buckets: buckets_for(max_flows) }
    }

    /// Asks the loader for them. Maps that are pinned already stay as they are.
    pub fn apply(&self, loader: &mut EbpfLoader<'_>) {
        for (buckets, records) in
            [("BUCKETS4", "FLOWS4"), ("BUCKETS6", "FLOWS6"), ("ALIAS_BUCKETS", "ALIASES")]
        {
            loader.map_max_entries(buckets, self.buckets);
            loader.map_max_entries(records, self.buckets * SLOTS as u32);
        }
    }
}

/// An array map that is mapped, and how many entries it has.
struct Mapped {
    memory: Mapping,
    entries: u32,
}

impl Mapped {
    fn of(ebpf: &Ebpf, name: &'static str) -> Result<Self, DatapathError> {
        let Some(Map::Array(data)) = ebpf.map(name) else {
            return Err(DatapathError::Load(format!("the object has no array {name}")));
        };
        let info = data.info().map_err(DatapathError::map(name))?;
        let (entries, size) = (info.max_entries(), info.value_size() as usize);
        let memory = Mapping::of(data.fd().as_fd(), entries as usize * size.next_multiple_of(8))
            .map_err(DatapathError::io(format!("mapping {name}")))?;
        Ok(Self { memory, entries })
    }
}

/// The tables' maps.
pub struct TableMaps {
    buckets4: Mapped,
    flows4: Mapped,
    buckets6: Mapped,
    flows6: Mapped,
    alias_buckets: Mapped,
    aliases: Mapped,
    ports: Mapped,
    rules: Mapped,
    hosts: Mapped,
    sources: Mapped,
    seed: u64,
    /// Part of the next sweep.
    next: usize,
    suspects: Suspects,
}

impl TableMaps {
    /// Maps the tables of a loaded object.
    pub fn of(ebpf: &Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            buckets4: Mapped::of(ebpf, "BUCKETS4")?,
            flows4: Mapped::of(ebpf, "FLOWS4")?,
            buckets6: Mapped::of(ebpf, "BUCKETS6")?,
            flows6: Mapped::of(ebpf, "FLOWS6")?,
            alias_buckets: Mapped::of(ebpf, "ALIAS_BUCKETS")?,
            aliases: Mapped::of(ebpf, "ALIASES")?,
            ports: Mapped::of(ebpf, "PORTS")?,
            rules: Mapped::of(ebpf, "NAT_RULES")?,
            hosts: Mapped::of(ebpf, "NAT_HOSTS")?,
            sources: Mapped::of(ebpf, "SOURCES")?,
            seed: 0,
            next: 0,
            suspects: Suspects::new(),
        })
    }

    /// Completes what is said of the tables: their sizes as they were made, and a secret where there is
    /// none yet.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn complete(&mut self, control: &mut Control) -> Result<(), DatapathError> {
        if control.seed == 0 {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|e| DatapathError::Random(e.to_string()))?;
            control.seed = u64::from_ne_bytes(seed) | 1;
        }
        control.buckets4 = self.buckets4.entries;
        control.buckets6 = self.buckets6.entries;
        control.alias_buckets = self.alias_buckets.entries;
        self.seed = control.seed;
        Ok(())
    }

    /// Flows that each table is planned for.
    pub fn capacity(&self) -> u64 {
        u64::from(self.buckets4.entries / 2 * PLANNED)
    }

    fn view(&self) -> Tables<'_> {
        Tables {
            v4: Table::new(self.buckets4.memory.words(), self.flows4.memory.words()),
            v6: Table::new(self.buckets6.memory.words(), self.flows6.memory.words()),
            aliases: Table::new(self.alias_buckets.memory.words(), self.aliases.memory.words()),
            ports: self.ports.memory.words(),
            rules: self.rules.memory.words(),
            hosts: self.hosts.memory.words(),
            sources: self.sources.memory.words(),
            seed: self.seed,
        }
    }

    /// Flows as they are.
    pub fn flows(&self, which: Which, now: u64) -> Vec<FlowRecord> {
        self.view().flows(which, now)
    }

    /// Takes out flows idle past their time-outs, everywhere, and counts the public ports.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn sweep(&mut self, timeouts: &[u32; TIMEOUTS], now: u64) -> Result<Swept, DatapathError> {
        let swept = self.take_out(Going::Idle(timeouts), Part::WHOLE, now)?;
        self.count_ports(now);
        Ok(swept)
    }

    /// As [`Self::sweep`], on the next of `parts` parts of the tables.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn sweep_on(
        &mut self,
        timeouts: &[u32; TIMEOUTS],
        parts: usize,
        now: u64,
    ) -> Result<Swept, DatapathError> {
        let part = self.next % parts;
        self.next = part + 1;
        let swept = self.take_out(Going::Idle(timeouts), Part { part, parts }, now)?;
        if part + 1 == parts {
            self.count_ports(now);
        }
        Ok(swept)
    }

    /// Takes out what is to go.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn take_out(&self, going: Going<'_>, part: Part, now: u64) -> Result<Swept, DatapathError> {
        self.view()
            .take_out(going, part, now, raw::grace_period)
            .map_err(DatapathError::io("waiting for a grace period"))
    }

    fn count_ports(&mut self, now: u64) {
        let mut suspects = std::mem::take(&mut self.suspects);
        self.view().count_ports(&mut suspects, now);
        self.suspects = suspects;
    }
}
