//! Looking at flows, and taking them out.

use super::{Datapath, DatapathError, clock, table::Tables};
use crate::monitor::{FlowRecord, NatReading, TableInput};

impl Datapath {
    fn ticks(&self) -> Result<u64, DatapathError> {
        Ok(clock::read(&self.ebpf, &self.clock)?.ticks)
    }

    /// The tables in place, with the accounts of translations.
    pub fn tables(&self) -> &Tables {
        &self.flows
    }

    /// The whole flow table.
    ///
    /// # Errors
    /// None today: the table is read in place.
    pub fn flows(&self) -> Result<Vec<FlowRecord>, DatapathError> {
        Ok(self.flows.all())
    }

    /// The flows with a packet at or after tick `since`.
    ///
    /// # Errors
    /// The kernel's clock couldn't be read.
    pub fn flows_since(&self, since: u64) -> Result<Vec<FlowRecord>, DatapathError> {
        Ok(self.flows.since(since, self.ticks()?))
    }

    /// Takes out flows past their time-out; those, and how many live on.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn sweep(&mut self) -> Result<(Vec<FlowRecord>, u64), DatapathError> {
        if self.generation() == 0 {
            return Ok((Vec::new(), 0));
        }
        let now = self.ticks()?;
        self.flows.sweep(&self.timeouts, now)
    }

    /// As [`Self::sweep`], in the next of `parts` parts of the tables: as many calls see all of them.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn sweep_on(&mut self, parts: usize) -> Result<Vec<FlowRecord>, DatapathError> {
        if self.generation() == 0 {
            return Ok(Vec::new());
        }
        let now = self.ticks()?;
        self.flows.sweep_on(&self.timeouts, parts, now)
    }

    /// Takes out the flows that `choose` says; those, with their last totals.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period.
    pub fn kill(
        &mut self,
        choose: &mut dyn FnMut(&FlowRecord) -> bool,
    ) -> Result<Vec<FlowRecord>, DatapathError> {
        let now = self.ticks()?;
        self.flows.cut(now, choose)
    }

    /// The flows in part `part` of `parts` of the tables.
    pub fn flows_part(&self, part: usize, parts: usize) -> Vec<FlowRecord> {
        self.flows.part(part, parts)
    }

    /// The translated flows in part `part` of `parts` of the tables.
    pub fn nat_flows(&self, part: usize, parts: usize) -> Vec<FlowRecord> {
        self.flows.nat_flows(part, parts)
    }

    /// Accounts of translations, live flows included.
    pub fn nat_reading(&mut self) -> NatReading {
        self.flows.nat_reading()
    }

    /// How full the tables are, and what befell their entries.
    ///
    /// # Errors
    /// The kernel refused to read a map.
    pub fn table_input(&self) -> Result<TableInput, DatapathError> {
        Ok(TableInput {
            census: self.flows.census(),
            counter: self.table_counters()?,
            ports: self.flows.nat_ports(),
            addresses: self.addresses(),
            nat_failures: self.flows.nat_rules().iter().map(|(_, row)| row.failures).sum(),
        })
    }
}
