//! Reading the kernel's counters, and setting them to zero.

use super::{Datapath, DatapathError};
use crate::monitor::CounterInput;
use aya::maps::PerCpuValues;
use bytemuck::Zeroable as _;
use firewall_common::abi::{
    counter::{ReasonCounter, RuleCounter, TableCounter},
    event::CLASSES,
    reason::Reason,
    table::Verdict,
};
use std::collections::BTreeSet;

impl Datapath {
    /// All counters, summed over CPUs; those that never counted are left out.
    ///
    /// # Errors
    /// The kernel refused to read a map.
    pub fn counters(&self) -> Result<CounterInput, DatapathError> {
        let mut found = CounterInput {
            flows_max: self.flows.capacity(),
            table: self.table_input()?,
            owners: self.owner_counters(),
            limits: self.limit_stats.get(&0, 0).map_err(DatapathError::map("LIMIT_STATS"))?,
            ..Default::default()
        };
        for slot in &self.counted {
            let values = self.rule_counters.get(slot, 0);
            let mut sum = RuleCounter::zeroed();
            for c in values.map_err(DatapathError::map("RULE_COUNTERS"))?.iter() {
                sum.hits += c.hits;
                sum.packets += c.packets;
                sum.bytes += c.bytes;
                sum.last = sum.last.max(c.last);
            }
            if sum.hits | sum.packets != 0 {
                found.rules.push((*slot, sum));
            }
            let over = self.limits.over(*slot);
            if over != 0 {
                found.over.insert(*slot, over);
            }
        }
        for verdict in Verdict::ALL {
            for reason in Reason::ALL {
                let index = u32::from(verdict.raw()) << 6 | u32::from(reason.raw());
                let values = self.reason_counters.get(&index, 0);
                let mut sum = ReasonCounter::zeroed();
                for c in values.map_err(DatapathError::map("REASON_COUNTERS"))?.iter() {
                    sum.packets += c.packets;
                    sum.bytes += c.bytes;
                }
                if sum.packets != 0 {
                    found.reasons.push((*verdict, *reason, sum));
                }
            }
        }
        for class in 0..CLASSES as u32 {
            let counter = self.event_counters.get(&class, 0);
            found.events[class as usize] = counter.map_err(DatapathError::map("EVENT_COUNTERS"))?;
        }
        Ok(found)
    }

    /// What became of the flow tables' entries.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn table_counters(&self) -> Result<TableCounter, DatapathError> {
        self.table_counters.get(&0, 0).map_err(DatapathError::map("TABLE_COUNTERS"))
    }

    pub(super) fn zero_rule(&mut self, slot: u32) -> Result<(), DatapathError> {
        self.limits.zero(slot);
        let cpus = aya::util::nr_cpus().map_err(|(what, e)| DatapathError::io(what)(e))?;
        let zero = PerCpuValues::try_from(vec![RuleCounter::zeroed(); cpus])
            .map_err(DatapathError::io("clearing a counter"))?;
        self.rule_counters.set(slot, zero, 0).map_err(DatapathError::map("RULE_COUNTERS"))
    }

    /// Sets the counters of rules and reasons to zero. Event counters go on: sequence numbers hang on
    /// them.
    ///
    /// # Errors
    /// The kernel refused to change a map.
    pub fn reset_counters(&mut self) -> Result<(), DatapathError> {
        let found = self.counters()?;
        let counted = found.rules.iter().map(|(slot, _)| *slot);
        let used: BTreeSet<u32> = counted.chain(found.over.keys().copied()).collect();
        for slot in used {
            self.zero_rule(slot)?;
        }
        let cpus = aya::util::nr_cpus().map_err(|(what, e)| DatapathError::io(what)(e))?;
        for index in 0..self.reason_counters.len() {
            let zero = PerCpuValues::try_from(vec![ReasonCounter::zeroed(); cpus])
                .map_err(DatapathError::io("clearing a counter"))?;
            self.reason_counters
                .set(index, zero, 0)
                .map_err(DatapathError::map("REASON_COUNTERS"))?;
        }
        Ok(())
    }
}
