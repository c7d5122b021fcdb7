//! Cgroups by their ids: of a process that is gone the kernel has said the id, and nobody but the cgroup's directory
//! knows its path.

use super::place::{Place, place};
use crate::datapath::cgroup;
use std::{
    collections::HashSet,
    os::unix::fs::DirEntryExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// Cgroups that are looked for at a time.
const WANTED: usize = 4_096;
/// From one walk to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// So many times its length passes before the next.
const BREATH: u32 = 50;
/// Cgroups below each other that are walked, and all that are.
const DEPTH: usize = 16;
const WALKED: usize = 50_000;

/// Ids whose paths nobody has told.
#[derive(Debug, Default)]
pub struct Wanted {
    ids: HashSet<u64>,
    next: Option<Instant>,
}

impl Wanted {
    /// Looks for an id at the next walk.
    pub fn add(&mut self, id: u64) {
        // 0: not known; 1: the root, which says nothing.
        if id > 1 && self.ids.len() < WANTED {
            self.ids.insert(id);
        }
    }

    /// Walks the tree, if there is somebody to look for and it is time. Who isn't found is gone.
    pub fn walk(&mut self, mut found: impl FnMut(u64, Place)) {
        let start = Instant::now();
        if self.ids.is_empty() || self.next.is_some_and(|next| start < next) {
            return;
        }
        if let Some(root) = cgroup::mounted() {
            walk(&root, &mut |id, path| {
                if self.ids.remove(&id) {
                    let path = path.strip_prefix(&root).unwrap_or(path).to_string_lossy();
                    found(id, place(&format!("/{path}")));
                }
                !self.ids.is_empty()
            });
        }
        self.ids.clear();
        self.next = Some(Instant::now() + PERIOD.max(start.elapsed() * BREATH));
    }
}

/// Every cgroup below a directory, until `each` has enough; its id is its inode (kernfs).
fn walk(root: &Path, each: &mut dyn FnMut(u64, &Path) -> bool) {
    let mut left = vec![(root.to_owned(), 0)];
    let mut walked = 0;
    while let Some((directory, depth)) = left.pop() {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let path = entry.path();
            walked += 1;
            if !each(entry.ino(), &path) || walked == WALKED {
                return;
            }
            if depth < DEPTH {
                left.push((path, depth + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn directories_are_found_by_their_inodes() {
        let root = std::env::temp_dir().join(format!("sluice-groups-{}", std::process::id()));
        let inner = root.join("a.slice").join("b.service");
        std::fs::create_dir_all(&inner).expect("directories");
        let wanted = std::fs::metadata(&inner).expect("a directory").ino();
        let mut found = Vec::new();
        walk(&root, &mut |id, path| {
            if id == wanted {
                found.push(path.to_owned());
            }
            true
        });
        assert_eq!(found, [inner]);
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn who_is_not_there_is_not_looked_for_again() {
        let mut wanted = Wanted::default();
        wanted.add(1);
        assert!(wanted.ids.is_empty(), "the root says nothing");
        wanted.add(u64::MAX);
        wanted.walk(|id, _| panic!("nobody has {id}"));
        assert!(wanted.ids.is_empty() && wanted.next.is_some());
        wanted.add(u64::MAX);
        wanted.walk(|id, _| panic!("nobody has {id}"));
        assert_eq!(wanted.ids.len(), 1, "too soon after the last");
    }
}
