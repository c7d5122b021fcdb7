//! Who is meant by rules by owner on this machine, now: users have numbers, executables are files that may be replaced,
//! cgroups come and go.

use crate::{
    datapath::{
        cgroup,
        owners::{OwnerKeys, OwnerPolicy},
    },
    policy::{CompileError, OwnerRules},
};
use firewall_common::abi::owner::{OWNER_PLACES, OwnerField};
use rustix::fs::{AtFlags, CWD, StatxFlags, major, minor, statx};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at every cgroup of the machine.
const WALK: Duration = Duration::from_secs(5);
/// Cgroups below each other that are walked, and all that are: the kernel's room for them.
const DEPTH: usize = 16;
const CGROUPS: usize = 12_000;

/// A file: file system as the kernel numbers it, inode.
type File = (u32, u64);

/// Finds out who is meant, again and again.
pub struct Whose {
    rules: OwnerRules,
    flags: u32,
    /// Rows that the live table has.
    rows: usize,
    /// Files that each executable's path has stood for, the latest last: of those before it processes may still run.
    files: BTreeMap<String, Vec<File>>,
    keys: OwnerKeys,
    unknown: Vec<String>,
    looked: Instant,
    walked: Option<Instant>,
}

impl Whose {
    /// Of a policy's rules.
    pub fn new(rules: OwnerRules) -> Self {
        Self {
            rules,
            flags: 0,
            rows: 0,
            files: BTreeMap::new(),
            keys: OwnerKeys::default(),
            unknown: Vec::new(),
            looked: Instant::now(),
            walked: None,
        }
    }

    /// The rules, with who is meant now.
    ///
    /// # Errors
    /// They don't fit.
    pub fn policy(&mut self) -> Result<OwnerPolicy, CompileError> {
        self.flags = self.rules.table()?.flags;
        // A row for each name, whether it is there or comes later: the live table gets no more of them.
        for field in [OwnerField::User, OwnerField::Exe, OwnerField::Process, OwnerField::Unit] {
            for name in self.rules.names(field) {
                self.rules.row(field, &|text| text == name);
            }
        }
        for path in self.rules.names(OwnerField::Cgroup) {
            self.rules.row(OwnerField::Cgroup, &|text| is_at_or_below(&path, text));
        }
        self.keys = self.look(true);
        let table = self.rules.table()?;
        self.rows = self.rules.rows();
        Ok(OwnerPolicy { table, keys: self.keys.clone(), others: self.rules.others() })
    }

    /// The rules are live already, from an earlier life of the daemon: the next look tells the kernel who is meant.
    ///
    /// # Errors
    /// They don't fit.
    pub fn resume(&mut self) -> Result<(), CompileError> {
        self.policy()?;
        self.keys = OwnerKeys::default();
        Ok(())
    }

    /// Looks again, if it is time; who is meant, if that has changed since.
    pub fn refresh(&mut self) -> Option<OwnerKeys> {
        if self.looked.elapsed() < PERIOD {
            return None;
        }
        let walks = self.walked.is_none_or(|at| at.elapsed() >= WALK);
        let mut keys = self.look(walks);
        if self.rules.rows() > self.rows {
            // Two names have come to mean the same file or user: the live table has no row for both together.
            let rows = self.rows;
            let has = |row: &mut u16| usize::from(*row) < rows;
            keys.users.retain(|_, row| has(row));
            keys.exes.retain(|_, row| has(row));
            self.unknown.push(
                "two names have come to mean the same: `sluice apply` the policy again".to_owned(),
            );
        }
        (keys != self.keys || walks && !keys.places.is_empty()).then(|| {
            self.keys = keys.clone();
            keys
        })
    }

    /// What rules name and isn't there, in words.
    pub fn unknown(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|what| format!("rules by owner: {what}: nobody meets them"))
    }

    fn look(&mut self, walks: bool) -> OwnerKeys {
        self.looked = Instant::now();
        self.unknown.clear();
        let mut keys = OwnerKeys {
            users: self.users(),
            exes: self.exes(),
            processes: BTreeMap::new(),
            units: BTreeMap::new(),
            cgroups: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        for name in self.rules.names(OwnerField::Process) {
            let mut comm = [0; 16];
            let length = name.len().min(15);
            comm[..length].copy_from_slice(&name.as_bytes()[..length]);
            keys.processes.insert(comm, self.rules.row(OwnerField::Process, &|text| text == name));
        }
        for unit in self.rules.names(OwnerField::Unit) {
            let row = self.rules.row(OwnerField::Unit, &|text| text == unit);
            keys.units.insert(unit, row);
        }
        if self.flags & OWNER_PLACES != 0 {
            self.cgroups(&mut keys, walks);
        }
        keys
    }

    fn users(&mut self) -> BTreeMap<u32, u16> {
        let mut numbers: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for name in self.rules.names(OwnerField::User) {
            let uid =
                name.parse().ok().or_else(|| uzers::get_user_by_name(&name).map(|user| user.uid()));
            match uid {
                Some(uid) => drop(numbers.entry(uid).or_default().insert(name)),
                None => self.unknown.push(format!("there is no user `{name}`")),
            }
        }
        let rows = numbers.into_iter().map(|(uid, names)| {
            (uid, self.rules.row(OwnerField::User, &|text| names.contains(text)))
        });
        rows.collect()
    }

    fn exes(&mut self) -> BTreeMap<File, u16> {
        let names = self.rules.names(OwnerField::Exe);
        let mut replaced = false;
        for path in &names {
            let known = self.files.entry(path.clone()).or_default();
            match file(Path::new(path)) {
                Some(now) if known.last() != Some(&now) => {
                    known.retain(|old| *old != now);
                    known.push(now);
                }
                Some(_) => {}
                None if known.is_empty() => {
                    self.unknown.push(format!("there is no file `{path}`"));
                }
                // Gone: who runs it still does.
                None => replaced = true,
            }
            replaced |= known.len() > 1;
        }
        if replaced {
            let running = running();
            for (path, known) in &mut self.files {
                let now = file(Path::new(path));
                known.retain(|one| Some(*one) == now || running.contains(one));
            }
        }
        let mut of: BTreeMap<File, BTreeSet<String>> = BTreeMap::new();
        for (path, files) in &self.files {
            for file in files {
                of.entry(*file).or_default().insert(path.clone());
            }
        }
        let rows = of.into_iter().map(|(file, paths)| {
            (file, self.rules.row(OwnerField::Exe, &|text| paths.contains(text)))
        });
        rows.collect()
    }

    /// Cgroups that rules name; if `walks`, the rows of every cgroup that there is.
    fn cgroups(&mut self, keys: &mut OwnerKeys, walks: bool) {
        let Some(root) = cgroup::mounted() else {
            self.unknown
                .push("cgroup v2 isn't mounted: units and cgroups can't be told".to_owned());
            return;
        };
        for path in self.rules.names(OwnerField::Cgroup) {
            let Ok(found) = std::fs::metadata(root.join(path.trim_start_matches('/'))) else {
                self.unknown.push(format!("there is no cgroup `{path}`"));
                continue;
            };
            let row = self.rules.row(OwnerField::Cgroup, &|text| is_at_or_below(&path, text));
            keys.cgroups.insert(found.ino(), row);
        }
        if !walks {
            keys.places.clone_from(&self.keys.places);
            return;
        }
        self.walked = Some(Instant::now());
        let nobody = (
            self.rules.row(OwnerField::Unit, &|_| false),
            self.rules.row(OwnerField::Cgroup, &|_| false),
        );
        walk(&root, None, nobody, keys, DEPTH);
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A directory and all below it: the outermost unit counts, and the nearest cgroup that rules name. As the kernel's own
/// walk (firewall-ebpf/src/owners/place.rs).
fn walk(
    directory: &Path,
    unit: Option<u16>,
    (nobody, above): (u16, u16),
    keys: &mut OwnerKeys,
    depth: usize,
) {
    let Ok(found) = std::fs::metadata(directory) else { return };
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ends = [".service", ".scope", ".socket", ".mount", ".swap"];
    let unit = unit.or_else(|| {
        ends.iter()
            .any(|ending| name.len() > ending.len() && name.ends_with(ending))
            .then(|| keys.units.get(name).copied().unwrap_or(nobody))
    });
    let cgroup = keys.cgroups.get(&found.ino()).copied().unwrap_or(above);
    keys.places.insert(found.ino(), (unit.unwrap_or(nobody), cgroup));
    if depth == 0 || keys.places.len() >= CGROUPS {
        return;
    }
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), unit, (nobody, cgroup), keys, depth - 1);
    }
}

/// The file that a path stands for, as the kernel knows it. (`st_dev` won't do: btrfs gives its subvolumes numbers of
/// their own there; what a mount says is `s_dev`.)
fn file(path: &Path) -> Option<File> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID).ok()?;
    let mounts = procfs::process::Process::myself().and_then(|myself| myself.mountinfo()).ok();
    let device = mounts
        .and_then(|mounts| {
            let of = |mount: &procfs::process::MountInfo| {
                u64::try_from(mount.mnt_id).is_ok_and(|id| id == stat.stx_mnt_id)
            };
            mounts.into_iter().find(of).and_then(|mount| {
                let (major, minor) = mount.majmin.split_once(':')?;
                Some((major.parse().ok()?, minor.parse().ok()?))
            })
        })
        .unwrap_or((stat.stx_dev_major, stat.stx_dev_minor));
    Some((number(device.0, device.1), stat.stx_ino))
}

/// MKDEV (include/linux/kdev_t.h).
const fn number(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// Executables of every process. (Of a file that is gone, `st_dev` has to do.)
fn running() -> BTreeSet<File> {
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    all.filter_map(|process| {
        let stat = std::fs::metadata(format!("/proc/{}/exe", process.pid)).ok()?;
        Some((number(major(stat.dev()), minor(stat.dev())), stat.ino()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Slots, compile, parse};

    fn whose(text: &str) -> Whose {
        let policy = parse(text, "test").expect("a policy");
        let compiled = compile(&policy, &mut Slots::new(), 1).expect("small");
        Whose::new(compiled.owners.expect("rules by owner"))
    }

    #[test]
    fn names_become_numbers() {
        let mut whose = whose(
            "rule a drop out user { root, 0, nobody-of-that-name, 1234 }\n\
             rule b drop out exe { /bin/sh, /no/such/file }\n\
             rule c drop out process curl",
        );
        let policy = whose.policy().expect("small");
        assert_eq!(policy.keys.users.keys().copied().collect::<Vec<_>>(), [0, 1234]);
        let sh = std::fs::metadata("/bin/sh").expect("a shell");
        let exes: Vec<u64> = policy.keys.exes.keys().map(|(_, inode)| *inode).collect();
        assert_eq!(exes, [sh.ino()]);
        assert_eq!(policy.keys.processes.len(), 1);
        let said: Vec<String> = whose.unknown().collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("there is no user `nobody-of-that-name`"));
    }

    #[test]
    fn a_replaced_file_is_followed() {
        let dir = crate::daemon::testing::directory();
        let path = dir.join("program");
        std::fs::write(&path, "old").expect("written");
        let mut whose = whose(&format!("rule a drop out exe {}", path.display()));
        let old = whose.policy().expect("small").keys.exes;
        std::fs::write(dir.join("new"), "new").expect("written");
        std::fs::rename(dir.join("new"), &path).expect("renamed");
        let new = whose.look(true).exes;
        assert_eq!((old.len(), new.len()), (1, 1), "nobody runs the old one");
        assert_ne!(old.keys().next(), new.keys().next());
    }
}
