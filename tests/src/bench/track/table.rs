//! What a full table costs beside the packets: `sweep 1M`, `dump 1M`, `memory v4|v6|nat`.

use super::super::Figures;
use super::super::gate::Gate;
use super::{CONNTRACK, MAX_FLOWS, SLUICE};
use crate::lab::NetNs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the daemon is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// How long it gets to come to rest.
const REST: Duration = Duration::from_secs(5);

/// What the daemon takes of a core, percent, when nothing happens: one figure a look.
pub(super) fn daemon_share(gate: &Gate, rounds: usize) -> Vec<f64> {
    std::thread::sleep(REST);
    (0..rounds.min(3))
        .map(|_| {
            let (start, before) = (Instant::now(), gate.cpu_time());
            std::thread::sleep(WATCHED);
            let spent = gate.cpu_time().saturating_sub(before);
            100.0 * spent as f64 / start.elapsed().as_nanos() as f64
        })
        .collect()
}

/// Maps of each family's flows, and of translations.
const MAPS: [(&str, &[&str]); 3] = [
    ("memory v4", &["FLOWS4", "BUCKETS4", "LOCKS"]),
    ("memory v6", &["FLOWS6", "BUCKETS6", "LOCKS"]),
    ("memory nat", &["ALIASES", "ALIAS_BUCKETS", "PORTS"]),
];

/// With a million flows in its table.
pub(super) fn sluice(figures: &mut Figures, gate: &Gate, idle: Vec<f64>, rounds: usize) {
    eprintln!("bench: sweep, dump, memory");
    for share in daemon_share(gate, rounds) {
        figures.add(SLUICE, "sweep 1M", "% of a core", share);
    }
    for share in idle {
        figures.add("sluice without flows", "sweep 1M", "% of a core", share);
    }
    for _ in 0..rounds.min(3) {
        let mut command = gate.daemon.command(&["--json", "flows", "--limit", "2000000"]);
        match dump(&mut command) {
            Ok((lines, seconds)) if lines >= 1 << 20 => {
                figures.add(SLUICE, "dump 1M", "s", seconds);
            }
            Ok((lines, _)) => {
                figures.missing(SLUICE, "dump 1M", format!("only {lines} flows were told"));
            }
            Err(why) => figures.missing(SLUICE, "dump 1M", why),
        }
    }
    for (case, maps) in MAPS {
        match gate.memory(maps) {
            0 => figures.missing(SLUICE, case, format!("no map of {maps:?}")),
            bytes => {
                let each = bytes as f64 / f64::from(MAX_FLOWS);
                figures.add(SLUICE, case, "bytes a flow", each);
            }
        }
    }
}

/// With a million entries in the kernel's table.
pub(super) fn conntrack(figures: &mut Figures, ns: &NetNs, rounds: usize) {
    for _ in 0..rounds.min(3) {
        let mut command = ns.command("conntrack");
        match dump(command.arg("-L")) {
            Ok((lines, seconds)) if lines >= 1 << 20 => {
                figures.add(CONNTRACK, "dump 1M", "s", seconds);
            }
            Ok((lines, _)) => {
                figures.missing(CONNTRACK, "dump 1M", format!("only {lines} entries were told"));
            }
            Err(why) => figures.missing(CONNTRACK, "dump 1M", why),
        }
    }
    match entry_size() {
        // A chain's head beside each entry, as many as there are entries.
        Some(bytes) => figures.add(CONNTRACK, "memory v4", "bytes a flow", bytes + 8.0),
        None => figures.missing(CONNTRACK, "memory v4", "/proc/slabinfo has no nf_conntrack"),
    }
}

/// Bytes of a slab page that an entry takes.
fn entry_size() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("nf_conntrack "))?;
    let number = |i: usize| line.split_whitespace().nth(i)?.parse::<f64>().ok();
    // name, active, all, size, entries a slab, pages a slab
    Some(number(5)? * 4096.0 / number(4)?)
}

/// Runs a command that lists: lines, and seconds until the last.
fn dump(command: &mut Command) -> Result<(usize, f64), String> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut reader = BufReader::with_capacity(1 << 20, child.stdout.take().ok_or("no output")?);
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf().map_err(|error| error.to_string())?;
        if buffer.is_empty() {
            break;
        }
        lines += buffer.iter().filter(|byte| **byte == b'\n').count();
        let n = buffer.len();
        reader.consume(n);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    if status.success() { Ok((lines, seconds)) } else { Err(format!("it ended with {status}")) }
}
