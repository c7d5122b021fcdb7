use super::*;
use firewall_common::abi::socket::{SocketRow, Usage};

/// IPPROTO_TCP.
const TCP: u16 = 6;

fn row(sent: u64, received: u64) -> SocketRow {
    let usage =
        Usage { created_ns: 1_000, asked_ns: 2_000, established_ns: 12_000, ..Usage::default() };
    SocketRow {
        usage,
        protocol: TCP,
        bytes_acked: sent,
        bytes_received: received,
        segs_out: 3,
        segs_in: 2,
        ..SocketRow::default()
    }
}

fn account(row: &SocketRow, asked: bool, ended_ns: Option<u64>) -> Account {
    let mut account = Account::default();
    account.add(row, &Before::default(), asked, ended_ns);
    account
}

/// All tables but the process's have one key.
fn keys(process: &str) -> impl Fn(By) -> Key {
    move |by| match by {
        By::Process => Key { id: 7, ..Key::new(process) },
        by => Key::new(by.name()),
    }
}

fn end(summary: &mut Summary, process: &str, row: &SocketRow, asked: bool, at_ns: u64) {
    let account = account(row, asked, Some(at_ns));
    summary.ended(EVERY, keys(process), |_| Cow::Borrowed(&account));
}

/// Rows, those that sent most first.
fn rows(summary: &Summary, by: By) -> SummaryView {
    let mut view = summary.rows(by, |_| ());
    view.rows.sort_by_key(|row| std::cmp::Reverse(row.sent_bytes));
    view
}

#[test]
fn every_table_has_what_ended() {
    let mut summary = Summary::default();
    end(&mut summary, "a/1", &row(100, 7), false, 51_000);
    end(&mut summary, "b/2", &row(50, 3), true, 101_000);
    for by in By::KEPT {
        let rows = rows(&summary, by).rows;
        let sum = |of: fn(&SummaryRowView) -> u64| rows.iter().map(of).sum::<u64>();
        assert_eq!((sum(|row| row.sent_bytes), sum(|row| row.received_bytes)), (150, 10));
        assert_eq!((sum(|row| row.sent_packets), sum(|row| row.received_packets)), (6, 4));
        assert_eq!((sum(|row| row.connected), sum(|row| row.connections)), (0, 2));
        assert_eq!(By::from_name(by.name()), Some(by));
    }
    let by_process = rows(&summary, By::Process).rows;
    assert_eq!((by_process[0].key.as_str(), by_process.len()), ("a/1", 2));
    assert_eq!(by_process[0].id.as_deref(), Some("7"), "which of that name");
    assert_eq!((by_process[0].connect_us.count, by_process[0].connect_us.max), (1, 10));
    assert_eq!((by_process[1].accept_us.count, by_process[1].connect_us.count), (1, 0));
    assert_eq!(rows(&summary, By::Exe).rows[0].life_us.max, 100);
}

#[test]
fn live_sockets_are_added_and_not_kept() {
    let mut summary = Summary::default();
    end(&mut summary, "a/1", &row(100, 0), false, 51_000);
    for _ in 0..2 {
        let view = summary.rows(By::Process, |rows| {
            let live = account(&row(11, 0), false, None);
            rows.entry(keys("a/1")(By::Process)).or_default().merge(&live);
        });
        let row = &view.rows[0];
        assert_eq!((row.live, row.total, row.sent_bytes, row.connected), (1, 2, 111, 1));
    }
}

#[test]
fn a_reset_leaves_what_came_before() {
    let mut summary = Summary::default();
    end(&mut summary, "a/1", &row(100, 0), false, 51_000);
    summary.reset(By::Exe.mask());
    assert!(rows(&summary, By::Exe).rows.is_empty() && !rows(&summary, By::Host).rows.is_empty());
    summary.reset(EVERY);
    assert!(rows(&summary, By::Process).rows.is_empty());
    let before = Before::of(&row(100, 5), 60_000);
    let mut after = Account::default();
    after.add(&row(130, 5), &before, false, None);
    let view = after.view();
    assert_eq!((view.sent_bytes, view.received_bytes, view.sent_packets), (30, 0, 0));
    assert_eq!(view.connect_us.count, 0, "the handshake was before");
}

#[test]
fn a_full_table_folds_the_oldest_and_loses_nothing() {
    let mut summary = Summary::default();
    let many = table::ROWS as u64 * 3;
    for i in 0..many {
        end(&mut summary, &format!("p/{i}"), &row(i, 1), false, 51_000);
        // Always about: never folded.
        end(&mut summary, "busy/1", &row(0, 1), false, 51_000);
    }
    let view = rows(&summary, By::Process);
    assert_eq!(view.rows.len(), table::ROWS + 1);
    assert_eq!((view.folded, view.lost), (many + 1 - table::ROWS as u64, 0));
    let sent: u64 = view.rows.iter().map(|row| row.sent_bytes).sum();
    let total: u64 = view.rows.iter().map(|row| row.total).sum();
    assert_eq!((sent, total), ((0..many).sum(), many * 2));
    let busy = view.rows.iter().find(|row| row.key == "busy/1").expect("never folded");
    assert_eq!(busy.total, many);
    assert!(view.rows.iter().any(|row| row.other && row.connect_us.count > 0));
    assert!(view.rows.iter().any(|row| row.key == format!("p/{}", many - 1)), "the youngest");
    let told = summary.tables();
    assert_eq!((told[0].rows, told[0].folded), (told[0].capacity, view.folded));
    assert_eq!(told[1].folded, 0);
}

#[test]
fn a_row_with_live_sockets_does_not_fold() {
    let mut summary = Summary::default();
    let name = |i: usize| format!("p/{i}");
    for i in 0..table::ROWS {
        end(&mut summary, &name(i), &row(1, 0), false, 51_000);
    }
    assert_eq!(summary.nearly_full().collect::<Vec<_>>(), [By::Process]);
    let old = keys("p/0")(By::Process);
    summary.mark(By::Process, [old.clone()].into_iter());
    end(&mut summary, "new/1", &row(1, 0), false, 51_000);
    let has = |summary: &Summary, key: &str| {
        rows(summary, By::Process).rows.iter().any(|row| row.key == key)
    };
    assert!(has(&summary, "p/0") && !has(&summary, "p/1") && has(&summary, "new/1"));
    // All live: what comes has no row, and that is told.
    let all: Vec<Key> = summary
        .rows(By::Process, |_| ())
        .rows
        .iter()
        .map(|row| keys(&row.key)(By::Process))
        .collect();
    summary.mark(By::Process, all.into_iter());
    for _ in 0..3 {
        end(&mut summary, "late/1", &row(5, 0), false, 51_000);
    }
    let view = rows(&summary, By::Process);
    assert_eq!((view.folded, view.lost), (1, 3));
    assert!(!has(&summary, "late/1"));
    let other = view.rows.iter().find(|row| row.other).expect("where they are");
    assert_eq!((other.total, other.sent_bytes), (4, 16));
    // Nobody lives any more.
    summary.mark(By::Process, std::iter::empty());
    end(&mut summary, "late/1", &row(5, 0), false, 51_000);
    assert!(has(&summary, "late/1"));
}
