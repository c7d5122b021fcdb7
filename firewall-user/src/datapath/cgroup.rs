//! The root of cgroup v2: where programs for the whole machine are attached.

use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::{fs::File, io, os::fd::OwnedFd, path::PathBuf};

/// The root of cgroup v2: where it is mounted, or (in a mount namespace that hides it) a mount of our own that
/// nobody else sees.
///
/// # Errors
/// The kernel has none, or doesn't let us mount it.
pub fn root() -> io::Result<OwnedFd> {
    if let Some(place) = mounted() {
        return File::open(place).map(OwnedFd::from);
    }
    let kind = mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_create(&kind)?;
    let root = mount::fsmount(&kind, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(root)
}

/// Where cgroup v2 is mounted; `None`: nowhere that this mount namespace shows.
pub fn mounted() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (place, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}
