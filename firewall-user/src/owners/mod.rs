//! Who is behind a process that the kernel stamped: executable, command line, user, unit, container, pod.
//!
//! What the kernel says (number, start, user, name, cgroup, executable's inode) is certain; the rest is read from
//! /proc, where the process has to be the same before and after the reading: number *and* start, and the
//! executable, where its inode can be compared. Of one that is gone, or has become another program since, only
//! what the kernel said is known, and the path of its executable if anybody else of that was seen. User, and unit or
//! container, need no living process: the kernel has stamped their numbers.
//!
//! Whoever can't be looked at at once waits in a queue of fixed size. Every look that was due is counted:
//! met = seen + unseen + waiting + overflowed.

mod cache;
mod groups;
mod place;

pub use place::{Place, place};

use cache::Cache;
use firewall_common::abi::socket::Process;
use groups::Wanted;
use std::collections::VecDeque;
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
/// Processes that wait for a look.
const WAITING: usize = 4_096;
/// Of them so many are tried at a time: whoever is gone by then costs little.
const TRIES: usize = 1_000;
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
    due: Due,
}

/// Whether a process is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// That was done, or came too late.
    No,
    /// It waits.
    Waits,
    /// There was no room for it to wait. Whoever comes by it again tries again.
    NoRoom,
}

/// What became of processes that were to be looked at: met = seen + unseen + waiting + overflowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Looks that were due: at new processes, at those that have become another program or changed their name.
    pub met: u64,
    /// They were there.
    pub seen: u64,
    /// They were gone, or had become another program.
    pub unseen: u64,
    /// They wait.
    pub waiting: u64,
    /// There was no room for them to wait, and they weren't looked at since.
    pub overflowed: u64,
}

/// Everybody who was asked for.
pub struct Owners {
    known: Cache<Image, Known>,
    /// Cgroups by their ids: those of processes that are gone.
    cgroups: Cache<u64, Place>,
    wanted: Wanted,
    /// Paths of executables by file system and inode: as `cgroups`.
    exes: Cache<(u32, u64), Arc<str>>,
    users: Cache<u32, Option<Arc<str>>>,
    queue: VecDeque<Process>,
    looks: Looks,
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            known: Cache::new(KNOWN),
            cgroups: Cache::new(CGROUPS),
            wanted: Wanted::default(),
            exes: Cache::new(EXES),
            users: Cache::new(USERS),
            queue: VecDeque::new(),
            looks: Looks::default(),
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

    /// Name of a process's user.
    pub fn user(&self, process: &Process) -> Option<&Arc<str>> {
        let known = self.peek(process).map(|owner| &owner.user);
        known.or_else(|| self.users.peek(&process.uid)).and_then(Option::as_ref)
    }

    /// Where a process belongs: as /proc said, or whoever else knew its cgroup.
    pub fn place(&self, process: &Process) -> Option<&Place> {
        let own = self.peek(process).map(|owner| &owner.place);
        own.filter(|place| place.path.is_some()).or_else(|| self.cgroups.peek(&process.cgroup))
    }

    /// Whether a process has to be learnt of: it is new, or has become another program since. Who isn't stays.
    pub fn is_new(&mut self, process: &Process) -> bool {
        if process.tgid == 0 {
            return false;
        }
        let Some(known) = self.known.touch(&Image::of(process)) else { return true };
        let renamed = !known.names.contains(&process.comm) && known.names.len() < NAMES;
        match known.due {
            Due::No => renamed && known.owner.seen,
            Due::Waits => false,
            Due::NoRoom => true,
        }
    }

    /// Whether a process has ended, as far as /proc tells: nobody has its number, or who has it started at another
    /// time.
    pub fn is_gone(process: &Process) -> bool {
        /// The first pid namespace (`PROC_PID_INIT_INO` in include/linux/proc_ns.h): others have other numbers.
        const FIRST: u64 = 0xefff_fffc;
        let first = std::fs::metadata("/proc/self/ns/pid").is_ok_and(|seen| seen.ino() == FIRST);
        // Where others' processes are hidden (`hidepid`) nobody can tell.
        let sees_all = first && std::path::Path::new("/proc/1/stat").exists();
        let Ok(pid) = i32::try_from(process.tgid) else { return false };
        let about = procfs::process::Process::new(pid);
        sees_all && !about.is_ok_and(|about| is_it(&about, process) && !is_over(&about))
    }

    /// What became of those that were to be looked at.
    pub fn looks(&self) -> Looks {
        Looks { waiting: self.queue.len() as u64, ..self.looks }
    }

    /// How many processes, cgroups and executables were forgotten to make room.
    pub const fn forgotten(&self) -> u64 {
        self.known.forgotten() + self.cgroups.forgotten() + self.exes.forgotten()
    }

    /// Learns of a process if it is new: at once, as long as there are `looks` left, else when it is its turn.
    pub fn meet(&mut self, process: &Process, looks: &mut usize) {
        if !self.is_new(process) {
            return;
        }
        if *looks > 0 {
            *looks -= 1;
            self.learn(process);
        } else {
            self.wait(process);
        }
    }

    /// Looks at those that wait, first come first, as long as there are `looks` left; and for cgroups that nobody
    /// knew.
    pub fn catch_up(&mut self, looks: &mut usize) {
        for _ in 0..TRIES {
            if *looks == 0 {
                break;
            }
            let Some(process) = self.queue.pop_front() else { break };
            *looks -= usize::from(self.look(&process));
        }
        let cgroups = &mut self.cgroups;
        self.wanted.walk(|id, place| cgroups.put(id, place));
    }

    /// The same for all that wait.
    pub fn catch_up_all(&mut self) {
        while !self.queue.is_empty() {
            let mut all = WAITING;
            self.catch_up(&mut all);
        }
    }

    /// Reads what there is of a process, if it is new.
    pub fn learn(&mut self, process: &Process) {
        if self.is_new(process) {
            self.due(process);
            self.look(process);
        }
    }

    /// A look is due: counted once.
    fn due(&mut self, process: &Process) {
        match self.known.touch(&Image::of(process)) {
            Some(known) if known.due == Due::NoRoom => self.looks.overflowed -= 1,
            _ => self.looks.met += 1,
        }
    }

    /// Puts a process that is new in the queue.
    fn wait(&mut self, process: &Process) {
        let room = self.queue.len() < WAITING;
        let known = self.known.touch(&Image::of(process));
        if !room && known.is_some_and(|known| known.due == Due::NoRoom) {
            return;
        }
        self.due(process);
        let due = if room {
            self.queue.push_back(*process);
            Due::Waits
        } else {
            self.looks.overflowed += 1;
            Due::NoRoom
        };
        if let Some(known) = self.known.touch(&Image::of(process)) {
            known.due = due;
        } else {
            let owner = self.stamped(process, Owner::default());
            let names = vec![process.comm];
            self.known.put(Image::of(process), Known { owner: Arc::new(owner), names, due });
        }
    }

    /// Reads what there is of a process that a look is due at; whether it was there.
    fn look(&mut self, process: &Process) -> bool {
        let image = Image::of(process);
        let mut owner = read(process).unwrap_or_default();
        let seen = owner.seen;
        if seen {
            self.looks.seen += 1;
        } else {
            self.looks.unseen += 1;
        }
        if let Some(path) = owner.exe.as_ref().filter(|_| process.exe_inode != 0) {
            self.exes.put(image.exe, path.clone());
        }
        if let Some(path) = owner.place.path.as_ref().filter(|_| process.cgroup > 1) {
            if is_of(path, process.cgroup) {
                self.cgroups.put(process.cgroup, owner.place.clone());
            } else {
                // It was moved meanwhile: where it was when it was stamped counts.
                owner.place = Place::default();
            }
        }
        owner = self.stamped(process, owner);
        let known = self.known.touch(&image);
        let mut names = known.map(|known| std::mem::take(&mut known.names)).unwrap_or_default();
        if !names.contains(&process.comm) {
            names.push(process.comm);
        }
        if !seen
            && let Some(known) = self.known.touch(&image)
            && known.owner.seen
        {
            // Gone by now: what was read stays.
            (known.names, known.due) = (names, Due::No);
            return seen;
        }
        self.known.put(image, Known { owner: Arc::new(owner), names, due: Due::No });
        seen
    }

    /// An owner with what needs no living process: its user; its executable, if others ran the same file. Its cgroup is
    /// looked for if nobody knows it.
    fn stamped(&mut self, process: &Process, owner: Owner) -> Owner {
        let file = (process.exe_device, process.exe_inode);
        let exe = owner.exe.or_else(|| self.exes.touch(&file).cloned());
        if owner.place.path.is_none() && self.cgroups.touch(&process.cgroup).is_none() {
            self.wanted.add(process.cgroup);
        }
        Owner { exe, user: self.user_of(process.uid), ..owner }
    }

    fn user_of(&mut self, uid: u32) -> Option<Arc<str>> {
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

/// Whether it is the process that was stamped, by its start.
fn is_it(about: &procfs::process::Process, process: &Process) -> bool {
    // The kernel turns nanoseconds into ticks as `nsec_to_clock_t` does (kernel/time/time.c): rounded down.
    let tick = SECOND / procfs::ticks_per_second().max(1);
    about.stat().is_ok_and(|stat| stat.starttime == process.start_ns / tick)
}

/// Whether nothing of it is left but its number, until its parent asks.
fn is_over(about: &procfs::process::Process) -> bool {
    about.stat().is_ok_and(|stat| matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1)
}

/// Reads a process, if it is still the one that started then.
fn read(process: &Process) -> Option<Owner> {
    let pid = i32::try_from(process.tgid).ok()?;
    let about = procfs::process::Process::new(pid).ok()?;
    let runs_it = || {
        let seen = std::fs::metadata(format!("/proc/{pid}/exe"));
        seen.map_or(true, |seen| is_file(&seen, process))
    };
    if !is_it(&about, process) {
        return None;
    }
    let same = runs_it();
    let exe = about.exe();
    // On its way out it has no memory any more; the kernel's own threads never had any.
    let dying = matches!(exe, Err(procfs::ProcError::NotFound(_))) && process.exe_inode != 0;
    let exe: Option<Arc<str>> = exe.ok().map(|path| path.to_string_lossy().into());
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
    let still = procfs::process::Process::new(pid).ok().is_some_and(|about| is_it(&about, process));
    let same = same && runs_it();
    let seen = same && !dying && (exe.is_none() || about.exe().is_ok());
    still.then(|| Owner {
        exe: exe.filter(|_| same),
        cmdline: cmdline.filter(|words| same && !words.is_empty()).map(Arc::from),
        place: path.map(|path| place(&path)).unwrap_or_default(),
        seen,
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
