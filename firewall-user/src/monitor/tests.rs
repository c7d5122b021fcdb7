//! The model, fed by hand.

use super::*;
use firewall_common::abi::{
    counter::{EventCounter, ReasonCounter, RuleCounter},
    flow::{Flow, Judgement, bits},
    table::{SLOT_DEFAULT_IN, SLOT_FIRST, Timeout, Verdict},
};

const MS: u64 = 1_000_000;

/// `ms` after an arbitrary start; ticks of 4 ms.
fn at(ms: u64) -> Clock {
    Clock {
        unix_ns: 1_700_000_000_000_000_000 + (ms * MS) as i64,
        monotonic_ns: 50_000 * MS + ms * MS,
        ticks: 1_000_000 + ms / 4,
        tick_ns: 4 * MS,
        tick_zero_ns: None,
    }
}

fn model() -> Monitor {
    let mut monitor = Monitor::new(Limits::default());
    let mut timeouts = [60_000; TIMEOUTS];
    timeouts[usize::from(Timeout::TcpEstablished.raw())] = 7_500_000;
    let rule = |position, slot, name: &str, action: Verdict| RuleInfo {
        position,
        slot,
        name: name.to_owned(),
        action: action.name(),
        enabled: true,
        log: false,
        text: String::new(),
    };
    monitor.names_mut().set_iface_index(7, "wan0");
    monitor.names_mut().set_iface_slot(1, "wan0");
    monitor.policy(
        3,
        vec![
            rule(1, SLOT_FIRST, "web", Verdict::Allow),
            rule(0, SLOT_DEFAULT_IN, names::DEFAULT_IN, Verdict::Drop),
        ],
        Vec::new(),
        timeouts,
    );
    monitor.begin(at(0));
    monitor.counters(&CounterInput::default());
    monitor.finish();
    monitor
}

fn event(class: Class, seq: u64, ms: u64) -> Event {
    let mut event = Event {
        seq,
        time_ns: at(ms).monotonic_ns,
        flow_id: 0xabc,
        packets: 1,
        bytes: 60,
        generation: 3,
        ifindex: 7,
        sport: 40_000u16.to_be_bytes(),
        dport: 80u16.to_be_bytes(),
        rule: SLOT_FIRST,
        class: class.raw(),
        reason: Reason::Rule.raw(),
        verdict: Verdict::Allow.raw(),
        family: 4,
        proto: 6,
        tcp_flags: 2,
        tcp_state: 1,
        ..Event::default()
    };
    event.src[..4].copy_from_slice(&[10, 0, 0, 1]);
    event.dst[..4].copy_from_slice(&[10, 0, 0, 2]);
    event
}

fn record(packets: u64, told: u64, tcp_state: u8, ms: u64) -> FlowRecord {
    let mut record = FlowRecord {
        family: 4,
        proto: 6,
        src: [0; 16],
        dst: [0; 16],
        sport: 40_000,
        dport: 80,
        ifindex: 0,
        nat: None,
        flow: Flow {
            id: 0xabc,
            packets,
            bytes: packets * 60,
            reply_packets: packets,
            first: at(0).ticks as u32,
            last: at(ms).ticks as u32,
            bits: bits::SEEN_REPLY | told,
            judged_in: Judgement::new(3, SLOT_FIRST, Verdict::Allow.raw()),
            if_in: 1,
            tcp_state,
            ..Flow::default()
        },
    };
    record.src[..4].copy_from_slice(&[10, 0, 0, 1]);
    record.dst[..4].copy_from_slice(&[10, 0, 0, 2]);
    record
}

fn turn(monitor: &mut Monitor, ms: u64, feed: impl FnOnce(&mut Monitor)) -> Tick {
    monitor.begin(at(ms));
    feed(monitor);
    monitor.finish()
}

#[test]
fn nothing_is_made_for_nobody_and_nothing_is_missing_for_who_looks_later() {
    let feed = |monitor: &mut Monitor, watched: bool| {
        monitor.set_watched(watched);
        let tick = turn(monitor, 20, |m| m.event(&event(Class::FlowNew, 0, 10)));
        assert_eq!((tick.events.len(), tick.flows.is_some()), (usize::from(watched), watched));
        // The rule's slot has another owner by the time somebody looks.
        monitor.names_mut().set_rule(SLOT_FIRST, "other");
        let said = serde_json::to_value(
            monitor.events().all().map(|(_, row)| (*row).clone()).collect::<Vec<_>>(),
        );
        (monitor.flows_version(), said.unwrap())
    };
    let (mut followed, mut alone) = (model(), model());
    let seen = feed(&mut followed, true);
    assert_eq!(seen.1[0]["rule"], "web");
    assert_eq!(feed(&mut alone, false), seen);
    let version = alone.flows_version();
    assert_eq!(alone.flows_since(version - 1).expect("remembered").upsert.len(), 1);

    let other = |id| {
        let mut record = record(2, 0, 3, 20);
        record.flow.id = id;
        record
    };
    // Something between two turns, and somebody who begins to follow: numbers stay right.
    alone.killed(&[other(2)]);
    alone.set_watched(true);
    let seq = alone.events().next_seq();
    let tick = turn(&mut alone, 30, |m| m.event(&event(Class::FlowEstablished, 1, 30)));
    assert_eq!((tick.first_seq, tick.events.len()), (seq, 1));
    alone.killed(&[other(4)]);
    let seq = alone.events().last_seq();
    let tick = turn(&mut alone, 50, |m| m.event(&event(Class::FlowEstablished, 2, 50)));
    assert_eq!(tick.first_seq + tick.events.len() as u64, alone.events().next_seq());
    assert!(tick.first_seq <= seq);
}

#[test]
fn a_flow_shows_with_its_event_grows_with_scans_and_leaves_after_its_end() {
    let mut monitor = model();
    let tick = turn(&mut monitor, 20, |m| m.event(&event(Class::FlowNew, 0, 10)));
    assert_eq!((tick.first_seq, tick.events.len()), (1, 1));
    let shown = &tick.flows.expect("a new flow").upsert[0];
    assert_eq!(
        (shown.id.as_str(), shown.state.as_str(), shown.rule.as_str()),
        ("0000000000000abc", "syn-sent", "web")
    );
    assert_eq!(
        (shown.src.as_str(), shown.dport, shown.in_iface.as_deref()),
        ("10.0.0.1", 80, Some("wan0"))
    );
    assert_eq!(shown.first.as_deref(), Some("2023-11-14T22:13:20.012Z"), "to the tick");
    assert_eq!(monitor.live_flows(), 1);

    let tick = turn(&mut monitor, 1_000, |m| m.scan(&[record(9, 0, 3, 990)]));
    let shown = &tick.flows.expect("it grew").upsert[0];
    assert_eq!(
        (shown.packets, shown.state.as_str(), shown.timeout_ms),
        (9, "established", 7_500_000 - 12)
    );
    assert!(
        turn(&mut monitor, 2_000, |m| m.scan(&[record(9, 0, 3, 990)])).flows.is_none(),
        "nothing moved"
    );

    let mut closed = event(Class::FlowClosed, 0, 2_010);
    closed.packets = 12;
    closed.reason = Reason::Closed.raw();
    let tick = turn(&mut monitor, 2_020, |m| m.event(&closed));
    let shown = &tick.flows.expect("it ended").upsert[0];
    assert_eq!((shown.ended.as_deref(), shown.packets), (Some("closed"), 12));
    assert_eq!(monitor.live_flows(), 0);

    // The last ACK comes after the closing event, and still counts.
    let tick = turn(&mut monitor, 3_000, |m| m.scan(&[record(13, bits::TOLD_CLOSED, 6, 2_030)]));
    assert_eq!(tick.flows.expect("one more packet").upsert[0].packets, 13);

    let before = monitor.flows_version();
    let tick = turn(&mut monitor, 7_100, |m| m.scan(&[record(13, bits::TOLD_CLOSED, 6, 2_030)]));
    assert_eq!(tick.flows.expect("it left").remove, ["0000000000000abc"]);
    assert_eq!(monitor.flows_since(before).expect("kept").remove, ["0000000000000abc"]);
    assert!(
        turn(&mut monitor, 8_000, |m| m.scan(&[record(13, bits::TOLD_CLOSED, 6, 2_030)]))
            .flows
            .is_none()
    );
    assert_eq!(monitor.flows().count(), 0, "the kernel still holds it, people have seen its end");
}

#[test]
fn a_scan_tells_what_lost_events_did_not() {
    let mut monitor = model();
    turn(&mut monitor, 1_000, |m| m.scan(&[record(3, 0, 3, 900)]));
    assert_eq!(monitor.live_flows(), 1);
    turn(&mut monitor, 2_000, |m| m.scan(&[]));
    assert_eq!(monitor.live_flows(), 1, "a walk may miss one");
    let tick = turn(&mut monitor, 3_000, |m| m.scan(&[]));
    assert_eq!(tick.flows.expect("gone").upsert[0].ended.as_deref(), Some("gone"));
    assert_eq!(monitor.live_flows(), 0);
    let tick = turn(&mut monitor, 4_000, |m| m.scan(&[record(3, 0, 3, 900)]));
    assert_eq!(tick.flows.expect("back").upsert[0].ended, None, "two walks missed it");
    assert_eq!(monitor.live_flows(), 1);
    assert!(turn(&mut monitor, 9_000, |m| m.scan(&[record(3, 0, 3, 900)])).flows.is_none());
    assert_eq!(monitor.flows().count(), 1);
}

#[test]
fn a_timed_out_flow_is_an_event_of_our_own() {
    let mut monitor = model();
    turn(&mut monitor, 1_000, |m| m.scan(&[record(3, 0, 3, 900)]));
    let tick = turn(&mut monitor, 9_000, |m| m.swept(&[record(4, 0, 3, 950)]));
    assert_eq!(tick.events.len(), 1);
    let row = &tick.events[0];
    assert_eq!(
        (row.class.as_str(), row.seq, row.reason.as_str(), row.packets),
        ("closed", None, "timed-out", 4)
    );
    assert_eq!(tick.flows.expect("ended").upsert[0].ended.as_deref(), Some("timed-out"));
    let tick = turn(&mut monitor, 9_020, |m| m.swept(&[record(4, 0, 3, 950)]));
    assert!(tick.events.is_empty(), "told once");
}

#[test]
fn a_cut_flow_says_who_cut_it() {
    let mut monitor = model();
    turn(&mut monitor, 1_000, |m| m.scan(&[record(3, 0, 3, 900)]));
    let mut cut = event(Class::FlowClosed, 0, 1_010);
    (cut.reason, cut.verdict, cut.rule, cut.generation) =
        (Reason::PolicyChanged.raw(), Verdict::Drop.raw(), SLOT_DEFAULT_IN, 4);
    let tick = turn(&mut monitor, 1_020, |m| m.event(&cut));
    let shown = &tick.flows.expect("cut").upsert[0];
    assert_eq!(
        (shown.verdict.as_str(), shown.rule.as_str(), shown.generation, shown.ended.as_deref()),
        ("drop", "default in", 4, Some("policy-changed"))
    );
}

#[test]
fn lost_events_are_in_the_tick_and_in_the_statistics() {
    let mut monitor = model();
    turn(&mut monitor, 20, |m| {
        for seq in [0, 1, 4] {
            m.event(&event(Class::Verdict, seq, 10));
        }
    });
    let mut counters = CounterInput::default();
    counters.events[usize::from(Class::Verdict.raw())] =
        EventCounter { produced: 6, lost: 3, suppressed: 9 };
    let tick = turn(&mut monitor, 40, |m| m.counters(&counters));
    assert_eq!(tick.losses, [Loss { class: Class::Verdict, from: 2, to: 3 }]);
    let tick = turn(&mut monitor, 60, |_| {});
    assert_eq!(tick.losses, [Loss { class: Class::Verdict, from: 5, to: 5 }]);
    turn(&mut monitor, 80, |m| m.counters(&counters));
    let row = monitor.stats().events[usize::from(Class::Verdict.raw())].clone();
    assert_eq!((row.produced, row.delivered, row.lost, row.suppressed), (6, 3, 3, 9));
}

#[test]
fn counters_move_rules_and_split_by_verdict() {
    let mut monitor = model();
    let input = CounterInput {
        rules: vec![(
            SLOT_FIRST,
            RuleCounter { hits: 1, packets: 10, bytes: 600, last: at(900).ticks },
        )],
        reasons: vec![
            (Verdict::Allow, Reason::Rule, ReasonCounter { packets: 1, bytes: 74 }),
            (Verdict::Drop, Reason::Rule, ReasonCounter { packets: 2, bytes: 148 }),
            (Verdict::Allow, Reason::Established, ReasonCounter { packets: 9, bytes: 700 }),
        ],
        ..CounterInput::default()
    };
    let version = monitor.counters_version();
    let tick = turn(&mut monitor, 1_000, |m| m.counters(&input));
    let (_, moved) = tick.rules.expect("one moved");
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].name.as_str(), moved[0].packets, moved[0].hits), ("web", 10, 1));
    assert_eq!(moved[0].last_hit.as_deref(), Some("2023-11-14T22:13:20.900Z"));
    assert_eq!(monitor.rules_since(version).map(|rows| rows.len()), Some(1));
    let (_, stats) = tick.stats.expect("stats");
    assert_eq!((stats.packets, stats.passed_packets, stats.dropped_packets), (12, 10, 2));
    assert_eq!((stats.dropped_bytes, stats.passed_bytes + stats.dropped_bytes), (148, stats.bytes));
    assert_eq!(stats.reasons.len(), 2);
    assert!(turn(&mut monitor, 2_000, |m| m.counters(&input)).rules.is_none());
}

#[test]
fn the_first_flows_of_an_order() {
    let mut monitor = model();
    let flow = |id: u64, packets: u64| {
        let mut record = record(packets, 0, 3, 100 + id * 4);
        record.flow.id = id;
        record
    };
    turn(&mut monitor, 1_000, |m| m.scan(&[flow(1, 5), flow(2, 9), flow(3, 5), flow(4, 1)]));
    let ids = |order, turned, limit| {
        let (total, rows) = monitor.top_flows(order, turned, limit);
        assert_eq!(total, 4);
        rows.iter()
            .map(|row| row.id.trim_start_matches('0').to_owned())
            .collect::<Vec<_>>()
            .join("")
    };
    assert_eq!(ids(FlowOrder::Packets, false, 10), "2134");
    assert_eq!(ids(FlowOrder::Packets, false, 2), "21");
    assert_eq!(ids(FlowOrder::Bytes, true, 3), "413");
    assert_eq!(ids(FlowOrder::Last, false, 1), "4");
    assert_eq!(ids(FlowOrder::First, false, 0), "");
}

#[test]
fn between_whole_scans_only_what_changed_is_looked_at() {
    let mut monitor = model();
    assert!(monitor.wants_whole(), "nothing was seen yet");
    turn(&mut monitor, 1_000, |m| m.scan(&[record(1, 0, 3, 900)]));
    assert!(!monitor.wants_whole());
    // Two looks at what changed don't have it: it had no packet, that is all.
    for ms in [2_000, 3_000, 4_000] {
        turn(&mut monitor, ms, |m| m.changed(&[]));
    }
    assert_eq!(monitor.live_flows(), 1);
    let tick = turn(&mut monitor, 5_000, |m| m.changed(&[record(2, 0, 3, 4_900)]));
    assert_eq!(tick.flows.expect("it grew").upsert[0].packets, 2);
    // A whole one misses it, is repeated a second later, and then it is gone.
    turn(&mut monitor, 31_001, |_| {});
    assert!(monitor.wants_whole());
    turn(&mut monitor, 31_020, |m| m.scan(&[]));
    assert_eq!((monitor.live_flows(), monitor.wants_whole()), (1, true));
    let tick = turn(&mut monitor, 32_020, |m| m.scan(&[]));
    assert_eq!(tick.flows.expect("it went").upsert[0].ended.as_deref(), Some("gone"));
    assert_eq!((monitor.live_flows(), monitor.wants_whole()), (0, false));
}

#[test]
fn evicted_flows_are_looked_for_at_once() {
    let mut monitor = model();
    turn(&mut monitor, 1_000, |m| m.scan(&[record(1, 0, 3, 900)]));
    assert_eq!((monitor.live_flows(), monitor.wants_whole()), (1, false));
    let mut input = CounterInput::default();
    input.table.counter.evicted = 1;
    for ms in [2_000, 3_000] {
        turn(&mut monitor, ms, |m| {
            if m.wants_whole() {
                m.scan(&[]);
            }
            m.counters(&input);
        });
    }
    assert!(monitor.wants_whole(), "one look may be too early");
    turn(&mut monitor, 4_000, |m| m.scan(&[]));
    assert_eq!((monitor.live_flows(), monitor.wants_whole()), (0, false));
}

#[test]
fn lost_events_of_flows_ask_for_a_whole_scan() {
    for (class, asked) in [(Class::FlowClosed, true), (Class::Verdict, false)] {
        let mut monitor = model();
        let counted = |produced| {
            let mut input = CounterInput::default();
            input.events[usize::from(class.raw())].produced = produced;
            input
        };
        turn(&mut monitor, 1_000, |m| {
            m.counters(&counted(0));
            m.scan(&[]);
        });
        // One is produced and never comes; a gap counts at the second settling after it is noticed.
        for ms in [2_000, 2_020, 2_040] {
            turn(&mut monitor, ms, |m| m.counters(&counted(1)));
        }
        assert_eq!(monitor.wants_whole(), asked, "{class:?}");
    }
}

#[test]
fn a_killed_flow_ends_with_an_event() {
    let mut monitor = model();
    turn(&mut monitor, 1_000, |m| m.scan(&[record(1, 0, 3, 900)]));
    let tick = turn(&mut monitor, 1_020, |m| m.killed(&[record(4, 0, 3, 1_010)]));
    let told = &tick.events[0];
    assert_eq!((told.class.as_str(), told.reason.as_str(), told.packets), ("closed", "killed", 4));
    assert_eq!(tick.flows.expect("it went").upsert[0].ended.as_deref(), Some("killed"));
}

#[test]
fn a_translation_shows_with_its_event_and_with_the_table() {
    let mut monitor = model();
    let mut nat = event(Class::NatNew, 0, 11);
    nat.src[4..10].copy_from_slice(&[203, 0, 113, 5, 0x9c, 0x40]);
    nat.dst[4..10].copy_from_slice(&[10, 0, 0, 2, 0, 80]);
    let tick = turn(&mut monitor, 10, |m| m.event(&nat));
    assert!(tick.flows.is_none(), "of the flow itself it says too little");
    let tick = turn(&mut monitor, 20, |m| {
        m.event(&event(Class::FlowNew, 0, 10));
        m.event(&nat);
    });
    let shown = tick.flows.expect("a new flow").upsert[0].nat.clone().expect("translated");
    assert_eq!((shown.src.as_str(), shown.sport, shown.dport), ("203.0.113.5", 40_000, 80));
    assert_eq!((shown.kind.as_str(), shown.rule.as_str()), ("source", "web"));
    let mut seen = record(1, 0, 1, 30);
    seen.nat = Some(NatTuple {
        src: [203, 0, 113, 5],
        dst: [10, 0, 0, 9],
        sport: 40_000,
        dport: 8080,
        rule: SLOT_FIRST,
    });
    seen.flow.bits |= bits::NAT_SOURCE | bits::NAT_DESTINATION;
    let tick = turn(&mut monitor, 1_000, |m| m.scan(&[seen]));
    let shown = tick.flows.expect("it changed").upsert[0].nat.clone().expect("translated");
    assert_eq!((shown.dst.as_str(), shown.kind.as_str()), ("10.0.0.9", "both"));
}

#[test]
fn events_say_how_their_flow_is_translated() {
    let mut monitor = model();
    let mut told = event(Class::NatNew, 0, 100);
    told.src[4..10].copy_from_slice(&[203, 0, 113, 5, 0x9c, 0x55]);
    let port = told.dport;
    told.dst[4..8].copy_from_slice(&[10, 0, 0, 2]);
    told.dst[8..10].copy_from_slice(&port);
    let tick = turn(&mut monitor, 100, |m| {
        m.event(&event(Class::FlowNew, 0, 100));
        m.event(&told);
        m.event(&event(Class::FlowClosed, 0, 100));
    });
    assert_eq!(tick.events[0].nat, None);
    for event in &tick.events[1..] {
        let nat = event.nat.as_ref().expect("translated");
        assert_eq!(
            (nat.src.as_str(), nat.sport, nat.kind.as_str()),
            ("203.0.113.5", 40_021, "source")
        );
        assert_eq!((nat.dst.as_str(), nat.dport), ("10.0.0.2", 80));
    }
}

#[test]
fn ended_flows_are_listed_up_to_a_number_and_the_rest_is_counted() {
    let mut monitor = Monitor::new(Limits { ended_kept: 2, ..Limits::default() });
    let tick = turn(&mut monitor, 100, |m| {
        for id in 1..=5 {
            let closed = event(Class::FlowClosed, id - 1, 100);
            m.event(&Event { flow_id: id, reason: Reason::Closed.raw(), ..closed });
        }
    });
    assert_eq!(tick.flows.map(|changes| changes.remove.len()), Some(3));
    assert_eq!(monitor.flows().count(), 2);
    let tick = turn(&mut monitor, 200, |m| m.counters(&CounterInput::default()));
    assert_eq!(tick.stats.expect("fresh").1.table.ended_unlisted, 3);
}

#[test]
fn a_closed_flow_whose_tuple_is_taken_does_not_come_back() {
    let mut monitor = model();
    let reused = Event { reason: Reason::Reused.raw(), ..event(Class::FlowClosed, 1, 100) };
    let tick = turn(&mut monitor, 100, |m| m.event(&reused));
    assert_eq!((tick.events.len(), monitor.flows().count()), (1, 0));
}

#[test]
fn an_end_is_told_under_the_rule_that_let_the_flow_in() {
    let mut monitor = model();
    // The hook that saw the last packet had let it out by default; a rule's own decision is its own.
    let seen_by = |reason: Reason, rule| {
        let mut event = event(Class::FlowClosed, 0, 100);
        (event.reason, event.rule) = (reason.raw(), rule);
        event
    };
    let tick = turn(&mut monitor, 100, |m| {
        m.event(&event(Class::FlowNew, 0, 100));
        m.event(&seen_by(Reason::Reset, SLOT_DEFAULT_IN));
        m.event(&seen_by(Reason::Default, SLOT_DEFAULT_IN));
    });
    let rules: Vec<&str> = tick.events.iter().map(|event| event.rule.as_str()).collect();
    assert_eq!(rules, ["web", "web", names::DEFAULT_IN]);
}
