//! The real daemon at the gate, and the real command line against it.

use super::{LabError, NetNs, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Policy text.
    pub policy: String,
    /// Interfaces with their hook modes, e.g. `("wan0", "auto")`.
    pub ifaces: Vec<(String, String)>,
    /// Further arguments of `sluice daemon`.
    pub extra: Vec<String>,
    /// Text of its configuration.
    pub config: String,
    /// Take the way of kernels without TCX (`SLUICE_CLSACT`).
    pub clsact: bool,
}

impl DaemonOptions {
    /// Both interfaces of the gate, mode `auto`.
    pub fn gate(policy: &str) -> Self {
        Self::on(policy, &[("wan0", "auto"), ("lan0", "auto")])
    }

    /// These interfaces.
    pub fn on(policy: &str, ifaces: &[(&str, &str)]) -> Self {
        Self {
            policy: policy.to_owned(),
            ifaces: ifaces
                .iter()
                .map(|(name, mode)| ((*name).to_owned(), (*mode).to_owned()))
                .collect(),
            extra: Vec::new(),
            config: String::new(),
            clsact: false,
        }
    }
}

/// A daemon of the binary under test, with directories, pins and a socket of its own. Dropping it
/// takes the filter down.
#[derive(Debug)]
pub struct Daemon {
    ns: NetNs,
    bin: PathBuf,
    options: DaemonOptions,
    /// Everything on disk: policy, state, socket, log.
    pub dir: PathBuf,
    /// Its pins.
    pub pin_dir: PathBuf,
    child: Option<Child>,
}

/// What a command of the CLI said.
#[derive(Debug)]
pub struct CliOutput {
    /// Exit code, -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl CliOutput {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it isn't, or the command failed.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "the command failed: {self:?}");
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

impl CliOutput {
    /// Standard output as JSON, one value a line: how `--json` prints lists.
    ///
    /// # Panics
    /// Where a line isn't, or the command failed.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        assert_eq!(self.code, 0, "the command failed: {self:?}");
        let value = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
        };
        self.stdout.lines().map(value).collect()
    }
}

/// The binary under test: `SLUICE_BIN`, set by `cargo xtask test`.
pub fn sluice_bin() -> Option<PathBuf> {
    crate::skip::path_from_env("SLUICE_BIN")
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    /// Console's port; each gate is a namespace of its own, so that all may use the same.
    pub const PORT: u16 = 8470;

    /// Starts one in `ns` and waits until it answers; skips under `test`'s name where there is no
    /// binary.
    ///
    /// # Panics
    /// Where the daemon doesn't come up, with its log.
    pub fn or_skip(test: &str, ns: &NetNs, options: DaemonOptions) -> Option<Self> {
        let Some(bin) = sluice_bin() else {
            crate::skip::skip(test, "SLUICE_BIN isn't set (run `cargo xtask test`)");
            return None;
        };
        let mut daemon = Self::prepare(ns, &bin, options)
            .unwrap_or_else(|error| panic!("preparing a daemon: {error}"));
        daemon.start();
        Some(daemon)
    }

    /// Makes the directories and writes the policy; starts nothing.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn prepare(ns: &NetNs, bin: &Path, options: DaemonOptions) -> Result<Self, LabError> {
        sweep_leftovers();
        let unique = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let dir = std::env::temp_dir().join(format!("sluice-test-{unique}"));
        std::fs::create_dir_all(dir.join("state"))
            .map_err(LabError::system("making a daemon's folder"))?;
        std::fs::write(dir.join("policy.sluice"), &options.policy)
            .map_err(LabError::system("writing a policy"))?;
        // A configuration of its own, mostly empty: the machine's must play no part.
        std::fs::write(dir.join("sluice.toml"), &options.config)
            .map_err(LabError::system("writing a configuration"))?;
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sluice-test-{unique}"));
        Ok(Self { ns: ns.clone(), bin: bin.to_owned(), options, dir, pin_dir, child: None })
    }

    /// The daemon's arguments.
    pub fn args(&self) -> Vec<String> {
        let path = |part: &str| self.dir.join(part).display().to_string();
        let mut args = vec!["--socket".into(), path("sock"), "daemon".into()];
        for (flag, value) in [
            ("--config", path("sluice.toml")),
            ("--policy", path("policy.sluice")),
            ("--state-dir", path("state")),
            ("--pin-dir", self.pin_dir.display().to_string()),
            ("--listen", format!("127.0.0.1:{}", Self::PORT)),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        for (name, mode) in &self.options.ifaces {
            args.extend(["--iface".to_owned(), format!("{name}={mode}")]);
        }
        args.extend(self.options.extra.iter().cloned());
        args
    }

    /// Starts the process and waits until it answers `status`.
    ///
    /// # Panics
    /// Where it doesn't within 20 s, or ends, with its log.
    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|why| panic!("{why}"));
    }

    /// As [`Daemon::start`], for a daemon that may refuse what it is given.
    ///
    /// # Errors
    /// In words, with its log, where it doesn't answer within 20 s, or ends.
    pub fn try_start(&mut self) -> Result<(), String> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a log file");
        let child = self
            .ns
            .command(&self.bin)
            .args(self.args())
            .envs(self.env())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle on the log"))
            .stderr(log)
            .spawn()
            .map_err(|error| format!("starting {}: {error}", self.bin.display()))?;
        self.child = Some(child);
        let mut ended = None;
        let up = wait_for("the daemon answering", Duration::from_secs(20), || {
            ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() {
                Some(false)
            } else {
                (self.cli(&["status"]).code == 0).then_some(true)
            }
        });
        match up {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the daemon ended ({ended:?}); its log:\n{}", self.log())),
            Err(late) => {
                let last = self.cli(&["status"]);
                Err(format!("{late}; last answer {last:?}; its log:\n{}", self.log()))
            }
        }
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn env(&self) -> Option<(&'static str, &'static str)> {
        self.options.clsact.then_some(("SLUICE_CLSACT", "1"))
    }

    /// `sluice --socket … ARGS`, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command(&self.bin);
        command
            .arg("--socket")
            .arg(self.dir.join("sock"))
            .args(args)
            .env_remove("SLUICE_SOCKET")
            .stdin(Stdio::null());
        command
    }

    /// Runs `sluice --socket … ARGS`.
    ///
    /// # Panics
    /// Where the binary can't be started.
    pub fn cli(&self, args: &[&str]) -> CliOutput {
        let output = self
            .command(args)
            .output()
            .unwrap_or_else(|error| panic!("starting {}: {error}", self.bin.display()));
        CliOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command with `--json` and returns what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        self.cli(&[&["--json"], args].concat()).json()
    }

    /// Runs a command that lists something with `--json`: a row a line.
    ///
    /// # Panics
    /// Where it fails.
    pub fn rows(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let output = self.cli(&[&["--json"], args].concat());
        assert_eq!(output.code, 0, "the command failed: {output:?}");
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
        };
        output.stdout.lines().map(parse).collect()
    }

    /// Flows that match a filter, as the CLI prints them.
    ///
    /// # Panics
    /// Where the command fails.
    pub fn flows(&self, filter: &str) -> Vec<serde_json::Value> {
        self.cli(&["--json", "flows", filter]).json_lines()
    }

    /// One rule's row (`default in` and `default out` are rows too).
    ///
    /// # Panics
    /// Where there is no such rule.
    pub fn rule(&self, name: &str) -> serde_json::Value {
        let rows = self.cli(&["--json", "rules"]).json_lines();
        let found = rows.iter().find(|row| row["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no rule {name} in {rows:?}"))
    }

    /// Packets counted under a reason so far.
    pub fn reason(&self, name: &str) -> u64 {
        let stats = self.json(&["stats"]);
        let reasons = stats["reasons"].as_array().cloned().unwrap_or_default();
        reasons
            .iter()
            .filter(|row| row["reason"] == name)
            .filter_map(|row| row["packets"].as_u64())
            .sum()
    }

    /// Applies another policy through the CLI.
    ///
    /// # Panics
    /// Where it isn't taken.
    pub fn apply(&self, policy: &str) {
        let file = self.dir.join("next.sluice");
        std::fs::write(&file, policy).expect("writing a policy");
        // The tests' policies cut off whom they like, and nobody is there to ask.
        let output = self.cli(&["apply", "--yes", "--force", &file.display().to_string()]);
        assert_eq!(output.code, 0, "apply: {output:?}\npolicy:\n{policy}");
    }

    /// The bearer token.
    ///
    /// # Panics
    /// Where the daemon made none.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.join("state/token"))
            .expect("a token file")
            .trim()
            .to_owned()
    }

    /// Process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process runs.
    pub fn alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// `kill -9`: the filter stays.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and the exit code.
    ///
    /// # Panics
    /// Where it doesn't end within 10 s.
    pub fn terminate(&mut self) -> i32 {
        let Some(mut child) = self.child.take() else { return 0 };
        // SAFETY: kill takes numbers; the process is a child that hasn't been waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        let status = wait_for("the daemon ending on SIGTERM", Duration::from_secs(10), || {
            child.try_wait().ok().flatten()
        });
        match status {
            Ok(status) => status.code().unwrap_or(-1),
            Err(late) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{late}; its log:\n{}", self.log())
            }
        }
    }

    /// `sluice daemon --unload` with the same directories.
    pub fn unload(&mut self) -> CliOutput {
        self.terminate();
        let mut args = self.args();
        args.push("--unload".into());
        let mut command = self.ns.command(&self.bin);
        let output = command.args(args).envs(self.env()).output().expect("running --unload");
        CliOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}---", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        remove_pins(&self.pin_dir);
    }
}

/// Takes a folder of pins away; links without a pin or a descriptor are detached by the kernel.
fn remove_pins(dir: &Path) {
    // Not `remove_dir_all`: bpffs refuses to open a pinned object as a file, but unlinks it.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_pins(&entry.path());
        } else {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// Pins and folders of test processes that were killed.
fn sweep_leftovers() {
    for parent in [PathBuf::from("/sys/fs/bpf"), std::env::temp_dir()] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("sluice-test-").and_then(|rest| rest.split('-').next());
            let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
            if !Path::new(&format!("/proc/{pid}")).exists() {
                remove_pins(&entry.path());
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}
