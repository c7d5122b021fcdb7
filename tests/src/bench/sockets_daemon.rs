//! The whole daemon with many sockets on the machine: what it keeps in memory, and what it costs while nobody asks
//! and nothing happens.
//!
//! - `memory 20k`: resident memory of `sluice daemon` that knows of 20,000 connected sockets (`VmRSS`), and of one
//!   that has just started without them; the rows were asked for once, as an operator does.
//! - `idle 20k`: its share of a core over half a minute after that, user and system (`/proc/PID/stat`): two thirds of
//!   it without a look at all descriptors, which are a minute apart; what such a look takes is in `snapshot 20k`.
//!
//! The flow tables are the kernel's memory, which the daemon maps; pages of it that it has touched are in `VmRSS`,
//! too. So memory is told in two figures: what is the daemon's own (`RssAnon`), and all.

use super::{Figures, sockets::Holders};
use crate::lab::{Daemon, DaemonOptions, NetNs, sluice_bin};
use std::time::{Duration, Instant};

const SLUICE: &str = "sluice";
const MEMORY: &str = "memory 20k";
const IDLE: &str = "idle 20k";
/// Sockets: a pair for each connection.
const SOCKETS: usize = 20_000;
/// What idling is measured over.
const TIME: Duration = Duration::from_secs(30);
/// After the start and after a question: what it does once is done by then, and what that took is given back.
const SETTLE: Duration = Duration::from_secs(13);

/// Measures.
pub(super) fn measure(figures: &mut Figures, rounds: usize) -> Result<(), String> {
    if !figures.wants(&[MEMORY, IDLE]) {
        return Ok(());
    }
    let Some(bin) = sluice_bin() else {
        return Err("SLUICE_BIN isn't set (run `cargo xtask bench sockets`)".into());
    };
    let idles = figures.wants(&[IDLE]);
    for round in 1..=rounds.min(3) {
        eprintln!("bench: {MEMORY}, {IDLE}: round {round}");
        let gate = NetNs::new("gate").map_err(|error| error.to_string())?;
        let options = DaemonOptions::on("default in allow\n", &[]);
        let mut daemon =
            Daemon::prepare(&gate, &bin, options).map_err(|error| error.to_string())?;
        daemon.try_start()?;
        std::thread::sleep(SETTLE);
        let pid = daemon.pid().ok_or("the daemon ended")?;
        memory(figures, "without sockets", pid)?;
        if idles {
            figures.add("without sockets", IDLE, "% of a core", share(pid, TIME / 3)?);
        }
        let many = NetNs::new("many").map_err(|error| error.to_string())?;
        let _holders = many.run(|| Holders::start(SOCKETS))?;
        let _rows = daemon.rows(&["sockets", "state=established"]);
        let stats = daemon.json(&["sockets", "--stats"]);
        if stats["live"].as_u64() < Some(SOCKETS as u64) {
            return Err(format!("{SOCKETS} sockets weren't all seen: {stats}"));
        }
        std::thread::sleep(SETTLE);
        memory(figures, SLUICE, pid)?;
        if idles {
            figures.add(SLUICE, IDLE, "% of a core", share(pid, TIME)?);
        }
    }
    Ok(())
}

fn memory(figures: &mut Figures, subject: &str, pid: u32) -> Result<(), String> {
    figures.add(subject, MEMORY, "MB of its own", resident(pid, "RssAnon:")?);
    figures.add(subject, MEMORY, "MB resident", resident(pid, "VmRSS:")?);
    Ok(())
}

/// Resident memory of a kind, megabytes.
fn resident(pid: u32, kind: &str) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(kind));
    let kilobytes: Option<f64> =
        line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
    kilobytes.map(|n| n * 1024.0 / 1e6).ok_or_else(|| format!("{path}: no {kind}"))
}

/// Time that a process and its threads have had, seconds.
fn time(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: f64 =
        after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    // SAFETY: sysconf reads a number.
    Ok(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
}

/// Share of a core that a process takes for so long, per cent.
fn share(pid: u32, over: Duration) -> Result<f64, String> {
    let (start, before) = (Instant::now(), time(pid)?);
    std::thread::sleep(over);
    Ok((time(pid)? - before) / start.elapsed().as_secs_f64() * 100.0)
}
