//! The kernel's counters to what was counted in each minute. No I/O, no clock.
//!
//! A reading a second: what was counted since the last one is of the minute that the reading is in. It is handed on
//! every few seconds, and added up where it is kept. What passed while no daemon ran is in no minute: it is in the
//! counters, but nobody knows when it was.

use crate::{
    monitor::{CounterInput, RuleInfo},
    store::{Minutes, RuleMinute, VerdictMinute},
};
use firewall_common::abi::{
    counter::{ReasonCounter, RuleCounter},
    reason::Reason,
    table::{SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, Verdict},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Nanoseconds of a minute.
const MINUTE_NS: i64 = 60_000_000_000;

/// What was counted waits for so long at most.
const WAIT_NS: u64 = 5_000_000_000;

/// What moved in the minute that runs, and wasn't handed on yet.
#[derive(Debug, Default)]
struct Open {
    minute: i64,
    since_ns: i64,
    verdicts: BTreeMap<(Verdict, Reason), ReasonCounter>,
    rules: BTreeMap<u32, RuleCounter>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Books {
    /// The last reading, if there was one, or the counters are known to have begun at zero.
    started: bool,
    verdicts: HashMap<(Verdict, Reason), ReasonCounter>,
    rules: HashMap<u32, RuleCounter>,
    /// Names and actions by slot; those of rules that are gone too, until another has their slot.
    names: HashMap<u32, (Arc<str>, Arc<str>)>,
    open: Open,
}

/// What was counted since; less than before means that it was set to zero meanwhile.
fn since(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

impl Books {
    /// The counters begin at zero with this daemon: nothing was counted before the first reading.
    pub fn begins_at_zero(&mut self) {
        self.started = true;
    }

    /// These are the rules now.
    pub fn rules(&mut self, rules: &[RuleInfo]) {
        for rule in rules {
            self.names.insert(rule.slot, (rule.name.as_str().into(), rule.action.into()));
        }
    }

    /// A reading at `unix_ns`; what is to be handed on: of the minute that is over, or a part of this one.
    pub fn read(&mut self, input: &CounterInput, unix_ns: i64) -> Minutes {
        let minute = unix_ns.div_euclid(MINUTE_NS);
        let due = self.open.since_ns.abs_diff(unix_ns) >= WAIT_NS;
        let over = if due || self.open.minute != minute {
            let over = self.close();
            (self.open.minute, self.open.since_ns) = (minute, unix_ns);
            over
        } else {
            Minutes::default()
        };
        let started = std::mem::replace(&mut self.started, true);
        for (verdict, reason, now) in &input.reasons {
            let key = (*verdict, *reason);
            let before = self.verdicts.insert(key, *now).unwrap_or_default();
            let packets = since(now.packets, before.packets);
            if started && packets > 0 {
                let sum = self.open.verdicts.entry(key).or_default();
                sum.packets += packets;
                sum.bytes += since(now.bytes, before.bytes);
            }
        }
        for (slot, now) in &input.rules {
            let before = self.rules.insert(*slot, *now).unwrap_or_default();
            let (hits, packets) =
                (since(now.hits, before.hits), since(now.packets, before.packets));
            if started && (hits > 0 || packets > 0) {
                let sum = self.open.rules.entry(*slot).or_default();
                sum.hits += hits;
                sum.packets += packets;
                sum.bytes += since(now.bytes, before.bytes);
            }
        }
        over
    }

    /// What there is of the minute that runs.
    pub fn close(&mut self) -> Minutes {
        let Open { minute, verdicts, rules, .. } = std::mem::take(&mut self.open);
        let verdicts = verdicts.into_iter().map(|((verdict, reason), sum)| VerdictMinute {
            minute,
            verdict: verdict.name().into(),
            reason: reason.name().into(),
            packets: sum.packets,
            bytes: sum.bytes,
        });
        let rules = rules.into_iter().map(|(slot, sum)| {
            let (rule, action) = self.names.get(&slot).cloned().unwrap_or_else(|| {
                let name = match slot {
                    SLOT_DEFAULT_IN => crate::monitor::names::DEFAULT_IN.to_owned(),
                    SLOT_DEFAULT_OUT => crate::monitor::names::DEFAULT_OUT.to_owned(),
                    slot => format!("slot {slot}"),
                };
                (name.into(), "".into())
            });
            RuleMinute {
                minute,
                rule,
                action,
                hits: sum.hits,
                packets: sum.packets,
                bytes: sum.bytes,
            }
        });
        Minutes { verdicts: verdicts.collect(), rules: rules.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(packets: u64) -> CounterInput {
        let reason = ReasonCounter { packets, bytes: packets * 100 };
        let rule = RuleCounter { hits: packets / 2, packets, bytes: packets * 90, last: 1 };
        CounterInput {
            reasons: vec![(Verdict::Drop, Reason::Rule, reason)],
            rules: vec![(16, rule)],
            ..CounterInput::default()
        }
    }

    fn books() -> Books {
        let mut books = Books::default();
        books.rules(&[RuleInfo {
            position: 1,
            slot: 16,
            name: "web".into(),
            action: "drop",
            enabled: true,
            log: false,
            text: String::new(),
        }]);
        books
    }

    fn sums(minutes: &Minutes) -> Vec<(i64, u64, u64)> {
        let verdicts = minutes.verdicts.iter().map(|row| (row.minute, row.packets, row.bytes));
        let rules = minutes.rules.iter().map(|row| (row.minute, row.packets, row.bytes));
        verdicts.chain(rules).collect()
    }

    #[test]
    fn a_minute_has_what_was_counted_in_it() {
        let mut books = books();
        // A filter that was taken over: what it had counted is of no minute.
        assert_eq!(books.read(&reading(1_000), 0), Minutes::default());
        assert_eq!(books.read(&reading(1_010), 30 * 1_000_000_000), Minutes::default());
        let over = books.read(&reading(1_015), MINUTE_NS);
        assert_eq!(sums(&over), [(0, 10, 1_000), (0, 10, 900)]);
        assert_eq!((&*over.rules[0].rule, &*over.rules[0].action), ("web", "drop"));
        assert_eq!(over.rules[0].hits, 5);
        // Set to zero meanwhile: what is there now was counted since.
        assert_eq!(books.read(&reading(3), MINUTE_NS + 1), Minutes::default());
        assert_eq!(sums(&books.close()), [(1, 8, 800), (1, 8, 720)]);
        assert_eq!(books.close(), Minutes::default());
    }

    #[test]
    fn a_minute_is_handed_on_in_parts() {
        let mut books = books();
        books.begins_at_zero();
        let second = |n: i64| MINUTE_NS + n * 1_000_000_000;
        let parts: Vec<_> = (0..10)
            .map(|n| books.read(&reading(10 * n as u64), second(n)))
            .filter(|part| *part != Minutes::default())
            .collect();
        assert_eq!(parts.iter().map(sums).collect::<Vec<_>>(), [[(1, 40, 4_000), (1, 40, 3_600)]]);
        assert_eq!(sums(&books.close()), [(1, 50, 5_000), (1, 50, 4_500)]);
    }

    #[test]
    fn a_filter_that_begins_with_the_daemon_counts_from_zero() {
        let mut books = books();
        books.begins_at_zero();
        books.read(&reading(7), 0);
        assert_eq!(sums(&books.close()), [(0, 7, 700), (0, 7, 630)]);
    }
}
