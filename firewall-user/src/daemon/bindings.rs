//! Which mappings the history is told of, and when: made of what the kernel tells and of what the tables
//! hold. No I/O, no clock.
//!
//! Events tell first, but may be lost, and a program that takes a flow out doesn't always tell. So what is
//! told is held against the tables: a translated flow that was never told of is written down when a look
//! finds it, one that a look at everything doesn't find any more (twice, to be sure) has ended with the
//! totals it had when it was last seen.

use super::history::{NatChange, began, ended, found};
use crate::{
    monitor::{Clock, FlowRecord, Monitor},
    store::{Origin, Totals},
};
use firewall_common::abi::{
    event::{Class, Event},
    flow::bits,
    reason::Reason,
};
use std::collections::HashMap;

/// Looks at everything that a flow may be missing from before it counts as gone.
const MISSING_MAX: u8 = 2;
/// Why a mapping ended, where nobody said.
const GONE: &str = "gone";

/// A mapping that was written down as begun.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    totals: Totals,
    missing: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Bindings {
    open: HashMap<u64, Open>,
    /// A look at everything has been.
    looked: bool,
    /// Some weren't in the last look at everything.
    in_doubt: bool,
}

/// When a mapping began, milliseconds since 1970: not later than rows of its flow say, which know ticks. The
/// flow's first tick is that of its event, or the one before: then it would not be found by its own time.
fn begin_ms(event: &Event, clock: &Clock) -> i64 {
    let tick = clock.monotonic_to_tick(event.time_ns).saturating_sub(1).max(1);
    clock.tick_to_unix(tick).unwrap_or_default().div_euclid(1_000_000)
}

/// What a flow has carried.
pub fn totals(record: &FlowRecord) -> Totals {
    let flow = &record.flow;
    Totals {
        packets: flow.packets,
        bytes: flow.bytes,
        reply_packets: flow.reply_packets,
        reply_bytes: flow.reply_bytes,
    }
}

impl Bindings {
    /// Whether a look at everything is wanted soon.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt || !self.looked
    }

    /// Whether a look at everything has been.
    pub const fn has_looked(&self) -> bool {
        self.looked
    }

    /// An event, in order.
    pub fn event(&mut self, event: &Event, monitor: &Monitor, clock: &Clock) -> Option<NatChange> {
        match Class::try_from(event.class).ok()? {
            Class::NatNew => {
                let rule = monitor.nat_words(event.rule);
                // Port blocks are there so that nobody needs to write down who had a port.
                if rule.has_blocks {
                    return None;
                }
                self.open.entry(event.flow_id).or_default();
                Some(began(event, &rule, begin_ms(event, clock)))
            }
            Class::FlowClosed => {
                let open = self.open.get_mut(&event.flow_id)?;
                let Event { packets, bytes, reply_packets, reply_bytes, .. } = *event;
                open.totals = Totals { packets, bytes, reply_packets, reply_bytes };
                let reason = Reason::try_from(event.reason).unwrap_or(Reason::Closed);
                // A connection that is closed stays in the table, with its port, until its time-out.
                if matches!(reason, Reason::Closed | Reason::Reset) {
                    return None;
                }
                let Open { totals, .. } = self.open.remove(&event.flow_id)?;
                let at_ms = clock.monotonic_to_unix(event.time_ns) / 1_000_000;
                let (origin, id) = (Origin::Sluice, event.flow_id);
                Some(NatChange::Ended { origin, id, totals, reason: reason.name(), at_ms })
            }
            _ => None,
        }
    }

    /// Flows that were read from the tables; `whole`: all that there are.
    pub fn seen(
        &mut self,
        records: &[FlowRecord],
        whole: bool,
        monitor: &Monitor,
        clock: &Clock,
    ) -> Vec<NatChange> {
        if whole {
            self.open.values_mut().for_each(|open| open.missing = open.missing.saturating_add(1));
        }
        let mut changes = Vec::new();
        for record in records {
            let Some(nat) = record.nat else { continue };
            let rule = monitor.nat_words(nat.rule);
            if rule.has_blocks {
                continue;
            }
            let fresh = Open { totals: totals(record), missing: 0 };
            if self.open.insert(record.flow.id, fresh).is_none() {
                changes.extend(found(record, &rule, clock));
            }
        }
        if whole {
            let at_ms = clock.unix_ns / 1_000_000;
            let gone = self.open.extract_if(|_, open| open.missing >= MISSING_MAX);
            changes.extend(gone.map(|(id, Open { totals, .. })| NatChange::Ended {
                origin: Origin::Sluice,
                id,
                totals,
                reason: GONE,
                at_ms,
            }));
            self.in_doubt = self.open.values().any(|open| open.missing > 0);
            if !std::mem::replace(&mut self.looked, true) {
                // What the history has as live from before, and isn't there, ended while nobody looked.
                let ids = self.open.keys().copied().collect();
                changes.push(NatChange::OnlyLive { origin: Origin::Sluice, ids, at_ms });
            }
        }
        changes
    }

    /// Flows that user space took out, for this reason: their totals are final.
    pub fn taken_out(
        &mut self,
        records: &[FlowRecord],
        reason: Reason,
        clock: &Clock,
    ) -> Vec<NatChange> {
        let mut changes = Vec::new();
        for record in records.iter().filter(|record| record.nat.is_some()) {
            if self.open.remove(&record.flow.id).is_none() {
                // Of a rule with port blocks, or one that came and went between two looks, its event lost.
                continue;
            }
            let closed = record.flow.bits & bits::TOLD_CLOSED != 0 && reason == Reason::TimedOut;
            let reason = if closed { Reason::Closed } else { reason };
            changes.push(ended(record, reason.name(), clock.unix_ns / 1_000_000));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::testing::Kernel,
        monitor::{Limits, NatInfo, NatTuple},
        store::BindingKind,
    };
    use firewall_common::abi::table::TIMEOUTS;

    fn monitor() -> Monitor {
        let mut monitor = Monitor::new(Limits::default());
        let nat = |slot, name: &str, kind, block| NatInfo {
            slot,
            name: name.into(),
            kind,
            text: String::new(),
            enabled: true,
            public: Vec::new(),
            ports: None,
            block,
            on: None,
            pool: None,
        };
        let nats = vec![nat(20, "lan", "masquerade", None), nat(21, "many", "source", Some(100))];
        monitor.policy(1, Vec::new(), nats, [0; TIMEOUTS]);
        monitor
    }

    fn clock(second: i64) -> Clock {
        Clock {
            unix_ns: (1_700_000_000 + second) * 1_000_000_000,
            monotonic_ns: second as u64 * 1_000_000_000,
            ticks: 1_000 + 250 * second as u64,
            tick_ns: 4_000_000,
            tick_zero_ns: None,
        }
    }

    fn flow(id: u64, packets: u64, rule: u32) -> FlowRecord {
        let mut flow = Kernel::flow(id, packets);
        flow.nat = Some(NatTuple {
            src: [203, 0, 113, 5],
            dst: [10, 0, 0, 2],
            sport: 40_000,
            dport: 80,
            rule,
        });
        flow.flow.bits |= bits::NAT_SOURCE;
        flow
    }

    fn words(changes: &[NatChange]) -> Vec<String> {
        let word = |change: &NatChange| match change {
            NatChange::Began(binding) => {
                format!("began {} {} {}", binding.id, binding.kind.name(), binding.rule)
            }
            NatChange::Ended { id, totals, reason, .. } => {
                format!("ended {id} {reason} {}", totals.packets)
            }
            NatChange::OnlyLive { ids, .. } => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                format!("only {ids:?}")
            }
            NatChange::Blocks { .. } => "blocks".to_owned(),
        };
        let mut words: Vec<_> = changes.iter().map(word).collect();
        words.sort_unstable();
        words
    }

    fn told(class: Class, id: u64, rule: u32, reason: Reason, packets: u64) -> Event {
        Event {
            class: class.raw(),
            flow_id: id,
            rule,
            reason: reason.raw(),
            packets,
            family: 4,
            proto: 6,
            ..Event::default()
        }
    }

    #[test]
    fn the_first_look_says_what_lives_and_later_ones_find_what_was_never_told() {
        let (monitor, mut bindings) = (monitor(), Bindings::default());
        let first = bindings.seen(&[flow(1, 3, 20), Kernel::flow(2, 1)], true, &monitor, &clock(0));
        assert_eq!(words(&first), ["began 1 masquerade lan", "only [1]"]);
        let NatChange::Began(binding) = &first[0] else { panic!("{first:?}") };
        assert_eq!((binding.kind, binding.to_src.port), (BindingKind::Masquerade, 40_000));
        // Told by an event, then seen: once.
        let event = told(Class::NatNew, 3, 20, Reason::Rule, 0);
        assert!(bindings.event(&event, &monitor, &clock(1)).is_some());
        let seen = bindings.seen(&[flow(3, 1, 20), flow(4, 1, 20)], false, &monitor, &clock(2));
        assert_eq!(words(&seen), ["began 4 masquerade lan"]);
    }

    #[test]
    fn ends_have_the_flows_totals_however_they_are_learned_of() {
        let (monitor, mut bindings) = (monitor(), Bindings::default());
        let all = [1, 2, 3, 4].map(|id| flow(id, 10 * id, 20));
        bindings.seen(&all, true, &monitor, &clock(0));
        // Cut by a program: its event is the last word.
        let event = told(Class::FlowClosed, 1, 0, Reason::PolicyChanged, 11);
        let end = bindings.event(&event, &monitor, &clock(1));
        assert_eq!(words(end.as_slice()), ["ended 1 policy-changed 11"]);
        // Closed: it goes on until it is taken out.
        let event = told(Class::FlowClosed, 2, 0, Reason::Closed, 21);
        assert_eq!(bindings.event(&event, &monitor, &clock(1)), None);
        let mut closed = flow(2, 25, 20);
        closed.flow.bits |= bits::TOLD_CLOSED;
        let ends = bindings.taken_out(&[closed, flow(3, 33, 20)], Reason::TimedOut, &clock(2));
        assert_eq!(words(&ends), ["ended 2 closed 25", "ended 3 timed-out 33"]);
        assert_eq!(bindings.taken_out(&[closed], Reason::TimedOut, &clock(2)), []);
        // Nobody said anything: gone at the second look, with what was last seen.
        bindings.seen(&[flow(4, 44, 20)], false, &monitor, &clock(3));
        assert_eq!(bindings.seen(&[], true, &monitor, &clock(4)), []);
        assert!(bindings.in_doubt());
        assert_eq!(words(&bindings.seen(&[], true, &monitor, &clock(5))), ["ended 4 gone 44"]);
        assert!(!bindings.in_doubt());
    }

    #[test]
    fn a_mapping_is_found_by_the_time_its_flow_is_shown_to_have_begun() {
        let clock = Clock { tick_zero_ns: Some(1_699_999_996_000_000_000), ..clock(60) };
        // The tick may have changed just before the event, or be about to.
        for time_ns in (0..8_000_000).map(|ns| clock.monotonic_ns - ns).step_by(500_000) {
            let tick = clock.ticks - (clock.monotonic_ns - time_ns).div_ceil(clock.tick_ns);
            let shown = clock.tick_to_unix(tick).expect("a time") / 1_000_000;
            let event = Event { time_ns, ..Event::default() };
            let begin = begin_ms(&event, &clock);
            assert!((shown - 8..=shown).contains(&begin), "{begin} for {shown}");
        }
    }

    #[test]
    fn a_tuple_that_is_taken_again_ends_its_mapping_at_once() {
        let (monitor, mut bindings) = (monitor(), Bindings::default());
        bindings.seen(&[flow(1, 3, 20)], true, &monitor, &clock(0));
        let closed = told(Class::FlowClosed, 1, 0, Reason::Closed, 5);
        assert_eq!(bindings.event(&closed, &monitor, &clock(1)), None);
        let again = told(Class::FlowClosed, 1, 0, Reason::Reused, 6);
        let end = bindings.event(&again, &monitor, &clock(2));
        assert_eq!(words(end.as_slice()), ["ended 1 reused 6"]);
    }

    #[test]
    fn port_blocks_need_no_log() {
        let (monitor, mut bindings) = (monitor(), Bindings::default());
        let event = told(Class::NatNew, 1, 21, Reason::Rule, 0);
        assert_eq!(bindings.event(&event, &monitor, &clock(0)), None);
        let seen = bindings.seen(&[flow(1, 1, 21)], true, &monitor, &clock(1));
        assert_eq!(words(&seen), ["only []"]);
        assert_eq!(bindings.taken_out(&[flow(1, 1, 21)], Reason::TimedOut, &clock(2)), []);
    }
}
