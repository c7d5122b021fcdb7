//! Running commands so that a person sees what is going on and nothing hangs.
//!
//! Each command gets a process group of its own, a deadline, and a log below
//! `target/xtask/logs`. Ctrl-C reaches xtask alone, which ends the group and then returns through
//! every guard; so a verb that has made namespaces takes them down on any way out.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::ctx::Ctx;

/// How long a process group may take to go after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How often a step that is not on a terminal says that it still runs.
const STILL: Duration = Duration::from_secs(30);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Turns SIGINT, SIGTERM and SIGHUP into a flag that every wait in here looks at.
pub fn catch_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in
        [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
    {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .with_context(|| format!("cannot watch for signal {signal}"))?;
    }
    Ok(())
}

/// Has somebody asked xtask to stop?
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// A command with a title, a deadline and a log.
#[derive(Debug)]
pub struct Step<'a> {
    ctx: &'a Ctx,
    title: String,
    timeout: Duration,
    command: Command,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// stdout and stderr, in the order they came.
    pub output: String,
    /// Where the same text lies on disk.
    pub log: PathBuf,
}

impl<'a> Step<'a> {
    /// A step running `program`, to be finished within `timeout_s` seconds.
    pub fn new(
        ctx: &'a Ctx,
        title: impl Into<String>,
        timeout_s: u64,
        program: impl AsRef<OsStr>,
    ) -> Self {
        let mut command = Command::new(program);
        command.current_dir(&ctx.root);
        Self { ctx, title: title.into(), timeout: Duration::from_secs(timeout_s), command }
    }

    /// Adds arguments.
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command.args(args);
        self
    }

    /// Adds one argument: a prefix such as `--out=` and a path.
    pub fn arg_path(mut self, prefix: &str, path: &Path) -> Self {
        let mut arg = std::ffi::OsString::from(prefix);
        arg.push(path);
        self.command.arg(arg);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs elsewhere than in the repository's root.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it; an exit status other than zero is an error that shows the end of the log.
    pub fn run(self) -> Result<Outcome> {
        let title = self.title.clone();
        let shown = self.ctx.verbose;
        let outcome = self.run_any()?;
        if outcome.status.success() {
            return Ok(outcome);
        }
        let tail = if shown { String::new() } else { tail(&outcome.output, 40) };
        bail!(
            "{title} failed ({}):\n{tail}\n(whole log: {})",
            describe(outcome.status),
            outcome.log.display()
        )
    }

    /// Runs it and hands back how it ended, whatever that was; only not being able to start it,
    /// a deadline and Ctrl-C are errors.
    pub fn run_any(mut self) -> Result<Outcome> {
        let logs = self.ctx.scratch().join("logs");
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make {}", logs.display()))?;
        let log = logs.join(format!("{}.log", slug(&self.title)));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        self.command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot share the log")?)
            .stderr(file)
            .process_group(0);
        let program = self.command.get_program().to_string_lossy().into_owned();
        let started = Instant::now();
        let mut child = self
            .command
            .spawn()
            .map_err(|e| anyhow!("{}: cannot start `{program}`: {e}", self.title))?;
        let mut progress = Progress::start(&self.title, &log, self.ctx.verbose);
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait")? {
                break status;
            }
            if interrupted() {
                end_group(&mut child);
                progress.end("stopped");
                bail!("{}: interrupted", self.title);
            }
            if started.elapsed() > self.timeout {
                end_group(&mut child);
                progress.end("timed out");
                let output = read_lossy(&log);
                bail!(
                    "{} took longer than {} s and was ended:\n{}\n(whole log: {})",
                    self.title,
                    self.timeout.as_secs(),
                    tail(&output, 40),
                    log.display()
                );
            }
            progress.tick();
            std::thread::sleep(poll_after(started.elapsed()));
        };
        progress.end(if status.success() { "ok" } else { "FAILED" });
        Ok(Outcome { status, output: read_lossy(&log), log })
    }
}

/// Short waits at first, so that a quick command costs no delay.
fn poll_after(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(Duration::from_millis(2), Duration::from_millis(100))
}

/// Ends a child and its whole process group: politely, then not.
pub fn end_group(child: &mut Child) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) else {
        return;
    };
    // Errors mean that the group is gone already, which is what is wanted.
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
    let until = Instant::now() + GRACE;
    while Instant::now() < until {
        if matches!(child.try_wait(), Ok(Some(_))) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    let _ = child.wait();
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Runs a quick probe and returns its stdout if it succeeded within `timeout`.
pub fn probe(command: &mut Command, timeout: Duration) -> Option<String> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut pipe = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).map(|_| text)
    });
    let until = Instant::now() + timeout;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let text = reader.join().ok()?.ok()?;
    status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The first file called `name` on `PATH`, or in the sbin directories an ordinary user lacks.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A line to the person in front of the terminal. Progress goes to stderr; results to stdout.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// The last `lines` lines of a text, without cargo's own progress.
pub fn tail(text: &str, lines: usize) -> String {
    const PROGRESS: [&str; 4] = ["Compiling ", "Checking ", "Downloaded ", "Downloading "];
    let is_progress = |line: &str| {
        line.starts_with("  ") && PROGRESS.iter().any(|p| line.trim_start().starts_with(p))
    };
    let all: Vec<&str> = text.lines().filter(|line| !is_progress(line)).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn slug(title: &str) -> String {
    let mut out = String::new();
    for c in title.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches('-').to_owned()
}

/// The line that says which step runs and since when.
struct Progress<'a> {
    title: &'a str,
    log: &'a Path,
    started: Instant,
    last: Instant,
    terminal: bool,
    follow: Option<File>,
}

impl<'a> Progress<'a> {
    fn start(title: &'a str, log: &'a Path, verbose: bool) -> Self {
        let now = Instant::now();
        let follow = verbose.then(|| File::open(log).ok()).flatten();
        if verbose {
            say(&format!("  ..  {title}"));
        }
        Self {
            title,
            log,
            started: now,
            last: now,
            terminal: std::io::stderr().is_terminal() && !verbose,
            follow,
        }
    }

    fn tick(&mut self) {
        if let Some(file) = &mut self.follow {
            let mut text = Vec::new();
            if file.read_to_end(&mut text).is_ok() {
                let _ = std::io::stderr().write_all(&text);
            }
            return;
        }
        let now = Instant::now();
        if self.terminal {
            if now - self.last > Duration::from_millis(500) {
                self.last = now;
                let seconds = self.started.elapsed().as_secs();
                let doing = last_line(self.log);
                eprint!("\r\x1b[K  ..  {} {seconds} s  {doing}", self.title);
            }
        } else if now - self.last > STILL {
            self.last = now;
            let seconds = self.started.elapsed().as_secs();
            say(&format!("  ..  {} {seconds} s", self.title));
        }
    }

    fn end(&mut self, how: &str) {
        self.tick();
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        say(&format!("{how:>6}  {} {:.1} s", self.title, self.started.elapsed().as_secs_f64()));
    }
}

/// The last line written to a log, cut to fit beside the title.
fn last_line(log: &Path) -> String {
    let Ok(mut file) = File::open(log) else {
        return String::new();
    };
    let len = file.metadata().map(|m| m.len()).unwrap_or(0);
    if file.seek(SeekFrom::Start(len.saturating_sub(300))).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = file.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|l| !l.trim().is_empty());
    line.unwrap_or_default().chars().filter(|c| !c.is_control()).take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx(name: &str) -> Ctx {
        let dir = std::env::temp_dir().join(format!("sluice-xtask-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Ctx { root: dir.clone(), target: dir, verbose: false }
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let ctx = ctx("hang");
        let started = Instant::now();
        let error = Step::new(&ctx, "hang", 1, "sh")
            .args(["-c", "sleep 600 & echo child $!; wait"])
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("took longer than 1 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
        let pid = error
            .lines()
            .find_map(|l| l.strip_prefix("child "))
            .expect("the child's pid is in the log's tail")
            .to_owned();
        // The grandchild is re-parented and reaped by init; give that a moment.
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone, "process {pid} outlived its step");
        std::fs::remove_dir_all(&ctx.root).unwrap();
    }

    #[test]
    fn a_failure_shows_what_the_command_said() {
        let ctx = ctx("fail");
        let error = Step::new(&ctx, "fail", 10, "sh")
            .args(["-c", "echo out; echo the reason >&2; exit 3"])
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status 3"), "{error}");
        assert!(error.contains("the reason"), "{error}");
        std::fs::remove_dir_all(&ctx.root).unwrap();
    }

    #[test]
    fn a_missing_program_is_named() {
        let ctx = ctx("missing");
        let error = Step::new(&ctx, "x", 1, "no-such-program-here").run().unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
        std::fs::remove_dir_all(&ctx.root).unwrap();
    }

    #[test]
    fn a_tail_has_no_progress_in_it() {
        let text = "first\n   Compiling a v1\nerror: b\n    Checking c v1\nlast\n";
        assert_eq!(tail(text, 2), "error: b\nlast");
    }

    #[test]
    fn probe_gives_up_in_time() {
        let started = Instant::now();
        let out = probe(Command::new("sleep").arg("30"), Duration::from_millis(100));
        assert!(out.is_none());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
