//! The stage: a namespace, a daemon in it, actors.

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, NetNs, wait_for};
use sluice_tests::skip;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub const SOON: Duration = Duration::from_secs(10);
/// The program that acts.
pub const ACTOR: &str = env!("CARGO_BIN_EXE_scene-actor");

/// The daemon of the scenes that run now: it sees all namespaces, and takes seconds to start.
pub struct Watcher {
    pub daemon: Daemon,
    /// The thread that started it waits for this to go: the daemon ends with that thread.
    _stays: Sender<()>,
}

static WATCHER: Mutex<Weak<Watcher>> = Mutex::new(Weak::new());

fn watcher(test: &str) -> Option<Arc<Watcher>> {
    let mut known = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = known.upgrade() {
        return Some(there);
    }
    let (stays, gone) = channel::<()>();
    let (hand, started) = channel();
    let test = test.to_owned();
    std::thread::spawn(move || {
        let ns = NetNs::new("watcher").expect("a namespace");
        let options = DaemonOptions::on("default in allow\n", &[]);
        let _ = hand.send(Daemon::or_skip(&test, &ns, options));
        let _ = gone.recv();
    });
    let daemon = started.recv().expect("a daemon that starts")?;
    let watcher = Arc::new(Watcher { daemon, _stays: stays });
    *known = Arc::downgrade(&watcher);
    Some(watcher)
}

/// A namespace and a daemon that watches it (and all others).
pub struct Stage {
    pub ns: NetNs,
    watcher: Arc<Watcher>,
}

impl Stage {
    pub fn or_skip(test: &str) -> Option<Self> {
        Some(Self { ns: empty(test)?, watcher: watcher(test)? })
    }

    pub fn daemon(&self) -> &Daemon {
        &self.watcher.daemon
    }

    /// Live sockets of this namespace.
    pub fn live(&self, filter: &str) -> Vec<Value> {
        self.daemon().rows(&["sockets", &mine(&self.ns, filter)])
    }

    /// Ended ones.
    pub fn ended(&self, filter: &str) -> Vec<Value> {
        self.daemon().rows(&["sockets", "--ended", &mine(&self.ns, filter)])
    }

    /// The one row that the filter finds, once its bytes are these.
    pub fn row(&self, filter: &str, sent: u64, received: u64) -> Value {
        self.one(false, filter, sent, received)
    }

    /// As [`Self::row`], of what has ended.
    pub fn end_of(&self, filter: &str, sent: u64, received: u64) -> Value {
        self.one(true, filter, sent, received)
    }

    fn one(&self, ended: bool, filter: &str, sent: u64, received: u64) -> Value {
        let mut last = Vec::new();
        let found = wait_for("a row with these bytes", SOON, || {
            last = if ended { self.ended(filter) } else { self.live(filter) };
            let [row] = last.as_slice() else { return None };
            let fits =
                is_near(&row["sent_bytes"], sent) && is_near(&row["received_bytes"], received);
            fits.then(|| row.clone())
        });
        found.unwrap_or_else(|late| {
            panic!("{late}: {filter}, {sent} sent, {received} received, ended: {ended}; rows: {last:#?}")
        })
    }

    pub fn actor(&self, args: &[&str]) -> Actor {
        Actor::start(self.ns.command(ACTOR).args(args))
    }
}

/// A namespace with its loopback device, or a skip.
pub fn empty(test: &str) -> Option<NetNs> {
    if let Some(reason) = skip::no_kernel_access() {
        skip::skip(test, reason);
        return None;
    }
    Some(NetNs::new("stage").expect("a namespace"))
}

/// Inode of a namespace.
pub fn inode(ns: &NetNs) -> u64 {
    std::fs::metadata(ns.path()).expect("a namespace").ino()
}

/// Only sockets of this namespace.
pub fn mine(ns: &NetNs, filter: &str) -> String {
    format!("netns={} and {filter}", inode(ns))
}

/// To within one in a hundred; of nothing, at most SYN and FIN.
pub fn is_near(seen: &Value, expected: u64) -> bool {
    let seen = seen.as_u64().expect("a number");
    seen.abs_diff(expected) <= (expected / 100).max(2)
}

/// Whose row it is: number, name, executable; and that a hook said so.
#[track_caller]
pub fn owned(row: &Value, pid: u32, exe: &str) {
    let name = Path::new(exe).file_name().expect("a name").to_string_lossy();
    let comm = &name[..name.len().min(15)];
    assert_eq!((&row["pid"], &row["comm"]), (&pid.into(), &comm.into()), "{row:#}");
    assert_eq!(row["exe"], exe, "{row:#}");
    assert_eq!(row["confidence"], "stamped", "{row:#}");
}

/// This process.
pub fn me() -> (u32, String) {
    (std::process::id(), std::env::current_exe().expect("a path").display().to_string())
}

/// A process of a scene. Ends with its owner.
pub struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts it; standard input is a pipe, unless the command says otherwise with [`Actor::with_input`].
    pub fn start(command: &mut Command) -> Self {
        Self::with_input(command, Stdio::piped())
    }

    pub fn with_input(command: &mut Command, input: Stdio) -> Self {
        let mut child = command.stdin(input).stdout(Stdio::piped()).spawn().expect("an actor");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { input: child.stdin.take(), child, said }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says next.
    #[track_caller]
    pub fn says(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("an actor's word");
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the actor failed: {error}: {line}"))
    }

    /// What it says next, unless the kernel refuses what it does: skips under the test's name then.
    #[track_caller]
    pub fn says_or_skip(&mut self, test: &str) -> Option<Value> {
        let said = self.says();
        if let Some(why) = said["refused"].as_str() {
            skip::skip(test, &format!("the kernel refuses {why}"));
            return None;
        }
        Some(said)
    }

    /// Lets it go on.
    pub fn goes_on(&mut self) {
        let input = self.input.as_mut().expect("a pipe");
        input.write_all(b"\n").expect("an actor that listens");
    }

    /// Lets it end, and waits.
    #[track_caller]
    pub fn ends(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("an actor that ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that an actor said.
#[track_caller]
pub fn number(said: &Value, name: &str) -> u64 {
    said[name].as_u64().unwrap_or_else(|| panic!("no {name} in {said}"))
}
