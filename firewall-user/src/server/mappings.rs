//! Mappings and accounts of translation, sorted and cut to size.

use super::{
    error::ApiError,
    query::{self, Query},
};
use crate::{
    daemon::control::{Control, Part},
    filter::Filter,
    monitor::{Lens, text},
    netfilter::{Netfilter, NetfilterEntry},
    view::{NatHostView, NatMappingView},
};
use std::cmp::Ordering;

/// Parts in which the mappings are read: the thread that owns the tables does other things in between.
const PARTS: usize = 64;

type Compare<T> = fn(&T, &T) -> Ordering;

/// How to sort mappings: numbers and times from the largest, text from A.
const MAPPING_SORTS: &[(&str, Compare<NatMappingView>)] = &[
    ("bytes", |a, b| both(b.bytes, b.reply_bytes).cmp(&both(a.bytes, a.reply_bytes))),
    ("packets", |a, b| both(b.packets, b.reply_packets).cmp(&both(a.packets, a.reply_packets))),
    ("began", |a, b| b.began.cmp(&a.began)),
    ("last", |a, b| b.last.cmp(&a.last)),
    ("inside", |a, b| a.inside.cmp(&b.inside).then(a.inside_port.cmp(&b.inside_port))),
    ("public", |a, b| a.public.cmp(&b.public).then(a.public_port.cmp(&b.public_port))),
    ("remote", |a, b| a.remote.cmp(&b.remote).then(a.remote_port.cmp(&b.remote_port))),
    ("inside_port", |a, b| b.inside_port.cmp(&a.inside_port)),
    ("public_port", |a, b| b.public_port.cmp(&a.public_port)),
    ("remote_port", |a, b| b.remote_port.cmp(&a.remote_port)),
    ("proto", |a, b| a.proto.cmp(&b.proto)),
    ("kind", |a, b| a.kind.cmp(&b.kind)),
    ("rule", |a, b| a.rule.cmp(&b.rule)),
    ("origin", |a, b| a.origin.cmp(&b.origin)),
    ("id", |a, b| a.id.cmp(&b.id)),
];

/// How to sort hosts.
const HOST_SORTS: &[(&str, Compare<NatHostView>)] = &[
    ("bytes", |a, b| {
        (b.account.bytes + b.account.reply_bytes).cmp(&(a.account.bytes + a.account.reply_bytes))
    }),
    ("packets", |a, b| {
        (b.account.packets + b.account.reply_packets)
            .cmp(&(a.account.packets + a.account.reply_packets))
    }),
    ("live", |a, b| b.account.live.cmp(&a.account.live)),
    ("mappings", |a, b| b.account.mappings.cmp(&a.account.mappings)),
    ("ended", |a, b| b.account.ended.cmp(&a.account.ended)),
    ("failures", |a, b| b.account.failures.cmp(&a.account.failures)),
    ("host", |a, b| a.host.cmp(&b.host)),
];

fn both(there: Option<u64>, back: Option<u64>) -> u64 {
    there.unwrap_or_default().saturating_add(back.unwrap_or_default())
}

/// The best of many rows, in order.
struct Top<T> {
    rows: Vec<T>,
    total: usize,
    limit: usize,
    sort: Compare<T>,
    tie: Compare<T>,
    turned: bool,
}

impl<T> Top<T> {
    /// The `limit` first by the field `by`; `-` in front turns the order round.
    fn new(
        sorts: &[(&str, Compare<T>)],
        by: &str,
        tie: Compare<T>,
        limit: usize,
    ) -> Result<Self, ApiError> {
        let (name, turned) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
        let Some((_, compare)) = sorts.iter().find(|(field, _)| *field == name) else {
            return Err(query::unsortable(name, sorts.iter().map(|(field, _)| *field)));
        };
        Ok(Self { rows: Vec::new(), total: 0, limit, sort: *compare, tie, turned })
    }

    /// The order, ties included.
    fn order(&self) -> impl Fn(&T, &T) -> Ordering + use<T> {
        let Self { sort, tie, turned, .. } = *self;
        move |a, b| if turned { sort(b, a) } else { sort(a, b) }.then_with(|| tie(a, b))
    }

    fn push(&mut self, row: T) {
        self.total += 1;
        self.rows.push(row);
        // Never more than twice what is wanted is held.
        if self.rows.len() > 2 * self.limit + 1024 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.limit < self.rows.len() {
            let order = self.order();
            self.rows.select_nth_unstable_by(self.limit, order);
            self.rows.truncate(self.limit);
        }
    }

    /// How many there were, and the best of them.
    fn done(mut self) -> (usize, Vec<T>) {
        self.cut();
        let order = self.order();
        self.rows.sort_by(order);
        (self.total, self.rows)
    }
}

/// Mappings that match: how many, and the first of them.
///
/// # Errors
/// Filter or order make no sense, or the core has stopped.
pub async fn mappings(
    control: &Control,
    lens: impl Fn() -> Lens,
    netfilter: Option<&Netfilter>,
    query: &Query,
) -> Result<(usize, Vec<NatMappingView>), ApiError> {
    let filter = query::filter::<NatMappingView>(query.filter.as_deref().unwrap_or(""))?;
    let matches =
        |row: &NatMappingView| filter.as_ref().is_none_or(|filter: &Filter| filter.matches(row));
    let by = query.sort.as_deref().unwrap_or("bytes");
    let mut top = Top::new(MAPPING_SORTS, by, |a, b| a.id.cmp(&b.id), query.limit())?;
    if let Some(netfilter) = netfilter {
        netfilter.refresh().await;
    }
    for part in 0..PARTS {
        let records = control.part(Part { part, parts: PARTS, translated: true }).await?;
        if records.is_empty() {
            continue;
        }
        let lens = lens();
        for row in records.iter().filter_map(|record| lens.nat_mapping(record)) {
            if matches(&row) {
                top.push(row);
            }
        }
    }
    if let Some(netfilter) = netfilter {
        netfilter.translated(|entry| {
            if let Some(row) = foreign(entry)
                && matches(&row)
            {
                top.push(row);
            }
        });
    }
    Ok(top.done())
}

/// A translation of netfilter's.
fn foreign(NetfilterEntry { key, facts }: &NetfilterEntry) -> Option<NatMappingView> {
    let nat = NetfilterEntry { key: *key, facts: *facts }.nat()?;
    let orig = &key.orig;
    let (src, dst) = ((orig.src, orig.sport), (orig.dst, orig.dport));
    let (to_src, to_dst) = ((nat.to.src, nat.to.sport), (nat.to.dst, nat.to.dport));
    let (inside, public, remote) = if nat.source { (src, to_src, dst) } else { (to_dst, dst, src) };
    let remote_inside = nat.destination.then_some(to_dst);
    let (there, back) = facts.counters.map(|counters| (counters.orig, counters.reply)).unzip();
    let began = facts.start_ns.and_then(|ns| i64::try_from(ns).ok()).map(text::time);
    Some(NatMappingView {
        id: key.id.to_string(),
        proto: text::proto(orig.proto),
        inside: inside.0.to_string(),
        inside_port: inside.1,
        public: public.0.to_string(),
        public_port: public.1,
        remote: remote.0.to_string(),
        remote_port: remote.1,
        remote_inside: remote_inside.map(|(address, _)| address.to_string()),
        remote_inside_port: remote_inside.map(|(_, port)| port),
        kind: if nat.source { "source" } else { "destination" }.to_owned(),
        rule: None,
        began,
        last: None,
        packets: there.map(|count| count.packets),
        bytes: there.map(|count| count.bytes),
        reply_packets: back.map(|count| count.packets),
        reply_bytes: back.map(|count| count.bytes),
        origin: "netfilter".to_owned(),
    })
}

/// Hosts in order: how many, and the first of them.
///
/// # Errors
/// The order makes no sense.
pub fn hosts(rows: Vec<NatHostView>, query: &Query) -> Result<(usize, Vec<NatHostView>), ApiError> {
    let by = query.sort.as_deref().unwrap_or("bytes");
    let mut top = Top::new(HOST_SORTS, by, |a, b| a.host.cmp(&b.host), query.limit())?;
    rows.into_iter().for_each(|row| top.push(row));
    Ok(top.done())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::NatAccountView;

    #[test]
    fn the_best_of_many_are_those_of_a_whole_sort() {
        let row = |n: u64| NatHostView {
            host: format!("{:05}", n * 7919 % 5000),
            account: NatAccountView { bytes: n * 7919 % 5000 / 3, ..NatAccountView::default() },
        };
        let query = |sort: &str, limit| Query {
            sort: Some(sort.to_owned()),
            limit: Some(limit),
            ..Query::default()
        };
        for sort in ["bytes", "-bytes", "host"] {
            let (total, best) =
                hosts((0..5000).map(row).collect(), &query(sort, 10)).expect("known");
            let (_, all) = hosts((0..5000).map(row).collect(), &query(sort, 5000)).expect("known");
            assert_eq!((total, all.len()), (5000, 5000));
            assert_eq!(best, all[..10], "{sort}");
        }
        let error = hosts(Vec::new(), &query("colour", 1)).expect_err("no such field");
        assert!(error.body.message.contains("bytes, packets, live"), "{}", error.body.message);
    }
}
