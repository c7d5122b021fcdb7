//! What is known of one socket, by name: of its owner, of its namespace, and what others say of it.

use super::{Place, Sockets, State, lock, named, now};
use crate::{
    monitor::sockets::{Attribute, AttributeError},
    view::{SocketAttributeView, SocketDetailsView, SocketSamplesView},
};
use firewall_common::abi::socket::Process;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Where namespaces have names: `ip netns`, and Docker's.
const NAMES: [&str; 2] = ["/run/netns", "/run/docker/netns"];

impl Sockets {
    /// One socket, live or ended; `None`: there is none of this id, or it has made room for later ones.
    pub fn details(&self, cookie: u64) -> Option<SocketDetailsView> {
        let mut view = {
            let state = lock(&self.state);
            let place = Place { netns: state.netns, clock: now() };
            let (view, row, said) = state.table.one(cookie, &place)?;
            let owner = &row.usage.owner;
            let attributes = attributes(&state, owner, row.netns, said);
            let socket = named(&state, (view, *owner));
            SocketDetailsView { socket, attributes }
        };
        // Not under the lock: it looks into folders.
        let name = namespace(view.socket.netns).map(|path| (path, "netns"));
        let of_container = || {
            let container = view.socket.container.as_ref().filter(|_| !view.socket.own_netns)?;
            Some((format!("container {container}"), "cgroup"))
        };
        if let Some((value, source)) = name.or_else(of_container) {
            let at = view.attributes.iter().position(|one| one.name == "netns");
            let at = at.map_or(view.attributes.len(), |at| at + 1);
            view.attributes.insert(at, told("netns_name", value, source));
        }
        Some(view)
    }

    /// One socket over time, live or ended; `None` as for [`Self::details`]. It is sampled from now on.
    pub fn samples(&self, cookie: u64) -> Option<SocketSamplesView> {
        lock(&self.state).table.samples(cookie, &now())
    }

    /// An operator's note on a socket; an empty one takes it away.
    ///
    /// # Errors
    /// There is no such socket, or no room, or it doesn't fit.
    pub fn note(&self, cookie: u64, text: &str) -> Result<(), AttributeError> {
        let attribute = Attribute { name: "note", value: text.trim().into(), source: "operator" };
        lock(&self.state).table.attach(cookie, attribute)
    }
}

fn told(name: &str, value: String, source: &str) -> SocketAttributeView {
    SocketAttributeView { name: name.to_owned(), value, source: source.to_owned() }
}

fn attributes(
    state: &State,
    process: &Process,
    netns: u32,
    said: &[Attribute],
) -> Vec<SocketAttributeView> {
    let owner = state.owners.get(process).unwrap_or_default();
    // Of a process that was gone, others of the same file and cgroup said the paths.
    let read = if owner.seen { "proc" } else { "others" };
    let place = state.owners.place(process).cloned().unwrap_or_default();
    let placed = if owner.place.path.is_some() { "proc" } else { "others" };
    let mut all = Vec::new();
    let known = process.tgid != 0;
    for (name, value, source) in [
        ("exe", owner.exe.as_ref(), read),
        ("cmdline", owner.cmdline.as_ref(), read),
        ("user", state.owners.user(process), "users"),
        ("cgroup", place.path.as_ref(), placed),
        ("unit", place.unit.as_ref(), "cgroup"),
        ("container", place.container.as_ref(), "cgroup"),
        ("pod", place.pod.as_ref(), "cgroup"),
    ] {
        if let Some(value) = value.filter(|_| known) {
            all.push(told(name, value.to_string(), source));
        }
    }
    if known {
        all.push(told("process_start_ns", process.start_ns.to_string(), "kernel"));
    }
    if process.exe_inode != 0 {
        let (major, minor) = (process.exe_device >> 20, process.exe_device & 0xf_ffff);
        let value = format!("{major}:{minor} inode {}", process.exe_inode);
        all.push(told("exe_file", value, "kernel"));
    }
    if process.cgroup != 0 {
        all.push(told("cgroup_id", process.cgroup.to_string(), "kernel"));
    }
    all.push(told("netns", netns.to_string(), "kernel"));
    let said = said.iter().map(|one| told(one.name, one.value.to_string(), one.source));
    all.extend(said);
    all
}

/// The path at which a network namespace has a name, by its inode.
fn namespace(inode: u32) -> Option<String> {
    let in_folder = |folder: &&str| {
        let entries = std::fs::read_dir(folder).ok()?;
        let is_it = |path: &PathBuf| {
            // A name that nothing is mounted at is a plain file, on another file system.
            std::fs::metadata(path).is_ok_and(|seen| {
                seen.ino() == u64::from(inode) && seen.dev() == own_device().unwrap_or(seen.dev())
            })
        };
        entries.filter_map(Result::ok).map(|entry| entry.path()).find(is_it)
    };
    NAMES.iter().find_map(in_folder).map(|path| path.display().to_string())
}

/// The file system of namespaces.
fn own_device() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/net").ok().map(|seen| seen.dev())
}
