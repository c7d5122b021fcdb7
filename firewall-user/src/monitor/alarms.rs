//! What is wrong right now: raised when it begins, cleared when it has been over for a while.

use super::{clock::Clock, reading::PortFigures, text};
use crate::view::AlarmView;
use std::collections::HashMap;

/// How long nothing may have happened before an alarm is over, nanoseconds.
const QUIET_NS: u64 = 10_000_000_000;
/// A table is highly filled from so many percent on.
const HIGH: f64 = 80.0;
/// Below so many it isn't any more: a table at the edge doesn't ring all the time.
const NO_LONGER_HIGH: f64 = 75.0;

/// How full the flow tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// There is room.
    #[default]
    Ok,
    /// There is little.
    High,
    /// Flows are refused or evicted.
    Full,
}

impl Pressure {
    /// As the protocol writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::High => "high",
            Self::Full => "full",
        }
    }
}

/// A change that is news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlarmChange {
    /// It begins.
    Raised(AlarmView),
    /// It is over; with what was to be said about it in the end.
    Cleared(AlarmView),
}

/// What an alarm is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Cause {
    Pressure,
    /// Index in map `PORTS`.
    Ports(usize),
}

#[derive(Clone, Debug)]
struct Active {
    cause: Cause,
    view: AlarmView,
}

/// Something that is counted: since when it hasn't moved.
#[derive(Clone, Copy, Debug)]
struct Watched {
    count: u64,
    /// CLOCK_MONOTONIC, ns; `None`: it never moved while we looked.
    moved: Option<u64>,
    /// Count when it began to move.
    before: u64,
}

impl Watched {
    fn new(count: u64) -> Self {
        Self { count, moved: None, before: count }
    }

    /// Whether it moves, or did a moment ago.
    fn update(&mut self, count: u64, now_ns: u64) -> bool {
        let quiet = self.moved.is_none_or(|at| now_ns.saturating_sub(at) >= QUIET_NS);
        if count < self.count {
            // Somebody set the counter to zero.
            (self.count, self.before) = (count, count);
        }
        if count != self.count {
            if quiet {
                self.before = self.count;
            }
            self.moved = Some(now_ns);
            self.count = count;
            return true;
        }
        !quiet
    }

    /// How far it has come since it began.
    fn since(&self) -> u64 {
        self.count.saturating_sub(self.before)
    }
}

/// The alarms.
#[derive(Debug, Default)]
pub struct Alarms {
    active: Vec<Active>,
    refused: Option<Watched>,
    ports: HashMap<usize, Watched>,
    pressure: Pressure,
    primed: bool,
}

/// How the flow tables are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    /// Percent of the capacity that is in use, of the fuller family.
    pub percent: f64,
    /// Flows that found no room, and those that made room for others, ever.
    pub refused: u64,
}

impl Alarms {
    /// Looks at the figures; what has changed. `pool` says in words whose ports these are.
    pub fn update(
        &mut self,
        fill: Fill,
        ports: &[PortFigures],
        pool: impl Fn(&PortFigures) -> String,
        clock: &Clock,
    ) -> Vec<AlarmChange> {
        let now = clock.monotonic_ns;
        let mut changes = Vec::new();

        let refused = self.refused.get_or_insert_with(|| Watched::new(fill.refused));
        let refuses = refused.update(fill.refused, now);
        let count = refused.since();
        let high = if self.pressure == Pressure::Ok { HIGH } else { NO_LONGER_HIGH };
        self.pressure = match (refuses, fill.percent >= high) {
            (true, _) => Pressure::Full,
            (false, true) => Pressure::High,
            (false, false) => Pressure::Ok,
        };
        let wanted = match self.pressure {
            Pressure::Ok => None,
            Pressure::High => {
                Some(("warning", format!("the flow table is {:.0} % full", fill.percent)))
            }
            Pressure::Full => Some((
                "error",
                format!(
                    "the flow table has no room{} ({:.0} % full): {count} flows refused or evicted",
                    // Those that nobody has answered may have some of the places only.
                    if fill.percent < HIGH { " for more unanswered flows" } else { "" },
                    fill.percent
                ),
            )),
        };
        self.set(Cause::Pressure, "flow-table-pressure", wanted, clock, &mut changes);

        for figures in ports {
            // What failed before we looked for the first time is no news; what came since is, also for an
            // address that was never used before.
            let first = if self.primed { 0 } else { figures.failures };
            let watched = self.ports.entry(figures.index).or_insert_with(|| Watched::new(first));
            let fails = watched.update(figures.failures, now);
            let count = watched.since();
            let wanted = fails.then(|| {
                let text = format!("{}: no port is left, {count} mappings refused", pool(figures));
                ("error", text)
            });
            let cause = Cause::Ports(figures.index);
            self.set(cause, "nat-ports-exhausted", wanted, clock, &mut changes);
        }
        self.primed = true;
        changes
    }

    fn set(
        &mut self,
        cause: Cause,
        code: &str,
        wanted: Option<(&str, String)>,
        clock: &Clock,
        changes: &mut Vec<AlarmChange>,
    ) {
        let at = self.active.iter().position(|active| active.cause == cause);
        match (at, wanted) {
            (None, None) => {}
            (Some(at), None) => changes.push(AlarmChange::Cleared(self.active.remove(at).view)),
            (Some(at), Some((severity, text))) => {
                let view = &mut self.active[at].view;
                let worse = view.severity != severity && severity == "error";
                view.text = text;
                severity.clone_into(&mut view.severity);
                if worse {
                    changes.push(AlarmChange::Raised(view.clone()));
                }
            }
            (None, Some((severity, text))) => {
                let view = AlarmView {
                    code: code.to_owned(),
                    severity: severity.to_owned(),
                    since: text::time(clock.unix_ns),
                    text,
                };
                changes.push(AlarmChange::Raised(view.clone()));
                self.active.push(Active { cause, view });
            }
        }
    }

    /// How full the tables are, in a word.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Public addresses without a port.
    pub fn exhausted(&self) -> u64 {
        self.active.iter().filter(|active| matches!(active.cause, Cause::Ports(_))).count() as u64
    }

    /// What is wrong, the oldest first.
    pub fn views(&self) -> Vec<AlarmView> {
        self.active.iter().map(|active| active.view.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Clock {
        Clock {
            monotonic_ns: second * 1_000_000_000,
            unix_ns: 1_700_000_000_000_000_000,
            ..Clock::default()
        }
    }

    fn words(changes: &[AlarmChange]) -> Vec<(bool, String)> {
        let word = |change: &AlarmChange| match change {
            AlarmChange::Raised(view) => (true, view.text.clone()),
            AlarmChange::Cleared(view) => (false, view.text.clone()),
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn a_table_fills_up_refuses_and_empties() {
        let mut alarms = Alarms::default();
        let mut look = |second, percent, refused| {
            let changes =
                alarms.update(Fill { percent, refused }, &[], |_| unreachable!(), &at(second));
            (alarms.pressure(), words(&changes))
        };
        // What was refused before this daemon came is no news.
        assert_eq!(look(0, 10.0, 7), (Pressure::Ok, vec![]));
        let (pressure, said) = look(1, 81.0, 7);
        assert_eq!(
            (pressure, said),
            (Pressure::High, vec![(true, "the flow table is 81 % full".into())])
        );
        assert_eq!(look(2, 77.0, 7), (Pressure::High, vec![]));
        let (pressure, said) = look(3, 99.0, 9);
        assert_eq!(pressure, Pressure::Full);
        assert_eq!(
            said,
            [(true, "the flow table has no room (99 % full): 2 flows refused or evicted".into())]
        );
        // It goes on: said once.
        assert_eq!(look(4, 99.0, 100), (Pressure::Full, vec![]));
        assert_eq!(look(13, 99.0, 100), (Pressure::Full, vec![]));
        assert_eq!(look(14, 76.0, 100), (Pressure::High, vec![]));
        let (pressure, said) = look(15, 70.0, 100);
        assert_eq!((pressure, said.len(), said[0].0), (Pressure::Ok, 1, false));
        assert_eq!(look(16, 70.0, 0), (Pressure::Ok, vec![]), "counters at zero are no news");
        let said = look(17, 15.0, 5).1;
        let wanted = "the flow table has no room for more unanswered flows (15 % full): 5 flows refused or evicted";
        assert_eq!(said, [(true, wanted.into())]);
    }

    #[test]
    fn ports_run_out_once_an_address_and_come_back() {
        let mut alarms = Alarms::default();
        let mut look = |second, failures: [u64; 2]| {
            let ports = [3, 7].into_iter().zip(failures);
            let ports: Vec<PortFigures> = ports
                .map(|(index, failures)| PortFigures { index, failures, ..PortFigures::default() })
                .collect();
            let pool = |figures: &PortFigures| format!("pool {}", figures.index);
            let changes = alarms.update(Fill::default(), &ports, pool, &at(second));
            (alarms.exhausted(), words(&changes))
        };
        assert_eq!(look(0, [5, 0]), (0, vec![]));
        let said = (true, "pool 7: no port is left, 2 mappings refused".into());
        assert_eq!(look(1, [5, 2]), (1, vec![said]));
        assert_eq!(look(2, [5, 9]), (1, vec![]));
        let said = (true, "pool 3: no port is left, 1 mappings refused".into());
        assert_eq!(look(3, [6, 9]), (2, vec![said]));
        let said = (false, "pool 7: no port is left, 9 mappings refused".into());
        assert_eq!(look(12, [6, 9]), (1, vec![said]));
        assert_eq!(look(13, [6, 9]).0, 0);
        // Again: counted from there.
        let said = (true, "pool 7: no port is left, 3 mappings refused".into());
        assert_eq!(look(30, [6, 12]), (1, vec![said]));
    }
}
