//! What is known of sockets one by one, by name: of its owner, of its namespace, and what others say of it.

use super::{Place, Sockets, State, lock, named, now};
use crate::{
    monitor::sockets::{Attribute, AttributeError, comm},
    view::{SocketAttributeRowView, SocketAttributeView, SocketDetailsView, SocketSamplesView},
};
use firewall_common::abi::socket::SocketRow;
use std::{collections::HashMap, fmt::Display, os::unix::fs::MetadataExt as _};

/// Where namespaces have names: `ip netns`, and Docker's.
const NAMES: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Attributes of several sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeTable {
    /// Those that there was room for, socket by socket.
    pub rows: Vec<SocketAttributeRowView>,
    /// All.
    pub total: usize,
}

impl Sockets {
    /// One socket, live or ended; `None`: there is none of this id, or it has made room for later ones.
    pub fn details(&self, cookie: u64) -> Option<SocketDetailsView> {
        // Not under the lock: it looks into folders.
        let names = namespaces();
        let state = lock(&self.state);
        let place = Place { netns: state.netns, clock: now() };
        let (view, row, said) = state.table.one(cookie, &place)?;
        let mut attributes = Vec::new();
        each(&state, &names, (row, said), &mut |name, value, source| {
            attributes.push(SocketAttributeView {
                name: name.to_owned(),
                value: value.to_string(),
                source: source.to_owned(),
            });
        });
        let socket = named(&state, (view, row.usage.owner));
        Some(SocketDetailsView { socket, attributes })
    }

    /// What is known of sockets, of which `of` has the ids: those of this `name`, or all; at most `most` rows. Of an
    /// id that ended twice the latest.
    pub fn attributes(
        &self,
        ended: bool,
        of: &[u64],
        name: Option<&str>,
        most: usize,
    ) -> AttributeTable {
        let names = namespaces();
        let state = lock(&self.state);
        let past: HashMap<u64, _> = if ended {
            state.table.ended_said().map(|one| (one.0.usage.cookie, one)).collect()
        } else {
            HashMap::new()
        };
        let mut all = AttributeTable::default();
        for cookie in of {
            let one =
                if ended { past.get(cookie).copied() } else { state.table.live_said(*cookie) };
            // It may have gone since it was asked for.
            let Some((row, said)) = one else { continue };
            let process = &row.usage.owner;
            let known = process.tgid != 0;
            let mut ordinal = 0;
            each(&state, &names, (row, said), &mut |attribute, value, source| {
                ordinal += 1;
                if name.is_some_and(|name| name != attribute) {
                    return;
                }
                all.total += 1;
                if all.rows.len() < most {
                    all.rows.push(SocketAttributeRowView {
                        socket: format!("{cookie:x}"),
                        pid: known.then_some(process.tgid),
                        comm: known.then(|| comm(process)),
                        ordinal,
                        name: attribute.to_owned(),
                        value: value.to_string(),
                        source: source.to_owned(),
                    });
                }
            });
        }
        all
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

/// What takes an attribute: its name, its value, how it is known.
type Give<'a> = &'a mut dyn FnMut(&str, &dyn Display, &str);

/// Tells each attribute of a socket, in order; nothing is put into words that nobody wants.
fn each(
    state: &State,
    names: &HashMap<u32, String>,
    (row, said): (&SocketRow, &[Attribute]),
    give: Give<'_>,
) {
    let process = &row.usage.owner;
    let owner = state.owners.get(process).unwrap_or_default();
    // Of a process that was gone, others of the same file and cgroup said the paths.
    let read = if owner.seen { "proc" } else { "others" };
    let place = state.owners.place(process).cloned().unwrap_or_default();
    let placed = if owner.place.path.is_some() { "proc" } else { "others" };
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
            give(name, value, source);
        }
    }
    if known {
        give("process_start_ns", &process.start_ns, "kernel");
    }
    if process.exe_inode != 0 {
        let (major, minor) = (process.exe_device >> 20, process.exe_device & 0xf_ffff);
        let inode = process.exe_inode;
        give("exe_file", &format_args!("{major}:{minor} inode {inode}"), "kernel");
    }
    if process.cgroup != 0 {
        give("cgroup_id", &process.cgroup, "kernel");
    }
    give("netns", &row.netns, "kernel");
    let container = place.container.as_ref().filter(|_| known && row.netns != state.netns);
    match (names.get(&row.netns), container) {
        (Some(path), _) => give("netns_name", path, "netns"),
        (None, Some(id)) => give("netns_name", &format_args!("container {id}"), "cgroup"),
        (None, None) => {}
    }
    for one in said {
        give(one.name, &one.value, one.source);
    }
}

/// The paths at which network namespaces have names, by their inodes.
fn namespaces() -> HashMap<u32, String> {
    let mut all = HashMap::new();
    let own = own_device();
    for folder in NAMES {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        for path in entries.map(|entry| entry.path()) {
            let Ok(seen) = std::fs::metadata(&path) else { continue };
            // A name that nothing is mounted at is a plain file, on another file system.
            let inode = u32::try_from(seen.ino()).ok();
            if let Some(inode) = inode.filter(|_| own.is_none_or(|own| own == seen.dev())) {
                all.entry(inode).or_insert_with(|| path.display().to_string());
            }
        }
    }
    all
}

/// The file system of namespaces.
fn own_device() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/net").ok().map(|seen| seen.dev())
}
