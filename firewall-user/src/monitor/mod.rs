//! The live model: what the kernel says, turned into the rows people see.
//!
//! Sans-IO: whoever owns the datapath feeds it ([`Monitor::begin`], [`Monitor::event`],
//! [`Monitor::scan`], [`Monitor::swept`], the counters, then [`Monitor::finish`]), time included, and
//! gets a [`Tick`]: everything that changed, ready to be sent. Readers ask it for rows. It never
//! reads a clock and knows neither maps nor sockets.
//!
//! Events are hints, kernel counters are the truth: a flow whose event was lost appears with the
//! next scan, and each class's account ([`account`]) says how many events never arrived.

pub mod account;
mod alarms;
pub mod clock;
mod counters;
mod events;
mod flows;
pub mod judged;
mod lines;
pub mod names;
mod nat;
mod reading;
mod record;
mod shown;
pub mod sockets;
pub mod summary;
pub mod text;

pub use account::Loss;
pub use alarms::{AlarmChange, Pressure};
pub use clock::{Clock, Steady};
pub use counters::{CounterInput, RuleInfo};
pub use events::EventLog;
use events::{Kept, Seen};
pub use flows::{FlowChanges, FlowOrder, FlowTable};
use judged::{Judged, JudgedLog, Visit};
pub use lines::Lines;
pub use names::Names;
pub use nat::{NatBook, NatInfo, NatWords};
pub use reading::{Census, NatAccount, NatReading, NatSum, PortFigures, TableInput};
pub use record::{FlowRecord, NatTuple};
pub use sockets::{Place, SocketTable};
pub use summary::{By, Key, Summary};

use crate::view::{
    AlarmView, EventView, FlowView, LimitStatsView, NatPoolView, NatStatsView, NetfilterStatsView,
    OwnerStatsView, RuleView, StatsView, TableStatsView,
};
use account::Accounts;
use alarms::{Alarms, Fill};
use counters::Counters;
use firewall_common::abi::{
    event::{Class, Event},
    reason::Reason,
    table::TIMEOUTS,
};
use std::sync::Arc;

/// How the model is sized. The defaults are the daemon's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events kept for `GET /events` and for a client that resumes.
    pub events_kept: usize,
    /// How long an ended flow stays visible, milliseconds.
    pub ended_kept_ms: u64,
    /// Ended flows that are visible at most.
    pub ended_kept: usize,
    /// Removed flows remembered for a client that resumes.
    pub removals_kept: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events_kept: 20_000,
            ended_kept_ms: 5_000,
            ended_kept: 65_536,
            removals_kept: 65_536,
        }
    }
}

/// Everything that changed in one turn of the datapath's loop.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// Sequence number of the first of `events`.
    pub first_seq: u64,
    /// New events, oldest first, numbered from `first_seq` on.
    pub events: Vec<Arc<EventView>>,
    /// Kernel events that will never arrive.
    pub losses: Vec<Loss>,
    /// Flows that changed, if any did.
    pub flows: Option<FlowChanges>,
    /// Rules whose counters moved, with the rules' version; `None` if none did.
    pub rules: Option<(u64, Vec<Arc<RuleView>>)>,
    /// The policy changed: whoever has rules of an older version than this starts over.
    pub rules_replaced: Option<u64>,
    /// Fresh statistics with their version, about once a second.
    pub stats: Option<(u64, Arc<StatsView>)>,
    /// What began or ceased to be wrong.
    pub alarms: Vec<AlarmChange>,
}

impl Tick {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.losses.is_empty()
            && self.flows.is_none()
            && self.rules.is_none()
            && self.rules_replaced.is_none()
            && self.stats.is_none()
            && self.alarms.is_empty()
    }
}

/// See [`Monitor::lens`].
#[derive(Clone, Debug)]
pub struct Lens {
    names: Names,
    nats: NatBook,
    timeouts: [u32; TIMEOUTS],
    clock: Clock,
}

impl Lens {
    /// The row of a flow that lives, or ended for this reason.
    pub fn row(&self, record: &FlowRecord, ended: Option<Reason>) -> FlowView {
        flows::render(record, (&self.names, &self.timeouts, &self.clock), ended)
    }
}

/// The model. See the module.
#[derive(Debug)]
pub struct Monitor {
    names: Names,
    nats: NatBook,
    clock: Clock,
    steady: Steady,
    flows: FlowTable,
    events: EventLog,
    accounts: Accounts,
    counters: Counters,
    timeouts: [u32; TIMEOUTS],
    generation: u32,
    netfilter: Option<NetfilterStatsView>,
    alarms: Alarms,
    table: TableInput,
    /// Flows that made room for others, when it was last looked.
    evicted: u64,
    /// Some did since.
    evicting: bool,
    /// Flows that began and packets that were refused, for whoever looks for the rule behind a socket.
    judged: JudgedLog,
    /// Somebody follows flows or events.
    watched: bool,
    tick: Tick,
}

impl Monitor {
    /// An empty model.
    pub fn new(limits: Limits) -> Self {
        Self {
            names: Names::default(),
            nats: NatBook::default(),
            clock: Clock::default(),
            steady: Steady::default(),
            flows: FlowTable::new(limits.ended_kept_ms, limits.ended_kept, limits.removals_kept),
            events: EventLog::new(limits.events_kept),
            accounts: Accounts::default(),
            counters: Counters::default(),
            timeouts: [0; TIMEOUTS],
            generation: 0,
            netfilter: None,
            alarms: Alarms::default(),
            table: TableInput::default(),
            evicted: 0,
            evicting: false,
            judged: JudgedLog::default(),
            watched: true,
            tick: Tick::default(),
        }
    }

    /// Begins a turn: `clock` is now.
    pub fn begin(&mut self, clock: Clock) {
        self.clock = self.steady.apply(clock);
        // What happened between the turns is part of this one.
        self.tick.first_seq = self.events.next_seq() - self.tick.events.len() as u64;
    }

    /// Whether anybody follows flows or events: else ticks carry neither, and no rows are made of them. Who begins
    /// to follow says so before looking at the model, with the model held.
    pub fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// Learns from a reading of the clocks without beginning a turn.
    pub fn calibrate(&mut self, clock: Clock) {
        self.clock = self.steady.apply(clock);
    }

    /// One event out of the ring.
    pub fn event(&mut self, event: &Event) {
        if let Ok(class) = Class::try_from(event.class) {
            self.accounts.seen(class, event.seq);
            self.flows.event(class, event, &self.clock);
            self.judged.event(event, &self.names);
        }
        let nat = match Class::try_from(event.class) {
            Ok(Class::NatNew) => Some(flows::translation(event)),
            _ => self.flows.translation(event.flow_id),
        };
        let rule = self.flows.let_in_by(event).unwrap_or(event.rule);
        let seen = Seen::new(&Event { rule, ..*event }, nat, &self.names, &self.clock);
        if self.watched {
            self.push_event(Arc::new(seen.view()));
        } else {
            self.events.push(Kept::Seen(seen));
        }
    }

    /// What was judged, from now on or since the last time, and how much of it there was no room for in all.
    pub fn collect_judged(&mut self) -> (Vec<Judged>, u64) {
        self.judged.want();
        self.judged.collect()
    }

    /// Shows every flow that is known with the rule that let it in.
    pub fn judged_flows(&self, visit: Visit<'_>) {
        self.flows.records().for_each(|record| judged::show(record, &self.names, visit));
    }

    /// Whether the next scan should be of the whole table. Else those flows do that had a packet since
    /// the last.
    pub fn wants_whole(&self) -> bool {
        self.flows.wants_whole(&self.clock)
    }

    /// Flows that had a packet since the last scan, read after this turn's events.
    pub fn changed(&mut self, records: &[FlowRecord]) {
        self.flows.changed(records, &self.clock);
    }

    /// The whole flow table, read after this turn's events.
    pub fn scan(&mut self, records: &[FlowRecord]) {
        self.flows.scan(records, &self.clock);
    }

    /// Flows that the sweep took out, with their last figures.
    pub fn swept(&mut self, expired: &[FlowRecord]) {
        self.taken_out(expired, Reason::TimedOut);
    }

    /// Flows that somebody had taken out, with their last figures.
    pub fn killed(&mut self, flows: &[FlowRecord]) {
        self.taken_out(flows, Reason::Killed);
    }

    fn taken_out(&mut self, records: &[FlowRecord], reason: Reason) {
        for record in records {
            if self.flows.taken_out(record, reason, &self.clock) {
                let how = (&self.names, &self.timeouts, &self.clock);
                let flow = flows::render(record, how, Some(reason));
                self.push_event(Arc::new(events::taken_out(&flow, &self.clock)));
            }
        }
    }

    /// What turns records into rows, as it is now: to look at many without holding the model.
    pub fn lens(&self) -> Lens {
        let (names, nats) = (self.names.clone(), self.nats.clone());
        Lens { names, nats, timeouts: self.timeouts, clock: self.clock }
    }

    /// Rule and reason counters, as read now.
    pub fn counters(&mut self, input: &CounterInput) {
        if let Some(changed) = self.counters.read(input, &self.clock) {
            self.tick.rules = Some(changed);
        }
        for (class, counter) in Class::ALL.iter().zip(&input.events) {
            self.accounts.produced(*class, counter);
        }
        let evicted = input.table.counter.evicted;
        self.evicting |= evicted != std::mem::replace(&mut self.evicted, evicted);
        let (table, nat) = self.tables(input);
        let counted = StatsView {
            flows: self.flows.live(),
            events: self.accounts.views(),
            table,
            nat,
            netfilter: self.netfilter.clone(),
            limits: LimitStatsView {
                evicted: input.limits.evicted,
                contended: input.limits.contended,
            },
            owners: input.owners.map(|counter| OwnerStatsView {
                judged: counter.judged,
                unknown: counter.unknown,
                places_full: counter.places_full,
                places_missed: counter.places_missed,
            }),
            ..StatsView::default()
        };
        let stats = Arc::new(self.counters.stats(input, counted, &self.clock));
        self.tick.stats = Some((self.counters.version(), stats));
    }

    /// Looks at how the tables are.
    fn tables(&mut self, input: &CounterInput) -> (TableStatsView, NatStatsView) {
        let TableInput { census, counter, ports, addresses, nat_failures } = &input.table;
        let no_room = |reason: &Reason| matches!(reason, Reason::FlowTableFull | Reason::Untracked);
        let refused = input.reasons.iter().filter(|(_, reason, _)| no_room(reason));
        let refused = refused.map(|(_, _, counter)| counter.packets).sum();
        let fullest = census.flows.iter().copied().max().unwrap_or_default();
        let percent = match input.flows_max {
            0 => 0.0,
            capacity => 100.0 * fullest as f64 / capacity as f64,
        };
        let fill = Fill { percent, refused: refused + counter.evicted };
        let (nats, names) = (&self.nats, &self.names);
        let pool = |figures: &PortFigures| nats.pool_name(figures, addresses, names);
        self.tick.alarms.extend(self.alarms.update(fill, ports, pool, &self.clock));
        let table = TableStatsView {
            flows: census.flows.iter().sum(),
            capacity: input.flows_max,
            used_percent: (10.0 * percent).round() / 10.0,
            half_open: census.half_open,
            evicted: counter.evicted,
            evicted_packets: counter.evicted_packets,
            evicted_bytes: counter.evicted_bytes,
            busy: counter.busy,
            source_limited: counter.source_limited,
            refused,
            ended_unlisted: self.flows.ended_dropped(),
            pressure: self.alarms.pressure().name().to_owned(),
        };
        let nat = NatStatsView {
            mappings_live: census.mappings,
            failures: *nat_failures,
            exhausted_pools: self.alarms.exhausted(),
        };
        self.table = input.table.clone();
        (table, nat)
    }

    /// What is wrong right now, the oldest first.
    pub fn alarms(&self) -> Vec<AlarmView> {
        self.alarms.views()
    }

    /// What is to be said of the rule behind a mapping.
    pub fn nat_words(&self, slot: u32) -> NatWords {
        self.nats.words(slot, &self.names)
    }

    /// Now, as rows show it.
    pub fn now(&self) -> Clock {
        self.clock
    }

    /// Public addresses and their ports.
    pub fn nat_pools(&self) -> Vec<NatPoolView> {
        self.nats.pools(&self.table.ports, &self.table.addresses, &self.names)
    }

    /// How the kernel's own connection tracking is followed: a part of the next statistics.
    pub fn netfilter(&mut self, stats: Option<NetfilterStatsView>) {
        self.netfilter = stats;
    }

    /// Ends the turn and hands out what changed. Call it with the ring drained.
    pub fn finish(&mut self) -> Tick {
        self.tick.losses = self.accounts.settle();
        let of_flows = [Class::FlowNew, Class::FlowEstablished, Class::FlowClosed, Class::NatNew];
        let lost = self.tick.losses.iter().any(|loss| of_flows.contains(&loss.class));
        // Nobody tells of flows that made room: under a flood they would pile up here.
        if std::mem::take(&mut self.evicting) || lost {
            self.flows.doubt();
        }
        let how = self.watched.then_some((&self.names, &self.timeouts, &self.clock));
        self.tick.flows = self.flows.finish(&self.clock, how);
        std::mem::take(&mut self.tick)
    }

    /// From now on somebody takes flows that have ended: see [`Self::take_past`].
    pub fn keep_past(&mut self) {
        self.flows.keep_past();
    }

    /// Flows that have ended for good, once each, with their protocol's number and the moment of their end in ns
    /// since 1970; `all`: those that are still shown too.
    pub fn take_past(&mut self, all: bool) -> Vec<(FlowView, u8, i64)> {
        let past = self.flows.take_past(all, (&self.names, &self.timeouts, &self.clock));
        let at = |ns| self.clock.monotonic_to_unix(ns);
        past.into_iter().map(|(row, proto, ns)| (row, proto, at(ns))).collect()
    }

    /// Visible flows that are wanted by their records. Cheaper than [`Self::flows`] where few are.
    pub fn flows_where(&self, wanted: &dyn Fn(&FlowRecord) -> bool) -> Vec<FlowView> {
        self.flows.wanted(wanted, (&self.names, &self.timeouts, &self.clock))
    }

    /// Policy `generation` went live: its rules in order (the two defaults last), its translations and its
    /// time-outs (milliseconds, by [`firewall_common::abi::table::Timeout`]).
    pub fn policy(
        &mut self,
        generation: u32,
        rules: Vec<RuleInfo>,
        nats: Vec<NatInfo>,
        timeouts: [u32; TIMEOUTS],
    ) {
        self.generation = generation;
        for nat in &nats {
            self.names.set_rule(nat.slot, &nat.name);
        }
        self.nats.policy(nats);
        for rule in &rules {
            self.names.set_rule(rule.slot, &rule.name);
        }
        self.timeouts = timeouts;
        self.counters.policy(rules, &self.clock);
        self.tick.rules_replaced = Some(self.counters.version());
    }

    /// The rule at `index` (from 0) left the policy, or `joins` is there now.
    pub fn policy_edited(&mut self, generation: u32, index: usize, joins: Option<RuleInfo>) {
        self.generation = generation;
        if let Some(rule) = &joins {
            self.names.set_rule(rule.slot, &rule.name);
        }
        self.counters.edited(index, joins, &self.clock);
        self.tick.rules_replaced = Some(self.counters.version());
    }

    /// The kernel's counters of rules and reasons were set to zero (those of events go on).
    pub fn counters_reset(&mut self) {
        self.counters.forget();
    }

    /// Names of rules and interfaces, to be kept up to date by the datapath's owner.
    pub fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// The live policy's generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Recent events.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// How many flows live.
    pub fn live_flows(&self) -> u64 {
        self.flows.live()
    }

    /// Every visible flow (ended ones included), in no order.
    pub fn flows(&self) -> impl Iterator<Item = FlowView> + '_ {
        self.flows.rows(&self.names, &self.timeouts, &self.clock)
    }

    /// The visible flow of this id.
    pub fn flow(&self, id: u64) -> Option<FlowView> {
        self.flows.row(id, &self.names, &self.timeouts, &self.clock)
    }

    /// The `limit` first of all visible flows in this order (largest or latest first, unless `turned`),
    /// and how many there are. Cheaper than [`Self::flows`] where the table is large.
    pub fn top_flows(
        &self,
        order: FlowOrder,
        turned: bool,
        limit: usize,
    ) -> (usize, Vec<FlowView>) {
        self.flows.top((order, turned), limit, (&self.names, &self.timeouts, &self.clock))
    }

    /// What changed in the flow table after version `version`; `None` where that is too long ago to
    /// know what was removed since.
    pub fn flows_since(&self, version: u64) -> Option<FlowChanges> {
        self.flows.since(version, &self.names, &self.timeouts, &self.clock)
    }

    /// Version of the flow table: the sequence number of the `flows` stream.
    pub fn flows_version(&self) -> u64 {
        self.flows.version()
    }

    /// The rules in order, the two defaults last.
    pub fn rules(&self) -> Vec<Arc<RuleView>> {
        self.counters.rules()
    }

    /// Version of the counters: the sequence number of the `rules` and `stats` streams.
    pub fn counters_version(&self) -> u64 {
        self.counters.version()
    }

    /// Rules whose counters moved after version `version`; `None` where the policy changed since.
    pub fn rules_since(&self, version: u64) -> Option<Vec<Arc<RuleView>>> {
        self.counters.rules_since(version)
    }

    /// The last statistics.
    pub fn stats(&self) -> Arc<StatsView> {
        self.counters.last_stats()
    }

    fn push_event(&mut self, view: Arc<EventView>) {
        self.events.push(Kept::Row(view.clone()));
        if self.watched {
            self.tick.events.push(view);
        }
    }
}

#[cfg(test)]
mod tests;
