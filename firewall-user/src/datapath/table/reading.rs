//! The accounts of translations, with the flows that live: each flow's figures are in there once.
//!
//! A flow's totals are in its record until it is taken out, and in the rows of its rule and its host
//! afterwards. In between, for as long as whoever takes it out needs to add them up, they are in neither
//! or in part of both. Who does that?
//!
//! - User space's sweep: on the thread that reads, so never during a reading. One that died at it left a
//!   claimed record, which is read like a live one, as its totals are still there alone.
//! - Programs, for flows that are cut, or make room: within one run. What they add while the rows and the
//!   flows are read shows: the rows are read before and after the flows, and must not have changed in what
//!   ended flows left. A run that had taken the flow out before that, and adds only afterwards, shows in the
//!   gap of a row, mappings begun less ended less alive: that is never less than what is missing. Where
//!   there is a gap, a grace period is waited for: then that run is over, and the next reading has its flow.
//!   A gap that is the same after a grace period is none of the kind: it is there to stay, and remembered (a
//!   daemon died between taking an alias out and adding).
//!
//! A flow that is translated at both ends is in the rows of both rules and of the hosts at both ends. Where
//! one rule or one host is at both, it is two mappings there, and what it carried is there once.
//!
//! Where flows begin and end all the time, no reading may ever be quiet: the last of [`TRIES`] is taken, off
//! by at most what ended during it.

use super::{FlowEntry as _, Table, View, entry::tuple};
use crate::monitor::{FlowRecord, NatAccount, NatReading, NatSum};
use firewall_common::abi::{
    flow::{Flow4, bits},
    nat::{ALIAS_INNER, Alias4},
};
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Readings until one is taken that isn't quiet.
const TRIES: usize = 3;

/// A row of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Rule(u32),
    Host(Option<[u8; 4]>),
}

/// Rows with mappings that are neither alive nor ended, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<(Row, i64)>);

/// What ended flows left, and what was begun.
#[derive(Default, PartialEq, Eq)]
struct Folded {
    rules: Vec<(u32, NatAccount)>,
    hosts: Vec<(Option<[u8; 4]>, NatAccount)>,
}

/// What live flows have: how many mappings, packets and bytes there and back.
#[derive(Clone, Copy, Default)]
struct Live {
    mappings: u64,
    totals: [u64; 4],
}

/// Those, by the row they will be added to.
type Sums<K> = HashMap<K, Live>;

/// Whose translation a flow is: the client's that was given another source, else the server's behind.
pub fn inside_host(flow: &FlowRecord) -> Option<[u8; 4]> {
    let nat = flow.nat?;
    let [a, b, c, d, ..] = flow.src;
    Some(if flow.flow.bits & bits::NAT_SOURCE != 0 { [a, b, c, d] } else { nat.dst })
}

impl View<'_> {
    /// The translated flows of part `part` of `parts`.
    pub fn translated_flows(&self, part: usize, parts: usize, each: &mut dyn FnMut(FlowRecord)) {
        self.each_translated(part, parts, &mut |_, flow| each(flow));
    }

    /// The same, with the alias of each.
    fn each_translated(
        &self,
        part: usize,
        parts: usize,
        each: &mut dyn FnMut(&Alias4, FlowRecord),
    ) {
        for slot in self.aliases.part(part, parts) {
            let Some((_, alias)) = self.aliases.live(slot) else { continue };
            if alias.flags & ALIAS_INNER == 0
                && let Some(flow) = self.flow_of(slot, &alias)
            {
                each(&alias, flow);
            }
        }
    }

    /// The flow whose translated tuple is in this alias.
    fn flow_of(&self, slot: usize, alias: &Alias4) -> Option<FlowRecord> {
        let owner = alias.flow as usize;
        let record = match self.v4.live(owner) {
            Some((_, record)) => record,
            // What a daemon had claimed when it died hasn't left its totals anywhere else.
            None if Table::<'_, Flow4>::is_orphan(self.v4.tag(owner)) => self.v4.record(owner),
            None => return None,
        };
        let ours = record.flow.nat as usize == slot + 1;
        ours.then(|| FlowRecord { nat: Some(tuple(alias)), ..record.oriented() })
    }

    fn folded(&self) -> Folded {
        Folded { rules: self.nat_rules(), hosts: self.nat_hosts() }
    }

    /// Accounts with the live flows; see the module. `known` are the gaps that are there to stay, `grace`
    /// waits for a grace period. Whether the reading was quiet: then each flow is in it once.
    pub fn nat_reading(&self, known: &mut Gaps, mut grace: impl FnMut()) -> (NatReading, bool) {
        let mut waited_for = None;
        let mut turn = 1;
        loop {
            let before = self.folded();
            let (rules, hosts) = self.live_sums(&before);
            let after = self.folded();
            let reading =
                NatReading { rules: join(&after.rules, &rules), hosts: join(&after.hosts, &hosts) };
            let gaps = gaps(&reading);
            let quiet =
                same_ends(&before.rules, &after.rules) && same_ends(&before.hosts, &after.hosts);
            if quiet && (gaps == *known || waited_for.as_ref() == Some(&gaps)) {
                *known = gaps;
                return (reading, true);
            }
            if turn == TRIES {
                return (reading, false);
            }
            waited_for = quiet.then_some(gaps);
            grace();
            turn += 1;
        }
    }

    /// The live flows' figures by rule and by the row that their host has.
    fn live_sums(&self, rows: &Folded) -> (Sums<u32>, Sums<Option<[u8; 4]>>) {
        let own: HashSet<[u8; 4]> = rows.hosts.iter().filter_map(|(host, _)| *host).collect();
        let (mut rules, mut hosts) = (Sums::<u32>::new(), Sums::new());
        self.each_translated(0, 1, &mut |alias, flow| {
            let (Some(nat), Some(host)) = (flow.nat, inside_host(&flow)) else { return };
            let row = |host| own.contains(&host).then_some(host);
            add(rules.entry(nat.rule).or_default(), &flow, false);
            add(hosts.entry(row(host)).or_default(), &flow, false);
            if let Some(inner) = self.inner(alias) {
                add(rules.entry(inner.rule).or_default(), &flow, inner.rule == nat.rule);
                add(hosts.entry(row(nat.dst)).or_default(), &flow, nat.dst == host);
            }
        });
        (rules, hosts)
    }
}

/// Adds a live flow; only that it has a mapping, where its figures are in the sum already.
fn add(sum: &mut Live, FlowRecord { flow, .. }: &FlowRecord, has_them: bool) {
    sum.mappings += 1;
    if has_them {
        return;
    }
    let figures = [flow.packets, flow.bytes, flow.reply_packets, flow.reply_bytes];
    for (total, figure) in sum.totals.iter_mut().zip(figures) {
        *total = total.wrapping_add(figure);
    }
}

/// Accounts with the live flows' figures, in the accounts' order; what has live flows alone comes last.
fn join<K: Copy + Eq + Hash + Ord>(folded: &[(K, NatAccount)], live: &Sums<K>) -> Vec<(K, NatSum)> {
    let known: HashSet<K> = folded.iter().map(|(key, _)| *key).collect();
    let mut fresh: Vec<K> = live.keys().filter(|key| !known.contains(key)).copied().collect();
    fresh.sort_unstable();
    let fresh = fresh.into_iter().map(|key| (key, NatAccount::default()));
    let sum = |(key, mut account): (K, NatAccount)| {
        let alive = live.get(&key).copied().unwrap_or_default();
        for (total, figure) in account.totals.iter_mut().zip(alive.totals) {
            *total = total.wrapping_add(figure);
        }
        (key, NatSum { account, live: alive.mappings })
    };
    folded.iter().copied().chain(fresh).map(sum).collect()
}

/// Whether no flow has left its totals in between. What was begun meanwhile is the gaps' matter, but where
/// it has made a row, its flows were looked for in another.
fn same_ends<K: Eq>(before: &[(K, NatAccount)], after: &[(K, NatAccount)]) -> bool {
    let same = |((a, before), (b, after)): (&(K, NatAccount), &(K, NatAccount))| {
        a == b && (before.ended, before.totals) == (after.ended, after.totals)
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

/// Mappings begun that are neither alive nor ended, row by row: rules, then hosts.
fn gaps(reading: &NatReading) -> Gaps {
    let gap = |NatSum { account, live }: &NatSum| {
        account.mappings.wrapping_sub(account.ended).wrapping_sub(*live).cast_signed()
    };
    let rules = reading.rules.iter().map(|(slot, sum)| (Row::Rule(*slot), gap(sum)));
    let hosts = reading.hosts.iter().map(|(host, sum)| (Row::Host(*host), gap(sum)));
    Gaps(rules.chain(hosts).filter(|(_, gap)| *gap != 0).collect())
}
