//! Who lost what: per event class, `produced = delivered + lost`, always.
//!
//! Sequence numbers of a class are given out by the kernel without gaps; a number that never comes
//! out of the ring was lost. Two CPUs may write in another order than they numbered, so a gap counts
//! as lost only when it is still there at the second settling after it was noticed (two turns of the
//! loop; the ring hands out nothing past a record that is still being written).

use crate::view::EventCountView;
use firewall_common::abi::{
    counter::EventCounter,
    event::{CLASSES, Class},
};

/// Consecutive events of one class that will never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which class.
    pub class: Class,
    /// First sequence number.
    pub from: u64,
    /// Last sequence number.
    pub to: u64,
}

/// Most gaps watched at once in a class; past that the oldest is given up early.
const MAX_RANGES: usize = 1024;

/// One class's account.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Known from the first reading of the kernel's counters on.
    started: bool,
    /// Everything below was numbered before the first reading and belongs to its figures.
    start: u64,
    /// Everything below is decided.
    floor: u64,
    /// Everything below was there to be seen at the last settling.
    top: u64,
    /// Numbers at or past `floor` that arrived, as disjoint half-open ranges in order.
    seen: Vec<(u64, u64)>,
    /// Decided: arrived (those of earlier daemons included).
    delivered: u64,
    /// Decided: lost.
    lost: u64,
    /// The kernel's figures at the last reading.
    produced: u64,
    suppressed: u64,
}

impl Account {
    fn seen(&mut self, seq: u64) {
        if seq < self.floor {
            // Came after it was given up.
            if seq >= self.start && self.lost > 0 {
                self.lost -= 1;
                self.delivered += 1;
            }
            return;
        }
        match self.seen.last_mut() {
            Some(last) if last.1 == seq => last.1 += 1,
            Some(last) if last.1 < seq => self.seen.push((seq, seq + 1)),
            None => self.seen.push((seq, seq + 1)),
            Some(_) => self.insert(seq),
        }
    }

    /// The slow way: `seq` belongs somewhere before the end.
    fn insert(&mut self, seq: u64) {
        let at = self.seen.partition_point(|range| range.1 < seq);
        let Some(range) = self.seen.get_mut(at) else { return };
        if range.0 <= seq && seq < range.1 {
            return;
        }
        if range.1 == seq {
            range.1 += 1;
            if let Some(next) = self.seen.get(at + 1).copied()
                && next.0 == seq + 1
            {
                self.seen[at].1 = next.1;
                self.seen.remove(at + 1);
            }
        } else if range.0 == seq + 1 {
            range.0 = seq;
        } else {
            self.seen.insert(at, (seq, seq + 1));
        }
    }

    fn produced(&mut self, counter: &EventCounter) {
        if !self.started || counter.produced < self.produced {
            // The first reading: what earlier daemons drained can't be told from what still waits in
            // the ring, so all that wasn't lost counts as delivered, and is not counted again.
            let ahead: Vec<_> =
                self.seen.drain(..).filter(|range| range.1 > counter.produced).collect();
            *self = Account {
                started: true,
                start: counter.produced,
                floor: counter.produced,
                top: counter.produced,
                seen: ahead
                    .into_iter()
                    .map(|range| (range.0.max(counter.produced), range.1))
                    .collect(),
                delivered: counter.produced.saturating_sub(counter.lost),
                lost: counter.lost.min(counter.produced),
                ..Account::default()
            };
        }
        self.produced = counter.produced;
        self.suppressed = counter.suppressed;
    }

    fn settle(&mut self, class: Class, losses: &mut Vec<Loss>) {
        if !self.started {
            return;
        }
        let mut limit = self.top;
        if self.seen.len() > MAX_RANGES {
            limit = limit.max(self.seen[self.seen.len() - MAX_RANGES].0);
        }
        let mut at = self.floor;
        let mut keep = 0;
        for range in &mut self.seen {
            if range.0 >= limit {
                break;
            }
            if at < range.0 {
                losses.push(Loss { class, from: at, to: range.0 - 1 });
                self.lost += range.0 - at;
            }
            let end = range.1.min(limit);
            self.delivered += end - range.0;
            at = end;
            if range.1 > limit {
                range.0 = limit;
                break;
            }
            keep += 1;
        }
        self.seen.drain(..keep);
        if at < limit {
            losses.push(Loss { class, from: at, to: limit - 1 });
            self.lost += limit - at;
        }
        self.floor = limit.max(self.floor);
        let newest = self.seen.last().map_or(0, |range| range.1);
        self.top = self.top.max(self.produced).max(newest);
    }

    fn view(&self, class: Class) -> EventCountView {
        let newest = self.seen.last().map_or(self.floor, |range| range.1);
        let produced = self.produced.max(newest).max(self.floor);
        let waiting: u64 = self.seen.iter().map(|range| range.1 - range.0).sum();
        let delivered = self.delivered + waiting;
        EventCountView {
            class: class.name().to_owned(),
            produced,
            delivered,
            lost: produced.saturating_sub(delivered),
            suppressed: self.suppressed,
        }
    }
}

/// All classes' accounts.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts([Account; CLASSES]);

impl Accounts {
    /// Event `seq` of `class` came out of the ring.
    pub fn seen(&mut self, class: Class, seq: u64) {
        self.0[usize::from(class.raw())].seen(seq);
    }
    /// The kernel's counter of `class`, read after this turn's events were drained.
    pub fn produced(&mut self, class: Class, counter: &EventCounter) {
        self.0[usize::from(class.raw())].produced(counter);
    }
    /// Decides about gaps noticed at the settling before.
    pub fn settle(&mut self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for class in Class::ALL {
            self.0[usize::from(class.raw())].settle(*class, &mut losses);
        }
        losses
    }
    /// Rows for people.
    pub fn views(&self) -> Vec<EventCountView> {
        Class::ALL.iter().map(|class| self.0[usize::from(class.raw())].view(*class)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: Class = Class::Verdict;

    fn counter(produced: u64, lost: u64) -> EventCounter {
        EventCounter { produced, lost, suppressed: 0 }
    }

    fn row(accounts: &Accounts) -> (u64, u64, u64) {
        let row = &accounts.views()[usize::from(CLASS.raw())];
        assert_eq!(row.produced, row.delivered + row.lost, "{row:?}");
        (row.produced, row.delivered, row.lost)
    }

    fn started() -> Accounts {
        let mut accounts = Accounts::default();
        accounts.produced(CLASS, &counter(0, 0));
        accounts
    }

    #[test]
    fn nothing_lost_is_nothing_told() {
        let mut accounts = started();
        for seq in 0..10 {
            accounts.seen(CLASS, seq);
        }
        accounts.produced(CLASS, &counter(10, 0));
        assert!((0..3).all(|_| accounts.settle().is_empty()));
        assert_eq!(row(&accounts), (10, 10, 0));
    }

    #[test]
    fn a_gap_is_lost_at_the_second_settling_and_only_once() {
        let mut accounts = started();
        for seq in [0, 1, 5, 6] {
            accounts.seen(CLASS, seq);
        }
        assert_eq!(accounts.settle(), []);
        assert_eq!(row(&accounts), (7, 4, 3));
        assert_eq!(accounts.settle(), [Loss { class: CLASS, from: 2, to: 4 }]);
        assert_eq!(accounts.settle(), []);
        assert_eq!(row(&accounts), (7, 4, 3));
    }

    #[test]
    fn out_of_order_is_not_lost() {
        let mut accounts = started();
        for seq in [1, 0, 3] {
            accounts.seen(CLASS, seq);
        }
        assert_eq!(accounts.settle(), []);
        accounts.seen(CLASS, 2);
        accounts.seen(CLASS, 4);
        assert_eq!(accounts.settle(), []);
        assert_eq!(accounts.settle(), []);
        assert_eq!(row(&accounts), (5, 5, 0));
    }

    #[test]
    fn a_loss_at_the_very_end_shows_through_the_counter() {
        let mut accounts = started();
        accounts.seen(CLASS, 0);
        accounts.produced(CLASS, &counter(4, 3));
        assert_eq!(accounts.settle(), []);
        assert_eq!(accounts.settle(), [Loss { class: CLASS, from: 1, to: 3 }]);
        assert_eq!(row(&accounts), (4, 1, 3));
    }

    #[test]
    fn an_adopted_ring_counts_its_past_once() {
        let mut accounts = Accounts::default();
        // 100 numbered, 7 lost, 3 of the rest still in the ring: they are drained before the reading.
        for seq in 97..100 {
            accounts.seen(CLASS, seq);
        }
        accounts.produced(CLASS, &counter(101, 7));
        assert_eq!(accounts.settle(), []);
        accounts.seen(CLASS, 100);
        accounts.seen(CLASS, 101);
        assert_eq!(accounts.settle(), []);
        assert_eq!(accounts.settle(), []);
        assert_eq!(row(&accounts), (102, 95, 7));
    }

    #[test]
    fn random_orders_and_losses_always_balance() {
        // A small linear congruential generator: no clock, no dependency, the same every time.
        let mut state = 12_345u64;
        let mut next = move |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..200 {
            let mut accounts = started();
            let (mut produced, mut lost, mut told) = (0, 0, 0);
            for _ in 0..30 {
                let mut batch = Vec::new();
                for _ in 0..next(20) {
                    if next(4) == 0 {
                        lost += 1
                    } else {
                        batch.push(produced)
                    }
                    produced += 1;
                }
                if batch.len() > 2 {
                    let at = next(batch.len() as u64 - 1) as usize;
                    batch.swap(at, at + 1);
                }
                batch.into_iter().for_each(|seq| accounts.seen(CLASS, seq));
                accounts.produced(CLASS, &counter(produced, lost));
                told += accounts.settle().iter().map(|loss| loss.to - loss.from + 1).sum::<u64>();
                assert_eq!(row(&accounts), (produced, produced - lost, lost));
            }
            told += accounts.settle().iter().map(|loss| loss.to - loss.from + 1).sum::<u64>();
            assert_eq!(told, lost);
        }
    }
}
