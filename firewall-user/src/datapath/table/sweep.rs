//! Taking flows out: those that are idle past their time-out, and those that somebody asked to be cut.
//!
//! A flow is looked at, taken out with a compare-and-swap, and looked at again: if a packet woke it in
//! between, it is put back. After a grace period no program counts on the record any more; then its
//! totals are final, are added to those of its translation, and are told.

use super::{Record, Table, Tables, settle};
use crate::{datapath::error::DatapathError, monitor::FlowRecord};
use firewall_common::{
    abi::{
        bucket::tag,
        flow::{Flow, Flow4, Flow6, bits},
        table::TIMEOUTS,
    },
    flow::{
        hash::{source4, source6},
        timeout,
    },
};
use std::sync::atomic::Ordering;

/// Word of a record that holds `last` and `first`.
const LAST_WORD: usize = std::mem::offset_of!(Flow, last) / 8;
const _: () = assert!(std::mem::offset_of!(Flow, last) % 8 == 0);

/// Slots that were taken out.
type Taken = Vec<usize>;

impl Table {
    /// Takes out every live flow that `wanted` says; `again` is asked after it was taken out, and puts
    /// it back where it says no. Also how many live on.
    fn take_where<R: Record>(
        &self,
        now: u64,
        mut wanted: impl FnMut(&Self, usize) -> bool,
        again: impl Fn(&R) -> bool,
    ) -> (Taken, u64) {
        let (mut taken, mut live) = (Vec::new(), 0);
        for slot in 0..self.slots() {
            let seen = self.tag(slot);
            if seen & tag::LIVE == 0 {
                continue;
            }
            if !wanted(self, slot) || !self.take(slot, seen, now) {
                live += 1;
                continue;
            }
            if again(&self.copy(slot)) {
                taken.push(slot);
            } else {
                self.put_back(slot, seen);
                live += 1;
            }
        }
        (taken, live)
    }

    /// Undoes [`Table::take`].
    fn put_back(&self, slot: usize, seen: u64) {
        if let Some(word) = self.tags.words().get(slot) {
            word.store(seen, Ordering::SeqCst);
        }
    }
}

impl Tables {
    /// Removes flows idle past their time-out (ticks) at tick `now`, and returns them with their last
    /// totals; and how many live on.
    ///
    /// # Errors
    /// The kernel doesn't say when its programs have ended.
    pub fn sweep(
        &self,
        timeouts: &[u32; TIMEOUTS],
        now: u64,
    ) -> Result<(Vec<FlowRecord>, u64), DatapathError> {
        // Most flows are idle for less than the shortest time-out: one word tells.
        let shortest = timeouts.iter().copied().min().unwrap_or(0);
        let young = |table: &Table, slot: usize| {
            let word = table.record_words(slot).get(LAST_WORD);
            let last = word.map_or(0, |word| word.load(Ordering::Relaxed) as u32);
            Flow { last, ..Flow::default() }.idle(now) <= shortest
        };
        let (taken4, live4) = self.v4.take_where::<Flow4>(
            now,
            |table, slot| !young(table, slot) && expired::<Flow4>(table, slot, timeouts, now),
            |record| timeout::expired(&record.flow, record.key.proto, timeouts, now),
        );
        let (taken6, live6) = self.v6.take_where::<Flow6>(
            now,
            |table, slot| !young(table, slot) && expired::<Flow6>(table, slot, timeouts, now),
            |record| timeout::expired(&record.flow, record.key.proto, timeouts, now),
        );
        self.count_ports();
        Ok((self.gone(&taken4, &taken6, now)?, live4 + live6))
    }

    /// Removes the flows that `wanted` says, and returns them with their last totals.
    ///
    /// # Errors
    /// As [`Tables::sweep`].
    pub fn cut(
        &self,
        now: u64,
        wanted: &mut dyn FnMut(&FlowRecord) -> bool,
    ) -> Result<Vec<FlowRecord>, DatapathError> {
        let (taken4, _) = self.v4.take_where::<Flow4>(
            now,
            |table, slot| {
                let record: Flow4 = table.copy(slot);
                wanted(&record.oriented(self.nat(&record.flow)))
            },
            |_| true,
        );
        let (taken6, _) = self.v6.take_where::<Flow6>(
            now,
            |table, slot| wanted(&table.copy::<Flow6>(slot).oriented(None)),
            |_| true,
        );
        self.gone(&taken4, &taken6, now)
    }

    /// What is left of flows that were taken out.
    fn gone(
        &self,
        taken4: &Taken,
        taken6: &Taken,
        now: u64,
    ) -> Result<Vec<FlowRecord>, DatapathError> {
        if taken4.is_empty() && taken6.is_empty() {
            return Ok(Vec::new());
        }
        settle()?;
        let mut gone = Vec::with_capacity(taken4.len() + taken6.len());
        for slot in taken4 {
            let record: Flow4 = self.v4.copy(*slot);
            let orig_is_a = record.flow.bits & bits::ORIG_IS_A != 0;
            let source = if orig_is_a { record.key.a } else { record.key.b };
            if record.flow.bits & bits::SOURCE_COUNTED != 0 {
                self.uncount(source4(source, self.seed));
            }
            gone.push(record.oriented(self.nat(&record.flow)));
            self.let_go(&record.flow, source, now);
        }
        for slot in taken6 {
            let record: Flow6 = self.v6.copy(*slot);
            if record.flow.bits & bits::SOURCE_COUNTED != 0 {
                let orig_is_a = record.flow.bits & bits::ORIG_IS_A != 0;
                let source = if orig_is_a { &record.key.a } else { &record.key.b };
                self.uncount(source6(source, self.seed));
            }
            gone.push(record.oriented(None));
        }
        Ok(gone)
    }

    /// One flow less of a source.
    fn uncount(&self, index: usize) {
        if let Some(word) = self.sources.words().get(index) {
            word.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn expired<R: Record>(table: &Table, slot: usize, timeouts: &[u32; TIMEOUTS], now: u64) -> bool {
    let record: R = table.copy(slot);
    timeout::expired(record.flow(), record.proto(), timeouts, now)
}
