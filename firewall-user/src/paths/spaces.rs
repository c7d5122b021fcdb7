//! The network namespaces that can be reached: those that processes live in or hold open, and those that are
//! mounted somewhere.

use super::{
    error::PathsError,
    processes::{self, Scan},
};
use crate::view::PathOwnerView;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
};

/// Namespaces that are looked into.
pub const MOST: usize = 256;

/// A namespace that isn't ours.
#[derive(Debug)]
pub struct Found {
    /// Its inode.
    pub inode: u64,
    /// What people call it.
    pub label: String,
    /// Some process in it.
    pub process: Option<PathOwnerView>,
    /// A handle on it.
    pub file: File,
}

/// Finds them; those that can't be opened come back by name.
pub fn find(proc: &Path, scan: &Scan, here: u64) -> (Vec<Found>, Vec<String>) {
    let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
    let mounted = mounted(&mounts);
    let mut ways: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let held = scan.held.iter().map(|(inode, (_, path))| (*inode, path.clone()));
    let homes = scan.homes.iter().map(|(inode, pid)| (*inode, proc.join(format!("{pid}/ns/net"))));
    let named = mounted.iter().map(|(inode, path)| (*inode, path.clone()));
    for (inode, path) in named.chain(homes).chain(held) {
        ways.entry(inode).or_insert(path);
    }
    ways.remove(&here);
    let (mut found, mut closed) = (Vec::new(), Vec::new());
    for (inode, path) in ways {
        let label = mounted
            .get(&inode)
            .and_then(|path| path.file_name())
            .map_or_else(|| format!("net:[{inode}]"), |name| name.to_string_lossy().into_owned());
        let pid = scan.homes.get(&inode).copied();
        let process = pid.or_else(|| Some(scan.held.get(&inode)?.0));
        match File::open(&path) {
            Ok(file) => found.push(Found {
                inode,
                label,
                process: process.map(|pid| processes::owner(proc, pid)),
                file,
            }),
            Err(_) => closed.push(label),
        }
    }
    (found, closed)
}

/// Mounted namespaces of a mountinfo table (proc_pid_mountinfo(5)).
fn mounted(text: &str) -> BTreeMap<u64, PathBuf> {
    let line = |line: &str| {
        let mut words = line.split(' ').skip(3);
        let inode = words.next()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
        Some((inode, PathBuf::from(words.next()?)))
    };
    text.lines().filter_map(line).collect()
}

/// Runs `f` on a thread of its own inside the namespace. Takes CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel refused.
pub fn inside<T: Send>(file: &File, f: impl FnOnce() -> T + Send) -> Result<T, PathsError> {
    let enter = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| PathsError::Refused(error.into()))?;
        Ok(f())
    };
    thread::scope(|scope| {
        let started = thread::Builder::new().name("sluice-paths".to_owned());
        let handle = started
            .spawn_scoped(scope, enter)
            .map_err(|error| PathsError::System { what: "starting a thread", error })?;
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_namespaces_have_names() {
        let text = "22 1 0:4 / /proc rw - proc proc rw\n\
                    90 25 0:4 net:[4026532345] /run/netns/blue rw shared:5 - nsfs nsfs rw\n\
                    91 25 0:4 uts:[4026532346] /run/uts/blue rw - nsfs nsfs rw\n";
        let found = mounted(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&4_026_532_345], PathBuf::from("/run/netns/blue"));
    }
}
