//! Reads the machine: each part by itself, and what can't be read is noted.

use super::{
    classifiers, devices,
    error::PathsError,
    facts::{Facts, Family, Link, NetfilterHook, PacketSocket, Space},
    hooks, link,
    netlink::Netlink,
    processes::{self, Scan},
    queues, sockets, spaces,
};
use crate::datapath::programs;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long reading may take: what isn't read by then is noted.
const PATIENCE: Duration = Duration::from_secs(3);
/// Interfaces of a namespace that are looked at.
const INTERFACES: usize = 512;
/// Sockets of a namespace that are listed.
const SOCKETS: usize = 4096;

/// Where the kernel's file systems are.
#[derive(Clone, Debug)]
pub struct Roots {
    /// /proc.
    pub proc: PathBuf,
    /// /sys.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// Reads everything, within a bounded time.
pub fn read(roots: &Roots) -> Facts {
    let end = Instant::now() + PATIENCE;
    let mut facts = Facts::default();
    let (here, own) = home(&roots.proc, &mut facts);
    facts.here.inode = here;
    let net = roots.proc.join("thread-self/net");
    let listed = read_sockets(&net, &mut facts.here);
    // What the kernel doesn't list has to be found at each process.
    let find_xdp = listed.iter().any(|(what, _)| *what == XDP_SOCKETS);
    for (what, error) in listed {
        facts.unread(what, error);
    }
    let scan = processes::scan(&roots.proc, find_xdp, end).unwrap_or_else(|error| {
        facts.unread("owners of sockets", error);
        Scan::default()
    });
    if scan.denied > 0 {
        let what = match scan.denied {
            1 => "descriptors of a process".to_owned(),
            many => format!("descriptors of {many} processes"),
        };
        facts.unread(what, "the daemon hasn't the privilege for it: owners may be missing");
    }
    if scan.cut {
        facts.unread("descriptors of all processes", PathsError::Late);
    }
    let (mut found, closed) = spaces::find(&roots.proc, &scan, here);
    if !closed.is_empty() {
        facts.unread(
            format!("network namespaces {}", closed.join(", ")),
            "the daemon hasn't the privilege to open them",
        );
    }
    if found.len() > spaces::MOST {
        found.truncate(spaces::MOST);
        facts.unread("further network namespaces", PathsError::TooMany { limit: spaces::MOST });
    }
    facts.labels = found.iter().map(|space| (space.inode, space.label.clone())).collect();
    read_here(&mut facts, &found, &net, end);
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for space in &found {
        if Instant::now() > end {
            facts.unread(format!("network namespace {}", space.label), PathsError::Late);
            continue;
        }
        match spaces::inside(&space.file, || read_other(roots, here, own.as_ref())) {
            Ok((read, trouble)) => {
                let label = space.label.clone();
                // What this kernel can't tell is said once.
                for (what, error) in trouble.into_iter().filter(|(_, error)| !error.is_unknown()) {
                    facts.unread(format!("{what} of network namespace {label}"), error);
                }
                let process = space.process.clone();
                facts.others.push(Space { inode: space.inode, label, process, ..read });
            }
            Err(error) => {
                refused.entry(error.to_string()).or_default().push(space.label.clone());
            }
        }
    }
    for (why, labels) in refused {
        facts.unread(format!("network namespaces {}", labels.join(", ")), why);
    }
    match devices::cards(&roots.sys) {
        Ok(cards) => facts.cards = cards,
        Err(error) => facts.unread("cards on the PCI bus", error),
    }
    match devices::rdma(&roots.sys) {
        Ok(rdma) => facts.rdma = rdma,
        Err(error) => facts.unread("RDMA devices", error),
    }
    owners(&mut facts, &roots.proc, &scan);
    facts
}

/// Inode of our own namespace, and a handle on it.
fn home(proc: &Path, facts: &mut Facts) -> (u64, Option<File>) {
    let path = proc.join("thread-self/ns/net");
    let inode = fs::metadata(&path).map(|file| file.ino());
    match inode.and_then(|inode| Ok((inode, File::open(&path)?))) {
        Ok((inode, file)) => (inode, Some(file)),
        Err(error) => {
            facts.unread("the daemon's network namespace", error);
            (0, None)
        }
    }
}

type Trouble = Vec<(&'static str, PathsError)>;

const XDP_SOCKETS: &str = "AF_XDP sockets";

/// Sockets and queues of the caller's namespace.
fn read_sockets(net: &Path, space: &mut Space) -> Trouble {
    let mut trouble = Trouble::new();
    let mut diag = sockets::open();
    let packet = match &mut diag {
        Ok(diag) => sockets::packet(diag),
        Err(_) => Err(PathsError::Absent("no sock_diag")),
    };
    match packet.or_else(|_| sockets::packet_from_proc(net)) {
        Ok(found) => space.packet = capped(found, &mut trouble),
        Err(error) => trouble.push(("AF_PACKET sockets", error)),
    }
    match diag.and_then(|mut diag| sockets::xdp(&mut diag)) {
        Ok(found) => space.xdp = found,
        Err(error) if error.is_unknown() => trouble.push((
            XDP_SOCKETS,
            PathsError::Absent(
                "this kernel doesn't list them (no XDP_SOCKETS_DIAG): queues that have one and \
                 processes that have one are seen, not which has which",
            ),
        )),
        Err(error) => trouble.push((XDP_SOCKETS, error)),
    }
    match queues::read() {
        Ok(found) => space.queues = found,
        Err(error) if error.is_unknown() => trouble.push((
            "queues of io_uring zero-copy receive",
            PathsError::Absent("this kernel doesn't tell whose a queue is (Linux 6.15 does)"),
        )),
        Err(error) => trouble.push(("queues of io_uring zero-copy receive", error)),
    }
    trouble
}

fn capped(mut found: Vec<PacketSocket>, trouble: &mut Trouble) -> Vec<PacketSocket> {
    if found.len() > SOCKETS {
        found.truncate(SOCKETS);
        trouble.push(("AF_PACKET sockets", PathsError::TooMany { limit: SOCKETS }));
    }
    found
}

/// Interfaces of the daemon's namespace with what hangs at them.
fn read_here(facts: &mut Facts, found: &[spaces::Found], net: &Path, end: Instant) {
    let links = Netlink::open(None).and_then(|mut route| {
        let mut numbers = HashMap::new();
        for space in found {
            // A namespace that ours has no number for is at no interface's other end.
            if let Ok(Some(number)) = link::space_number(&mut route, space.file.as_raw_fd()) {
                numbers.insert(number, space.inode);
            }
        }
        Ok((link::read(&mut route, &numbers)?, route))
    });
    let (mut links, mut route) = match links {
        Ok(read) => read,
        Err(error) => {
            facts.unread("interfaces", error);
            return;
        }
    };
    if links.len() > INTERFACES {
        links.truncate(INTERFACES);
        facts.unread("further interfaces", PathsError::TooMany { limit: INTERFACES });
    }
    let mut trouble = None;
    for link in &mut links {
        if Instant::now() > end {
            trouble = Some((link.name.clone(), PathsError::Late));
            break;
        }
        if let Err(error) = classifiers::read(&mut route, link) {
            trouble = Some((link.name.clone(), error));
        }
    }
    if let Some((name, error)) = trouble {
        facts.programs_unread = true;
        facts.unread(format!("programs at TC (of {name} and maybe others)"), error);
    }
    names(facts, &mut links);
    facts.here.hooks = read_hooks(facts, &links, net);
    facts.here.links = links;
}

/// Names of programs, by their ids.
fn names(facts: &mut Facts, links: &mut [Link]) {
    let mut known: HashMap<u32, Option<String>> = HashMap::new();
    let mut refused = None;
    let nameless = links.iter_mut().flat_map(|link| &mut link.programs);
    for program in nameless.filter(|program| program.name.is_none()) {
        let Some(id) = program.id else { continue };
        let name = known.entry(id).or_insert_with(|| match programs::name(id) {
            Ok(name) => Some(name).filter(|name| !name.is_empty()),
            Err(error) => {
                refused = Some(error);
                None
            }
        });
        program.name.clone_from(name);
    }
    if let Some(error) = refused {
        facts.unread("names of programs that aren't Sluice's", PathsError::Refused(error));
    }
}

fn read_hooks(facts: &mut Facts, links: &[Link], net: &Path) -> Vec<NetfilterHook> {
    let mut socket = match hooks::open() {
        Ok(socket) => socket,
        Err(error) => {
            facts.unread("netfilter's hooks", error);
            return Vec::new();
        }
    };
    let mut found = match hooks::chains(&mut socket) {
        Ok(chains) => chains,
        Err(error) if error.is_unknown() => Vec::new(),
        Err(error) => {
            facts.unread("nftables' chains", error);
            Vec::new()
        }
    };
    let interfaces: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    match hooks::others(&mut socket, &interfaces) {
        Ok(others) => found.extend(others),
        Err(error) if error.is_unknown() => {
            found.extend(hooks::iptables(net));
            facts.unread(
                "netfilter's hooks beside the chains of nftables and the tables of iptables",
                "this kernel doesn't list them (no NETFILTER_NETLINK_HOOK)",
            );
        }
        Err(error) => facts.unread("netfilter's hooks beside the chains of nftables", error),
    }
    // Stable: what has the same priority keeps the kernel's order.
    found.sort_by_key(|hook| (hook.family != Family::Device, hook.priority));
    found
}

/// What is read of a namespace that isn't the daemon's.
fn read_other(roots: &Roots, here: u64, own: Option<&File>) -> (Space, Trouble) {
    let mut space = Space::default();
    let mut trouble = read_sockets(&roots.proc.join("thread-self/net"), &mut space);
    let links = Netlink::open(None).and_then(|mut route| {
        let number = own.map(|own| link::space_number(&mut route, own.as_raw_fd())).transpose()?;
        let numbers = number.flatten().map(|number| (number, here)).into_iter().collect();
        link::read(&mut route, &numbers)
    });
    match links {
        Ok(links) => space.links = links,
        Err(error) => trouble.push(("interfaces", error)),
    }
    (space, trouble)
}

/// Who has the sockets that were found.
fn owners(facts: &mut Facts, proc: &Path, scan: &Scan) {
    let all = || std::iter::once(&facts.here).chain(&facts.others);
    let packet = all().flat_map(|space| &space.packet).map(|socket| socket.inode);
    let xdp = all().flat_map(|space| &space.xdp).map(|socket| socket.inode);
    let inodes: BTreeSet<u64> = packet.chain(xdp).collect();
    let mut known = HashMap::new();
    let mut owner =
        |pid: u32| known.entry(pid).or_insert_with(|| processes::owner(proc, pid)).clone();
    let mut owners = BTreeMap::new();
    for inode in inodes {
        let pids = scan.sockets.get(&inode).into_iter().flatten();
        let mut found: Vec<_> = pids.map(|pid| owner(*pid)).collect();
        found.sort_unstable();
        owners.insert(inode, found);
    }
    facts.owners = owners;
    facts.xdp_processes = scan.xdp.iter().map(|(pid, home)| (owner(*pid), *home)).collect();
    facts.uring_processes = scan.uring.iter().map(|pid| owner(*pid)).collect();
}
