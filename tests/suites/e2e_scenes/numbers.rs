//! Numbers of processes: many that are gone at once, and the same one again.

use crate::stage::{ACTOR, Actor, Stage, is_near, me, number};
use serde_json::Value;
use sluice_tests::lab::{missing_tools, wait_for};
use sluice_tests::skip;
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::stage::SOON;

const BYTES: u64 = 1000;

/// Runs `play` while connections to the listener are read to their ends.
pub fn served<T>(listener: &TcpListener, play: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    listener.set_nonblocking(true).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut all = Vec::new();
            while !over.load(SeqCst) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                all.clear();
                let _ = stream.read_to_end(&mut all);
            }
        });
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play));
        over.store(true, SeqCst);
        played.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Both ends of each connection of a part of the swarm have ended, with the right owner and bytes; the numbers that
/// the processes had outside and within.
fn check(stage: &Stage, port: u16, part: &[Value]) -> Vec<(u64, u64)> {
    let (me, _) = me();
    let rows = |filter: &str, done: &dyn Fn(&[Value]) -> bool| {
        wait_for("all of them", SOON, || {
            let rows = stage.ended(filter);
            done(&rows).then_some(rows)
        })
        .unwrap_or_else(|late| panic!("{late}: {filter}"))
    };
    let ids: HashSet<&Value> = part.iter().map(|said| &said["id"]).collect();
    let theirs = rows(&format!("remote_port={port}"), &|rows| {
        rows.iter().filter(|row| ids.contains(&row["id"])).count() == ids.len()
    });
    let theirs: HashMap<&Value, &Value> = theirs.iter().map(|row| (&row["id"], row)).collect();
    // Ports come again; what was accepted of each is ours.
    let ports: HashSet<u64> = part.iter().map(|said| number(said, "port")).collect();
    let ours = rows(&format!("local_port={port}"), &|rows| {
        let seen: HashSet<u64> = rows.iter().map(|row| number(row, "remote_port")).collect();
        ports.is_subset(&seen)
    });
    for said in part {
        let row = theirs[&said["id"]];
        assert_eq!((&row["pid"], &row["comm"]), (&said["pid"], &"scene-actor".into()), "{row:#}");
        // Gone before it was its turn, at worst; never another's.
        assert!(row["exe"].is_null() || row["exe"] == ACTOR, "{row:#}");
        assert_eq!(row["ended"], "closed", "{row:#}");
        assert_eq!(row["local_port"], said["port"], "{row:#}");
        assert!(is_near(&row["sent_bytes"], BYTES), "{row:#}");
    }
    for row in ours.iter().filter(|row| row["state"] != "listen") {
        assert!(row["pid"] == me && is_near(&row["received_bytes"], BYTES), "{row:#}");
    }
    part.iter().map(|said| (number(said, "pid"), number(said, "inner"))).collect()
}

fn swarm(stage: &Stage, mut actor: Actor, listener: &TcpListener, count: usize) -> Vec<(u64, u64)> {
    let port = listener.local_addr().unwrap().port();
    // It is known before its children are.
    let parent = number(&actor.says(), "ready");
    assert_eq!(stage.row(&format!("pid={parent}"), 0, 0)["exe"], ACTOR);
    actor.goes_on();
    let all = served(listener, || {
        let mut all = Vec::new();
        while all.len() < count {
            let said = actor.says();
            let part = said.as_array().expect("a part of the swarm");
            all.extend(check(stage, port, part));
            actor.goes_on();
        }
        all
    });
    actor.ends();
    let stats = stage.daemon().json(&["sockets", "--stats"]);
    assert!(stats["events"].as_array().unwrap().iter().all(|row| row["lost"] == 0), "{stats}");
    all
}

#[test]
fn ten_thousand_processes_that_are_gone_own_their_connections() {
    let test = "e2e_scenes::numbers::ten_thousand_processes_that_are_gone_own_their_connections";
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap().to_string();
    let actor = stage.actor(&["swarm", "10000", &to, &BYTES.to_string()]);
    assert_eq!(swarm(&stage, actor, &listener, 10_000).len(), 10_000);
}

/// Whether `kernel.pid_max` is a namespace's own: writing it would change the machine's.
fn numbers_are_apart() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut words = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    (words.next().unwrap_or(0), words.next().unwrap_or(0)) >= (6u32, 14u32)
}

#[test]
fn numbers_of_a_small_namespace_come_again() {
    let test = "e2e_scenes::numbers::numbers_of_a_small_namespace_come_again";
    if let Some(why) = missing_tools(&["unshare"]) {
        skip::skip(test, &why);
        return;
    }
    if !numbers_are_apart() {
        skip::skip(test, "kernel.pid_max is of the whole machine before Linux 6.14");
        return;
    }
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap().to_string();
    let script =
        format!("echo 400 > /proc/sys/kernel/pid_max && exec {ACTOR} swarm 1500 {to} {BYTES}");
    let mut command = stage.ns.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    let all = swarm(&stage, Actor::start(&mut command), &listener, 1500);
    let inner: HashSet<u64> = all.iter().map(|(_, inner)| *inner).collect();
    assert!(inner.len() < 400, "within, numbers came again: {}", inner.len());
    let outer: HashSet<u64> = all.iter().map(|(outer, _)| *outer).collect();
    assert!(outer.len() > 1400, "out here they are others: {}", outer.len());
}

/// A copy of the actor under another name.
struct Other(PathBuf);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_processes_with_one_number_are_never_one() {
    let test = "e2e_scenes::numbers::two_processes_with_one_number_are_never_one";
    let Some(stage) = Stage::or_skip(test) else { return };
    let folder = std::env::temp_dir().join(format!("sluice-scene-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = Other(folder);
    let other = folder.0.join("scene-other");
    std::fs::copy(ACTOR, &other).unwrap();
    let other = other.to_str().unwrap();
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let to = listener.local_addr().unwrap().to_string();
    const ROUNDS: usize = 20;
    let mut actor = stage.actor(&["again", &ROUNDS.to_string(), &to, other]);
    let shared = served(&listener, || number(&actor.says(), "number"));
    let mut rows = wait_for("all of them", SOON, || {
        let rows = stage.ended(&format!("pid={shared} and remote_port={port}"));
        (rows.len() == ROUNDS).then_some(rows)
    })
    .unwrap();
    // As they began: they end when the other end is done, too.
    rows.sort_by_key(|row| number(row, "sent_bytes"));
    for (i, row) in rows.iter().enumerate() {
        let bytes = (i as u64 + 1) * 1000;
        assert!(is_near(&row["sent_bytes"], bytes), "{i}: {row:#}");
        let (comm, exe) = if i % 2 == 0 { ("scene-actor", ACTOR) } else { ("scene-other", other) };
        assert_eq!(row["comm"], comm, "{i}: {row:#}");
        // Gone before anybody looked, at worst; never the other's.
        assert!(row["exe"].is_null() || row["exe"] == exe, "{i}: {row:#}");
        // /proc tells starts in hundredths of a second: of two in one of these that run the same file, the
        // arguments may be the other's. Else they are its own, or weren't there any more.
        let words = row["cmdline"].as_str().unwrap_or(exe);
        assert!(words.starts_with(exe), "{i}: {row:#}");
    }
    actor.ends();
}
