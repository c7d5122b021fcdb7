//! Full queues, full disks, broken files, sudden ends.

use super::*;
use crate::store::database;
use rusqlite::Connection;
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{FileExt, PermissionsExt},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

const CRASH: &str = "SLUICE_TEST_CRASH_FILE";

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_does_not_fit_into_the_queue_is_counted_and_the_sender_never_waits() {
    let dir = Dir::new();
    let limits = Limits { queue: 16, batch: 8, ..ageless() };
    let history = dir.open(limits);
    assert!(history.settle(SOON));
    // Somebody holds the database.
    let lock = Connection::open(dir.file()).expect("opened");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let begun = Instant::now();
    for id in 0..1_000 {
        history.binding_began(masquerade(id, "10.0.0.1:1", "203.0.113.5:1", id as i64));
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    let lost = history.stats().lost;
    assert!((1_000 - 16 - 8..=1_000 - 16).contains(&lost), "{lost}");
    lock.execute_batch("COMMIT").expect("unlocked");
    wait_for("all written", || history.stats().queued == 0 && history.settle(SOON));
    let stats = history.stats();
    assert_eq!(stats.written + stats.lost, 1_000, "{stats:?}");
    assert_eq!((stats.lost, count(&history) as u64), (lost, stats.written));
}

#[test]
fn a_killed_daemon_loses_at_most_the_open_batch() {
    let dir = Dir::new();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::tests::trouble::the_daemon_that_is_killed", "--nocapture"])
        .env(CRASH, dir.file())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut settled = 0u64;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        if let Some(count) = line.expect("text").strip_prefix("settled ") {
            settled = count.parse().expect("a number");
            if settled >= 2_000 {
                break;
            }
        }
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(settled >= 2_000, "it ended by itself");

    let history = dir.open(ageless());
    assert!(history.settle(SOON));
    let filter = BindingFilter { limit: usize::MAX >> 1, ..BindingFilter::default() };
    let mut ids: Vec<u64> =
        history.bindings(&filter).expect("rows").iter().map(|row| row.binding.id).collect();
    ids.sort_unstable();
    assert!(ids.len() as u64 >= settled, "{} of {settled} are there", ids.len());
    assert!(ids.iter().copied().eq(0..ids.len() as u64), "none in between is missing");
    let stats = history.stats();
    assert_eq!((stats.errors, stats.trouble), (0, None));
    assert!(!database::beside(&dir.file(), ".corrupt").exists());
}

/// Run by the test above, in a process of its own.
#[test]
fn the_daemon_that_is_killed() {
    let Some(file) = std::env::var_os(CRASH) else { return };
    let history = History::open(file.as_ref(), ageless()).expect("a thread");
    for id in 0.. {
        history.binding_began(masquerade(id, "10.0.0.1:1", "203.0.113.5:1", id as i64));
        if id % 100 == 99 {
            assert!(history.settle(SOON));
            println!("settled {}", id + 1);
        }
    }
}

#[test]
fn a_file_that_is_no_database_is_moved_aside() {
    let dir = Dir::new();
    fs::write(dir.file(), "this is a letter\n".repeat(500)).expect("written");
    let history = dir.open(ageless());
    history.binding_began(masquerade(1, "10.0.0.1:1", "203.0.113.5:1", 1));
    assert!(history.settle(SOON));
    assert_eq!(who(&history, "203.0.113.5:1", 1), [1]);
    let aside = fs::read(database::beside(&dir.file(), ".corrupt")).expect("kept");
    assert!(aside.starts_with(b"this is a letter"));
    let stats = history.stats();
    assert_eq!((stats.errors, stats.lost, stats.trouble), (1, 0, None));
    let mode = fs::metadata(dir.file()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_turns_out_to_be_broken_is_moved_aside_and_the_batch_is_kept() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    for id in 0..2_000 {
        let public = format!("203.0.113.5:{}", 1 + id);
        history.binding_began(masquerade(id, "10.0.0.1:1", &public, id as i64));
    }
    drop(history);
    let file = fs::OpenOptions::new().write(true).open(dir.file()).expect("opened");
    let len = file.metadata().expect("there").len();
    // The first page still tells the schema.
    for page in 1..len / 4096 {
        file.write_all_at(&[0x5a; 4096], page * 4096).expect("overwritten");
    }
    let history = dir.open(ageless());
    history.binding_began(masquerade(9_999, "10.0.0.1:1", "203.0.113.5:1", 5));
    assert!(history.settle(SOON));
    assert_eq!(who(&history, "203.0.113.5:1", 5), [9_999]);
    assert!(database::beside(&dir.file(), ".corrupt").exists());
    let stats = history.stats();
    assert_eq!((stats.lost, stats.trouble.as_deref()), (0, None));
    assert!(stats.errors > 0);
}

#[test]
fn a_file_of_a_later_version_is_kept_for_it() {
    let dir = Dir::new();
    let later = Connection::open(dir.file()).expect("made");
    later.execute_batch("CREATE TABLE marvel (x); PRAGMA user_version = 999").expect("written");
    drop(later);
    let history = dir.open(ageless());
    history.binding_began(masquerade(1, "10.0.0.1:1", "203.0.113.5:1", 1));
    assert!(history.settle(SOON));
    assert_eq!(count(&history), 1);
    let kept = Connection::open(database::beside(&dir.file(), ".newer")).expect("kept");
    kept.execute("INSERT INTO marvel VALUES (1)", []).expect("as it was");
}

#[test]
fn a_place_that_cannot_be_written_is_waited_for() {
    let dir = Dir::new();
    let place = dir.0.join("place");
    fs::write(&place, "a file where a directory should be").expect("written");
    let history = History::open(&place.join("history.db"), ageless()).expect("a thread");
    history.binding_began(masquerade(1, "10.0.0.1:1", "203.0.113.5:1", 1));
    wait_for("trouble", || history.stats().trouble.is_some());
    let query = WhoQuery { address: ip("::1"), port: None, proto: None, at_ms: 0, limit: 1 };
    let said = history.who(&query).expect_err("it isn't open").to_string();
    assert!(said.contains("history.db"), "{said}");
    fs::remove_file(&place).expect("removed");
    wait_for("written", || history.stats().written == 1);
    assert_eq!((history.stats().trouble, history.stats().lost), (None, 0));
    assert_eq!(who(&history, "203.0.113.5:1", 1), [1]);
}

#[test]
fn a_full_disk_is_waited_for() {
    let dir = Dir::new();
    let mount = |options: &str, flags: libc::c_ulong| {
        let at = std::ffi::CString::new(dir.0.to_str().expect("UTF-8")).expect("no zero in it");
        let options = std::ffi::CString::new(options).expect("no zero in it");
        // SAFETY: all arguments are C strings that outlive the call.
        unsafe {
            libc::mount(
                c"none".as_ptr(),
                at.as_ptr(),
                c"tmpfs".as_ptr(),
                flags,
                options.as_ptr().cast(),
            )
        }
    };
    // The history's thread inherits this thread's mounts; the other tests don't see them.
    // SAFETY: it changes this thread alone; all pointers are C strings or null.
    let alone = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
    };
    assert!(alone && mount("size=1m", 0) == 0, "this test needs root");
    let limits = Limits { patience: Duration::from_millis(5), ..ageless() };
    let history = dir.open(limits);
    let mut sent = 0;
    wait_for("the disk is full", || {
        for _ in 0..200 {
            history.binding_began(masquerade(sent, "10.0.0.1:1", "203.0.113.5:1", sent as i64));
            sent += 1;
        }
        history.stats().trouble.is_some()
    });
    let trouble = history.stats().trouble.expect("in trouble");
    assert!(trouble.contains("full"), "{trouble}");
    // What was written can be asked for.
    assert_eq!(who(&history, "203.0.113.5:1", 0), [0]);
    assert_eq!(mount("size=64m", libc::MS_REMOUNT), 0);
    wait_for("all written", || history.stats().trouble.is_none() && history.settle(SOON));
    let stats = history.stats();
    assert_eq!(stats.written + stats.lost, sent, "{stats:?}");
    assert_eq!(stats.lost, 0, "the queue holds more than that");
    assert_eq!(count(&history) as u64, sent);
    // A directory that something is mounted on can't be taken away.
    drop(history);
    let at = std::ffi::CString::new(dir.0.to_str().expect("UTF-8")).expect("no zero in it");
    // SAFETY: a C string that outlives the call.
    assert_eq!(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }, 0);
}

#[test]
fn a_file_that_was_taken_away_is_begun_anew() {
    let dir = Dir::new();
    let history = dir.open(Limits { round: Duration::from_millis(20), ..ageless() });
    history.binding_began(masquerade(1, "10.0.0.1:1", "203.0.113.5:1", 1));
    assert!(history.settle(SOON));
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(database::beside(&dir.file(), end)).expect("removed");
    }
    wait_for("a new file", || dir.file().exists());
    history.binding_began(masquerade(2, "10.0.0.1:1", "203.0.113.5:1", now_ms()));
    wait_for("written", || history.settle(SOON) && history.stats().written == 2);
    assert_eq!(count(&history), 1);
}

#[test]
fn closing_writes_what_is_left() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let other = history.clone();
    history.binding_began(masquerade(1, "10.0.0.1:1", "203.0.113.5:1", 1));
    assert!(history.settle(SOON));
    assert_eq!(who(&other, "203.0.113.5:1", 1), [1]);
    history.binding_ended(Origin::Sluice, 1, TOTALS, "closed", 1);
    assert!(history.close(SOON));
    assert!(!database::beside(&dir.file(), "-wal").exists(), "the file is whole by itself");
    assert_eq!(who(&other, "203.0.113.5:1", 1), [1]);
    assert_eq!(other.stats().completed, 1);
    other.binding_began(masquerade(2, "10.0.0.1:1", "203.0.113.5:1", 1));
    assert_eq!(other.stats().lost, 1);
}
