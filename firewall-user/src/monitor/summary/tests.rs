use super::*;

fn row(sent: u64, received: u64) -> SocketRow {
    let usage =
        Usage { created_ns: 1_000, asked_ns: 2_000, established_ns: 12_000, ..Usage::default() };
    SocketRow {
        usage,
        protocol: TCP,
        bytes_acked: sent,
        bytes_received: received,
        ..SocketRow::default()
    }
}

fn keys(process: &str) -> Keys {
    [process, "exe", "root", "10.0.0.1", "a.service", "tcp"].map(str::to_owned)
}

fn none() -> std::iter::Empty<(String, Account)> {
    std::iter::empty()
}

#[test]
fn every_table_has_what_ended() {
    let mut summary = Summary::default();
    summary.ended(&keys("a/1"), &row(100, 7), &Before::default(), false, 51_000);
    summary.ended(&keys("b/2"), &row(50, 3), &Before::default(), true, 101_000);
    for by in By::ALL {
        let rows = summary.rows(by, none()).rows;
        let sent: u64 = rows.iter().map(|row| row.sent_bytes).sum();
        let received: u64 = rows.iter().map(|row| row.received_bytes).sum();
        assert_eq!((sent, received), (150, 10), "{}", by.name());
        assert_eq!(By::from_name(by.name()), Some(by));
    }
    let by_process = summary.rows(By::Process, none()).rows;
    assert_eq!((by_process[0].key.as_str(), by_process.len()), ("a/1", 2), "the largest first");
    assert_eq!((by_process[0].connect_us.count, by_process[0].connect_us.max), (1, 10));
    assert_eq!((by_process[1].accept_us.count, by_process[1].connect_us.count), (1, 0));
    assert_eq!(summary.rows(By::Exe, none()).rows[0].life_us.max, 100);
}

#[test]
fn live_sockets_are_added_and_not_kept() {
    let mut summary = Summary::default();
    summary.ended(&keys("a/1"), &row(100, 0), &Before::default(), false, 51_000);
    let mut account = Account::default();
    account.add(&row(11, 0), &Before::default(), false, None);
    for _ in 0..2 {
        let rows = summary.rows(By::Process, [("a/1".to_owned(), account.clone())].into_iter());
        let row = &rows.rows[0];
        assert_eq!((row.live, row.total, row.sent_bytes), (1, 2, 111));
    }
}

#[test]
fn a_reset_leaves_what_came_before() {
    let mut summary = Summary::default();
    summary.ended(&keys("a/1"), &row(100, 0), &Before::default(), false, 51_000);
    summary.reset();
    assert!(summary.rows(By::Process, none()).rows.is_empty());
    let before = Before::of(&row(100, 5), 60_000);
    let mut account = Account::default();
    account.add(&row(130, 5), &before, false, None);
    assert_eq!((account.sent_bytes, account.received_bytes), (30, 0));
    assert_eq!(account.connect, Stat::default(), "the handshake was before");
}

#[test]
fn a_full_table_folds_and_loses_nothing() {
    let mut summary = Summary::default();
    let many = ROWS as u64 * 3;
    for i in 0..many {
        summary.ended(&keys(&format!("p/{i}")), &row(i, 1), &Before::default(), false, 51_000);
        // Always about: never folded.
        summary.ended(&keys("busy/1"), &row(0, 1), &Before::default(), false, 51_000);
    }
    let view = summary.rows(By::Process, none());
    assert!(view.rows.len() <= ROWS + 1 && view.folded > 0, "{}", view.rows.len());
    let sent: u64 = view.rows.iter().map(|row| row.sent_bytes).sum();
    let total: u64 = view.rows.iter().map(|row| row.total).sum();
    assert_eq!((sent, total), ((0..many).sum(), many * 2));
    let busy = view.rows.iter().find(|row| row.key == "busy/1").expect("never folded");
    assert_eq!(busy.total, many);
    assert!(view.rows.iter().any(|row| row.key == OTHER && row.connect_us.count > 0));
    assert_eq!(summary.rows(By::User, none()).folded, 0);
}
