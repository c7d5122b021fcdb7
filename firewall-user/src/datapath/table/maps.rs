//! The tables in the kernel's maps.

use super::{
    Going, Part, Swept, Table, View, Which, mmap::Mapping, ports::Suspects, reading::Gaps,
};
use crate::{
    datapath::{error::DatapathError, raw},
    monitor::{Census, FlowRecord},
};
use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use firewall_common::abi::{control::Control, table::TIMEOUTS};
use std::{fmt, os::fd::AsFd as _, sync::atomic::Ordering::SeqCst};

/// Every table that a flow has a part in.
pub struct Tables {
    buckets4: Mapping,
    flows4: Mapping,
    buckets6: Mapping,
    flows6: Mapping,
    alias_buckets: Mapping,
    aliases: Mapping,
    ports: Mapping,
    rules: Mapping,
    hosts: Mapping,
    sources: Mapping,
    seed: u64,
    capacity: u64,
    /// Part of the next sweep.
    next: usize,
    suspects: Suspects,
    /// What the sweep saw in each of its parts.
    census: Vec<Census>,
    /// Translated flows at the last count.
    mappings: u64,
    /// Gaps in the accounts that are there to stay.
    pub(super) gaps: Gaps,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// The data of a map that must be an array.
fn array<'e>(ebpf: &'e Ebpf, name: &'static str) -> Result<&'e MapData, DatapathError> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(DatapathError::Load(format!("the object has no array {name}"))),
    }
}

/// Maps all of an array.
fn mapping(ebpf: &Ebpf, name: &'static str) -> Result<Mapping, DatapathError> {
    let data = array(ebpf, name)?;
    let info = data.info().map_err(DatapathError::map(name))?;
    let bytes = info.max_entries() as usize * (info.value_size() as usize).next_multiple_of(8);
    Mapping::of(data.fd().as_fd(), bytes).map_err(DatapathError::io(format!("mapping {name}")))
}

/// Draws the tables' secret.
///
/// # Errors
/// The system gives no random numbers.
pub fn secret() -> Result<u64, DatapathError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| DatapathError::Random(e.to_string()))?;
    // Zero means "none drawn yet".
    Ok(u64::from_ne_bytes(bytes) | 1)
}

impl Tables {
    /// Maps the tables of a loaded object, which are planned for `capacity` flows of each family.
    ///
    /// # Errors
    /// A map isn't there, or the kernel doesn't map it.
    pub fn new(ebpf: &Ebpf, control: &Control, capacity: u64) -> Result<Self, DatapathError> {
        Ok(Self {
            buckets4: mapping(ebpf, "BUCKETS4")?,
            flows4: mapping(ebpf, "FLOWS4")?,
            buckets6: mapping(ebpf, "BUCKETS6")?,
            flows6: mapping(ebpf, "FLOWS6")?,
            alias_buckets: mapping(ebpf, "ALIAS_BUCKETS")?,
            aliases: mapping(ebpf, "ALIASES")?,
            ports: mapping(ebpf, "PORTS")?,
            rules: mapping(ebpf, "NAT_RULES")?,
            hosts: mapping(ebpf, "NAT_HOSTS")?,
            sources: mapping(ebpf, "SOURCES")?,
            seed: control.seed,
            capacity,
            next: 0,
            suspects: Suspects::new(),
            census: Vec::new(),
            mappings: 0,
            gaps: Gaps::default(),
        })
    }

    /// Buckets of an object's tables as it was loaded: IPv4, IPv6, aliases.
    ///
    /// # Errors
    /// A map isn't there.
    pub fn buckets(ebpf: &Ebpf) -> Result<[u32; 3], DatapathError> {
        let mut found = [0; 3];
        for (n, name) in found.iter_mut().zip(["BUCKETS4", "BUCKETS6", "ALIAS_BUCKETS"]) {
            let info = array(ebpf, name)?.info().map_err(DatapathError::map(name))?;
            *n = info.max_entries();
        }
        Ok(found)
    }

    /// Flows that each family's table is planned for.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            v4: Table::new(self.buckets4.words(), self.flows4.words()),
            v6: Table::new(self.buckets6.words(), self.flows6.words()),
            aliases: Table::new(self.alias_buckets.words(), self.aliases.words()),
            ports: self.ports.words(),
            rules: self.rules.words(),
            hosts: self.hosts.words(),
            sources: self.sources.words(),
            seed: self.seed,
        }
    }

    /// Every flow. Those that come or go meanwhile may be missed or seen.
    pub fn all(&self) -> Vec<FlowRecord> {
        self.view().flows(Which::All, 0)
    }

    /// The flows with a packet at or after tick `since`, at tick `now`.
    pub fn since(&self, since: u64, now: u64) -> Vec<FlowRecord> {
        self.view().flows(Which::Since(since), now)
    }

    /// Takes out flows idle past their time-outs (ticks) at tick `now`, everywhere, and counts the public
    /// ports; those flows, and how many live on.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn sweep(
        &mut self,
        timeouts: &[u32; TIMEOUTS],
        now: u64,
    ) -> Result<(Vec<FlowRecord>, u64), DatapathError> {
        let Swept { ended, live, census } =
            self.take_out(Going::Idle(timeouts), Part::WHOLE, now)?;
        self.census = vec![census];
        self.count_ports(now);
        Ok((ended, live))
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
    ) -> Result<Vec<FlowRecord>, DatapathError> {
        let part = self.next % parts;
        self.next = part + 1;
        let swept = self.take_out(Going::Idle(timeouts), Part { part, parts }, now)?;
        self.census.resize(parts, Census::default());
        self.census[part] = swept.census;
        if part + 1 == parts {
            self.count_ports(now);
        }
        Ok(swept.ended)
    }

    /// Takes out the flows that `choose` says; those, with their last totals.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn cut(
        &self,
        now: u64,
        choose: &mut dyn FnMut(&FlowRecord) -> bool,
    ) -> Result<Vec<FlowRecord>, DatapathError> {
        Ok(self.take_out(Going::Chosen(choose), Part::WHOLE, now)?.ended)
    }

    fn take_out(&self, going: Going<'_>, part: Part, now: u64) -> Result<Swept, DatapathError> {
        self.view()
            .take_out(going, part, now, raw::grace_period)
            .map_err(DatapathError::io("waiting for a grace period"))
    }

    fn count_ports(&mut self, now: u64) {
        let mut suspects = std::mem::take(&mut self.suspects);
        self.mappings = self.view().count_ports(&mut suspects, now);
        self.suspects = suspects;
    }

    /// How full the tables are, as the sweep saw it.
    pub fn census(&self) -> Census {
        let mut sum = Census { mappings: self.mappings, ..Census::default() };
        for part in &self.census {
            sum.flows[0] += part.flows[0];
            sum.flows[1] += part.flows[1];
            sum.half_open += part.half_open;
        }
        sum
    }

    /// The flows in part `part` of `parts` of the tables, each with its translated tuple.
    pub fn part(&self, part: usize, parts: usize) -> Vec<FlowRecord> {
        self.view().flows_in(Part { part, parts })
    }

    /// Forgets everything, for tests: no program may run meanwhile.
    pub fn clear(&self) {
        let forgotten = [
            &self.buckets4,
            &self.buckets6,
            &self.alias_buckets,
            &self.ports,
            &self.rules,
            &self.hosts,
            &self.sources,
        ];
        for word in forgotten.iter().flat_map(|mapping| mapping.words()) {
            // Most are zero: what isn't written stays out of other caches.
            if word.load(SeqCst) != 0 {
                word.store(0, SeqCst);
            }
        }
    }
}
