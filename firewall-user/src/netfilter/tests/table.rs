//! The model.

use super::*;
use crate::netfilter::{
    account::{AccountKey, Side, Translation},
    binding::BindingEvent,
    table::{DumpStep, NetfilterTable},
};

fn load(table: &mut NetfilterTable, entries: &[NetfilterEntry]) {
    table.begin_dump();
    for entry in entries {
        assert_eq!(table.dumped(&event(DUMPED, entry), 1_000), DumpStep::More);
    }
    assert_eq!(table.dumped(&done(0), 1_000), DumpStep::Done);
}

fn hosts(table: &NetfilterTable) -> Vec<(String, u64, u64, u64)> {
    table
        .accounts()
        .rows()
        .iter()
        .filter(|(key, _)| key.side == Side::Host)
        .map(|(key, totals)| {
            let address = key.address.map(|address| address.to_string()).unwrap_or_default();
            (address, totals.flows, totals.counters.orig.bytes, totals.counters.reply.bytes)
        })
        .collect()
}

/// What happened, in words: which source port, and how.
fn told(table: &mut NetfilterTable) -> Vec<String> {
    let word = |event: BindingEvent| match event {
        BindingEvent::Began { binding, found, .. } => {
            format!("{} began{}", binding.key.orig.sport, if found { " (found)" } else { "" })
        }
        BindingEvent::Ended { binding, totals, how, .. } => {
            let bytes = totals.map(|totals| totals.orig.bytes + totals.reply.bytes);
            format!("{} ended: {how:?}, {bytes:?}", binding.key.orig.sport)
        }
    };
    table.take_bindings().into_iter().map(word).collect()
}

#[test]
fn the_recorded_life_of_a_connection_adds_up() {
    let mut table = NetfilterTable::default();
    table.begin_dump();
    let steps: Vec<_> = dump().iter().map(|answer| table.dumped(answer, 1)).collect();
    assert_eq!(steps, [DumpStep::More, DumpStep::Done]);
    assert_eq!((table.live_count(), table.translated()), (3, 2));
    // The events came before and while it was read.
    for event in events() {
        table.events(&event, 2);
    }
    assert_eq!((table.live_count(), table.translated()), (2, 1));
    let counters = table.counters();
    assert_eq!((counters.began, counters.updated, counters.ended), (3, 6, 1));
    assert_eq!((counters.malformed, counters.gone, counters.dumps), (0, 0, 1));
    assert_eq!(
        told(&mut table),
        ["5000 began (found)", "77 began (found)", "5000 ended: Told, Some(584)"]
            .map(str::to_owned)
    );
    let rows = table.accounts().rows();
    let key = |side, address| AccountKey {
        translation: Translation::Source,
        side,
        address: Some(IpAddr::from(address)),
    };
    assert_eq!(
        rows.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
        [key(Side::Host, [10, 8, 0, 1]), key(Side::Public, [10, 9, 0, 1])]
    );
    for (_, totals) in rows {
        assert_eq!((totals.flows, totals.uncounted, totals.at_least), (1, 0, 0));
        assert_eq!(totals.counters.orig, Count { packets: 5, bytes: 318 });
        assert_eq!(totals.counters.reply, Count { packets: 4, bytes: 266 });
    }
    // The counters that only dumps tell outlive the events that don't.
    let icmp = table.live().find(|live| live.entry.key.orig.proto == 1).expect("it lives");
    assert!(icmp.entry.facts.counters.is_some());
}

#[test]
fn events_alone_make_the_same_table() {
    let mut table = NetfilterTable::default();
    let entry = masqueraded(7, 5000);
    table.events(&event(NEW, &entry), 5);
    let mut later = entry;
    later.facts.state = Some(ProtoState::Tcp(7));
    later.facts.timeout_s = Some(120);
    table.events(&event(UPDATE, &later), 6);
    let live: Vec<_> = table.live().collect();
    assert_eq!((live.len(), live[0].entry, live[0].seen_ns), (1, later, 6));
    table.events(&event(DESTROY, &carried(entry, (10, 1_000), (20, 5_000))), 7);
    assert_eq!((table.live_count(), table.translated()), (0, 0));
    assert_eq!(hosts(&table), [("10.0.0.7".to_owned(), 1, 1_000, 5_000)]);
    assert_eq!(told(&mut table), ["5000 began", "5000 ended: Told, Some(6000)"]);
    // Whose beginning was lost is booked all the same.
    table.events(&event(DESTROY, &carried(masqueraded(8, 6000), (1, 40), (0, 0))), 8);
    assert_eq!(told(&mut table), ["6000 ended: Told, Some(40)"]);
    assert_eq!(hosts(&table).len(), 2);
    assert_eq!((table.live_count(), table.translated()), (0, 0));
}

#[test]
fn what_two_dumps_dont_have_is_gone() {
    let mut table = NetfilterTable::default();
    let (one, other) = (carried(masqueraded(7, 5000), (3, 300), (4, 400)), masqueraded(8, 6000));
    load(&mut table, &[one, other]);
    load(&mut table, &[other]);
    assert_eq!((table.live_count(), table.in_doubt()), (1, true));
    assert_eq!(hosts(&table), [], "one dump may have missed it");
    // It comes back: nothing happened.
    load(&mut table, &[one, other]);
    assert_eq!((table.live_count(), table.in_doubt()), (2, false));
    load(&mut table, &[other]);
    table.events(&event(UPDATE, &one), 3);
    assert_eq!((table.live_count(), table.in_doubt()), (2, false), "events tell that it lives");
    load(&mut table, &[other]);
    load(&mut table, &[other]);
    assert_eq!((table.live_count(), table.in_doubt(), table.translated()), (1, false, 1));
    assert_eq!(table.counters().gone, 1);
    assert_eq!(
        told(&mut table),
        ["5000 began (found)", "6000 began (found)", "5000 ended: Gone, Some(700)"]
    );
    let rows = table.accounts().rows();
    assert!(rows.iter().all(|(_, totals)| totals.at_least == 1), "and is said to be so: {rows:?}");
    // The same with an entry that ends while it is in doubt.
    load(&mut table, &[]);
    assert_eq!((table.live_count(), table.in_doubt()), (0, true));
    table.events(&event(DESTROY, &other), 9);
    assert_eq!((table.live_count(), table.in_doubt(), table.translated()), (0, false, 0));
    assert_eq!(told(&mut table), ["6000 ended: Told, None"]);
}

#[test]
fn the_same_name_twice_is_two_entries() {
    let mut first = carried(masqueraded(7, 5000), (30, 3_000), (40, 4_000));
    first.facts.start_ns = Some(1_000);
    let mut second = carried(masqueraded(7, 5000), (31, 3_100), (41, 4_100));
    second.facts.start_ns = Some(2_000);
    let mut table = NetfilterTable::default();
    load(&mut table, &[first]);
    load(&mut table, &[second]);
    // Without times the counters tell, where they fall: also where somebody set them to zero.
    let mut third = carried(masqueraded(7, 5000), (1, 50), (0, 0));
    load(&mut table, &[third]);
    third.facts.counters = None;
    table.events(&event(UPDATE, &third), 9);
    table.events(&event(DESTROY, &carried(third, (2, 100), (1, 60))), 9);
    assert_eq!(table.live_count(), 0);
    assert_eq!(hosts(&table), [("10.0.0.7".to_owned(), 3, 6_200, 8_160)]);
    assert_eq!(
        told(&mut table),
        [
            "5000 began (found)",
            "5000 ended: Gone, Some(7000)",
            "5000 began (found)",
            "5000 ended: Gone, Some(7200)",
            "5000 began (found)",
            "5000 ended: Told, Some(160)"
        ]
    );
    // Ids are a hash: entries that share one are kept apart.
    let (one, mut other) = (masqueraded(7, 5000), masqueraded(8, 6000));
    other.key.id = one.key.id;
    load(&mut table, &[one, other]);
    assert_eq!(table.live_count(), 2);
}

#[test]
fn both_kinds_of_translation_have_accounts_that_add_up_by_themselves() {
    // A hairpin: 10.0.0.7 asks 192.0.2.1:443, and gets 10.0.0.9:8443, which sees 203.0.113.5.
    let mut hairpin = carried(masqueraded(7, 5000), (2, 200), (3, 300));
    hairpin.facts.reply.src = IpAddr::from([10, 0, 0, 9]);
    hairpin.facts.reply.sport = 8443;
    let mut table = NetfilterTable::default();
    table.events(&event(DESTROY, &hairpin), 1);
    table.events(&event(DESTROY, &carried(masqueraded(8, 6000), (1, 10), (1, 20))), 1);
    let mut plain = masqueraded(9, 7000);
    plain.facts.reply.dst = plain.key.orig.src;
    plain.facts.reply.dport = 7000;
    table.events(&event(DESTROY, &plain), 1);
    let words: Vec<_> = table
        .accounts()
        .rows()
        .iter()
        .map(|(key, totals)| {
            let address = key.address.map(|address| address.to_string()).unwrap_or_default();
            format!(
                "{} {} {address} {} {}",
                key.translation.name(),
                key.side.name(),
                totals.flows,
                totals.counters.orig.bytes
            )
        })
        .collect();
    assert_eq!(
        words,
        [
            "snat host 10.0.0.7 1 200",
            "snat host 10.0.0.8 1 10",
            "snat public 203.0.113.5 2 210",
            "dnat host 10.0.0.9 1 200",
            "dnat public 192.0.2.1 1 200",
        ]
    );
    assert_eq!(told(&mut table).len(), 2, "what isn't translated isn't told");
}

#[test]
fn a_dump_that_breaks_off_proves_nothing() {
    let mut table = NetfilterTable::default();
    load(&mut table, &[masqueraded(7, 5000)]);
    for _ in 0..3 {
        table.begin_dump();
        assert_eq!(table.dumped(&done(libc::EINTR), 1), DumpStep::Failed(libc::EINTR));
    }
    assert_eq!((table.live_count(), table.counters().dumps), (1, 1));
    table.begin_dump();
    assert_eq!(
        table.dumped(&raw(2, 0, &(-libc::EPERM).to_ne_bytes()), 1),
        DumpStep::Failed(libc::EPERM)
    );
    table.dumped(&[1, 2, 3], 1);
    assert_eq!((table.counters().malformed, table.live_count()), (1, 1));
    table.overrun();
    assert_eq!(table.counters().overruns, 1);
}
