//! Taking flows out of the tables.
//!
//! A record's way out has three steps, so that no packet's count is lost: it is claimed (nobody finds it
//! any more), a grace period passes (whoever had found it has counted), its last totals are read and kept,
//! and it is dead. A daemon that dies in between leaves claimed slots behind, which the next one's first
//! sweep ends.

use super::{FlowEntry, Table, View, entry::alias_of};
use crate::monitor::{Census, FlowRecord};
use firewall_common::{
    abi::{
        bucket::tag::{HALF, LIVE},
        table::TIMEOUTS,
    },
    flow::timeout,
};
use std::io;

/// What is to go.
pub enum Going<'a> {
    /// Flows idle past these time-outs (ticks).
    Idle(&'a [u32; TIMEOUTS]),
    /// Flows that somebody chose.
    Chosen(&'a mut dyn FnMut(&FlowRecord) -> bool),
}

/// Where to look: part `part` of `parts` of both tables.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which, from 0.
    pub part: usize,
    /// Of how many.
    pub parts: usize,
}

impl Part {
    /// Everywhere.
    pub const WHOLE: Self = Self { part: 0, parts: 1 };
}

/// What a walk took out.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// The flows, with their last totals.
    pub ended: Vec<FlowRecord>,
    /// How many live on, of those that were looked at.
    pub live: u64,
    /// What there was before.
    pub census: Census,
}

/// A slot that is ours, and the tag that says so.
type Claimed = (usize, u64);

impl View<'_> {
    /// Takes out what is to go. `grace` waits for a grace period: it is called where there is anything to
    /// wait for.
    ///
    /// # Errors
    /// What `grace` said. Then everything stays claimed, and the next sweep ends it.
    pub fn take_out(
        &self,
        mut going: Going<'_>,
        part: Part,
        now: u64,
        grace: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Swept> {
        let mut swept = Swept::default();
        let four = self.claim(&self.v4, (0, part), &mut going, now, &mut swept);
        let six = self.claim(&self.v6, (1, part), &mut going, now, &mut swept);
        if !four.is_empty() || !six.is_empty() {
            grace()?;
        }
        self.end(&self.v4, four, now, &mut swept.ended);
        self.end(&self.v6, six, now, &mut swept.ended);
        Ok(swept)
    }

    fn claim<R: FlowEntry>(
        &self,
        table: &Table<'_, R>,
        (family, part): (usize, Part),
        going: &mut Going<'_>,
        now: u64,
        swept: &mut Swept,
    ) -> Vec<Claimed> {
        let Swept { live, census, .. } = swept;
        let mut claimed = Vec::new();
        let shortest = match going {
            Going::Idle(timeouts) => timeouts.iter().copied().min(),
            Going::Chosen(_) => None,
        };
        for slot in table.part(part.part, part.parts) {
            let tag = table.tag(slot);
            if tag & LIVE == 0 {
                if Table::<R>::is_orphan(tag) {
                    claimed.push((slot, tag));
                }
                continue;
            }
            census.flows[family] += 1;
            census.half_open += u64::from(tag & HALF != 0);
            // Most flows are idle for less than the shortest time-out: one word tells.
            if shortest.is_some_and(|shortest| table.idle(slot, now) <= shortest) {
                *live += 1;
                continue;
            }
            let Some((seen, record)) = table.live(slot) else { continue };
            let flow = record.oriented();
            let goes = match going {
                Going::Idle(timeouts) => timeout::expired(&flow.flow, flow.proto, timeouts, now),
                Going::Chosen(choose) => choose(&self.translated(flow, slot)),
            };
            let ours = if goes { table.claim(slot, seen, now) } else { None };
            let Some(ours) = ours else {
                *live += 1;
                continue;
            };
            // A packet may have woken it between the look and the claim. Should its next one have begun it
            // anew already, there is no way back: two records of one key are one too many.
            let awake = matches!(going, Going::Idle(_)) && table.last(slot) != record.flow().last;
            if awake && !table.has_twin(&record, slot, self.seed) && table.swap(slot, ours, seen) {
                *live += 1;
                continue;
            }
            claimed.push((slot, ours));
        }
        claimed
    }

    fn end<R: FlowEntry>(
        &self,
        table: &Table<'_, R>,
        claimed: Vec<Claimed>,
        now: u64,
        ended: &mut Vec<FlowRecord>,
    ) {
        for (slot, ours) in claimed {
            let record = table.record(slot);
            let flow = self.translated(record.oriented(), slot);
            if let Some(alias) = alias_of(&self.aliases, &flow.flow, slot) {
                let [a, b, c, d, ..] = flow.src;
                self.let_go(&flow.flow, [a, b, c, d], &alias, now);
            }
            table.bury(slot, ours, now);
            self.leave(&record);
            ended.push(flow);
        }
    }
}
