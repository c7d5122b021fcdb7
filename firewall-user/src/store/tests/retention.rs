//! The file stays within its limits.

use super::*;
use std::{fs, thread, time::Instant};

#[test]
fn what_is_too_old_goes_and_what_lives_stays() {
    let dir = Dir::new();
    let limits = Limits { max_age_ms: 3_600_000, round: Duration::from_millis(50), ..ageless() };
    let history = dir.open(limits);
    let now = now_ms();
    let hour = 3_600_000;
    for (id, from, to) in [
        (1, now - 3 * hour, None),
        (2, now - 3 * hour, Some(now - 2 * hour)),
        (3, now - 3 * hour, Some(now - 1_000)),
        (4, now - 2 * hour, Some(now - hour - 1_000)),
        (5, now - 1_000, Some(now)),
    ] {
        history.binding_began(masquerade(id, "10.0.0.1:1", &format!("203.0.113.5:{id}"), from));
        if let Some(to) = to {
            history.binding_ended(Origin::Sluice, id, TOTALS, "closed", to);
        }
    }
    assert!(history.settle(SOON));
    let begun = Instant::now();
    while history.stats().deleted < 2 {
        assert!(begun.elapsed() < SOON, "{:?}", history.stats());
        thread::sleep(Duration::from_millis(5));
    }
    let all = BindingFilter { limit: 10, ..BindingFilter::default() };
    let mut ids: Vec<u64> =
        history.bindings(&all).expect("rows").iter().map(|row| row.binding.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 5]);
    // The answer says how far back it is whole.
    let query =
        WhoQuery { address: ip("203.0.113.5"), port: None, proto: None, at_ms: now, limit: 9 };
    let since = history.who(&query).expect("an answer").since_ms;
    assert!(since >= now, "the database was made after this test began: {since} < {now}");
}

#[test]
fn the_file_never_grows_past_its_size_and_keeps_what_is_new() {
    const MAX: u64 = 1 << 20;
    const ROWS: u64 = 30_000;
    let dir = Dir::new();
    let limits = Limits { max_bytes: MAX, patience: Duration::from_millis(5), ..ageless() };
    let history = dir.open(limits);
    let old = now_ms() + 10_000_000;
    history.binding_began(masquerade(0, "10.0.0.1:1", "203.0.113.5:1", old));
    for id in 1..ROWS {
        let port = 1024 + id * 40_503 % 60_000;
        let start = old + id as i64;
        history.binding_began(masquerade(
            id,
            &format!("10.0.{}.1:9", id % 100),
            &format!("203.0.113.5:{port}"),
            start,
        ));
        history.binding_ended(Origin::Sluice, id, TOTALS, "closed", start + 10);
        if id % 500 == 0 {
            assert!(history.settle(SOON));
            let bytes = fs::metadata(dir.file()).expect("there").len();
            assert!(bytes <= MAX, "{bytes} bytes after {id} rows");
        }
    }
    assert!(history.settle(SOON));
    let stats = history.stats();
    assert_eq!((stats.lost, stats.errors, stats.unmatched), (0, 0, 0));
    let kept = count(&history) as u64;
    assert_eq!(stats.written - stats.deleted, kept);
    assert!(kept > 2_000, "only {kept} rows are kept in {MAX} bytes");
    // The newest are all there, and the oldest because it lives.
    let all = BindingFilter { limit: ROWS as usize, ..BindingFilter::default() };
    let rows = history.bindings(&all).expect("rows");
    let newest: Vec<u64> = rows.iter().take(2_000).map(|row| row.binding.id).collect();
    assert_eq!(newest, (ROWS - 2_000..ROWS).rev().collect::<Vec<_>>());
    assert_eq!(rows.last().map(|row| row.binding.id), Some(0));
    // Nothing that was live after the time it states is missing.
    let query =
        WhoQuery { address: ip("203.0.113.5"), port: None, proto: None, at_ms: old, limit: 9 };
    let since = history.who(&query).expect("an answer").since_ms;
    let missing_until = old + (ROWS - kept) as i64 + 10;
    assert!((since - missing_until).abs() <= 10, "{since} isn't about {missing_until}");

    // A smaller limit makes the file smaller.
    drop(history);
    let history = dir.open(Limits { max_bytes: MAX / 2, ..limits });
    let begun = Instant::now();
    while fs::metadata(dir.file()).expect("there").len() > MAX / 2 {
        history.binding_ended(Origin::Sluice, 1, TOTALS, "closed", old);
        assert!(history.settle(SOON) && begun.elapsed() < SOON, "{:?}", history.stats());
    }
    assert!(count(&history) > 1_000);
}

#[test]
fn where_only_live_mappings_are_left_the_oldest_of_them_go() {
    let dir = Dir::new();
    let limits = Limits { max_bytes: 512 << 10, ..ageless() };
    let history = dir.open(limits);
    for id in 0..6_000u64 {
        history.binding_began(masquerade(id, "10.0.0.1:1", "203.0.113.5:1", id as i64));
    }
    assert!(history.settle(SOON));
    let stats = history.stats();
    assert!(stats.bytes <= 512 << 10, "{stats:?}");
    assert!(stats.deleted > 0 && stats.lost == 0, "{stats:?}");
    assert!(who(&history, "203.0.113.5:1", 7_000).contains(&5_999));
}
