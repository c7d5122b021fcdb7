//! Events: the kernel's records as rows, and the ring of recent ones.

use super::{
    NatTuple,
    clock::Clock,
    names::{self, Names},
    shown::translated,
    text,
};
use crate::view::{CallerView, EventView, FlowNatView, FlowView};
use firewall_common::abi::{
    event::{Class, Event},
    reason::Reason,
    table::{Direction, Verdict},
};
use std::{collections::VecDeque, sync::Arc};

/// A kernel event with what its row needs beside it: names as they were when it came, shared, and its time. Rows are
/// made of it when somebody looks, which is seldom, while events come by the ten thousand a second.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    event: Event,
    /// Name of its rule, if that is known.
    rule: Option<Arc<str>>,
    /// Name of its interface, if that is known.
    iface: Option<Arc<str>>,
    /// How its flow is translated, if it is. Boxed: few are.
    nat: Option<Box<FlowNatView>>,
    /// Its time since 1970, nanoseconds.
    unix_ns: i64,
}

impl Seen {
    /// `nat`: how its flow is translated, and the flow's bits.
    pub(super) fn new(
        event: &Event,
        nat: Option<(NatTuple, u64)>,
        names: &Names,
        clock: &Clock,
    ) -> Self {
        Self {
            event: *event,
            rule: names.shared_rule(event.rule),
            iface: names.shared_iface(event.ifindex),
            nat: nat.map(|(nat, bits)| Box::new(translated(&nat, bits, names))),
            unix_ns: clock.monotonic_to_unix(event.time_ns),
        }
    }

    /// The row.
    pub(super) fn view(&self) -> EventView {
        view(self)
    }
}

/// The row of a kernel event.
fn view(seen: &Seen) -> EventView {
    let event = &seen.event;
    let ip = event.family != 0;
    let caller = (event.class == Class::Call.raw()).then(|| caller(event));
    // Of a call the figures are its caller's.
    let figure = |figure: u64| if caller.is_some() { 0 } else { figure };
    let icmp = ip && matches!(event.proto, text::ICMP | text::ICMPV6);
    EventView {
        class: Class::try_from(event.class)
            .map_or_else(|raw| raw.to_string(), |class| class.name().to_owned()),
        seq: Some(event.seq),
        time: text::time(seen.unix_ns),
        flow: (caller.is_none() && event.flow_id != 0).then(|| text::flow_id(event.flow_id)),
        proto: if ip { text::proto(event.proto) } else { text::ethertype(event.ethertype) },
        family: event.family,
        src: text::address(event.family, &event.src),
        sport: u16::from_be_bytes(event.sport),
        dst: text::address(event.family, &event.dst),
        dport: if icmp { 0 } else { u16::from_be_bytes(event.dport) },
        iface: if caller.is_some() {
            String::new()
        } else {
            names::iface_text(event.ifindex, seen.iface.as_deref())
        },
        direction: Direction::try_from(event.direction).map_or("", Direction::name).to_owned(),
        vlan: event.vlan,
        verdict: Verdict::try_from(event.verdict).map_or("", Verdict::name).to_owned(),
        reason: Reason::try_from(event.reason)
            .map_or_else(|raw| raw.to_string(), |reason| reason.name().to_owned()),
        rule: names::rule_text(event.rule, seen.rule.as_deref()),
        tcp_flags: if event.proto == text::TCP && ip && caller.is_none() {
            text::tcp_flags(event.tcp_flags)
        } else {
            String::new()
        },
        frame_len: event.frame_len,
        packets: figure(event.packets),
        bytes: figure(event.bytes),
        reply_packets: figure(event.reply_packets),
        reply_bytes: figure(event.reply_bytes),
        nat: seen.nat.as_deref().cloned(),
        caller,
    }
}

/// Who called (see `Class::Call`).
fn caller(event: &Event) -> CallerView {
    let mut comm = [0; 16];
    comm[..8].copy_from_slice(&event.reply_packets.to_ne_bytes());
    comm[8..].copy_from_slice(&event.reply_bytes.to_ne_bytes());
    let length = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    CallerView {
        pid: event.flow_id as u32,
        comm: String::from_utf8_lossy(&comm[..length]).into_owned(),
        uid: (event.flow_id >> 32) as u32,
        socket: format!("{:x}", event.bytes),
    }
}

/// The row for a flow that user space took out of the table: its own event.
pub(super) fn taken_out(flow: &FlowView, clock: &Clock) -> EventView {
    EventView {
        class: Class::FlowClosed.name().to_owned(),
        seq: None,
        time: text::time(clock.unix_ns),
        flow: Some(flow.id.clone()),
        proto: flow.proto.clone(),
        family: flow.family,
        src: flow.src.clone(),
        sport: flow.sport,
        dst: flow.dst.clone(),
        dport: flow.dport,
        iface: flow.in_iface.clone().or_else(|| flow.out_iface.clone()).unwrap_or_default(),
        direction: if flow.in_iface.is_some() { Direction::In } else { Direction::Out }
            .name()
            .to_owned(),
        vlan: flow.vlan,
        verdict: flow.verdict.clone(),
        reason: flow.ended.clone().unwrap_or_default(),
        rule: flow.rule.clone(),
        tcp_flags: String::new(),
        frame_len: 0,
        packets: flow.packets,
        bytes: flow.bytes,
        reply_packets: flow.reply_packets,
        reply_bytes: flow.reply_bytes,
        nat: flow.nat.clone(),
        caller: None,
    }
}

#[derive(Clone, Debug)]
pub(super) enum Kept {
    Seen(Seen),
    Row(Arc<EventView>),
}

impl Kept {
    fn row(&self) -> Arc<EventView> {
        match self {
            Self::Seen(seen) => Arc::new(seen.view()),
            Self::Row(row) => row.clone(),
        }
    }
}

/// The most recent events, numbered from 1 within this life of the daemon.
#[derive(Clone, Debug)]
pub struct EventLog {
    kept: VecDeque<Kept>,
    limit: usize,
    next: u64,
}

impl EventLog {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit: limit.max(1), next: 1 }
    }
    pub(super) fn push(&mut self, event: Kept) {
        if self.kept.len() == self.limit {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
        self.next += 1;
    }
    /// Number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.next
    }
    /// Number of the last event; 0 if there was none.
    pub fn last_seq(&self) -> u64 {
        self.next - 1
    }
    /// Events past number `seq`, oldest first, with their numbers; `None` where some of them aren't
    /// kept any more, or `seq` was never given out.
    pub fn after(
        &self,
        seq: u64,
    ) -> Option<impl DoubleEndedIterator<Item = (u64, Arc<EventView>)>> {
        let first = self.next - self.kept.len() as u64;
        if seq >= self.next || seq + 1 < first {
            return None;
        }
        let skip = (seq + 1 - first) as usize;
        Some(
            self.kept
                .iter()
                .enumerate()
                .skip(skip)
                .map(move |(at, event)| (first + at as u64, event.row())),
        )
    }
    /// All that are kept, oldest first, with their numbers.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (u64, Arc<EventView>)> {
        let first = self.next - self.kept.len() as u64;
        self.kept.iter().enumerate().map(move |(at, event)| (first + at as u64, event.row()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_points() {
        let mut log = EventLog::new(3);
        assert_eq!(log.after(0).map(Iterator::count), Some(0));
        for _ in 0..5 {
            log.push(Kept::Row(Arc::new(EventView::default())));
        }
        let seqs =
            |from| log.after(from).map(|events| events.map(|(seq, _)| seq).collect::<Vec<_>>());
        assert_eq!(seqs(5), Some(vec![]));
        assert_eq!(seqs(3), Some(vec![4, 5]));
        assert_eq!(seqs(2), Some(vec![3, 4, 5]));
        assert_eq!(seqs(1), None, "event 2 is gone");
        assert_eq!(seqs(6), None, "from the future");
    }
}
