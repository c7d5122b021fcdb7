//! Reading the kernel's counters, and setting them to zero.

use super::{Datapath, DatapathError, raw};
use crate::monitor::CounterInput;
use aya::maps::PerCpuValues;
use bytemuck::Zeroable as _;
use firewall_common::abi::{
    counter::{ReasonCounter, RuleCounter, TableCounter},
    event::CLASSES,
    reason::Reason,
    table::Verdict,
};
use std::{collections::BTreeSet, os::fd::AsFd as _};

/// Rules whose counters are read by one call, at most: a hundred thousand calls twice a second would be a quarter of a core.
const AT_ONCE: u32 = 512;
/// Slots between two that count for which one call is still cheaper than two.
const GAP: u32 = 8;

/// What to read so that all of `slots` are: first slot, and how many.
fn runs(slots: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for slot in slots {
        match runs.last_mut() {
            Some((first, count)) if slot - *first < AT_ONCE && slot - *first - *count <= GAP => {
                *count = slot - *first + 1;
            }
            _ => runs.push((*slot, 1)),
        }
    }
    runs
}

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
        let cpus = aya::util::nr_cpus().map_err(|(what, e)| DatapathError::io(what)(e))?;
        let mut values = vec![RuleCounter::zeroed(); AT_ONCE as usize * cpus];
        for (first, count) in runs(&self.counted) {
            let values = &mut values[..count as usize * cpus];
            raw::get_some(self.rule_counters_fd.as_fd(), first, cpus, values)
                .map_err(DatapathError::io("reading rules' counters"))?;
            for (slot, values) in (first..).zip(values.chunks(cpus)) {
                let mut sum = RuleCounter::zeroed();
                for c in values {
                    sum.hits += c.hits;
                    sum.packets += c.packets;
                    sum.bytes += c.bytes;
                    sum.last = sum.last.max(c.last);
                }
                if sum.hits | sum.packets != 0 {
                    found.rules.push((slot, sum));
                }
                let over = self.limits.over(slot);
                if over != 0 {
                    found.over.insert(slot, over);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_slots_are_read_and_few_others() {
        assert_eq!(runs(&BTreeSet::new()), []);
        assert_eq!(runs(&[0, 1, 2, 11, 30].into()), [(0, 12), (30, 1)]);
        let many: BTreeSet<u32> = (5..2_000).collect();
        assert_eq!(runs(&many), [(5, 512), (517, 512), (1_029, 512), (1_541, 459)]);
    }
}
