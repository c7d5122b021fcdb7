//! The search for the rules behind sockets: what the filter judged is shown to the table of sockets, a moment after
//! both were told of.

use super::{State, key};
use crate::monitor::{
    Monitor,
    judged::{Judged, Visit},
};
use firewall_common::abi::socket::SocketRow;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// From one look for the rules behind sockets to the next.
const RULES: Duration = Duration::from_secs(1);
/// So many times its length passes before the next.
const RULES_BREATH: u32 = 50;
/// The same of asking which rows of summaries have sockets that live.
const MARKS_BREATH: u32 = 10;
/// The search for the rules behind sockets.
#[derive(Debug)]
pub(super) struct Rules {
    model: Arc<Mutex<Monitor>>,
    /// What was judged before the last look: a socket may be told of later than its flow.
    earlier: Vec<Judged>,
    next: Instant,
    /// When it may be asked which rows of summaries have sockets that live.
    next_marks: Instant,
}

impl Rules {
    pub(super) fn new(model: Arc<Mutex<Monitor>>) -> Self {
        Self { model, earlier: Vec::new(), next: Instant::now(), next_marks: Instant::now() }
    }

    /// Shows sockets what was judged, if it is time; with `whole`, now, and all flows that there are.
    pub(super) fn look(&mut self, state: &mut State, whole: bool) {
        let start = Instant::now();
        if !whole && start < self.next && !state.table.waits_for_rules() {
            if state.table.wants_marks() && start >= self.next_marks {
                let State { table, owners, .. } = state;
                table.mark_summary(&|by, row| key(owners, by, row));
                self.next_marks = Instant::now() + start.elapsed() * MARKS_BREATH;
            }
            return;
        }
        let (fresh, lost) = model(&self.model).collect_judged();
        let whole = whole || lost != state.judged_lost;
        state.judged_lost = lost;
        let State { table, owners, netns, .. } = state;
        let keys = &|by, row: &SocketRow| key(owners, by, row);
        let all = |visit: Visit<'_>| {
            for judged in self.earlier.iter().chain(&fresh) {
                visit(&judged.ends, judged.refused, &|| judged.rule.clone());
            }
            if whole {
                model(&self.model).judged_flows(visit);
            }
        };
        if whole || !self.earlier.is_empty() || !fresh.is_empty() {
            table.meet(*netns, whole, all, keys);
        } else {
            // Nobody to look for: sockets needn't be gone through.
            table.settle(keys);
        }
        table.mark_summary(keys);
        self.earlier = fresh;
        self.next = Instant::now() + RULES.max(start.elapsed() * RULES_BREATH);
    }
}

fn model(model: &Mutex<Monitor>) -> MutexGuard<'_, Monitor> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
