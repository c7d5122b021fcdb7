//! The walks on tables in ordinary memory, with a kernel's part played by the test.

use super::{
    entry::{Entry, FlowEntry},
    ports::Suspects,
    reading::Gaps,
    *,
};
use firewall_common::{
    abi::{
        bucket::{
            SLOTS, first, second,
            tag::{self, CLAIMED, DEAD, HALF, LIVE, SWEPT},
        },
        flow::{Flow, Key4, Key6, bits},
        nat::{
            ALIAS_ENDPOINT, ALIAS_INNER, ALIAS_ORIG_IS_A, NAT_HOSTS, NatTotals, Ports, endpoint_key,
        },
        source::SOURCES,
        table::{TIMEOUTS, Timeout},
    },
    flow::hash::source4,
};
use std::{
    cell::Cell,
    io,
    mem::offset_of,
    sync::{Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

const BUCKETS: usize = 16;
const SEED: u64 = 0x5eed;
const ROW: usize = size_of::<NatTotals>() / 8;
const INSIDE: [u8; 4] = [10, 0, 0, 1];
const FAR: [u8; 4] = [198, 51, 100, 2];
const PUBLIC: [u8; 4] = [203, 0, 113, 5];

struct Memory {
    tags: [Vec<AtomicU64>; 3],
    records: [Vec<AtomicU64>; 3],
    ports: Vec<AtomicU64>,
    rules: Vec<AtomicU64>,
    hosts: Vec<AtomicU64>,
    sources: Vec<AtomicU64>,
}

fn words(n: usize) -> Vec<AtomicU64> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

impl Memory {
    fn new() -> Self {
        let slots = BUCKETS * SLOTS;
        Self {
            tags: [(); 3].map(|()| words(slots)),
            records: [128, 152, 32].map(|size| words(slots * size / 8)),
            ports: words(6 * size_of::<Ports>() / 8),
            rules: words(4096 * ROW),
            hosts: words((NAT_HOSTS + 1) * ROW),
            sources: words(SOURCES),
        }
    }

    fn tables(&self) -> View<'_> {
        View {
            v4: Table::new(&self.tags[0], &self.records[0]),
            v6: Table::new(&self.tags[1], &self.records[1]),
            aliases: Table::new(&self.tags[2], &self.records[2]),
            ports: &self.ports,
            rules: &self.rules,
            hosts: &self.hosts,
            sources: &self.sources,
            seed: SEED,
        }
    }

    /// Enters a record as a program does; returns its slot.
    fn enter<R: Entry>(&self, which: usize, record: &R, state: u64) -> usize {
        let hash = record.hash(SEED);
        let one = first(hash, BUCKETS as u32);
        let two = second(hash, one, BUCKETS as u32);
        let slot = [one, two]
            .iter()
            .flat_map(|b| (0..SLOTS).map(move |i| *b as usize * SLOTS + i))
            .find(|slot| self.tags[which][*slot].load(Relaxed) == 0)
            .expect("room");
        self.write(which, slot, record);
        self.tags[which][slot].store(tag::new(state, 7, hash), Relaxed);
        slot
    }

    fn write<R: Entry>(&self, which: usize, slot: usize, record: &R) {
        let size = size_of::<R>() / 8;
        let bytes = bytemuck::bytes_of(record).chunks_exact(8);
        for (to, from) in self.records[which][slot * size..].iter().zip(bytes) {
            to.store(u64::from_ne_bytes(from.try_into().expect("eight")), Relaxed);
        }
    }

    fn tag(&self, which: usize, slot: usize) -> u64 {
        self.tags[which][slot].load(Relaxed)
    }
}

fn key(a: ([u8; 4], u16), b: ([u8; 4], u16)) -> (Key4, bool) {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    let (pa, pb) = (low.1.to_be_bytes(), high.1.to_be_bytes());
    let key = Key4 { a: low.0, b: high.0, a_port: pa, b_port: pb, proto: 17, ..Key4::default() };
    (key, a <= b)
}

/// A datagram flow from inside.
fn flow(sport: u16, last: u32, more_bits: u64) -> Flow4 {
    let (key, orig_is_a) = key((INSIDE, sport), (FAR, 53));
    let orientation = if orig_is_a { bits::ORIG_IS_A } else { 0 };
    let flow = Flow {
        id: u64::from(sport),
        packets: 2,
        bytes: 100,
        reply_packets: 1,
        reply_bytes: 50,
        last,
        bits: orientation | more_bits,
        ..Flow::default()
    };
    Flow4 { flow, key }
}

fn timeouts(ticks: u32) -> [u32; TIMEOUTS] {
    let mut all = [u32::MAX; TIMEOUTS];
    all[Timeout::UdpNew as usize] = ticks;
    all
}

fn no_grace() -> io::Result<()> {
    panic!("nothing to wait for")
}

#[test]
fn only_live_records_are_seen_the_right_way_round() {
    let memory = Memory::new();
    memory.enter(0, &flow(9, 100, 0), LIVE | HALF);
    memory.enter(0, &flow(10, 100, 0), CLAIMED);
    memory.enter(0, &flow(11, 100, 0), DEAD);
    let six = Key6 { a: [1; 16], b: [2; 16], b_port: [0, 9], proto: 6, ..Key6::default() };
    memory.enter(1, &Flow6 { flow: Flow { last: 50, ..Flow::default() }, key: six }, LIVE);
    let tables = memory.tables();
    let found = tables.flows(Which::All, 100);
    let ends: Vec<_> = found.iter().map(|f| (f.family, f.src[0], f.sport, f.dport)).collect();
    assert_eq!(ends, [(4, 10, 9, 53), (6, 2, 9, 0)]);
    // Another CPU's clock may be ahead of ours.
    let count = |which, now| tables.flows(which, now).len();
    assert_eq!(count(Which::Since(60), 99), 1);
    assert_eq!(count(Which::Since(50), 99), 2);
    assert_eq!(count(Which::Since(101), 150), 0);
}

#[test]
fn idle_flows_go_with_what_they_counted_until_the_grace_period() {
    let memory = Memory::new();
    let busy = memory.enter(0, &flow(1, 95, 0), LIVE);
    let idle = memory.enter(0, &flow(2, 10, bits::SOURCE_COUNTED), LIVE | HALF);
    let source = &memory.sources[source4(INSIDE, SEED)];
    source.store(2, Relaxed);
    let tables = memory.tables();
    let waited = Cell::new(0);
    let grace = || {
        waited.set(waited.get() + 1);
        assert_eq!(tables.flows(Which::All, 100).len(), 1, "nobody finds it any more");
        assert!(!tag::vacant(memory.tag(0, idle), 1000), "and nobody takes its place yet");
        // A program that had found it counts its packet now.
        memory.records[0][idle * 16].fetch_add(5, Relaxed);
        Ok(())
    };
    let swept = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 100, grace);
    let swept = swept.expect("no trouble");
    let ended: Vec<_> = swept.ended.iter().map(|f| (f.sport, f.flow.packets)).collect();
    assert_eq!((ended, swept.live, waited.get()), (vec![(2, 7)], 1, 1));
    assert_eq!(source.load(Relaxed), 1);
    assert_ne!(memory.tag(0, busy) & LIVE, 0);
    assert_ne!(memory.tag(0, idle) & DEAD, 0);
    assert!(!tag::vacant(memory.tag(0, idle), 101) && tag::vacant(memory.tag(0, idle), 103));
    let again = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 100, no_grace);
    assert!(again.expect("no trouble").ended.is_empty());
}

#[test]
fn parts_make_up_the_whole() {
    let memory = Memory::new();
    for port in 0..40 {
        memory.enter(0, &flow(port, 10, 0), LIVE);
    }
    let tables = memory.tables();
    let mut seen = 0;
    for part in 0..7 {
        let part = Part { part, parts: 7 };
        let swept = tables.take_out(Going::Idle(&timeouts(30)), part, 100, || Ok(()));
        let swept = swept.expect("no trouble");
        assert!(swept.ended.len() < 40);
        seen += swept.ended.len();
    }
    assert_eq!(seen, 40);
}

#[test]
fn a_packet_at_the_last_moment_saves_a_flow_unless_it_was_begun_anew() {
    // The packet comes between the look and the claim: a walk whose predicate writes the record stands
    // in for the other CPU.
    for begun_anew in [false, true] {
        let memory = Memory::new();
        let record = flow(3, 10, 0);
        let slot = memory.enter(0, &record, LIVE);
        let table = memory.tables().v4;
        let (seen, old) = table.live(slot).expect("live");
        let ours = table.claim(slot, seen, 100).expect("ours");
        memory.write(0, slot, &flow(3, 99, 0));
        if begun_anew {
            memory.enter(0, &record, LIVE | HALF);
        }
        assert_ne!(table.last(slot), old.flow().last);
        assert_eq!(table.has_twin(&old, slot, SEED), begun_anew);
        assert!(table.swap(slot, ours, seen));
        assert!(table.live(slot).is_some());
    }
}

#[test]
fn what_a_dead_daemon_had_claimed_is_ended_by_the_next() {
    let memory = Memory::new();
    let slot = memory.enter(0, &flow(4, 99, 0), CLAIMED | SWEPT);
    // A program's own claim is left alone.
    let theirs = memory.enter(0, &flow(5, 99, 0), CLAIMED);
    let tables = memory.tables();
    let failed = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 100, || {
        Err(io::Error::other("no grace"))
    });
    assert!(failed.is_err());
    let swept = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 100, || Ok(()));
    let ended: Vec<_> = swept.expect("no trouble").ended.iter().map(|f| f.sport).collect();
    assert_eq!(ended, [4]);
    assert_ne!(memory.tag(0, slot) & DEAD, 0);
    assert_eq!(memory.tag(0, theirs) >> 60, CLAIMED >> 60);
}

#[test]
fn a_chosen_flow_goes_though_it_is_busy() {
    let memory = Memory::new();
    for port in [1, 2, 3] {
        memory.enter(0, &flow(port, 100, 0), LIVE);
    }
    let tables = memory.tables();
    let mut choose = |f: &crate::monitor::FlowRecord| f.sport == 2;
    let swept = tables.take_out(Going::Chosen(&mut choose), Part::WHOLE, 100, || Ok(()));
    let swept = swept.expect("no trouble");
    assert_eq!(swept.ended.iter().map(|f| f.sport).collect::<Vec<_>>(), [2]);
    assert_eq!((swept.live, tables.flows(Which::All, 100).len()), (2, 2));
}

/// Gives the flow in `slot` a public source port, and with `inner` another destination too.
fn translate(memory: &Memory, slot: usize, sport: u16, port: u16, inner: bool) -> (usize, usize) {
    let mut record = memory.tables().v4.record(slot);
    let alias = |from: ([u8; 4], u16), flags: u16, inner: u32| {
        let (key, orig_is_a) = key(from, (FAR, 53));
        let flags = flags | if orig_is_a { ALIAS_ORIG_IS_A } else { 0 };
        let pool = if flags & ALIAS_INNER == 0 { 2 } else { 0 };
        let rule = if flags & ALIAS_INNER == 0 { 20 } else { 21 };
        Alias4 { key, flow: slot as u32, rule, pool, flags, inner }
    };
    let inner = if inner {
        memory.enter(2, &alias((INSIDE, sport), ALIAS_INNER, 0), LIVE) as u32 + 1
    } else {
        0
    };
    let outer = memory.enter(2, &alias((PUBLIC, port), 0, inner), LIVE);
    record.flow.nat = outer as u32 + 1;
    record.flow.bits |= bits::NAT_SOURCE;
    memory.write(0, slot, &record);
    (outer, inner.wrapping_sub(1) as usize)
}

#[test]
fn a_translated_flow_shows_its_tuple_and_leaves_its_totals() {
    let memory = Memory::new();
    let slot = memory.enter(0, &flow(1000, 10, 0), LIVE);
    let (outer, inner) = translate(&memory, slot, 1000, 40_000, true);
    let tables = memory.tables();
    let nat = tables.flows(Which::All, 100)[0].nat.expect("translated");
    assert_eq!((nat.src, nat.sport, nat.dst, nat.dport, nat.rule), (PUBLIC, 40_000, FAR, 53, 20));
    let swept = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 100, || Ok(()));
    assert_eq!(swept.expect("no trouble").ended[0].nat.map(|nat| nat.sport), Some(40_000));
    for alias in [outer, inner] {
        assert_ne!(memory.tag(2, alias) & DEAD, 0);
    }
    let host = totals::host_row(&memory.hosts, INSIDE, SEED).expect("a row");
    // Both rules, and the hosts at both ends.
    let behind = totals::host_row(&memory.hosts, FAR, SEED).expect("a row");
    let rules = [&memory.rules[20 * ROW..21 * ROW], &memory.rules[21 * ROW..22 * ROW]];
    for row in [rules[0], rules[1], host, behind] {
        let row: Vec<u64> = row[1..].iter().map(|n| n.load(Relaxed)).collect();
        assert_eq!(row, [0, 1, 0, 2, 100, 1, 50]);
    }
    assert_eq!(host[0].load(Relaxed), 1 << 32 | u64::from(u32::from_be_bytes(INSIDE)));
}

#[test]
fn one_rule_or_host_at_both_ends_has_a_flow_once() {
    let memory = Memory::new();
    let slot = memory.enter(0, &flow(1000, 10, 0), LIVE);
    let (outer, _) = translate(&memory, slot, 1000, 40_000, true);
    // A host that calls itself by its public address, by one rule.
    let (key, orig_is_a) = key((PUBLIC, 40_000), (INSIDE, 53));
    let mut alias = memory.tables().aliases.record(outer);
    let side = if orig_is_a { ALIAS_ORIG_IS_A } else { 0 };
    (alias.key, alias.rule, alias.flags) = (key, 21, alias.flags & !ALIAS_ORIG_IS_A | side);
    memory.write(2, outer, &alias);
    let tables = memory.tables();
    let live = tables.nat_reading(&mut Gaps::default(), || ()).0;
    let carried = |sum: &crate::monitor::NatSum| (sum.live, sum.account.totals);
    let live_rows = [
        live.rules.iter().find(|(slot, _)| *slot == 21).map(|(_, sum)| carried(sum)),
        live.hosts.iter().map(|(_, sum)| carried(sum)).next(),
    ];
    assert_eq!(live_rows, [Some((2, [2, 100, 1, 50])); 2]);
    let swept = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 100, || Ok(()));
    assert_eq!(swept.expect("no trouble").ended.len(), 1);
    let host = totals::host_row(&memory.hosts, INSIDE, SEED).expect("a row");
    for row in [&memory.rules[21 * ROW..22 * ROW], host] {
        let row: Vec<u64> = row[1..].iter().map(|n| n.load(Relaxed)).collect();
        assert_eq!(row, [0, 2, 0, 2, 100, 1, 50]);
    }
}

#[test]
fn hosts_without_a_row_share_the_last() {
    let memory = Memory::new();
    for row in 0..NAT_HOSTS {
        memory.hosts[row * ROW].store(u64::MAX, Relaxed);
    }
    let row = totals::host_row(&memory.hosts, INSIDE, SEED).expect("a row");
    assert!(std::ptr::eq(row, &raw const memory.hosts[NAT_HOSTS * ROW..]));
}

#[test]
fn ports_are_counted_anew_and_what_came_meanwhile_stays() {
    let memory = Memory::new();
    let entry = size_of::<Ports>() / 8;
    let at = |offset: usize| &memory.ports[entry + offset / 8];
    at(offset_of!(Ports, made)).store(3, Relaxed);
    for (port, sport) in [(40_000, 1), (40_001, 2), (40_001, 3)] {
        let slot = memory.enter(0, &flow(sport, 10, 0), LIVE);
        translate(&memory, slot, sport, port, false);
    }
    // A port that nobody uses any more, in a word called full; one that a program forgot to mark.
    let stale = &memory.ports[entry + 3];
    stale.store(u64::MAX, Relaxed);
    at(offset_of!(Ports, full)).store(1 << 3, Relaxed);
    at(offset_of!(Ports, shared)).store(9, Relaxed);
    memory.tables().count_ports(&mut Suspects::new(), 100);
    assert_eq!(stale.load(Relaxed), 0);
    assert_eq!(at(offset_of!(Ports, full)).load(Relaxed), 0);
    assert_eq!(memory.ports[entry + 40_000 / 64].load(Relaxed), 0b11, "40,000 is a word's first");
    let figures = [offset_of!(Ports, shared), offset_of!(Ports, in_use), offset_of!(Ports, peak)];
    assert_eq!(figures.map(|offset| at(offset).load(Relaxed)), [1, 2, 2]);
    assert!(memory.ports[..entry].iter().all(|word| word.load(Relaxed) == 0));
    // All gone: so are the ports, but not the peak.
    let tables = memory.tables();
    let all = Going::Chosen(&mut |_| true);
    tables.take_out(all, Part::WHOLE, 100, || Ok(())).expect("no trouble");
    tables.count_ports(&mut Suspects::new(), 100);
    assert_eq!(figures.map(|offset| at(offset).load(Relaxed)), [0, 0, 2]);
    assert_eq!(memory.ports[entry + 40_000 / 64].load(Relaxed), 0);
}

#[test]
fn an_alias_without_a_flow_goes_at_the_second_look() {
    let memory = Memory::new();
    let slot = memory.enter(0, &flow(1, 10, 0), LIVE);
    let (kept, inner) = translate(&memory, slot, 1, 40_000, true);
    let (key, _) = key((PUBLIC, 5), (FAR, 53));
    let stray = memory.enter(2, &Alias4 { key, flow: 3, ..Alias4::default() }, LIVE);
    let mut suspects = Suspects::new();
    let tables = memory.tables();
    tables.count_ports(&mut suspects, 100);
    assert_ne!(memory.tag(2, stray) & LIVE, 0);
    tables.count_ports(&mut suspects, 101);
    assert_eq!(memory.tag(2, stray) & LIVE, 0);
    assert_ne!(memory.tag(2, kept) & memory.tag(2, inner) & LIVE, 0);
    assert!(suspects.is_empty());
}

#[test]
fn an_endpoint_keeps_its_port_until_nobody_used_it_for_two_looks() {
    let memory = Memory::new();
    let entry = size_of::<Ports>() / 8;
    memory.ports[entry + offset_of!(Ports, made) / 8].store(1, Relaxed);
    let slot = memory.enter(0, &flow(1, 10, 0), LIVE);
    translate(&memory, slot, 1, 40_000, false);
    let key = endpoint_key(INSIDE, 1u16.to_be_bytes(), 17, 20);
    let to = u32::from_ne_bytes(PUBLIC);
    let record = Alias4 { key, flow: to, rule: 20, pool: 2, flags: ALIAS_ENDPOINT, inner: 40_000 };
    let endpoint = memory.enter(2, &record, LIVE);
    let mut suspects = Suspects::new();
    let tables = memory.tables();
    let used = |memory: &Memory| memory.ports[entry + 40_000 / 64].load(Relaxed);
    for now in 100..103 {
        tables.count_ports(&mut suspects, now);
        assert!(suspects.is_empty() && used(&memory) == 1);
    }
    let all = Going::Chosen(&mut |_| true);
    tables.take_out(all, Part::WHOLE, 103, || Ok(())).expect("no trouble");
    tables.count_ports(&mut suspects, 104);
    assert_eq!((suspects.len(), used(&memory)), (1, 1), "its flow is gone, its port isn't yet");
    // A program uses it at the last moment: that shows in its tag.
    let touched = (memory.tag(2, endpoint) & !(0xffff << 32)) | 104 << 32;
    memory.tags[2][endpoint].store(touched, Relaxed);
    tables.count_ports(&mut suspects, 105);
    assert_ne!(memory.tag(2, endpoint) & LIVE, 0);
    tables.count_ports(&mut suspects, 106);
    assert_eq!(memory.tag(2, endpoint) & LIVE, 0);
    tables.count_ports(&mut suspects, 107);
    assert_eq!(used(&memory), 0);
}

/// Ends a flow as a program does: takes it out, keeps its totals, takes its alias out. `held_up` between
/// the first and the second.
fn end_as_a_program(memory: &Memory, slot: usize, held_up: impl Fn()) {
    let tables = memory.tables();
    let record = tables.v4.record(slot);
    let outer = record.flow.nat as usize - 1;
    assert!(tables.v4.remove(slot, 100));
    held_up();
    tables.let_go(&record.flow, INSIDE, &tables.aliases.record(outer), 100);
}

/// A flow with a public port whose mapping is counted as begun.
fn begin(memory: &Memory, sport: u16) -> usize {
    let slot = memory.enter(0, &flow(sport, 99, 0), LIVE);
    translate(memory, slot, sport, 40_000 + sport, false);
    let host = totals::host_row(&memory.hosts, INSIDE, SEED).expect("a row");
    for row in [&memory.rules[20 * ROW..21 * ROW], host] {
        row[offset_of!(NatTotals, mappings) / 8].fetch_add(1, Relaxed);
    }
    slot
}

#[test]
fn accounts_have_the_live_flows_too() {
    let memory = Memory::new();
    let slots: Vec<usize> = (0..3).map(|sport| begin(&memory, sport)).collect();
    end_as_a_program(&memory, slots[0], || ());
    // What a daemon had claimed when it died hasn't left its totals anywhere.
    let (seen, _) = memory.tables().v4.live(slots[1]).expect("live");
    memory.tables().v4.claim(slots[1], seen, 100).expect("ours");
    let (reading, quiet) = memory.tables().nat_reading(&mut Gaps::default(), || panic!("no gap"));
    assert!(quiet);
    let [(20, rule)] = reading.rules[..] else { panic!("{reading:?}") };
    let [(Some(INSIDE), host)] = reading.hosts[..] else { panic!("{reading:?}") };
    assert_eq!(rule, host);
    assert_eq!((rule.live, rule.account.mappings, rule.account.ended), (2, 3, 1));
    assert_eq!(rule.account.totals, [6, 300, 3, 150]);
    let mut shown = 0;
    memory.tables().translated_flows(0, 1, &mut |flow| {
        assert_eq!(flow.nat.map(|nat| nat.src), Some(PUBLIC));
        shown += 1;
    });
    assert_eq!(shown, 2);
}

#[test]
fn a_flow_that_is_translated_at_both_ends_counts_for_both() {
    let memory = Memory::new();
    let slot = memory.enter(0, &flow(1, 99, 0), LIVE);
    translate(&memory, slot, 1, 40_001, true);
    for host in [INSIDE, FAR] {
        let row = totals::host_row(&memory.hosts, host, SEED).expect("a row");
        row[offset_of!(NatTotals, mappings) / 8].fetch_add(1, Relaxed);
    }
    for rule in [20, 21] {
        memory.rules[rule * ROW + offset_of!(NatTotals, mappings) / 8].fetch_add(1, Relaxed);
    }
    for ended in [0, 1] {
        let (reading, quiet) =
            memory.tables().nat_reading(&mut Gaps::default(), || panic!("no gap"));
        assert!(quiet);
        let rules: Vec<u32> = reading.rules.iter().map(|(rule, _)| *rule).collect();
        assert_eq!((rules, reading.hosts.len()), (vec![20, 21], 2));
        let sums = reading.rules.iter().map(|(_, sum)| sum);
        for sum in sums.chain(reading.hosts.iter().map(|(_, sum)| sum)) {
            assert_eq!((sum.live, sum.account.ended), (1 - ended, ended));
            assert_eq!(sum.account.totals, [2, 100, 1, 50]);
        }
        let tables = memory.tables();
        let swept = tables.take_out(Going::Idle(&timeouts(30)), Part::WHOLE, 1000, || Ok(()));
        assert_eq!(swept.expect("no trouble").ended.len(), usize::from(ended == 0));
    }
}

#[test]
fn a_flow_that_ends_while_accounts_are_read_is_in_them_once() {
    const FLOWS: u16 = 60;
    for held_up in [0, 2000] {
        let memory = Memory::new();
        let slots: Vec<usize> = (0..FLOWS).map(|sport| begin(&memory, sport)).collect();
        // Held while the program runs: a grace period is over once it could be had.
        let run = Mutex::new(());
        std::thread::scope(|scope| {
            let program = scope.spawn(|| {
                for slot in &slots {
                    let running = run.lock().expect("not poisoned");
                    end_as_a_program(&memory, *slot, || {
                        std::thread::sleep(Duration::from_micros(held_up));
                    });
                    drop(running);
                    // Ends come now and then: quiet readings are possible.
                    std::thread::sleep(Duration::from_millis(15));
                }
            });
            let (mut known, mut readings, mut waited) = (Gaps::default(), 0, 0);
            while !program.is_finished() {
                let (reading, quiet) = memory.tables().nat_reading(&mut known, || {
                    waited += 1;
                    drop(run.lock());
                });
                if !quiet {
                    continue;
                }
                for sum in [reading.rules[0].1, reading.hosts[0].1] {
                    assert_eq!(
                        (sum.account.totals[0], sum.live + sum.account.ended),
                        (u64::from(FLOWS) * 2, u64::from(FLOWS)),
                        "held up {held_up} us, after {readings} readings: {sum:?}"
                    );
                }
                readings += 1;
            }
            assert!(readings > 20 && waited > 3, "quiet: {readings}, waited: {waited}");
        });
    }
}

#[test]
fn a_gap_that_stays_is_waited_for_once() {
    let memory = Memory::new();
    begin(&memory, 1);
    // Begun under another rule, too.
    memory.rules[30 * ROW + offset_of!(NatTotals, mappings) / 8].store(1, Relaxed);
    let (mut known, waited) = (Gaps::default(), Cell::new(0));
    for _ in 0..3 {
        let grace = || waited.set(waited.get() + 1);
        let (reading, quiet) = memory.tables().nat_reading(&mut known, grace);
        assert!(quiet);
        assert_eq!(reading.rules[0].1.account.totals, [2, 100, 1, 50]);
        assert_eq!((reading.rules[1].1.live, waited.get()), (0, 1));
    }
}
