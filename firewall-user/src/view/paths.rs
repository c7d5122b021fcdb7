//! Rows of the ways by which packets enter and leave the machine.

use serde::{Deserialize, Serialize};

/// A program or chain that packets meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathProgramView {
    /// `xdp-offload`, `xdp`, `xdp-generic`, `tcx-in`, `tc-in`, `nf-ingress`, `nf-prerouting`, `nf-input`, `nf-forward`,
    /// `nf-output`, `nf-postrouting`, `nf-egress`, `tcx-out`, `tc-out`, `netkit`, `netkit-peer`.
    pub hook: String,
    /// The kernel's id of a BPF program; `null` for what is none.
    pub id: Option<u32>,
    /// A program's name, a classifier's kind, or a chain as `inet filter input`; `null` where the kernel keeps it from us.
    pub name: Option<String>,
    /// Priority at the hook, where there are such.
    pub priority: Option<i32>,
    /// Whether it is Sluice's.
    pub ours: bool,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathOwnerView {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its program; `null` where it can't be read.
    pub exe: Option<String>,
}

/// One way by which packets enter or leave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathView {
    /// `interface`, `fast-path`, `af-xdp`, `af-packet`, `userspace-driver`, `sr-iov`, `rdma`, `zero-copy`.
    pub kind: String,
    /// Interface; `any` for a socket of all of them; address of a device on its bus.
    pub name: String,
    /// Network namespace; `null` for the daemon's.
    pub netns: Option<String>,
    /// Of an interface: `physical`, `loopback`, or the kernel's kind (`veth`, `bridge`, `macvlan`, ...); of a device: its driver.
    pub device: Option<String>,
    /// What is below it or at its other end, in words.
    pub parent: Option<String>,
    /// XDP of an interface: `native`, `generic`, `offload`, `multiple`; of an AF_XDP socket: `zero-copy`, `copy`.
    pub mode: Option<String>,
    /// Queue of a socket that has one.
    pub queue: Option<u32>,
    /// Sockets or functions that the row stands for.
    pub count: u32,
    /// What packets meet, in this order.
    pub attached: Vec<PathProgramView>,
    /// Processes that it belongs to, as far as they can be seen.
    pub owners: Vec<PathOwnerView>,
    /// Whether Sluice judges its packets: `yes`, `part`, `no`.
    pub filtered: String,
    /// Whether Sluice counts them: `yes`, `part`, `no`.
    pub accounted: String,
    /// Why, in one sentence.
    pub why: String,
    /// What to do about it; `null` where nothing has to be done.
    pub todo: Option<String>,
}

/// Something that couldn't be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathUnreadView {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// How many rows say what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCountsView {
    /// All of its packets.
    pub yes: u32,
    /// Some of them.
    pub part: u32,
    /// None.
    pub no: u32,
}

/// The report in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathsSummaryView {
    /// When it was read.
    pub time: String,
    /// Rows.
    pub ways: u32,
    /// By `filtered`.
    pub filtered: PathCountsView,
    /// By `accounted`.
    pub accounted: PathCountsView,
    /// Rows with something to do.
    pub todo: u32,
    /// Entries of `unread`.
    pub unread: u32,
}

/// `sluice paths`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathsView {
    /// In figures.
    pub summary: PathsSummaryView,
    /// The ways, those of the daemon's namespace first.
    pub rows: Vec<PathView>,
    /// What couldn't be read: there may be more ways.
    pub unread: Vec<PathUnreadView>,
}
