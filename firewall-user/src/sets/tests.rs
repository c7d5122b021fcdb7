//! Live sets against a naive model, a list of prefixes; what programs would find is asked with their own look-up.

use super::{
    Entry, Limits, Live, LiveError, Memory, SetKind,
    ground::{Ground, Shared, memory},
    lock,
    memory::Entered,
    shape::{Counts, plan},
    testing::{HeapGround, make},
};
use firewall_common::{
    abi::{
        bucket::QUARANTINE,
        set::{SET_ARENAS, shape, tag},
    },
    sets::{holds_port, holds4, holds6, probe4, probe6},
};
use proptest::prelude::*;
use std::sync::{Arc, atomic::Ordering::Relaxed};

const FREE: Limits = Limits { size: None, grows: false };

/// What a program finds of an address, alone or with a port.
fn found4(arena: &Shared, address: u32, port: Option<u16>, now: u64) -> bool {
    let memory = memory(arena);
    let pair = port.map_or(0, |port| tag::pair(32, port.into()));
    holds4(&memory, address, pair, |entry, hash| probe4(&memory, entry, hash, now) != 0)
}

fn found6(arena: &Shared, address: u128, port: Option<u16>, now: u64) -> bool {
    let memory = memory(arena);
    let pair = port.map_or(0, |port| tag::pair(128, port.into()));
    let address = [(address >> 64) as u64, address as u64];
    holds6(&memory, address, pair, |prefix, tag, hash| probe6(&memory, prefix, tag, hash, now) != 0)
}

fn found(arena: &Shared, asked: Entry, now: u64) -> bool {
    match asked {
        Entry::Prefix4(address, _) => found4(arena, address, None, now),
        Entry::Prefix6(address, _) => found6(arena, address, None, now),
        Entry::Pair4(address, port) => found4(arena, address, Some(port), now),
        Entry::Pair6(address, port) => found6(arena, address, Some(port), now),
        Entry::Ports(port, _) => holds_port(&memory(arena), port.into()),
    }
}

/// The model: entries with the tick at which they end.
#[derive(Default)]
struct Model(Vec<(Entry, u64)>);

impl Model {
    fn holds(&self, asked: Entry, now: u64) -> bool {
        self.0.iter().any(|(entry, ends)| asked.within(*entry) && (*ends == 0 || *ends > now))
    }
}

fn set(kind: SetKind) -> (Arc<HeapGround>, Live) {
    let ground = Arc::new(HeapGround::default());
    let live = Live::at(ground.clone(), 5);
    live.begin(&FREE, kind, &[]).expect("room");
    (ground, live)
}

fn prefix4(address: u32, len: u8) -> Entry {
    let mask = if len == 0 { 0 } else { u32::MAX << (32 - len) };
    Entry::Prefix4(address & mask, len)
}

fn prefix6(address: u128, len: u8) -> Entry {
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
    Entry::Prefix6(address & mask, len)
}

#[derive(Clone, Debug)]
enum Deed {
    Add(Entry, Option<u64>),
    Delete(Entry),
    /// Ticks go by.
    Wait(u64),
    Reap,
    /// All of it into a new table.
    Grow,
    /// Only these are left.
    Replace(Vec<Entry>),
}

/// Few addresses, so that entries meet; each length.
fn addresses() -> BoxedStrategy<Entry> {
    let four = (0u32..64, prop_oneof![0u8..=32, Just(24), Just(32)])
        .prop_map(|(n, len)| prefix4(0xc000_0200 ^ n << 28 ^ n, len));
    let six = (0u128..64, prop_oneof![0u8..=128, Just(64), Just(128)])
        .prop_map(|(n, len)| prefix6(0x2001_0db8 << 96 ^ n << 120 ^ n, len));
    prop_oneof![four, six].boxed()
}

fn pairs() -> BoxedStrategy<Entry> {
    prop_oneof![
        (0u32..8, 0u16..4).prop_map(|(n, port)| Entry::Pair4(0xc000_0200 + n, port)),
        (0u128..8, 0u16..4).prop_map(|(n, port)| Entry::Pair6(n, port)),
    ]
    .boxed()
}

fn deeds(entry: BoxedStrategy<Entry>) -> impl Strategy<Value = Vec<Deed>> {
    let timeout = prop_oneof![Just(None), (1u64..20_000).prop_map(Some)];
    let deed = prop_oneof![
        8 => (entry.clone(), timeout).prop_map(|(entry, timeout)| Deed::Add(entry, timeout)),
        4 => entry.clone().prop_map(Deed::Delete),
        3 => (0u64..2_000).prop_map(Deed::Wait),
        2 => Just(Deed::Reap),
        1 => Just(Deed::Grow),
        1 => proptest::collection::vec(entry, 0..8).prop_map(Deed::Replace),
    ];
    proptest::collection::vec(deed, 0..80)
}

fn play(kind: SetKind, deeds: Vec<Deed>) {
    let (ground, live) = set(kind);
    let mut model = Model::default();
    let mut asked: Vec<Entry> = Vec::new();
    for deed in deeds {
        let now = ground.now();
        match deed {
            Deed::Add(entry, timeout) => {
                asked.push(entry);
                let was =
                    model.0.iter().any(|(e, ends)| *e == entry && (*ends == 0 || *ends > now));
                let added = live.add(&FREE, &[(entry, timeout)]).expect("room");
                // One that ended and stands there still is given its time anew.
                assert!(!was || added.renewed == 1, "{entry}: {added:?}");
                model.0.retain(|(e, _)| *e != entry);
                model
                    .0
                    .push((entry, timeout.map_or(0, |ms| now + (ms * 250).div_ceil(1000).max(1))));
            }
            Deed::Delete(entry) => {
                let was =
                    model.0.iter().any(|(e, ends)| *e == entry && (*ends == 0 || *ends > now));
                assert_eq!(live.delete(&[entry]).expect("there"), u64::from(was), "{entry}");
                model.0.retain(|(e, _)| *e != entry);
            }
            Deed::Wait(ticks) => {
                ground.clock.fetch_add(ticks, Relaxed);
            }
            Deed::Reap => {
                let (reaped, whole) = live.reap(0).expect("there");
                assert!(whole);
                let before = now - 500;
                let stands = |ends: u64| ends == 0 || ends >= before;
                assert_eq!(
                    reaped.live.total(),
                    model.0.iter().filter(|(_, ends)| stands(*ends)).count() as u64
                );
                model.0.retain(|(_, ends)| stands(*ends));
                assert_eq!(memory(&live.arena().expect("there")).count(), reaped.live.total());
            }
            Deed::Grow => {
                // What has ended isn't taken along.
                if live.grow(&FREE, None, true).expect("room") {
                    model.0.retain(|(_, ends)| *ends == 0 || *ends > now);
                }
            }
            Deed::Replace(entries) => {
                let timed: Vec<_> = entries.iter().map(|entry| (*entry, None)).collect();
                live.replace(&FREE, &timed).expect("room");
                model.0 = entries.iter().map(|entry| (*entry, 0)).collect();
                model.0.sort_unstable();
                model.0.dedup();
                asked.extend(entries);
            }
        }
        let now = ground.now();
        let arena = live.arena().expect("there");
        for entry in &asked {
            let (host, beside) = match *entry {
                Entry::Prefix4(a, len) => {
                    (Entry::Prefix4(a, 32), Entry::Prefix4(a ^ (1 << (32 - len).min(31)), 32))
                }
                Entry::Prefix6(a, len) => {
                    (Entry::Prefix6(a, 128), Entry::Prefix6(a ^ (1 << (128 - len).min(127)), 128))
                }
                Entry::Pair4(a, port) => (*entry, Entry::Pair4(a, port ^ 1)),
                Entry::Pair6(a, port) => (*entry, Entry::Pair6(a ^ 1, port)),
                other => (other, other),
            };
            for host in [host, beside] {
                assert_eq!(found(&arena, host, now), model.holds(host, now), "{host}");
                assert_eq!(!live.test(host).expect("asked").is_empty(), model.holds(host, now));
            }
            assert_eq!(!live.test(*entry).expect("asked").is_empty(), model.holds(*entry, now));
        }
        let mut listed: Vec<Entry> =
            live.entries().expect("there").into_iter().map(|(entry, _)| entry).collect();
        listed.sort_unstable();
        let mut wanted: Vec<Entry> = model
            .0
            .iter()
            .filter(|(_, ends)| *ends == 0 || *ends > now)
            .map(|(entry, _)| *entry)
            .collect();
        wanted.sort_unstable();
        assert_eq!(listed, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn addresses_are_found_as_a_list_of_prefixes_says(deeds in deeds(addresses())) {
        play(SetKind::Addresses, deeds);
    }

    #[test]
    fn pairs_are_found_as_a_list_says(deeds in deeds(pairs())) {
        play(SetKind::Pairs, deeds);
    }

    #[test]
    fn ports_are_found_as_a_list_says(
        deeds in proptest::collection::vec((any::<bool>(), any::<u16>(), 0u16..300), 0..40)
    ) {
        let (ground, live) = set(SetKind::Ports);
        let mut model = vec![false; 65_536];
        for (add, first, many) in deeds {
            let last = first.saturating_add(many);
            let entry = Entry::Ports(first, last);
            let range = usize::from(first)..=usize::from(last);
            let was = model[range.clone()].iter().any(|there| *there);
            let all = model[range.clone()].iter().all(|there| *there);
            if add {
                let added = live.add(&FREE, &[(entry, None)]).expect("room");
                prop_assert_eq!(added.new, u64::from(!all));
            } else {
                prop_assert_eq!(live.delete(&[entry]).expect("there"), u64::from(was));
            }
            model[range].fill(add);
            let arena = live.arena().expect("there");
            for port in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                prop_assert_eq!(holds_port(&memory(&arena), port.into()), model[usize::from(port)]);
            }
            prop_assert_eq!(live.test(entry).expect("asked").is_empty(), !add);
        }
        let shown: Vec<_> = live.entries().expect("there").into_iter().map(|(e, _)| (e, None)).collect();
        let again = Live::at(ground.clone(), 6);
        again.begin(&FREE, SetKind::Ports, &shown).expect("room");
        for live in [live, again] {
            let arena = live.arena().expect("there");
            let memory = memory(&arena);
            prop_assert!((0..=u16::MAX).all(|port| holds_port(&memory, port.into()) == model[usize::from(port)]));
            prop_assert_eq!(memory.count(), model.iter().filter(|there| **there).count() as u64);
        }
    }
}

/// Addresses without an order.
fn many(n: u32) -> impl Iterator<Item = Entry> {
    (0..n).map(|i| Entry::Prefix4(i.wrapping_mul(0x9e37_79b1) ^ 0x5bd1_e995, 32))
}

fn is_filled(live: &Live, n: u32) {
    let arena = live.arena().expect("there");
    assert_eq!(memory(&arena).count(), u64::from(n));
    assert!(many(n).all(|entry| found(&arena, entry, live.now())));
    let others = (n..2 * n).zip(many(2 * n).skip(n as usize));
    let wrong = others.filter(|(_, entry)| found(&arena, *entry, live.now())).count();
    assert_eq!(wrong, 0);
}

#[test]
fn it_grows_from_class_to_class_and_nothing_is_lost() {
    let (ground, live) = set(SetKind::Addresses);
    let class = || Live::at(ground.clone(), 5).head().class;
    assert_eq!(class(), 1);
    let mut seen = vec![1];
    // Beyond the second class, in steps of one entry and of many.
    for (n, entry) in (1..=40_000u32).zip(many(40_000)) {
        live.add(&FREE, &[(entry, None)]).expect("room");
        if seen.last() != Some(&class()) {
            seen.push(class());
            is_filled(&live, n);
        }
    }
    assert_eq!(seen, [1, 2, 3], "one at a time");
    is_filled(&live, 40_000);
    let all: Vec<_> = many(300_000).map(|entry| (entry, None)).collect();
    let added = live.add(&FREE, &all).expect("room");
    assert_eq!((added.new, added.renewed, class()), (260_000, 40_000, 4));
    is_filled(&live, 300_000);
    // And what is few again needs little again.
    live.replace(&FREE, &all[..10]).expect("room");
    assert_eq!(class(), 1);
    is_filled(&live, 10);
}

#[test]
fn the_largest_is_filled_to_three_quarters() {
    let room =
        plan(SetKind::Addresses, Counts { four: 9_000_000, six: 0 }).expect_err("too many").room;
    let all: Vec<_> = many(room as u32).map(|entry| (entry, None)).collect();
    let (_, live) = set(SetKind::Addresses);
    live.replace(&FREE, &all).expect("as many as it says fit");
    assert_eq!(memory(&live.arena().expect("there")).count(), room);
    let arena = live.arena().expect("there");
    assert!(all.iter().all(|(entry, _)| found(&arena, *entry, live.now())));
    let too_many: Vec<_> = many(room as u32 + 100_000).map(|entry| (entry, None)).collect();
    let error = live.replace(&FREE, &too_many).expect_err("too many").to_string();
    assert!(error.contains(&room.to_string()), "{error}");
    assert_eq!(memory(&live.arena().expect("there")).count(), room, "it is as it was");
}

#[test]
fn a_failure_leaves_it_as_it_was() {
    let (ground, live) = set(SetKind::Addresses);
    live.add(&FREE, &many(10).map(|entry| (entry, None)).collect::<Vec<_>>()).expect("room");
    ground.refuses.store(true, Relaxed);
    let all: Vec<_> = many(10_000).map(|entry| (entry, None)).collect();
    let error = live.add(&FREE, &all).expect_err("refused").to_string();
    assert!(error.contains("no memory"), "{error}");
    is_filled(&live, 10);
    // All or none where the policy says how many.
    let of = Limits { size: Some(12), grows: false };
    let error = live.add(&of, &all[8..13]).expect_err("13 of 12").to_string();
    assert!(error.contains("13 entries") && error.contains("12"), "{error}");
    is_filled(&live, 10);
    assert_eq!(live.add(&of, &all[8..12]).expect("12 of 12").new, 2);
    let error = live.replace(&of, &all[..13]).expect_err("13 of 12").to_string();
    assert!(error.contains("13 entries"), "{error}");
    is_filled(&live, 12);
    let error = live.add(&FREE, &[(Entry::Ports(80, 80), None)]).expect_err("a port").to_string();
    assert!(error.contains("`80`") && error.contains("192.0.2.7"), "{error}");
    let (_, ports) = set(SetKind::Ports);
    let lasting = ports.add(&FREE, &[(Entry::Ports(80, 80), Some(1_000))]);
    assert!(matches!(lasting, Err(LiveError::Lasting { .. })));
}

#[test]
fn a_dead_slot_is_taken_after_its_quarantine_and_freed_by_reaping() {
    let arena = make(1).expect("made");
    let shape = plan(SetKind::Addresses, Counts::default()).expect("fits");
    let memory = Memory::lay(arena.words(), &shape, 7);
    let entry = Entry::Prefix4(1, 32);
    let tags = || -> Vec<u32> {
        let first = shape.first4 as usize;
        let slots = arena.words()[first..first + 2 * shape.slots4 as usize].chunks(2);
        slots.map(|slot| (slot[0].load(Relaxed) >> 32) as u32).filter(|tag| *tag != 0).collect()
    };
    assert_eq!(memory.insert(entry, 0, 100), Entered::New);
    assert_eq!(memory.insert(entry, 200, 100), Entered::Renewed(0));
    assert_eq!(memory.remove(entry, 100), Some(200));
    assert_eq!(tags(), [tag::DEAD]);
    assert_eq!(memory.insert(entry, 0, 100 + u64::from(QUARANTINE)), Entered::New);
    assert_eq!(tags(), [tag::DEAD, tag::prefix(32)], "another slot");
    memory.remove(entry, 110);
    let reap = |now| memory.reap(0, 1, now, now, || Some(()));
    reap(111);
    assert_eq!(tags().len(), 2, "the first could go, but stands before one that can't yet");
    reap(120);
    assert_eq!(tags(), [0u32; 0], "nothing stands behind them");
    assert_eq!(memory.count(), 0);
}

#[test]
fn what_a_dead_writer_left_is_nobodys() {
    let arena = make(1).expect("made");
    let shape = plan(SetKind::Addresses, Counts::default()).expect("fits");
    let memory = Memory::lay(arena.words(), &shape, 7);
    let slot = shape.first6 as usize + 2;
    arena.words()[slot].store(tag::BUSY.into(), Relaxed);
    arena.words()[slot + 1].store(u64::MAX, Relaxed);
    memory.each(5, &mut |entry, _| panic!("{entry} was never entered"));
    memory.reap(0, 1, 5, 5, || Some(()));
    memory.reap(0, 1, 50, 50, || Some(()));
    assert_eq!(arena.words()[slot].load(Relaxed), 0);
    assert_eq!(memory.count(), 0);
}

#[test]
fn whatever_leads_to_an_entry_is_there_before_it() {
    // Whoever looks at any moment finds all that has been entered, and never half of anything.
    let (ground, live) = set(SetKind::Addresses);
    let entries: Vec<Entry> = (0..500u32)
        .flat_map(|n| {
            [
                prefix4(n << 20 | 0x0100_0000, 12 + (n % 21) as u8),
                prefix6(u128::from(n) << 90, 40 + (n % 60) as u8),
            ]
        })
        .collect();
    let arena = live.arena().expect("there");
    std::thread::scope(|scope| {
        let (live, arena, entries) = (&live, &arena, &entries);
        let entered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let done = entered.clone();
        scope.spawn(move || {
            for entry in entries {
                live.add(&FREE, &[(*entry, None)]).expect("room");
                done.fetch_add(1, Relaxed);
            }
        });
        while entered.load(std::sync::atomic::Ordering::Acquire) < entries.len() {
            let n = entered.load(std::sync::atomic::Ordering::Acquire);
            for entry in entries.iter().take(n).rev().take(32) {
                assert!(found(arena, *entry, ground.now()), "{entry}");
            }
        }
    });
}

#[test]
fn rules_add_while_the_table_is_made_anew() {
    // A program that adds does what the daemon does, under the same lock.
    let ground = Arc::new(HeapGround::default());
    let live = Live::at(ground.clone(), 0);
    let of = Limits { size: Some(100_000), grows: true };
    live.begin(&of, SetKind::Addresses, &[]).expect("room");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let added: Vec<Entry> = std::thread::scope(|scope| {
        let rules = scope.spawn(|| {
            let mut added = Vec::new();
            for entry in many(20_000) {
                if stop.load(Relaxed) {
                    break;
                }
                let head = ground.head(0);
                let held = lock::take(head.lock(), 250, &|| ground.now());
                // Programs look the arena up anew each time.
                let arena = ground.arena(0).expect("there");
                if memory(&arena).insert(entry, 0, ground.now()) != Entered::NoRoom {
                    added.push(entry);
                }
                drop(held);
            }
            added
        });
        for _ in 0..20 {
            let more: Vec<_> = (0..5_000u32).map(|n| (Entry::Prefix4(n, 32), None)).collect();
            live.add(&of, &more).expect("room");
        }
        stop.store(true, Relaxed);
        rules.join().expect("no panic")
    });
    assert!(added.len() > 10, "{}", added.len());
    let arena = live.arena().expect("there");
    let lost = added.iter().filter(|entry| !found(&arena, **entry, ground.now())).count();
    assert_eq!(lost, 0, "of {}", added.len());
}

#[test]
fn half_full_or_refused_gets_more_room() {
    let (ground, live) = set(SetKind::Addresses);
    // A table whose secret is known, so that all of them find a slot.
    let arena = make(1).expect("made");
    let shape = plan(SetKind::Addresses, Counts::default()).expect("fits");
    Memory::lay(arena.words(), &shape, 7);
    ground.publish(5, &arena).expect("found");
    let n = shape.slots4 / 2 + 1;
    let all: Vec<_> = many(n).map(|entry| (entry, None)).collect();
    live.add(&FREE, &all).expect("room");
    let slots = |live: &Live| memory(&live.arena().expect("there")).shape().expect("laid").slots4;
    assert_eq!(slots(&live), shape.slots4, "it didn't need another one yet");
    let counts = live.reap(0).expect("there").0.live;
    assert_eq!(counts, Counts { four: u64::from(n), six: 0 });
    assert!(live.grow(&FREE, Some(counts), false).expect("room"));
    assert!(slots(&live) >= 4 * n, "{} slots for {n}", slots(&live));
    assert!(!live.grow(&FREE, Some(counts), false).expect("room"));
    is_filled(&live, n);
    let full = Limits { size: Some(n), grows: true };
    assert!(!live.grow(&full, Some(counts), true).expect("fine"), "no more are allowed");
}

#[test]
fn a_set_that_rules_add_to_has_room_from_the_beginning() {
    let ground = Arc::new(HeapGround::default());
    let live = Live::at(ground, 0);
    live.begin(&Limits { size: None, grows: true }, SetKind::Addresses, &[]).expect("room");
    let shape = memory(&live.arena().expect("there")).shape().expect("laid");
    assert!(shape.slots4 >= 2 * super::SIZE, "{shape:?}");
    assert_eq!(live.head().most, u64::from(super::SIZE));
    let words = SET_ARENAS[shape.class as usize - 1];
    assert_eq!(live.arena().expect("there").words().len(), words);
    let arena = live.arena().expect("there");
    assert_eq!(arena.words()[shape::COUNT as usize].load(Relaxed), 0);
}
