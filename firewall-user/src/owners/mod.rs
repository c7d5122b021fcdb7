//! Who is behind a process that the kernel stamped: executable, command line, user, unit, container, pod.
//!
//! What the kernel says (number, start, user, name, cgroup, executable's inode) is certain; the rest is read from
//! /proc, where the process has to be the same before and after the reading: number *and* start, and the
//! executable, where its inode can be compared. Of one that is gone, or has become another program since, only
//! what the kernel said is known, and the paths of its executable and cgroup if anybody else of them was seen.

mod cache;
mod place;

pub use place::{Place, place};

use cache::Cache;
use firewall_common::abi::socket::Process;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// Programs of processes that are remembered.
const KNOWN: usize = 65_536;
/// Cgroups that are remembered.
const CGROUPS: usize = 16_384;
/// Executables that are remembered.
const EXES: usize = 16_384;
/// Users that are remembered: containers have many, most of them without a name.
const USERS: usize = 4_096;
/// Longest command line that is kept, bytes.
const CMDLINE: usize = 1_024;
/// Names by which one program of a process is read again: whoever has more changes them all the time.
const NAMES: usize = 8;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its executable; `None`: it was gone, or the daemon may not look.
    pub exe: Option<Arc<str>>,
    /// Its arguments, blanks between, cut where they are long.
    pub cmdline: Option<Arc<str>>,
    /// Name of its user.
    pub user: Option<Arc<str>>,
    /// Where its cgroup belongs.
    pub place: Place,
    /// Read from /proc while it lived.
    pub seen: bool,
}

/// One program of a process, in one cgroup: sockets from before and after an exec tell of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Image {
    tgid: u32,
    start_ns: u64,
    exe: (u32, u64),
    cgroup: u64,
}

impl Image {
    const fn of(process: &Process) -> Self {
        let exe = (process.exe_device, process.exe_inode);
        Self { tgid: process.tgid, start_ns: process.start_ns, exe, cgroup: process.cgroup }
    }
}

/// What is remembered of it.
#[derive(Debug)]
struct Known {
    owner: Arc<Owner>,
    /// What the kernel called it when it was read: another name may mean another script under the same
    /// interpreter.
    names: Vec<[u8; 16]>,
}

/// Everybody who was asked for.
pub struct Owners {
    known: Cache<Image, Known>,
    /// Paths of cgroups by their ids: those of processes that are gone.
    cgroups: Cache<u64, Arc<str>>,
    /// Paths of executables by file system and inode: as `cgroups`.
    exes: Cache<(u32, u64), Arc<str>>,
    users: Cache<u32, Option<Arc<str>>>,
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            known: Cache::new(KNOWN),
            cgroups: Cache::new(CGROUPS),
            exes: Cache::new(EXES),
            users: Cache::new(USERS),
        }
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Owners {
    /// What is known of a process; `None`: it was never learnt of.
    pub fn get(&self, process: &Process) -> Option<Arc<Owner>> {
        self.peek(process).cloned()
    }

    /// The same, borrowed.
    pub fn peek(&self, process: &Process) -> Option<&Arc<Owner>> {
        self.known.peek(&Image::of(process)).map(|known| &known.owner)
    }

    /// Whether a process has to be learnt of: it is new, or has become another program since. Who isn't stays.
    pub fn is_new(&mut self, process: &Process) -> bool {
        if process.tgid == 0 {
            return false;
        }
        let Some(known) = self.known.touch(&Image::of(process)) else { return true };
        let renamed = !known.names.contains(&process.comm) && known.names.len() < NAMES;
        renamed && known.owner.seen
    }

    /// How many processes, cgroups and executables were forgotten to make room.
    pub const fn forgotten(&self) -> u64 {
        self.known.forgotten() + self.cgroups.forgotten() + self.exes.forgotten()
    }

    /// Reads what there is of a process, if it is new.
    pub fn learn(&mut self, process: &Process) {
        if !self.is_new(process) {
            return;
        }
        let image = Image::of(process);
        let mut owner = read(process).unwrap_or_default();
        owner.user = self.user(process.uid);
        match &owner.exe {
            Some(path) if process.exe_inode != 0 => self.exes.put(image.exe, path.clone()),
            Some(_) => {}
            // Gone; but others ran the same file.
            None => owner.exe = self.exes.touch(&image.exe).cloned(),
        }
        match &owner.place.path {
            // What was moved meanwhile would give its old cgroup the new one's name.
            Some(path) if process.cgroup > 1 && is_of(path, process.cgroup) => {
                self.cgroups.put(process.cgroup, path.clone());
            }
            Some(_) => {}
            None => {
                if let Some(path) = self.cgroups.touch(&process.cgroup) {
                    owner.place = place(path);
                }
            }
        }
        let known = self.known.touch(&image);
        let mut names = known.map(|known| std::mem::take(&mut known.names)).unwrap_or_default();
        names.push(process.comm);
        if !owner.seen
            && let Some(known) = self.known.touch(&image)
            && known.owner.seen
        {
            // Gone by now: what was read stays.
            known.names = names;
            return;
        }
        self.known.put(image, Known { owner: Arc::new(owner), names });
    }

    fn user(&mut self, uid: u32) -> Option<Arc<str>> {
        if let Some(name) = self.users.touch(&uid) {
            return name.clone();
        }
        let user = uzers::get_user_by_uid(uid);
        let name: Option<Arc<str>> = user.map(|user| user.name().to_string_lossy().into());
        self.users.put(uid, name.clone());
        name
    }
}

/// Whether the cgroup at this path has this id: that is its directory's inode, where it can be seen.
fn is_of(path: &str, id: u64) -> bool {
    let seen = std::fs::metadata(format!("/sys/fs/cgroup{path}"));
    seen.map_or(true, |seen| seen.ino() == id)
}

/// Whether a file is the one that was stamped. File systems on others (overlayfs) have devices and inodes of their
/// own making: what is on another device than the stamp's says nothing.
fn is_file(seen: &std::fs::Metadata, process: &Process) -> bool {
    // The kernel's own numbering (include/linux/kdev_t.h), where the system calls have another.
    let dev = seen.dev();
    let device = rustix::fs::major(dev) << 20 | rustix::fs::minor(dev);
    process.exe_inode == 0 || device != process.exe_device || seen.ino() == process.exe_inode
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
    let runs_it = || {
        let seen = std::fs::metadata(format!("/proc/{pid}/exe"));
        seen.map_or(true, |seen| is_file(&seen, process))
    };
    if !is_it(&about) {
        return None;
    }
    let same = runs_it();
    let exe = about.exe().ok().map(|path| path.to_string_lossy().into());
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
    // The number may have become another's while we read, and the process another program.
    let still = procfs::process::Process::new(pid).ok().is_some_and(|about| is_it(&about));
    let same = same && runs_it();
    still.then(|| Owner {
        exe: exe.filter(|_| same),
        cmdline: cmdline.filter(|words| same && !words.is_empty()).map(Arc::from),
        place: path.map(|path| place(&path)).unwrap_or_default(),
        seen: same,
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
