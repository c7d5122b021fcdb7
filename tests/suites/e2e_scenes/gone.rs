//! Owners that come faster than anybody looks, and owners that are gone.

use crate::crowd::Group;
use crate::numbers::served;
use crate::stage::{ACTOR, Actor, SOON, Stage, empty, mine, number};
use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, wait_for};
use sluice_tests::skip;
use std::collections::HashSet;
use std::ffi::CString;
use std::net::TcpListener;

/// What became of owners that were to be looked at. The sum is right at any moment.
fn looks(daemon: &Daemon) -> Value {
    let stats = daemon.json(&["sockets", "--stats"]);
    let parts = ["owners_seen", "owners_unseen", "owners_waiting", "owners_overflowed"];
    let sum: u64 = parts.iter().map(|part| number(&stats, part)).sum();
    assert_eq!(number(&stats, "owners_met"), sum, "{stats:#}");
    stats
}

#[test]
fn owners_that_come_all_at_once_are_all_looked_at() {
    let test = "e2e_scenes::gone::owners_that_come_all_at_once_are_all_looked_at";
    let Some(ns) = empty(test) else { return };
    // A daemon of its own, which nobody else asks for rows.
    let options = DaemonOptions::on("default in allow\n", &[]);
    let Some(daemon) = Daemon::or_skip(test, &ns, options) else { return };
    // Nobody listens there: no queue is in the way.
    const TO: &str = "127.0.0.1:9";
    const COUNT: usize = 1000;
    let mut actor = Actor::start(ns.command(ACTOR).args(["burst", &COUNT.to_string(), TO]));
    let said = actor.says();
    let children: HashSet<u64> =
        said["children"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    let closed = |stats: &Value| {
        let events = stats["events"].as_array().unwrap();
        number(events.iter().find(|event| event["class"] == "closed").unwrap(), "delivered")
    };
    let before = closed(&looks(&daemon));
    actor.goes_on();
    // Nobody asks for rows meanwhile: who asks has everybody looked at who has a socket.
    wait_for("all of them to be met", SOON, || {
        let stats = looks(&daemon);
        let met = closed(&stats) - before >= COUNT as u64;
        (number(&stats, "owners_waiting") == 0 && met).then_some(())
    })
    .unwrap();
    let filter = "remote_port=9";
    let rows = wait_for("all rows", SOON, || {
        let filter = mine(&ns, filter);
        let rows = daemon.rows(&["sockets", "--ended", "--limit", "10000", &filter]);
        (rows.len() == COUNT).then_some(rows)
    });
    for row in rows.unwrap() {
        assert!(children.contains(&number(&row, "pid")), "{row:#}");
        let words = row["cmdline"].as_str().unwrap_or_default();
        assert!(row["exe"] == ACTOR && words.contains(" burst "), "not looked at: {row:#}");
    }
    actor.ends();
}

/// A process of its own in a cgroup, which connects once, leaves the cgroup, and is gone: nobody finds anybody there.
fn short_life([into, out]: &[CString; 2], to: libc::sockaddr_in) {
    // SAFETY: the child calls nothing but system calls, and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let joins = |procs: &CString| {
                let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                libc::write(file, c"0".as_ptr().cast(), 1) == 1
            };
            let joined = joins(into);
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            let left = joins(out);
            let length = size_of::<libc::sockaddr_in>() as u32;
            let failed = libc::connect(socket, (&raw const to).cast(), length);
            libc::_exit(failed | i32::from(!joined || !left));
        }
        assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        assert_eq!(status, 0);
    }
}

#[test]
fn who_is_gone_has_user_and_unit() {
    let test = "e2e_scenes::gone::who_is_gone_has_user_and_unit";
    let Some(stage) = Stage::or_skip(test) else { return };
    let unit = format!("sluice-scene-{}.service", std::process::id());
    let Some(group) = Group::new(&unit) else {
        skip::skip(test, "cgroup v2 isn't mounted");
        return;
    };
    let procs = [&*group.0, group.0.parent().unwrap()]
        .map(|group| CString::new(group.join("cgroup.procs").to_str().unwrap()).unwrap());
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    const COUNT: usize = 50;
    let before = looks(stage.daemon());
    served(&listener, || {
        stage.ns.run(|| (0..COUNT).for_each(|_| short_life(&procs, to)));
        let filter = format!("remote_port={port} and unit={unit} and user=root");
        wait_for("all of them, with their unit", SOON, || {
            (stage.ended(&filter).len() == COUNT).then_some(())
        })
        .unwrap_or_else(|late| {
            panic!("{late}: {:#?}", stage.ended(&format!("remote_port={port}")).first())
        });
    });
    // Each is either read or counted.
    let rows = stage.ended(&format!("remote_port={port}"));
    let read = rows.iter().filter(|row| !row["cmdline"].is_null()).count();
    let after = looks(stage.daemon());
    let more = |name: &str| number(&after, name) - number(&before, name);
    assert!(more("owners_seen") >= read as u64, "{read} read: {before:#} {after:#}");
    assert!(more("owners_unseen") >= (COUNT - read) as u64, "{read} read: {before:#} {after:#}");
}
