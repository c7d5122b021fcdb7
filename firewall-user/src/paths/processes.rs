//! Who has which socket: one walk over /proc/*/fd, bounded in descriptors and time.
//!
//! Threads that have a table of descriptors or a network namespace of their own aren't looked at.

use crate::view::PathOwnerView;
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// Descriptors that are looked at.
const MOST: usize = 262_144;

/// What the walk found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Processes by socket inode.
    pub sockets: HashMap<u64, Vec<u32>>,
    /// Network namespaces that processes live in: inode, the first process.
    pub homes: BTreeMap<u64, u32>,
    /// Namespaces that processes hold open: inode, where.
    pub held: BTreeMap<u64, (u32, PathBuf)>,
    /// Processes with an AF_XDP socket, with the inode of their namespace.
    pub xdp: Vec<(u32, u64)>,
    /// Processes with an io_uring.
    pub uring: Vec<u32>,
    /// Processes whose descriptors can't be read.
    pub denied: usize,
    /// The walk ended before its end.
    pub cut: bool,
}

/// Walks; `find_xdp`: asks each socket whether it is an AF_XDP socket, for kernels that don't list them.
///
/// # Errors
/// `proc` can't be read at all.
pub fn scan(proc: &Path, find_xdp: bool, end: Instant) -> io::Result<Scan> {
    let mut found = Scan::default();
    let mut descriptors = 0;
    for entry in fs::read_dir(proc)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if descriptors > MOST || Instant::now() > end {
            found.cut = true;
            break;
        }
        let home = fs::metadata(entry.path().join("ns/net")).map(|file| file.ino());
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else {
            // A process that ended a moment ago isn't one that is kept from us.
            found.denied += usize::from(entry.path().exists());
            continue;
        };
        let (mut uring, mut xdp) = (false, false);
        let before = descriptors;
        for file in open.flatten() {
            descriptors += 1;
            let target = match fs::read_link(file.path()) {
                Ok(target) => target,
                // The directory may be listed where the links may not be followed.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    found.denied += 1;
                    break;
                }
                // Closed meanwhile.
                Err(_) => continue,
            };
            let Some(target) = target.to_str() else { continue };
            if let Some(inode) = inode(target, "socket") {
                let owners = found.sockets.entry(inode).or_default();
                if owners.last() != Some(&pid) {
                    owners.push(pid);
                }
                xdp |= find_xdp && is_xdp(&file.path());
            } else if let Some(inode) = inode(target, "net") {
                found.held.entry(inode).or_insert_with(|| (pid, file.path()));
            } else if target == "anon_inode:[io_uring]" {
                uring = true;
            }
        }
        // Kernel threads have none, and say nothing about a namespace.
        if let Ok(home) = home
            && descriptors > before
        {
            found.homes.entry(home).or_insert(pid);
        }
        if uring {
            found.uring.push(pid);
        }
        if xdp {
            found.xdp.push((pid, home.unwrap_or_default()));
        }
    }
    Ok(found)
}

/// The number in `socket:[4711]`.
fn inode(target: &str, kind: &str) -> Option<u64> {
    target.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// Whether a socket is an AF_XDP socket: sockfs says the protocol's name (net/socket.c,
/// `sockfs_xattr_get`).
fn is_xdp(path: &Path) -> bool {
    let mut name = [0u8; 16];
    rustix::fs::getxattr(path, "system.sockprotoname", &mut name)
        .is_ok_and(|length| name[..length].starts_with(b"XDP\0"))
}

/// A process in words.
pub fn owner(proc: &Path, pid: u32) -> PathOwnerView {
    let dir = proc.join(pid.to_string());
    let comm = fs::read_to_string(dir.join("comm")).unwrap_or_default();
    let exe = fs::read_link(dir.join("exe")).ok();
    PathOwnerView {
        pid,
        comm: comm.trim_end().to_owned(),
        exe: exe.map(|exe| exe.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::symlink, time::Duration};

    #[test]
    fn sockets_namespaces_and_rings_are_found_with_their_processes() {
        let proc = std::env::temp_dir().join(format!("sluice-paths-proc-{}", std::process::id()));
        let file = |pid: u32, fd: u32, target: &str| {
            let dir = proc.join(format!("{pid}/fd"));
            fs::create_dir_all(&dir).unwrap();
            symlink(target, dir.join(fd.to_string())).unwrap();
        };
        file(10, 3, "socket:[4711]");
        file(10, 4, "socket:[4711]");
        file(10, 5, "/etc/passwd");
        file(11, 0, "socket:[4711]");
        file(11, 1, "net:[99]");
        file(11, 2, "anon_inode:[io_uring]");
        fs::create_dir_all(proc.join("12")).unwrap();
        fs::create_dir_all(proc.join("self")).unwrap();
        fs::write(proc.join("10/comm"), "sniffer\n").unwrap();
        symlink("/usr/bin/sniffer", proc.join("10/exe")).unwrap();

        let found = scan(&proc, false, Instant::now() + Duration::from_secs(5)).unwrap();
        let mut owners = found.sockets[&4711].clone();
        owners.sort_unstable();
        assert_eq!(owners, [10, 11]);
        assert_eq!(found.held[&99], (11, proc.join("11/fd/1")));
        assert_eq!((found.uring, found.denied, found.cut), (vec![11], 1, false));
        let expected =
            PathOwnerView { pid: 10, comm: "sniffer".into(), exe: Some("/usr/bin/sniffer".into()) };
        assert_eq!(owner(&proc, 10), expected);
        assert_eq!(owner(&proc, 11).exe, None);
        assert!(scan(&proc, false, Instant::now() - Duration::from_secs(1)).unwrap().cut);
        fs::remove_dir_all(&proc).unwrap();
    }
}
