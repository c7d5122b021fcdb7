//! Sluice as its users have it: the daemon in a namespace, its programs found behind its links.

use crate::bpf::{Map, Program, linked_program};
use crate::lab::{Daemon, DaemonOptions, NetNs, sluice_bin};
use std::path::{Path, PathBuf};

/// A running daemon.
#[derive(Debug)]
pub(super) struct Gate {
    /// The daemon.
    pub daemon: Daemon,
}

/// What a daemon is started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    /// Interfaces with their hook modes.
    pub ifaces: &'a [(&'a str, &'a str)],
    /// The policy.
    pub policy: &'a str,
    /// Most flows of a family.
    pub max_flows: u32,
}

impl Gate {
    /// Starts one.
    ///
    /// # Errors
    /// In words: no binary, or it refuses what it is given.
    pub fn start(ns: &NetNs, setup: Setup<'_>) -> Result<Self, String> {
        let bin = sluice_bin().ok_or("SLUICE_BIN isn't set: run `cargo xtask bench`")?;
        let options = DaemonOptions::on(setup.policy, setup.ifaces);
        let mut daemon = Daemon::prepare(ns, &bin, options).map_err(|error| error.to_string())?;
        std::fs::write(
            daemon.dir.join("sluice.toml"),
            format!("max_flows = {}\n", setup.max_flows),
        )
        .map_err(|error| error.to_string())?;
        daemon.try_start().map_err(|why| shortened(&why))?;
        Ok(Self { daemon })
    }

    /// The program behind one of its links, by the end of the pin's name: `in-xdp`, `in-tcx`, `out-tcx`.
    ///
    /// # Errors
    /// In words, where there is no such link.
    pub fn program(&self, hook: &str) -> Result<Program, String> {
        let pins = self.pins();
        let path = pins
            .iter()
            .find(|path| path.to_string_lossy().ends_with(&format!("-{hook}")))
            .ok_or_else(|| format!("no link {hook} among {pins:?}"))?;
        linked_program(path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Sum of what the kernel accounts for these maps, bytes; maps that aren't there count nothing.
    pub fn memory(&self, names: &[&str]) -> u64 {
        self.memory_of(|name| names.contains(&name))
    }

    /// The same of all maps whose pins have such a name.
    pub fn memory_of(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let named =
            |path: &&PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
        self.pins()
            .iter()
            .filter(named)
            .filter_map(|path| Map::pinned(path).ok()?.info("memlock").ok())
            .sum()
    }

    /// Applies a policy, as `sluice apply FILE` does.
    ///
    /// # Errors
    /// The daemon's, in words.
    pub fn apply(&self, policy: &str) -> Result<(), String> {
        let file = self.daemon.dir.join("next.sluice");
        std::fs::write(&file, policy).map_err(|error| format!("{}: {error}", file.display()))?;
        let output = self.daemon.cli(&["apply", "--yes", "--force", &file.display().to_string()]);
        if output.code == 0 { Ok(()) } else { Err(refusal(&output.stderr)) }
    }

    /// Packets that it dropped so far, for whatever reason.
    pub fn dropped(&self) -> u64 {
        let stats = self.daemon.json(&["stats"]);
        stats["dropped_packets"].as_u64().unwrap_or_else(|| panic!("no dropped_packets: {stats}"))
    }

    /// CPU time that the daemon has used, nanoseconds.
    pub fn cpu_time(&self) -> u64 {
        let pid = self.daemon.pid().unwrap_or_default();
        tasks(pid).iter().map(|task| run_time(task)).sum()
    }

    /// Keeps the daemon to one core, so that the other is the measurement's.
    pub fn keep_to_cpu(&self, cpu: usize) {
        for task in tasks(self.daemon.pid().unwrap_or_default()) {
            let name = task.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Ok(tid) = name.parse() {
                crate::bpf::pin_task_to_cpu(tid, cpu);
            }
        }
    }

    /// Tells the gate that frames of these interfaces come off a wire: what the generator sends has whole
    /// checksums, which frames of a veth need not have, so that by itself the gate would not let XDP
    /// rewrite them. Established flows may skip the stack there.
    ///
    /// # Errors
    /// In words, where this gate has no such flag.
    pub fn is_on_wires(&self, indexes: &[u32]) -> Result<(), String> {
        let words = |error: std::io::Error| format!("IFACES: {error}");
        let map = Map::pinned(&self.daemon.pin_dir.join("IFACES")).map_err(words)?;
        let len = map.info("value_size").map_err(words)? as usize;
        if len < 16 {
            return Err("this gate doesn't tell wires from other links".into());
        }
        for index in indexes {
            let mut entry = map.lookup(&index.to_ne_bytes(), len).map_err(words)?;
            // `flags`: IFACE_WIRE, IFACE_FAST.
            entry[4] |= 3;
            map.update(&index.to_ne_bytes(), &entry).map_err(words)?;
        }
        Ok(())
    }

    fn pins(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.daemon.pin_dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

/// What matters of a daemon's complaint, which brings its whole log: how it ended, and its errors.
fn shortened(why: &str) -> String {
    let mut lines = why.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    let errors: Vec<&str> =
        lines.filter(|line| line.contains("error: ") || line.contains("ERROR")).take(3).collect();
    format!("{first} {}", errors.join("; "))
}

/// The error of a command that failed, in one line: its warnings aren't why.
pub(super) fn refusal(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.contains("error")).or(lines().next_back());
    error.unwrap_or("it says nothing").chars().take(300).collect()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/task"));
    folder.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Time that a task has run, nanoseconds: first number of its `schedstat`.
pub(super) fn run_time(task: &Path) -> u64 {
    std::fs::read_to_string(task.join("schedstat"))
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The kernel's soft-interrupt thread of a core: what the network does there beyond its callers' time.
pub(super) fn softirq_task(cpu: usize) -> PathBuf {
    let wanted = format!("ksoftirqd/{cpu}");
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == wanted)
        })
        .unwrap_or_default()
}
