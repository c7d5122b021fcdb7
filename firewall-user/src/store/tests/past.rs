//! What has ended: rows, conditions, and sums of them.

use super::*;
use crate::store::{
    Column, Condition, Deed, Dim, Minutes, Past, PastFlow, PastSocket, RuleMinute, Span, Sums,
    VerdictMinute, Wanted,
};

const HOUR: i64 = 3_600_000;
const ALL: Span = Span { since_ms: 0, until_ms: i64::MAX };

fn socket(n: u64, end_ms: i64) -> PastSocket {
    PastSocket {
        end_ms,
        cookie: n,
        family: 4,
        proto: if n.is_multiple_of(4) { "udp" } else { "tcp" }.into(),
        state: "closed".into(),
        local: Some(ip("10.0.0.1")),
        local_port: 40_000 + n as u16,
        remote: (!n.is_multiple_of(7)).then(|| ip(&format!("192.0.2.{}", n % 5))),
        remote_port: if n.is_multiple_of(7) { 0 } else { 443 },
        pid: Some(n as u32),
        comm: (!n.is_multiple_of(3)).then(|| format!("process-{}", n % 4)),
        user: Some("root".into()),
        confidence: "stamped".into(),
        created_ms: Some(end_ms - 5),
        sent_bytes: n,
        received_bytes: 10 * n,
        sends: 1,
        segments_out: 2,
        ended: "closed".into(),
        flow: Some(n << 40),
        rule: n.is_multiple_of(2).then(|| "web".into()),
        name: n.is_multiple_of(3).then(|| format!("host-{}.example", n % 2)),
        name_source: n.is_multiple_of(3).then(|| "sni".into()),
        ..PastSocket::default()
    }
}

fn flow(n: u64, end_ms: i64) -> PastFlow {
    PastFlow {
        end_ms,
        id: n,
        family: 4,
        proto: 6,
        src: Some(ip("10.0.0.1")),
        sport: n as u16,
        dst: Some(ip("2001:db8::1")),
        dport: 443,
        state: "established".into(),
        direction: "forward".into(),
        in_iface: Some("wan0".into()),
        verdict: "allow".into(),
        rule: "web".into(),
        first_ms: Some(end_ms - 9),
        ended: "closed".into(),
        packets: 1,
        bytes: n,
        ..PastFlow::default()
    }
}

fn sockets(history: &History, span: Span, condition: Option<&Condition>) -> Vec<PastSocket> {
    let mut rows = Vec::new();
    let mut take = |row| {
        rows.push(row);
        true
    };
    history.sockets(span, condition, &mut take).expect("an answer");
    rows
}

fn ids(history: &History, span: Span, condition: &Condition) -> Vec<u64> {
    sockets(history, span, Some(condition)).iter().map(|row| row.cookie).collect()
}

#[test]
fn what_was_written_comes_back_latest_first() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    // Some in the same millisecond, and one that was told of late.
    let all: Vec<PastSocket> =
        [(1, 5), (2, 5), (3, 5), (4, 9), (5, 7)].map(|(n, end)| socket(n, end)).into();
    history.sockets_ended(all.clone());
    history.flows_ended(vec![flow(1, 3), flow(2, 4)]);
    assert!(history.settle(SOON));
    let mut want = vec![all[3].clone(), all[4].clone()];
    want.extend(all[..3].iter().rev().cloned());
    assert_eq!(sockets(&history, ALL, None), want);
    assert_eq!(sockets(&history, Span { since_ms: 6, until_ms: 7 }, None), [all[4].clone()]);
    let mut flows = Vec::new();
    let mut first = |row| {
        flows.push(row);
        false
    };
    history.flows(ALL, None, &mut first).expect("an answer");
    assert_eq!(flows, [flow(2, 4)], "no more than were wanted");
    assert_eq!((history.stats().written, history.stats().lost), (7, 0));
    // A new daemon goes on where the last one was.
    drop(history);
    let history = dir.open(ageless());
    history.sockets_ended(vec![socket(6, 5)]);
    assert!(history.settle(SOON));
    assert_eq!(sockets(&history, ALL, None).len(), 6);
}

#[test]
fn conditions_are_met_by_what_they_say() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let all: Vec<PastSocket> = (1..=60).map(|n| socket(n, n as i64)).collect();
    history.sockets_ended(all.clone());
    assert!(history.settle(SOON));
    let word = |column, text: &str| {
        Condition::Is(Column::words(column), vec![Wanted::Word(text.to_owned())])
    };
    let check = |condition: Condition, matches: &dyn Fn(&PastSocket) -> bool| {
        let want: Vec<u64> =
            all.iter().rev().filter(|row| matches(row)).map(|row| row.cookie).collect();
        assert_eq!(ids(&history, ALL, &condition), want, "{condition:?}");
    };
    check(word("comm", "process-2"), &|row| row.comm.as_deref() == Some("process-2"));
    check(word("comm", "never seen"), &|_| false);
    // What isn't known isn't something else: `!=` is met.
    check(Condition::Not(Box::new(word("comm", "process-2"))), &|row| {
        row.comm.as_deref() != Some("process-2")
    });
    check(Condition::Not(Box::new(word("comm", "never seen"))), &|_| true);
    let numbers =
        |from, to| Condition::Is(Column::plain("sent_bytes"), vec![Wanted::Numbers(from, to)]);
    check(numbers(10, 12), &|row| (10..=12).contains(&row.sent_bytes));
    check(numbers(58, u64::MAX), &|row| row.sent_bytes >= 58);
    check(numbers(1, 0), &|_| false);
    let addresses = |from: &str, to: &str| {
        Condition::Is(Column::plain("remote").hourly(), vec![Wanted::Addresses(ip(from), ip(to))])
    };
    check(addresses("192.0.2.3", "192.0.2.3"), &|row| row.remote == Some(ip("192.0.2.3")));
    check(addresses("0.0.0.0", "192.0.2.1"), &|row| {
        row.remote.is_some_and(|remote| remote <= ip("192.0.2.1"))
    });
    check(addresses("::", "ffff::"), &|_| false);
    check(
        Condition::All(vec![
            Condition::Any(vec![word("rule", "web"), numbers(1, 5)]),
            addresses("192.0.2.0", "192.0.2.2"),
        ]),
        &|row| {
            (row.rule.is_some() || row.sent_bytes <= 5)
                && row.remote.is_some_and(|remote| remote <= ip("192.0.2.2"))
        },
    );
    check(Condition::All(vec![]), &|_| true);
    check(Condition::Any(vec![]), &|_| false);
}

#[test]
fn an_index_by_hour_finds_what_a_walk_finds() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    history
        .sockets_ended((0..300).map(|n| socket(n, 1_000 * HOUR + n as i64 * HOUR / 50)).collect());
    assert!(history.settle(SOON));
    let remote = |column, to: &str| {
        let wanted = vec![
            Wanted::Addresses(ip("192.0.2.1"), ip("192.0.2.1")),
            Wanted::Addresses(ip("192.0.2.3"), ip(to)),
        ];
        Condition::Is(column, wanted)
    };
    let plain = Column::plain("remote");
    for span in [
        ALL,
        Span { since_ms: 1_001 * HOUR + 5, until_ms: 1_003 * HOUR + HOUR / 2 },
        Span { since_ms: 1_002 * HOUR + 5, until_ms: 1_002 * HOUR + 10 },
        Span { since_ms: 2_000 * HOUR, until_ms: i64::MAX },
    ] {
        // Few addresses, and so many that the index isn't asked.
        for to in ["192.0.2.4", "222.0.0.0"] {
            let (walk, index) = (remote(plain, to), remote(plain.hourly(), to));
            assert_eq!(ids(&history, span, &index), ids(&history, span, &walk), "{span:?}");
            let sums = |condition| {
                let dim = Dim::SocketProtocol;
                let mut all =
                    history.sums(Past::Sockets, span, Some(condition), dim).expect("sums");
                all.sort_by(|a, b| a.0.cmp(&b.0));
                all
            };
            assert_eq!(sums(&index), sums(&walk), "{span:?}");
        }
    }
    let want = (0..300).filter(|n| n % 7 != 0 && matches!(n % 5, 1 | 3)).count();
    assert_eq!(ids(&history, ALL, &remote(plain.hourly(), "192.0.2.3")).len(), want);
}

#[test]
fn sums_by_hour_and_row_by_row_are_the_same() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    // Over twenty hours, in several transactions.
    let all: Vec<PastSocket> =
        (0..600).map(|n| socket(n, 1_000 * HOUR + n as i64 * HOUR / 30)).collect();
    for part in all.chunks(70) {
        history.sockets_ended(part.to_vec());
        assert!(history.settle(SOON));
    }
    let every = Condition::All(vec![]);
    for dim in [
        Dim::Process,
        Dim::User,
        Dim::Host,
        Dim::Unit,
        Dim::SocketRule,
        Dim::SocketProtocol,
        Dim::SocketMinute,
        Dim::RemotePort,
    ] {
        for (since_ms, until_ms) in [
            (0, i64::MAX),
            (1_001 * HOUR, 1_004 * HOUR - 1),
            (1_000 * HOUR + 77_777, 1_003 * HOUR + 99_999),
            (1_002 * HOUR + 5, 1_002 * HOUR + 500_000),
            (1_001 * HOUR, 1_015 * HOUR),
            (1_003 * HOUR + 77, 1_014 * HOUR - 1),
            (1_008 * HOUR, i64::MAX),
            (1_030 * HOUR, 1_040 * HOUR),
        ] {
            let span = Span { since_ms, until_ms };
            let sums = |condition| {
                let mut sums =
                    history.sums(Past::Sockets, span, condition, dim).expect("an answer");
                sums.sort_by(|a, b| a.0.cmp(&b.0));
                sums
            };
            let kept = sums(None);
            assert_eq!(kept, sums(Some(&every)), "{dim:?} {span:?}");
            let rows = all.iter().filter(|row| (since_ms..=until_ms).contains(&row.end_ms));
            let mut want = (0, 0);
            rows.for_each(|row| want = (want.0 + 1, want.1 + row.received_bytes));
            let mut total = Sums::default();
            kept.iter().for_each(|(_, sums)| total.add(sums));
            assert_eq!((total.count, total.reply_bytes), want, "{dim:?} {span:?}");
        }
    }
    let hosts = history.sums(Past::Sockets, ALL, None, Dim::Host).expect("an answer");
    let mut keys: Vec<&str> = hosts.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["*", "192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
}

#[test]
fn parts_of_a_minute_add_up_and_deeds_are_kept() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let part = |packets| Minutes {
        verdicts: vec![VerdictMinute {
            minute: 7,
            verdict: "drop".into(),
            reason: "rule".into(),
            packets,
            bytes: 100 * packets,
        }],
        rules: vec![RuleMinute {
            minute: 7,
            rule: "web".into(),
            action: "drop".into(),
            hits: 1,
            packets,
            bytes: 90 * packets,
        }],
    };
    history.counted(part(3));
    history.counted(part(4));
    let deed = Deed {
        at_ms: 5,
        who: "user root".into(),
        verb: "flows.kill".into(),
        detail: "proto=tcp: 3".into(),
        outcome: "done".into(),
    };
    history.done(deed.clone());
    assert!(history.settle(SOON));
    let (mut verdicts, mut rules, mut deeds) = (Vec::new(), Vec::new(), Vec::new());
    let span = Span { since_ms: 7 * 60_000 + 5, until_ms: 7 * 60_000 + 9 };
    history
        .verdict_minutes(span, &mut |row| {
            verdicts.push(row);
            true
        })
        .expect("an answer");
    history
        .rule_minutes(span, &mut |row| {
            rules.push(row);
            true
        })
        .expect("an answer");
    history
        .deeds(ALL, &mut |row| {
            deeds.push(row);
            true
        })
        .expect("an answer");
    assert_eq!(verdicts, part(7).verdicts);
    assert_eq!(rules, [RuleMinute { hits: 2, ..part(7).rules[0].clone() }]);
    assert_eq!(deeds, [deed]);
}

#[test]
fn a_full_queue_is_counted_by_records() {
    let dir = Dir::new();
    // A place that can't be written to: nothing leaves the queue.
    let place = dir.0.join("place");
    std::fs::write(&place, "a file where a directory should be").expect("written");
    // The writer takes one message, and waits with it.
    let limits = Limits { queue: 100, batch: 60, ..ageless() };
    let history = History::open(&place.join("history.db"), limits).expect("a thread");
    let begun = std::time::Instant::now();
    while history.stats().trouble.is_none() {
        assert!(begun.elapsed() < SOON);
        std::thread::yield_now();
    }
    let ended = |n: u64| (0..n).map(|n| socket(n, 1)).collect::<Vec<_>>();
    // Either the writer has taken them, and waits with them, or they are in the queue.
    history.sockets_ended(ended(60));
    history.sockets_ended(ended(101));
    assert_eq!(history.stats().lost, 101, "no part of it fits");
    for _ in 0..5 {
        history.sockets_ended(ended(60));
    }
    let stats = history.stats();
    assert!(stats.queued <= 100 && stats.lost >= 101 + 3 * 60, "{stats:?}");
    std::fs::remove_file(&place).expect("removed");
    let begun = std::time::Instant::now();
    while history.stats().written + history.stats().lost < 101 + 6 * 60 {
        assert!(begun.elapsed() < SOON, "{:?}", history.stats());
        std::thread::yield_now();
    }
}

#[test]
fn the_past_stays_within_the_files_size_and_says_from_when_on_it_is_whole() {
    let dir = Dir::new();
    let limits = Limits { max_bytes: 2 << 20, patience: Duration::from_millis(5), ..ageless() };
    let history = dir.open(limits);
    // What makes room is of the first part of the time that is held, up to now.
    let first = (now_ms().div_euclid(HOUR) - 40) * HOUR;
    for hour in 0..40 {
        let at = |n: u64| first + hour * HOUR + n as i64 * 1_000;
        history.sockets_ended((0..1_000).map(|n| socket(n, at(n))).collect());
        history.flows_ended((0..1_000).map(|n| flow(n, at(n))).collect());
        assert!(history.settle(SOON));
        let bytes = std::fs::metadata(dir.file()).expect("there").len();
        assert!(bytes <= 2 << 20, "{bytes} bytes after {hour} hours");
    }
    let stats = history.stats();
    assert_eq!((stats.written, stats.lost, stats.errors), (80_000, 0, 0), "{stats:?}");
    assert!(stats.deleted > 0, "{stats:?}");
    let whole = history.since().expect("an answer");
    let rows = sockets(&history, ALL, None);
    assert!(rows.len() > 1_000, "only {} rows are kept", rows.len());
    // From then on every row is there, and the sums say so too.
    let hours = |ms: i64| (ms - first).div_euclid(HOUR);
    let later = rows.iter().filter(|row| row.end_ms > whole.max(first)).count() as i64;
    let of_whole_hours = (39 - hours(whole.max(first))) * 1_000;
    assert!(later >= of_whole_hours, "{later} rows from {} hours on", hours(whole));
    let span = Span { since_ms: first + 39 * HOUR, until_ms: i64::MAX };
    let sums = history.sums(Past::Sockets, span, None, Dim::User).expect("an answer");
    assert_eq!(sums.iter().map(|(_, sums)| sums.count).sum::<u64>(), 1_000);
}

#[test]
fn small_tables_keep_what_they_have_as_long_as_large_ones() {
    let dir = Dir::new();
    let limits = Limits { max_bytes: 2 << 20, patience: Duration::from_millis(5), ..ageless() };
    let history = dir.open(limits);
    // Forty days, a deed on each, and too many sockets for the file.
    let now = now_ms();
    let day = |n: i64| now - (40 - n) * 24 * HOUR;
    for n in 0..40 {
        let deed = Deed { at_ms: day(n), verb: "rule.add".into(), ..Deed::default() };
        history.done(deed);
        history.sockets_ended((0..1_500).map(|i| socket(i, day(n) + i as i64)).collect());
        assert!(history.settle(SOON));
    }
    let mut deeds = Vec::new();
    let mut take = |deed: Deed| {
        deeds.push(deed.at_ms);
        true
    };
    history.deeds(ALL, &mut take).expect("an answer");
    let oldest = sockets(&history, ALL, None).last().map(|row| row.end_ms).expect("rows");
    assert!(history.stats().deleted > 10_000 && oldest > day(5), "{:?}", history.stats());
    let kept = deeds.iter().filter(|at| **at >= oldest + 24 * HOUR).count() as i64;
    assert_eq!(kept, (now - oldest) / (24 * HOUR) - 1, "{deeds:?}, sockets from {oldest} on");
}

#[test]
fn words_that_no_row_has_any_more_are_forgotten() {
    let dir = Dir::new();
    let limits = Limits { max_age_ms: 10 * HOUR as u64, ..ageless() };
    let history = dir.open(limits);
    history.sockets_ended(vec![socket(1, now_ms())]);
    assert!(history.settle(SOON));
    drop(history);
    // As if a word had been written ten days ago, and what had it is gone.
    let file = rusqlite::Connection::open(dir.file()).expect("opened");
    file.execute("INSERT INTO names (name, used) VALUES ('gone', unixepoch() / 86400 - 10)", [])
        .expect("written");
    let words = || -> Vec<String> {
        let mut all = file.prepare("SELECT name FROM names").expect("a table");
        let all = all.query_map([], |row| row.get(0)).expect("rows");
        all.collect::<Result<_, _>>().expect("words")
    };
    assert!(words().contains(&"gone".to_owned()));
    let history = dir.open(limits);
    let begun = std::time::Instant::now();
    while words().contains(&"gone".to_owned()) {
        assert!(begun.elapsed() < SOON, "{:?}", words());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(words().contains(&"process-1".to_owned()));
    assert_eq!(sockets(&history, ALL, None)[0].comm.as_deref(), Some("process-1"));
}

#[test]
fn a_file_from_before_names_has_rows_without_one() {
    let dir = Dir::new();
    let old = rusqlite::Connection::open(dir.file()).expect("made");
    for step in [include_str!("../tables/schema-1.sql"), include_str!("../tables/schema-2.sql")] {
        old.execute_batch(step).expect("the second schema");
    }
    old.execute_batch(
        "PRAGMA user_version = 2; INSERT INTO facts VALUES ('since', 7);
         INSERT INTO names (name) VALUES ('tcp'), ('closed');
         INSERT INTO past_sockets (row, cookie, netns, own_netns, family, proto, state, local_port,
             remote_port, uid, confidence, sent_bytes, received_bytes, sends, receives, segments_out,
             segments_in, retransmits, ended)
         VALUES (5 << 20, 77, 1, 1, 4, 1, 2, 1, 443, 0, 1, 1, 1, 1, 1, 1, 1, 0, 2);",
    )
    .expect("rows of it");
    drop(old);
    let history = dir.open(ageless());
    history.sockets_ended(vec![socket(3, 9)]);
    assert!(history.settle(SOON));
    let rows = sockets(&history, ALL, None);
    let names: Vec<_> = rows.iter().map(|row| (row.cookie, row.name.as_deref())).collect();
    assert_eq!(names, [(3, Some("host-1.example")), (77, None)]);
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date() {
    let dir = Dir::new();
    let old = rusqlite::Connection::open(dir.file()).expect("made");
    old.execute_batch(include_str!("../tables/schema-1.sql")).expect("the first schema");
    old.execute_batch(
        "PRAGMA user_version = 1; INSERT INTO facts VALUES ('since', 7);
         INSERT INTO names (name) VALUES ('lan'), ('closed');
         INSERT INTO nat_bindings (flow, origin, kind, proto, src, sport, dst, dport, rule, start, span)
         VALUES (1, 0, 1, 6, x'0a000001', 1, x'c6336407', 443, 1, 5, 31);",
    )
    .expect("rows of it");
    drop(old);
    let history = dir.open(ageless());
    history.sockets_ended(vec![socket(1, 9)]);
    assert!(history.settle(SOON));
    assert_eq!(history.since().expect("an answer"), 7);
    assert_eq!(sockets(&history, ALL, None).len(), 1);
    let all = BindingFilter { limit: 9, ..BindingFilter::default() };
    assert_eq!(&*history.bindings(&all).expect("rows")[0].binding.rule, "lan");
}
