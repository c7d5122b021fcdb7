//! Who is behind a process that the kernel stamped: executable, command line, user, unit, container.
//!
//! What the kernel says (number, start, user, name, cgroup) is certain; the rest is read from /proc, where the
//! process has to be the same before and after the reading: number *and* start. Of one that is gone only what
//! the kernel said is known, and the path of its cgroup if anybody else of it was seen.

mod place;

pub use place::{Place, place};

use firewall_common::abi::socket::Process;
use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use uzers::{Users as _, UsersCache};

/// Processes that are remembered.
const KNOWN: usize = 65_536;
/// Cgroups that are remembered.
const CGROUPS: usize = 16_384;
/// Executables that are remembered.
const EXES: usize = 16_384;
/// Longest command line that is kept, bytes.
const CMDLINE: usize = 1_024;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its executable; `None`: it was gone, or the daemon may not look.
    pub exe: Option<String>,
    /// Its arguments, blanks between, cut where they are long.
    pub cmdline: Option<String>,
    /// Name of its user.
    pub user: Option<String>,
    /// Where its cgroup belongs.
    pub place: Place,
    comm: [u8; 16],
    /// Read from /proc while it lived.
    pub seen: bool,
}

/// Everybody who was asked for.
#[derive(Default)]
pub struct Owners {
    known: HashMap<(u32, u64), Arc<Owner>>,
    /// Paths of cgroups by their ids: those of processes that are gone.
    cgroups: HashMap<u64, String>,
    /// Paths of executables by file system and inode: as `cgroups`.
    exes: HashMap<(u32, u64), String>,
    users: UsersCache,
    forgotten: u64,
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Owners {
    /// What is known of a process; `None`: it was never learnt of.
    pub fn get(&self, process: &Process) -> Option<Arc<Owner>> {
        self.known.get(&(process.tgid, process.start_ns)).cloned()
    }

    /// Whether a process has to be learnt of: it is new, or has become another program since.
    pub fn is_new(&self, process: &Process) -> bool {
        let known = self.known.get(&(process.tgid, process.start_ns));
        process.tgid != 0 && known.is_none_or(|owner| owner.comm != process.comm && owner.seen)
    }

    /// How many were forgotten to make room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Reads what there is of a process, if it is new.
    pub fn learn(&mut self, process: &Process) {
        if !self.is_new(process) {
            return;
        }
        let identity = (process.tgid, process.start_ns);
        if self.known.len() >= KNOWN && !self.known.contains_key(&identity) {
            // Whoever is still about is learnt of again.
            self.forgotten += self.known.len() as u64;
            self.known.clear();
        }
        let mut owner = read(process).unwrap_or_default();
        owner.comm = process.comm;
        owner.user = self
            .users
            .get_user_by_uid(process.uid)
            .map(|user| user.name().to_string_lossy().into_owned());
        let file = (process.exe_device, process.exe_inode);
        match &owner.exe {
            Some(path) if process.exe_inode != 0 => {
                if self.exes.len() >= EXES {
                    self.exes.clear();
                }
                self.exes.insert(file, path.clone());
            }
            Some(_) => {}
            // Gone; but others ran the same file.
            None => owner.exe = self.exes.get(&file).cloned(),
        }
        match owner.place.path.clone() {
            Some(path) if process.cgroup > 1 => {
                if self.cgroups.len() >= CGROUPS {
                    self.cgroups.clear();
                }
                self.cgroups.insert(process.cgroup, path);
            }
            None => {
                if let Some(path) = self.cgroups.get(&process.cgroup) {
                    owner.place = place(path);
                }
            }
            Some(_) => {}
        }
        self.known.insert(identity, Arc::new(owner));
    }
}

/// Reads a process, if it is still the one that started then.
fn read(process: &Process) -> Option<Owner> {
    let pid = i32::try_from(process.tgid).ok()?;
    let about = procfs::process::Process::new(pid).ok()?;
    let is_it = |about: &procfs::process::Process| {
        // The kernel turns nanoseconds into ticks as `nsec_to_clock_t` does (kernel/time/time.c): rounded down.
        let tick = SECOND / procfs::ticks_per_second().max(1);
        about.stat().is_ok_and(|stat| stat.starttime == process.start_ns / tick)
    };
    if !is_it(&about) {
        return None;
    }
    let exe = about.exe().ok().map(|path| path.to_string_lossy().into_owned());
    let cmdline = arguments(pid).ok();
    let groups = about.cgroups().ok().map(|groups| groups.0);
    let path = groups.and_then(|groups| {
        // Version 2's is the one without controllers; on a hybrid system systemd's own is more telling.
        let of = |name: &str| {
            groups
                .iter()
                .find(|group| group.controllers == [name])
                .map(|group| group.pathname.clone())
        };
        let unified =
            groups.iter().find(|group| group.hierarchy == 0).map(|group| group.pathname.clone());
        unified.filter(|path| path != "/").or_else(|| of("name=systemd")).or_else(|| of("pids"))
    });
    // The number may have become another's while we read.
    let still = procfs::process::Process::new(pid).ok().is_some_and(|about| is_it(&about));
    still.then(|| Owner {
        exe,
        cmdline: cmdline.filter(|words| !words.is_empty()),
        place: path.map(|path| place(&path)).unwrap_or_default(),
        seen: true,
        ..Owner::default()
    })
}

/// Arguments with blanks between them; procfs wants all of them, and in UTF-8.
fn arguments(pid: i32) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/cmdline"))?;
    // One letter more, so that it is seen to be cut.
    file.take(CMDLINE as u64 + 4).read_to_end(&mut bytes)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    Ok(shortened(&String::from_utf8_lossy(&bytes)))
}

fn shortened(text: &str) -> String {
    if text.len() <= CMDLINE {
        return text.to_owned();
    }
    let end = (0..=CMDLINE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests;
