//! The tools that people use, run inside a namespace.

use super::NetNs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Which of `tools` are missing here, in words.
pub fn missing_tools(tools: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let there = |tool: &str| path.split(':').any(|dir| Path::new(dir).join(tool).exists());
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !there(tool)).collect();
    let words = || format!("no {} (run `cargo xtask setup`)", missing.join(", "));
    (!missing.is_empty()).then(words)
}

/// How a tool ended.
#[derive(Debug)]
pub struct Run {
    /// Exit code, -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Standard output of a tool that was content.
    ///
    /// # Panics
    /// Where it wasn't.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

/// Runs `line`, split at blanks, inside `ns`; `limit` is how long it may take.
///
/// # Panics
/// Where it can't be started, or takes longer.
#[track_caller]
pub fn run(ns: &NetNs, line: &str, limit: Duration) -> Run {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let child = ns
        .command(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("[{}] {line}: {error}", ns.label));
    let pid = child.id() as i32;
    let start = Instant::now();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if over.recv_timeout(limit).is_err() {
            // SAFETY: kill takes numbers; the child is waited for only after this thread's end or word.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    });
    let output = child.wait_with_output();
    let _ = done.send(());
    let _ = watch.join();
    let output = output.unwrap_or_else(|error| panic!("[{}] {line}: {error}", ns.label));
    let run = Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(start.elapsed() < limit, "[{}] {line}: not within {limit:?}: {run:?}", ns.label);
    run
}
