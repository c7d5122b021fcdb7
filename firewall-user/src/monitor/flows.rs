//! The live flow table: events make it quick, scans make it true.

use super::{
    FlowRecord, NatTuple,
    clock::Clock,
    names::Names,
    shown::{judged_by, shown, translated},
    text,
};
use crate::view::FlowView;
use firewall_common::abi::{
    event::{Class, Event},
    flow::{Flow, Judgement, bits},
    reason::Reason,
    table::{Direction, TIMEOUTS},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// What changed between two versions of the table.
#[derive(Clone, Debug, Default)]
pub struct FlowChanges {
    /// The version this leads to.
    pub version: u64,
    /// New and changed flows, whole.
    pub upsert: Vec<Arc<FlowView>>,
    /// Flows that aren't shown any more.
    pub remove: Vec<String>,
}

/// What flows can be put in order by as they are, before they are made into rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowOrder {
    /// Packets, both directions.
    Packets,
    /// Bytes, both directions.
    Bytes,
    /// First packet.
    First,
    /// Last packet.
    Last,
}

impl FlowOrder {
    fn key(self, flow: &Flow, now: u64) -> u64 {
        match self {
            Self::Packets => flow.packets + flow.reply_packets,
            Self::Bytes => flow.bytes + flow.reply_bytes,
            Self::First => flow.first_tick(),
            Self::Last => flow.last_tick(now),
        }
    }
}

/// Between two scans of the whole table where nothing is known to be missing, nanoseconds.
const WHOLE_EVERY_NS: u64 = 30_000_000_000;

/// Why a flow ended, where nobody said: its closing event was lost and the table has it no more.
const GONE: &str = "gone";

#[derive(Clone, Debug)]
struct Live {
    record: FlowRecord,
    /// Why it ended.
    ended: Option<&'static str>,
    /// The judgement that cut it.
    cut: Option<Judgement>,
    /// Version of its last change.
    changed: u64,
    /// Whole scans in a row that didn't have it.
    missed: u8,
}

/// What rows are made with.
type How<'a> = (&'a Names, &'a [u32; TIMEOUTS], &'a Clock);

/// The table. See the module.
#[derive(Debug)]
pub struct FlowTable {
    flows: HashMap<u64, Live>,
    live: u64,
    version: u64,
    /// Changed in this turn (their `changed` is `version + 1`).
    dirty: Vec<u64>,
    /// Ended flows by the moment (CLOCK_MONOTONIC, ns) at which they ended.
    ended: VecDeque<(u64, u64)>,
    removed: VecDeque<(u64, u64)>,
    /// Removals up to this version are forgotten.
    removed_floor: u64,
    ended_kept_ns: u64,
    ended_kept: usize,
    /// Ended flows that were shown for less long, as there were too many.
    ended_dropped: u64,
    removals_kept: usize,
    /// CLOCK_MONOTONIC (ns) of the last whole scan, if it left nothing open.
    whole_at: Option<u64>,
    /// Ended flows that aren't shown any more and that nobody has taken yet, with the moment of their end; none:
    /// nobody takes them.
    past: Option<Vec<(Live, u64)>>,
}

impl FlowTable {
    pub(super) fn new(ended_kept_ms: u64, ended_kept: usize, removals_kept: usize) -> Self {
        Self {
            flows: HashMap::new(),
            live: 0,
            version: 0,
            dirty: Vec::new(),
            ended: VecDeque::new(),
            removed: VecDeque::new(),
            removed_floor: 0,
            ended_kept_ns: ended_kept_ms * 1_000_000,
            ended_kept,
            ended_dropped: 0,
            removals_kept,
            whole_at: None,
            past: None,
        }
    }

    /// From now on somebody takes what has ended.
    pub(super) fn keep_past(&mut self) {
        self.past.get_or_insert_default();
    }

    /// Flows that have ended for good, once each, with the moment of their end (CLOCK_MONOTONIC, ns): when they are
    /// shown no more, as some seem gone and come back; `all`: those that are still shown too, which are taken now.
    pub(super) fn take_past(&mut self, all: bool, how: How<'_>) -> Vec<(FlowView, u8, u64)> {
        let Some(past) = &mut self.past else { return Vec::new() };
        let mut past = std::mem::take(past);
        if all {
            for (at, id) in self.ended.drain(..) {
                if self.flows.get(&id).is_some_and(|live| live.ended.is_some()) {
                    past.extend(self.flows.remove(&id).map(|live| (live, at)));
                }
            }
        }
        let (names, timeouts, clock) = how;
        let row = |(live, at): &(Live, u64)| {
            (live.render(names, timeouts, clock), live.record.proto, *at)
        };
        past.iter().map(row).collect()
    }

    /// Rows of the flows that are wanted by their records.
    pub(super) fn wanted(
        &self,
        wanted: &dyn Fn(&FlowRecord) -> bool,
        (names, timeouts, clock): How<'_>,
    ) -> Vec<FlowView> {
        let all = self.flows.values().filter(|live| wanted(&live.record));
        all.map(|live| live.render(names, timeouts, clock)).collect()
    }

    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn ended_dropped(&self) -> u64 {
        self.ended_dropped
    }

    /// All that are known, live and just ended, as records.
    pub(super) fn records(&self) -> impl Iterator<Item = &FlowRecord> {
        self.flows.values().map(|live| &live.record)
    }

    /// How the flow of this id is translated, and its bits, if it is known to be.
    pub(super) fn translation(&self, id: u64) -> Option<(NatTuple, u64)> {
        let record = &self.flows.get(&id)?.record;
        Some((record.nat?, record.flow.bits))
    }

    /// The rule that let in the flow that an event is about, where the event decides nothing itself: it carries the
    /// rule of the hook that happened to see the packet.
    pub(super) fn let_in_by(&self, event: &Event) -> Option<u32> {
        use Reason::{Closed, Established, Reset, Reused};
        let decides =
            !matches!(Reason::try_from(event.reason), Ok(Closed | Established | Reset | Reused));
        let judged = judged_by(&self.flows.get(&event.flow_id).filter(|_| !decides)?.record);
        judged.is_set().then_some(judged.slot())
    }

    pub(super) fn event(&mut self, class: Class, event: &Event, clock: &Clock) {
        if event.flow_id == 0 || matches!(class, Class::Verdict | Class::Log) {
            return;
        }
        let id = event.flow_id;
        if class == Class::NatNew {
            // Its rule is the translation's: a flow that isn't known yet can't be made of it.
            if let Some(live) = self.flows.get_mut(&id) {
                translate(&mut live.record, event);
                self.touch(id);
            }
            return;
        }
        if !self.flows.contains_key(&id) {
            if class == Class::FlowClosed && Reason::try_from(event.reason) == Ok(Reason::Reused) {
                // It was closed, and shown for long enough: only now its tuple is another's.
                return;
            }
            self.insert(from_event(event, clock));
        }
        let Some(live) = self.flows.get_mut(&id) else { return };
        let flow = &mut live.record.flow;
        // A scan may have been quicker than the ring: figures never go back.
        flow.packets = flow.packets.max(event.packets);
        flow.bytes = flow.bytes.max(event.bytes);
        flow.reply_packets = flow.reply_packets.max(event.reply_packets);
        flow.reply_bytes = flow.reply_bytes.max(event.reply_bytes);
        let tick = clock.monotonic_to_tick(event.time_ns);
        if flow.last_tick(clock.ticks) < tick {
            flow.last = tick as u32;
        }
        flow.tcp_state = flow.tcp_state.max(event.tcp_state);
        let mut reason = None;
        match class {
            Class::FlowEstablished => flow.bits |= bits::SEEN_REPLY | bits::TOLD_ESTABLISHED,
            Class::FlowClosed => {
                flow.bits |= bits::TOLD_CLOSED;
                let why = Reason::try_from(event.reason).unwrap_or(Reason::Closed);
                if matches!(why, Reason::PolicyChanged | Reason::Rule | Reason::Default) {
                    live.cut = Some(Judgement::new(event.generation, event.rule, event.verdict));
                }
                reason = Some(why.name());
            }
            Class::FlowNew | Class::Verdict | Class::Log | Class::NatNew | Class::Call => {}
        }
        self.touch(id);
        if let Some(reason) = reason {
            self.end(id, reason, clock);
        }
    }

    /// Whether the next scan should be of the whole table: none was yet, or the last is long ago, or
    /// what it missed is to be looked for again.
    pub(super) fn wants_whole(&self, clock: &Clock) -> bool {
        self.whole_at.is_none_or(|at| clock.monotonic_ns.saturating_sub(at) >= WHOLE_EVERY_NS)
    }

    /// Events that say how flows begin and end were lost.
    pub(super) fn doubt(&mut self) {
        self.whole_at = None;
    }

    /// The whole table.
    pub(super) fn scan(&mut self, records: &[FlowRecord], clock: &Clock) {
        for live in self.flows.values_mut() {
            live.missed = live.missed.saturating_add(1);
        }
        self.changed(records, clock);
        let missing = || self.flows.iter().filter(|(_, l)| l.missed > 0 && l.ended.is_none());
        self.whole_at = missing().all(|(_, l)| l.missed >= 2).then_some(clock.monotonic_ns);
        // Twice, since a flow's event may be a moment quicker than its entry.
        let gone: Vec<u64> = missing().filter(|(_, l)| l.missed >= 2).map(|(id, _)| *id).collect();
        for id in gone {
            self.end(id, GONE, clock);
        }
    }

    /// Entries of the table that changed.
    pub(super) fn changed(&mut self, records: &[FlowRecord], clock: &Clock) {
        for record in records {
            let id = record.flow.id;
            let told_closed = record.flow.bits & bits::TOLD_CLOSED != 0;
            match self.flows.get_mut(&id) {
                // Ended before this daemon looked, or shown for long enough.
                None if told_closed => {}
                None => self.insert(*record),
                Some(live) => {
                    live.missed = 0;
                    if differs(&live.record, record) {
                        live.record = FlowRecord { ifindex: live.record.ifindex, ..*record };
                        self.touch(id);
                    }
                    if told_closed {
                        self.end(id, Reason::Closed.name(), clock);
                    } else {
                        self.revive(id);
                    }
                }
            }
        }
    }

    /// User space took this one out, for this reason; tells whether its end is news.
    pub(super) fn taken_out(&mut self, record: &FlowRecord, reason: Reason, clock: &Clock) -> bool {
        let id = record.flow.id;
        let told_closed = record.flow.bits & bits::TOLD_CLOSED != 0;
        let Some(live) = self.flows.get_mut(&id) else {
            if !told_closed {
                self.insert(*record);
                self.end(id, reason.name(), clock);
            }
            return !told_closed;
        };
        if differs(&live.record, record) {
            live.record = FlowRecord { ifindex: live.record.ifindex, ..*record };
            self.touch(id);
        }
        let news = self.flows.get(&id).is_some_and(|live| live.ended.is_none()) && !told_closed;
        self.end(id, if told_closed { Reason::Closed } else { reason }.name(), clock);
        news
    }

    /// Removes what has been shown for long enough and hands out this turn's changes; only the removals and a new
    /// version, where it isn't said how rows are made.
    pub(super) fn finish(&mut self, clock: &Clock, how: Option<How<'_>>) -> Option<FlowChanges> {
        let (mut remove, mut removed) = (Vec::new(), false);
        while let Some(&(since, id)) = self.ended.front() {
            let young = clock.monotonic_ns.saturating_sub(since) < self.ended_kept_ns;
            if young && self.ended.len() <= self.ended_kept {
                break;
            }
            self.ended.pop_front();
            // It was found again meanwhile.
            if self.flows.get(&id).is_some_and(|live| live.ended.is_none()) {
                continue;
            }
            if let (Some(live), Some(past)) = (self.flows.remove(&id), &mut self.past) {
                past.push((live, since));
            }
            self.ended_dropped += u64::from(young);
            if self.removed.len() == self.removals_kept
                && let Some((version, _)) = self.removed.pop_front()
            {
                self.removed_floor = version;
            }
            self.removed.push_back((self.version + 1, id));
            if how.is_some() {
                remove.push(text::flow_id(id));
            }
            removed = true;
        }
        if self.dirty.is_empty() && !removed {
            return None;
        }
        self.version += 1;
        let dirty = std::mem::take(&mut self.dirty);
        let (names, timeouts, clock) = how?;
        let upsert = dirty
            .iter()
            .filter_map(|id| self.flows.get(id))
            .map(|live| Arc::new(live.render(names, timeouts, clock)))
            .collect();
        Some(FlowChanges { version: self.version, upsert, remove })
    }

    pub(super) fn since(
        &self,
        version: u64,
        names: &Names,
        timeouts: &[u32; TIMEOUTS],
        clock: &Clock,
    ) -> Option<FlowChanges> {
        if version > self.version || version < self.removed_floor {
            return None;
        }
        let upsert = self
            .flows
            .values()
            .filter(|live| live.changed > version && live.changed <= self.version);
        let remove = self.removed.iter().rev().take_while(|(at, _)| *at > version);
        Some(FlowChanges {
            version: self.version,
            upsert: upsert.map(|live| Arc::new(live.render(names, timeouts, clock))).collect(),
            remove: remove.map(|(_, id)| text::flow_id(*id)).collect(),
        })
    }

    pub(super) fn rows<'a>(
        &'a self,
        names: &'a Names,
        timeouts: &'a [u32; TIMEOUTS],
        clock: &'a Clock,
    ) -> impl Iterator<Item = FlowView> + 'a {
        self.flows.values().map(|live| live.render(names, timeouts, clock))
    }

    /// One flow.
    pub(super) fn row(
        &self,
        id: u64,
        names: &Names,
        timeouts: &[u32; TIMEOUTS],
        clock: &Clock,
    ) -> Option<FlowView> {
        self.flows.get(&id).map(|live| live.render(names, timeouts, clock))
    }

    /// The `limit` first flows by `order` (largest or latest first, or the other way round), ties by
    /// id; and how many there are. Only these are made into rows.
    pub(super) fn top(
        &self,
        (order, turned): (FlowOrder, bool),
        limit: usize,
        (names, timeouts, clock): (&Names, &[u32; TIMEOUTS], &Clock),
    ) -> (usize, Vec<FlowView>) {
        let key = |live: &&Live| {
            let key = order.key(&live.record.flow, clock.ticks);
            (if turned { key } else { u64::MAX - key }, live.record.flow.id)
        };
        let mut all: Vec<&Live> = self.flows.values().collect();
        let total = all.len();
        if limit < total {
            all.select_nth_unstable_by_key(limit, key);
            all.truncate(limit);
        }
        all.sort_unstable_by_key(key);
        (total, all.into_iter().map(|live| live.render(names, timeouts, clock)).collect())
    }

    fn insert(&mut self, record: FlowRecord) {
        let id = record.flow.id;
        self.flows.insert(id, Live { record, ended: None, cut: None, changed: 0, missed: 0 });
        self.live += 1;
        self.touch(id);
    }

    fn touch(&mut self, id: u64) {
        if let Some(live) = self.flows.get_mut(&id)
            && live.changed <= self.version
        {
            live.changed = self.version + 1;
            self.dirty.push(id);
        }
    }

    /// A flow that seemed gone is there after all.
    fn revive(&mut self, id: u64) {
        if let Some(live) = self.flows.get_mut(&id)
            && live.ended == Some(GONE)
        {
            live.ended = None;
            self.live += 1;
            self.touch(id);
        }
    }

    /// Ends a flow, once.
    fn end(&mut self, id: u64, reason: &'static str, clock: &Clock) {
        if let Some(live) = self.flows.get_mut(&id)
            && live.ended.is_none()
        {
            live.ended = Some(reason);
            self.live -= 1;
            self.ended.push_back((clock.monotonic_ns, id));
            self.touch(id);
        }
    }
}

/// Whether people would see a difference (`last` alone can't move without the counters).
fn differs(old: &FlowRecord, new: &FlowRecord) -> bool {
    if old.nat != new.nat {
        return true;
    }
    let (old, new) = (&old.flow, &new.flow);
    (old.packets, old.reply_packets, old.bytes, old.reply_bytes)
        != (new.packets, new.reply_packets, new.bytes, new.reply_bytes)
        || (old.bits, old.tcp_state, old.if_in, old.if_out)
            != (new.bits, new.tcp_state, new.if_in, new.if_out)
        || (old.judged_in, old.judged_out) != (new.judged_in, new.judged_out)
}

/// What an event says of a flow's translation.
fn translate(record: &mut FlowRecord, event: &Event) {
    let (nat, bits) = translation(event);
    record.flow.bits |= bits;
    record.nat = Some(nat);
}

/// The tuple that a [`Class::NatNew`] event tells, and which ends are translated.
pub(super) fn translation(event: &Event) -> (NatTuple, u64) {
    let end = |wide: &[u8; 16]| {
        let [_, _, _, _, a, b, c, d, high, low, ..] = *wide;
        ([a, b, c, d], u16::from_be_bytes([high, low]))
    };
    let ((src, sport), (dst, dport)) = (end(&event.src), end(&event.dst));
    let icmp = matches!(event.proto, text::ICMP | text::ICMPV6);
    let dport = if icmp { 0 } else { dport };
    let original =
        |wide: &[u8; 16], port| (<[u8; 4]>::try_from(&wide[..4]).unwrap_or_default(), port);
    let before_dport = if icmp { 0 } else { u16::from_be_bytes(event.dport) };
    let mut ends = 0;
    if (src, sport) != original(&event.src, u16::from_be_bytes(event.sport)) {
        ends |= bits::NAT_SOURCE;
    }
    if (dst, dport) != original(&event.dst, before_dport) {
        ends |= bits::NAT_DESTINATION;
    }
    (NatTuple { src, dst, sport, dport, rule: event.rule }, ends)
}

/// What an event says of a flow that no scan has shown yet.
fn from_event(event: &Event, clock: &Clock) -> FlowRecord {
    let judged = Judgement::new(event.generation, event.rule, event.verdict);
    let tick = clock.monotonic_to_tick(event.time_ns);
    let mut flow = Flow {
        id: event.flow_id,
        first: tick as u32,
        first_high: (tick >> 32) as u8,
        last: tick as u32,
        tcp_state: event.tcp_state,
        first_flags: event.tcp_flags,
        vlan: event.vlan,
        ..Flow::default()
    };
    match Direction::try_from(event.direction) {
        Ok(Direction::Out) => flow.judged_out = judged,
        Ok(Direction::In) | Err(_) => flow.judged_in = judged,
    }
    let icmp = matches!(event.proto, text::ICMP | text::ICMPV6);
    FlowRecord {
        family: event.family,
        proto: event.proto,
        src: event.src,
        dst: event.dst,
        sport: u16::from_be_bytes(event.sport),
        dport: if icmp { 0 } else { u16::from_be_bytes(event.dport) },
        ifindex: event.ifindex,
        nat: None,
        flow,
    }
}

/// The row of a flow that isn't in the table.
pub(super) fn render(
    record: &FlowRecord,
    (names, timeouts, clock): (&Names, &[u32; TIMEOUTS], &Clock),
    ended: Option<Reason>,
) -> FlowView {
    Live { record: *record, ended: ended.map(Reason::name), cut: None, changed: 0, missed: 0 }
        .render(names, timeouts, clock)
}

impl Live {
    fn render(&self, names: &Names, timeouts: &[u32; TIMEOUTS], clock: &Clock) -> FlowView {
        let record = &self.record;
        let flow = &record.flow;
        let shown = shown(record, self.cut, timeouts, clock);
        FlowView {
            id: text::flow_id(flow.id),
            proto: text::proto(record.proto),
            family: record.family,
            src: text::address(record.family, &record.src),
            sport: record.sport,
            dst: text::address(record.family, &record.dst),
            dport: record.dport,
            state: shown.state.to_owned(),
            direction: shown.direction.to_owned(),
            in_iface: shown.in_iface.name(names),
            out_iface: shown.out_iface.name(names),
            vlan: flow.vlan,
            verdict: shown.verdict.to_owned(),
            rule: names.rule(shown.rule),
            generation: shown.generation,
            packets: flow.packets,
            bytes: flow.bytes,
            reply_packets: flow.reply_packets,
            reply_bytes: flow.reply_bytes,
            first: clock.tick_to_unix(shown.first).map(text::time),
            last: clock.tick_to_unix(shown.last).map(text::time),
            age_ms: clock.ms_since_tick(shown.first),
            idle_ms: shown.idle_ms,
            timeout_ms: shown.timeout_ms,
            ended: self.ended.map(str::to_owned),
            nat: record.nat.as_ref().map(|nat| translated(nat, flow.bits, names)),
        }
    }
}
