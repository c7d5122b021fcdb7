use super::*;
use crate::monitor::{By, Key};
use crate::view::SOCKET_ENDS;
use firewall_common::abi::socket::Usage;

const SECOND: u64 = 1_000_000_000;

pub(super) fn place() -> Place {
    let clock =
        Clock { unix_ns: 2_000_000_000_000, monotonic_ns: 100 * SECOND, ..Clock::default() };
    Place { netns: 1, clock }
}

fn process(tgid: u32, name: &str) -> Process {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Process { tgid, start_ns: 5, comm, ..Process::default() }
}

pub(super) fn row(cookie: u64, state: u8) -> SocketRow {
    let usage = Usage { cookie, created_ns: SECOND, owner: process(7, "srv"), ..Usage::default() };
    SocketRow {
        usage,
        family: INET,
        protocol: TCP,
        kind: 1,
        state,
        netns: 1,
        local: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        local_port: 80,
        remote_port: 4000,
        ..SocketRow::default()
    }
}

pub(super) fn event(class: SocketClass, before: u8, row: SocketRow, time_ns: u64) -> SocketEvent {
    SocketEvent { class: class.raw(), before, row, time_ns, ..SocketEvent::default() }
}

fn held(row: SocketRow, by: u32) -> HeldSocket {
    HeldSocket { row, holder: process(by, "holder"), descriptor: 3, ..HeldSocket::default() }
}

pub(super) fn keys(by: By, row: &SocketRow) -> Key {
    match by {
        By::Process => Key::new(comm(&row.usage.owner)),
        By::User => Key::new(row.uid.to_string()),
        By::Host => Key::new(address(row.family, &row.remote)),
        By::Protocol => Key::new(proto(row)),
        _ => Key::unknown(),
    }
}

pub(super) fn live(table: &SocketTable) -> Vec<SocketView> {
    let place = place();
    let mut rows: Vec<_> = table.live(&place).map(|(row, _)| row).collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows
}

#[test]
fn events_make_rows_and_end_them() {
    let mut table = SocketTable::default();
    table.event(&event(SocketClass::Connecting, 7, row(1, SYN_SENT), 2 * SECOND), &keys);
    let mut open = row(1, ESTABLISHED);
    (open.usage.asked_ns, open.usage.established_ns) = (2 * SECOND, 2 * SECOND + 1_500_000);
    table.event(&event(SocketClass::Established, SYN_SENT, open, 3 * SECOND), &keys);
    let rows = live(&table);
    assert_eq!((rows[0].state.as_str(), rows[0].connect_us), ("established", Some(1500)));
    assert_eq!((rows[0].pid, rows[0].confidence.as_str()), (Some(7), "stamped"));
    // At its end it is bound to nothing.
    let mut last = SocketRow { local_port: 0, bytes_acked: 99, ..open };
    last.state = 7;
    table.event(&event(SocketClass::Closed, 5, last, 4 * SECOND), &keys);
    assert!(live(&table).is_empty());
    let place = place();
    let ended: Vec<_> = table.ended(&place).map(|(row, _)| row).collect();
    assert_eq!((ended[0].local_port, ended[0].sent_bytes), (80, 99));
    assert_eq!(ended[0].ended.as_deref(), Some("closed"));
    assert_eq!(table.stats(&Default::default()).events[3].delivered, 1);
}

#[test]
fn the_error_says_why() {
    for (error, before, why) in [
        (libc::ECONNREFUSED, SYN_SENT, "refused"),
        (libc::ETIMEDOUT, SYN_SENT, "timed-out"),
        (libc::EHOSTUNREACH, SYN_SENT, "no-route"),
        (libc::ECONNRESET, ESTABLISHED, "reset"),
        (libc::ECONNABORTED, ESTABLISHED, "killed"),
        (0, SYN_SENT, "abandoned"),
        (0, 9, "closed"),
        (0, 5, "closed"),
        (0, ESTABLISHED, "aborted"),
        (0, CLOSE_WAIT, "aborted"),
        (libc::EIO, ESTABLISHED, "failed"),
    ] {
        let last = SocketRow { error: error as u32, ..row(1, 7) };
        assert_eq!(cause(&last, before), why);
        assert!(SOCKET_ENDS.contains(&why));
    }
}

#[test]
fn a_snapshot_is_what_there_is() {
    let mut table = SocketTable::default();
    table.event(&event(SocketClass::Established, 2, row(1, ESTABLISHED), SECOND), &keys);
    table.event(&event(SocketClass::Established, 2, row(2, ESTABLISHED), SECOND), &keys);
    let udp = SocketRow { protocol: 17, kind: 2, ..row(3, 7) };
    table.event(&event(SocketClass::Established, 0, udp, SECOND), &keys);
    // 1 is held twice; 2 has no descriptor any more; 3 is gone; 4 is older than the monitor.
    let mut old = row(4, LISTEN);
    old.usage.created_ns = 0;
    table.snapshot(
        &[held(row(1, ESTABLISHED), 7), held(row(1, 1), 9), held(old, 9)],
        2 * SECOND,
        5,
        false,
        &keys,
    );
    let rows = live(&table);
    let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "4"]);
    let pids: Vec<_> = rows[0].holders.iter().map(|holder| holder.pid).collect();
    assert_eq!(pids, [7, 9]);
    assert_eq!((rows[2].confidence.as_str(), rows[2].created.as_deref()), ("held", None));
    // Events were lost: 2 may be gone.
    table.snapshot(&[held(row(1, ESTABLISHED), 7)], 3 * SECOND, 5, true, &keys);
    assert_eq!(live(&table).len(), 1);
    // What was told after the reading began isn't in it, and lives.
    table.event(&event(SocketClass::Established, 2, row(5, ESTABLISHED), 5 * SECOND), &keys);
    table.snapshot(&[], 4 * SECOND, 5, true, &keys);
    assert_eq!(live(&table).len(), 1);
}

#[test]
fn rates_are_bytes_a_second() {
    let mut table = SocketTable::default();
    let with = |acked: u64, received: u64| SocketRow {
        bytes_acked: acked,
        bytes_received: received,
        ..row(1, ESTABLISHED)
    };
    table.snapshot(&[held(with(1000, 0), 7)], 10 * SECOND, 5, false, &keys);
    assert_eq!(live(&table)[0].sent_rate, 0);
    table.snapshot(&[held(with(5000, 100), 7)], 12 * SECOND, 5, false, &keys);
    let rows = live(&table);
    assert_eq!((rows[0].sent_rate, rows[0].received_rate), (2000, 50));
    // Too soon after the last look to say anything.
    table.snapshot(&[held(with(9000, 100), 7)], 12 * SECOND + 1, 5, false, &keys);
    assert_eq!((live(&table)[0].sent_rate, live(&table)[0].sent_bytes), (2000, 9000));
}

#[test]
fn what_ended_is_bounded_and_counted() {
    let mut table = SocketTable::default();
    for cookie in 0..ENDED as u64 + 5 {
        table.event(&event(SocketClass::Closed, 1, row(cookie + 1, 7), SECOND), &keys);
    }
    let stats = table.stats(&Default::default());
    assert_eq!((stats.ended, stats.ended_dropped), (ENDED as u64, 5));
}

#[test]
fn every_kind_has_its_words() {
    let of = |family: u16, kind: u16, protocol: u16, at: u8| {
        let row = SocketRow { family, kind, protocol, ..row(1, at) };
        (proto(&row), state(&row), note(&row).is_some())
    };
    assert_eq!(of(INET6, 2, 17, 1), ("udp".into(), "connected", false));
    assert_eq!(of(INET, 2, 17, 7), ("udp".into(), "unconnected", false));
    assert_eq!(of(INET, RAW, 89, 7), ("raw/89".into(), "open", true));
    assert_eq!(of(PACKET, 3, 768, 0), ("packet".into(), "open", true));
    assert_eq!(of(XDP, 3, 0, 0), ("xdp".into(), "open", true));
    assert_eq!(of(INET, 1, TCP, 8).1, "close-wait");
    assert_eq!(address(INET6, &[0; 16]), "::");
}

#[test]
fn summaries_have_live_and_ended_sockets_once() {
    let mut table = SocketTable::default();
    let with =
        |cookie: u64, acked: u64, state: u8| SocketRow { bytes_acked: acked, ..row(cookie, state) };
    table.event(&event(SocketClass::Established, 2, with(1, 0, ESTABLISHED), SECOND), &keys);
    table.event(&event(SocketClass::Established, 2, with(2, 0, ESTABLISHED), SECOND), &keys);
    table.event(&event(SocketClass::Closed, 1, with(1, 1000, 7), 2 * SECOND), &keys);
    table.snapshot(&[held(with(2, 500, ESTABLISHED), 7)], 3 * SECOND, 5, false, &keys);
    let sum = |table: &SocketTable| {
        let view = table.summary(By::Process, 6 * SECOND, &keys);
        let row = view.rows.first().cloned().unwrap_or_default();
        (row.key, row.live, row.total, row.sent_bytes)
    };
    assert_eq!(sum(&table), ("srv".into(), 1, 2, 1500));
    table.reset_summary(None, 4 * SECOND);
    assert_eq!(sum(&table), ("srv".into(), 1, 1, 0));
    // Gone without a word: its numbers stay.
    table.snapshot(&[held(with(2, 700, ESTABLISHED), 7)], 5 * SECOND, 5, false, &keys);
    table.snapshot(&[], 6 * SECOND, 5, true, &keys);
    assert_eq!(sum(&table), ("srv".into(), 0, 1, 200));
}

#[test]
fn who_tells_nothing_of_its_end_is_missed() {
    let mut table = SocketTable::default();
    let of = |cookie: u64, family: u16, protocol: u16, used: bool| {
        let mut row = SocketRow { family, protocol, kind: 2, ..row(cookie, 7) };
        row.usage.established_ns = u64::from(used) * SECOND;
        row
    };
    let (packet, unused, used) =
        (of(1, PACKET, 768, true), of(2, INET, 17, false), of(3, INET, 17, true));
    let all = [held(packet, 7), held(unused, 7), held(used, 7)];
    table.snapshot(&all, 3 * SECOND, 5, false, &keys);
    // The one that was used may be in a message, or a ring's: it says when it is closed.
    table.snapshot(&[], 5 * SECOND, 5, false, &keys);
    let ends = |table: &SocketTable| {
        let place = place();
        let row = |(row, _): (SocketView, Process)| (row.id, row.ended.unwrap_or_default());
        let mut rows: Vec<_> = table.ended(&place).map(row).collect();
        rows.sort();
        rows
    };
    let closed = |id: &str| (id.to_owned(), "closed".to_owned());
    assert_eq!(ends(&table), [closed("1"), closed("2")]);
    assert_eq!(live(&table).len(), 1);
    let bare = SocketRow { usage: used.usage, ..SocketRow::default() };
    table.event(&event(SocketClass::Closed, 0, bare, 6 * SECOND), &keys);
    assert_eq!(ends(&table), [closed("1"), closed("2"), closed("3")]);
    // Nobody tells twice.
    let bare = SocketRow { usage: unused.usage, ..SocketRow::default() };
    table.event(&event(SocketClass::Closed, 0, bare, 7 * SECOND), &keys);
    assert_eq!(ends(&table).len(), 3);
}

#[test]
fn who_was_found_holding_it_is_never_said_to_be_stamped() {
    let mut table = SocketTable::default();
    let older = |cookie: u64, owner: Process, state: u8| {
        let mut row = row(cookie, state);
        (row.usage.created_ns, row.usage.owner) = (0, owner);
        row
    };
    let holder = process(7, "srv");
    table.snapshot(&[held(older(1, holder, ESTABLISHED), 7)], 2 * SECOND, 5, false, &keys);
    let confidence = |table: &SocketTable| live(table)[0].confidence.clone();
    assert_eq!(confidence(&table), "held");
    for class in [SocketClass::Established, SocketClass::Listening] {
        table.event(&event(class, 7, older(1, holder, ESTABLISHED), 3 * SECOND), &keys);
        assert_eq!(confidence(&table), "held", "{}", class.name());
    }
    table.event(&event(SocketClass::Closed, 1, older(1, holder, 7), 4 * SECOND), &keys);
    let place = place();
    assert_eq!(table.ended(&place).next().map(|(row, _)| row.confidence).as_deref(), Some("held"));
    // Nobody's until it connects: the hook says who that is.
    table.event(&event(SocketClass::Connecting, 7, older(2, holder, SYN_SENT), 5 * SECOND), &keys);
    assert_eq!(confidence(&table), "stamped");
}

#[test]
fn each_socket_is_a_row_until_a_moment_after_its_end() {
    let mut table = SocketTable::default();
    for cookie in [1, 2] {
        table.event(&event(SocketClass::Established, 2, row(cookie, ESTABLISHED), SECOND), &keys);
    }
    table.event(&event(SocketClass::Closed, 1, row(1, 7), 20 * SECOND), &keys);
    let rows = |now: u64| {
        let view = table.summary(By::Instance, now * SECOND, &keys);
        let mut rows: Vec<_> =
            view.rows.into_iter().map(|row| (row.id, row.key, row.live)).collect();
        rows.sort();
        rows
    };
    let both = rows(25);
    assert_eq!(both[0], (Some("1".into()), "tcp 10.0.0.1:80 > *:4000".into(), 0));
    assert_eq!((both.len(), both[1].2), (2, 1));
    assert_eq!(rows(31).len(), 1, "it dies with its socket");
}

#[test]
fn tables_begin_anew_one_by_one() {
    let mut table = SocketTable::default();
    let with = |acked: u64| SocketRow { bytes_acked: acked, ..row(1, ESTABLISHED) };
    table.event(&event(SocketClass::Established, 2, with(100), SECOND), &keys);
    table.reset_summary(Some(By::Host), 2 * SECOND);
    table.event(&event(SocketClass::Established, 2, with(150), 3 * SECOND), &keys);
    table.reset_summary(Some(By::Process), 4 * SECOND);
    table.event(&event(SocketClass::Established, 2, with(175), 5 * SECOND), &keys);
    let sent = |table: &SocketTable, by: By| {
        let rows = table.summary(by, 6 * SECOND, &keys).rows;
        rows.iter().map(|row| row.sent_bytes).sum::<u64>()
    };
    let all = |table: &SocketTable| [By::Process, By::Host, By::User].map(|by| sent(table, by));
    assert_eq!(all(&table), [25, 75, 175]);
    table.event(&event(SocketClass::Closed, 1, with(200), 6 * SECOND), &keys);
    assert_eq!(all(&table), [50, 100, 200], "also at its end");
    table.reset_summary(None, 7 * SECOND);
    assert_eq!(all(&table), [0, 0, 0]);
}

#[test]
fn connections_are_told_from_sockets() {
    let mut table = SocketTable::default();
    let mut open = row(1, ESTABLISHED);
    open.usage.established_ns = SECOND;
    let udp =
        |cookie, remote_port| SocketRow { protocol: 17, kind: 2, remote_port, ..row(cookie, 7) };
    let all = [open, row(2, LISTEN), row(3, SYN_SENT), row(4, ESTABLISHED), udp(5, 53), udp(6, 0)];
    let all = all.map(|row| held(row, 7));
    table.snapshot(&all, SECOND, 5, false, &keys);
    let sum = |table: &SocketTable| {
        let rows = table.summary(By::Process, SECOND, &keys).rows;
        (rows[0].live, rows[0].total, rows[0].connected, rows[0].connections)
    };
    assert_eq!(sum(&table), (6, 6, 3, 3));
    table.event(&event(SocketClass::Closed, 1, SocketRow { state: 7, ..open }, SECOND), &keys);
    table.event(&event(SocketClass::Closed, 2, row(3, 7), SECOND), &keys);
    assert_eq!(sum(&table), (4, 6, 2, 3));
}
