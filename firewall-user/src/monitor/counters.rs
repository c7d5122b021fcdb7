//! Rules and statistics: the kernel's counters as rows.

use super::{clock::Clock, reading::TableInput, text};
use crate::view::{ReasonView, RuleView, StatsView};
use firewall_common::abi::{
    counter::{EventCounter, ReasonCounter, RuleCounter},
    event::CLASSES,
    limit::LimitStats,
    owner::OwnerCounter,
    reason::Reason,
    table::Verdict,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// One reading of all counters.
#[derive(Clone, Debug, Default)]
pub struct CounterInput {
    /// By rule slot.
    pub rules: Vec<(u32, RuleCounter)>,
    /// Packets over the limits of rules, by rule slot; only where there were any.
    pub over: HashMap<u32, u64>,
    /// What went wrong with limits.
    pub limits: LimitStats,
    /// By verdict and reason.
    pub reasons: Vec<(Verdict, Reason, ReasonCounter)>,
    /// By [`firewall_common::abi::event::Class`].
    pub events: [EventCounter; CLASSES],
    /// Capacity of the flow table, per family.
    pub flows_max: u64,
    /// The tables' own figures.
    pub table: TableInput,
    /// Of rules by owner, if the policy has any.
    pub owners: Option<OwnerCounter>,
}

/// What the policy says of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// 1-based place; 0 for the two defaults.
    pub position: u32,
    /// Slot of its counters.
    pub slot: u32,
    /// Name.
    pub name: String,
    /// What it does: `allow`, `drop`, `reject`, `count`, `bypass`.
    pub action: &'static str,
    /// Whether it takes part.
    pub enabled: bool,
    /// Whether it logs.
    pub log: bool,
    /// As written.
    pub text: String,
}

#[derive(Clone, Debug)]
struct Row {
    view: Arc<RuleView>,
    changed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    rows: Vec<Row>,
    before: HashMap<u32, RuleCounter>,
    version: u64,
    policy_version: u64,
    stats: Arc<StatsView>,
}

impl Counters {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn policy(&mut self, rules: Vec<RuleInfo>, clock: &Clock) {
        self.version += 1;
        self.policy_version = self.version;
        let version = self.version;
        self.rows = rules
            .into_iter()
            .map(|rule| Row { view: Arc::new(self.row(rule, clock)), changed: version })
            .collect();
    }

    fn row(&self, rule: RuleInfo, clock: &Clock) -> RuleView {
        let counter = self.before.get(&rule.slot).copied().unwrap_or_default();
        RuleView {
            position: rule.position,
            name: rule.name,
            id: rule.slot,
            action: rule.action.to_owned(),
            enabled: rule.enabled,
            log: rule.log,
            text: rule.text,
            hits: counter.hits,
            packets: counter.packets,
            bytes: counter.bytes,
            last_hit: clock.tick_to_unix(counter.last).map(text::time),
            over: 0,
        }
    }

    /// The rule at `index` is gone, or there is one more before it.
    pub fn edited(&mut self, index: usize, joins: Option<RuleInfo>, clock: &Clock) {
        self.version += 1;
        self.policy_version = self.version;
        let by = if joins.is_some() { 1 } else { u32::MAX };
        match joins {
            Some(rule) => {
                let row = Row { view: Arc::new(self.row(rule, clock)), changed: self.version };
                self.rows.insert(index.min(self.rows.len()), row);
            }
            None if index < self.rows.len() => drop(self.rows.remove(index)),
            None => {}
        }
        let behind = if by == 1 { index + 1 } else { index };
        // The defaults, which come last, have no place.
        for row in self.rows.iter_mut().skip(behind).filter(|row| row.view.position != 0) {
            let view = Arc::make_mut(&mut row.view);
            view.position = view.position.wrapping_add(by);
        }
    }

    pub fn forget(&mut self) {
        self.before.clear();
    }

    /// Takes a reading; returns the rules that moved, with the new version.
    pub fn read(
        &mut self,
        input: &CounterInput,
        clock: &Clock,
    ) -> Option<(u64, Vec<Arc<RuleView>>)> {
        self.version += 1;
        let now: HashMap<u32, RuleCounter> = input.rules.iter().copied().collect();
        let mut moved = Vec::new();
        for row in &mut self.rows {
            let counter = now.get(&row.view.id).copied().unwrap_or_default();
            let over = input.over.get(&row.view.id).copied().unwrap_or(0);
            if (row.view.hits, row.view.packets, row.view.bytes, row.view.over)
                != (counter.hits, counter.packets, counter.bytes, over)
            {
                let view = Arc::make_mut(&mut row.view);
                view.hits = counter.hits;
                view.packets = counter.packets;
                view.bytes = counter.bytes;
                view.over = over;
                view.last_hit = clock.tick_to_unix(counter.last).map(text::time);
                row.changed = self.version;
                moved.push(row.view.clone());
            }
        }
        self.before = now;
        (!moved.is_empty()).then_some((self.version, moved))
    }

    pub fn rules(&self) -> Vec<Arc<RuleView>> {
        self.rows.iter().map(|row| row.view.clone()).collect()
    }

    pub fn rules_since(&self, version: u64) -> Option<Vec<Arc<RuleView>>> {
        (self.policy_version <= version && version <= self.version).then(|| {
            self.rows
                .iter()
                .filter(|row| row.changed > version)
                .map(|row| row.view.clone())
                .collect()
        })
    }

    /// Statistics: `counted` has what isn't made of these counters.
    pub fn stats(&mut self, input: &CounterInput, counted: StatsView, clock: &Clock) -> StatsView {
        let (mut packets, mut bytes, mut refused, mut refused_bytes) = (0, 0, 0, 0);
        let mut reasons: BTreeMap<Reason, ReasonCounter> = BTreeMap::new();
        for (verdict, reason, counter) in &input.reasons {
            packets += counter.packets;
            bytes += counter.bytes;
            if matches!(verdict, Verdict::Drop | Verdict::Reject) {
                refused += counter.packets;
                refused_bytes += counter.bytes;
            }
            if counter.packets > 0 {
                let sum = reasons.entry(*reason).or_default();
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
        }
        let stats = StatsView {
            time: text::time(clock.unix_ns),
            flows_max: input.flows_max,
            packets,
            bytes,
            passed_packets: packets.saturating_sub(refused),
            dropped_packets: refused,
            passed_bytes: bytes.saturating_sub(refused_bytes),
            dropped_bytes: refused_bytes,
            reasons: reasons
                .into_iter()
                .map(|(reason, counter)| ReasonView {
                    reason: reason.name().to_owned(),
                    packets: counter.packets,
                    bytes: counter.bytes,
                })
                .collect(),
            ..counted
        };
        self.stats = Arc::new(stats.clone());
        stats
    }

    pub fn last_stats(&self) -> Arc<StatsView> {
        self.stats.clone()
    }
}
