//! What a run has made, and how it goes away, whether the run ended well or was killed.

use std::fs::File;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::place::Dirs;
use crate::lab::{Lab, Place};
use crate::step::probe;

/// Makes sure that no other run of this name is going on, for as long as the value lives. An
/// abstract socket's name is given back by the kernel however the process ends, and is no file.
pub fn lock(name: &str) -> Result<UnixListener> {
    let address =
        SocketAddr::from_abstract_name(format!("sluice-run-{name}")).context("the lock's name")?;
    UnixListener::bind_addr(&address).map_err(|_| {
        anyhow!(
            "`cargo xtask run` is going on already; another one may stand beside it with \
             --name OTHER --port N (this one's name is {name})"
        )
    })
}

/// Writes a process down: its id and when it began, since ids are used again.
pub fn note(dirs: &Dirs, pid: u32) -> Result<()> {
    let Some(began) = began(pid) else {
        // It has ended already, and whoever waits for it will say so.
        return Ok(());
    };
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(dirs.base().join("pids"))
        .context("cannot write down a process")?;
    writeln!(file, "{pid} {began}").context("cannot write down a process")
}

/// When a process began, in clock ticks since boot: field 22 of its stat.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    began_in(&stat)
}

fn began_in(stat: &str) -> Option<u64> {
    // The second field is the name, in parentheses, and may hold anything.
    let rest = &stat[stat.rfind(')')? + 1..];
    let state = rest.split_whitespace().next()?;
    if state == "Z" {
        return None;
    }
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Takes away processes, pins, namespaces and directories. Returns whether there were any.
pub fn clear(dirs: &Dirs, lab: &Lab, binary: &Path) -> Result<bool> {
    let mut any = false;
    let noted = std::fs::read_to_string(dirs.base().join("pids")).unwrap_or_default();
    for line in noted.lines() {
        let mut words = line.split(' ').filter_map(|w| w.parse::<u64>().ok());
        if let (Some(pid), Some(when)) = (words.next(), words.next())
            && let Ok(pid) = u32::try_from(pid)
        {
            any |= end(pid, when)?;
        }
    }
    if dirs.pins().exists() {
        any = true;
        // The daemon's own way takes filters off that are no pinned links.
        let mut command = if lab.netns_file(Place::Gate).exists() {
            lab.command(Place::Gate, &binary.display().to_string())
        } else {
            Command::new(binary)
        };
        let _ = probe(command.args(dirs.daemon_args()).arg("--unload"), Duration::from_secs(20));
        remove_pins(dirs.pins());
        if dirs.pins().exists() {
            bail!("{} can't be removed", dirs.pins().display());
        }
    }
    any |= lab.down()?;
    if dirs.base().exists() {
        any = true;
        std::fs::remove_dir_all(dirs.base())
            .with_context(|| format!("cannot remove {}", dirs.base().display()))?;
    }
    Ok(any)
}

fn end(pid: u32, when: u64) -> Result<bool> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(false);
    };
    if began(pid) != Some(when) {
        return Ok(false);
    }
    for signal in [Signal::TERM, Signal::KILL] {
        // An error means that it has just ended.
        let _ = kill_process(raw, signal);
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if began(pid) != Some(when) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    bail!("process {pid} of an earlier run does not end")
}

/// Unlinks everything in a directory of pins: objects nobody else holds go with their pins.
/// (`remove_dir_all` opens what it removes, which the BPF file system refuses.)
fn remove_pins(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_pins(&entry.path());
        } else {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_began() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!(began_in(stat), Some(98765));
        let zombie = stat.replace(" S ", " Z ");
        assert_eq!(began_in(&zombie), None);
        assert_eq!(began_in("junk"), None);
    }

    #[test]
    fn one_run_of_a_name_at_a_time() {
        let name = format!("unit-{}", std::process::id());
        let held = lock(&name).unwrap();
        assert!(lock(&name).is_err());
        drop(held);
        // A child that a test beside this one starts has the descriptor, too, from its fork to its exec.
        let until = Instant::now() + Duration::from_secs(5);
        while lock(&name).is_err() {
            assert!(Instant::now() < until, "it is free again");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn only_the_very_process_is_ended() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let when = began(child.id()).unwrap();
        assert!(!end(child.id(), when + 1).unwrap(), "another one's id");
        assert!(child.try_wait().unwrap().is_none(), "left alone");
        assert!(end(child.id(), when).unwrap());
        assert!(!child.wait().unwrap().success());
    }
}
