//! What was read of the machine, before anybody judges it.

use crate::view::{PathOwnerView, PathUnreadView};
use std::collections::BTreeMap;

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The daemon's network namespace.
    pub here: Space,
    /// What people call the others, by inode, whether they could be entered or not.
    pub labels: BTreeMap<u64, String>,
    /// Others that could be entered.
    pub others: Vec<Space>,
    /// Devices of the PCI bus that carry packets past the kernel, or can.
    pub cards: Vec<Card>,
    /// RDMA devices.
    pub rdma: Vec<Rdma>,
    /// Sockets' owners, by inode.
    pub owners: BTreeMap<u64, Vec<PathOwnerView>>,
    /// Processes with an AF_XDP socket, and the inode of their network namespace.
    pub xdp_processes: Vec<(PathOwnerView, u64)>,
    /// What hangs at XDP and TC couldn't be read.
    pub programs_unread: bool,
    /// Processes with an io_uring.
    pub uring_processes: Vec<PathOwnerView>,
    /// What couldn't be read.
    pub unread: Vec<PathUnreadView>,
}

impl Facts {
    /// Notes what couldn't be read.
    pub fn unread(&mut self, what: impl Into<String>, why: impl ToString) {
        self.unread.push(PathUnreadView { what: what.into(), why: why.to_string() });
    }
}

/// A network namespace.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// Its inode in nsfs: what the kernel calls it.
    pub inode: u64,
    /// What people call it.
    pub label: String,
    /// Some process in it.
    pub process: Option<PathOwnerView>,
    /// Its interfaces.
    pub links: Vec<Link>,
    /// What netfilter runs.
    pub hooks: Vec<NetfilterHook>,
    /// AF_PACKET sockets.
    pub packet: Vec<PacketSocket>,
    /// AF_XDP sockets.
    pub xdp: Vec<XdpSocket>,
    /// Queues whose memory isn't the stack's.
    pub queues: Vec<QueueUse>,
}

impl Space {
    /// An interface by its index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// Where the other end of an interface, or what is below it, lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// In the same namespace.
    #[default]
    Same,
    /// In the namespace with this inode.
    Space(u64),
    /// In one that can't be reached from here.
    Unknown,
}

/// How an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// In the card.
    Offload,
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// A program at an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Hook, as in [`crate::view::PathProgramView`].
    pub hook: &'static str,
    /// Id of a BPF program.
    pub id: Option<u32>,
    /// Name, where it could be read.
    pub name: Option<String>,
    /// Priority of a classifier.
    pub priority: Option<i32>,
}

/// An interface.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// The kernel's kind; empty for hardware and the loopback.
    pub kind: String,
    /// ARPHRD_*.
    pub hardware: u16,
    /// Whether it is up.
    pub up: bool,
    /// The device it is, as `pci 0000:03:00.0`.
    pub bus: Option<String>,
    /// Index of the other end of a pair, or of what is below.
    pub lower: Option<u32>,
    /// Where that is.
    pub side: Side,
    /// Bridge, bond or team that it is a port of.
    pub master: Option<u32>,
    /// macvlan, ipvlan: siblings never talk past the parent.
    pub isolated: bool,
    /// XDP programs.
    pub xdp: Vec<(XdpMode, u32)>,
    /// Programs and classifiers at TC, in the order that packets meet them; those of XDP are in front.
    pub programs: Vec<Program>,
}

impl Link {
    /// What people call this kind.
    pub fn device(&self) -> &str {
        match self.kind.as_str() {
            "" if self.hardware == ARPHRD_LOOPBACK => "loopback",
            "" => "physical",
            kind => kind,
        }
    }

    /// Whether its frames are Ethernet's: Sluice parses no others.
    pub fn ethernet(&self) -> bool {
        matches!(self.hardware, ARPHRD_ETHER | ARPHRD_LOOPBACK)
    }
}

/// include/uapi/linux/if_arp.h.
pub const ARPHRD_ETHER: u16 = 1;
/// As above.
pub const ARPHRD_LOOPBACK: u16 = 772;

/// A family of netfilter's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4, IPv6, or both: what the stack takes in.
    #[default]
    Ip,
    /// ARP.
    Arp,
    /// Frames that a bridge forwards.
    Bridge,
    /// Of interfaces, beside TC.
    Device,
}

/// Something that netfilter runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetfilterHook {
    /// Family.
    pub family: Family,
    /// Hook, as in [`crate::view::PathProgramView`].
    pub hook: &'static str,
    /// Priority: the lower, the earlier.
    pub priority: i32,
    /// What: `inet filter input`, `nf_conntrack: ipv4_conntrack_in`.
    pub name: String,
    /// Interfaces, where it is only for those.
    pub devices: Vec<String>,
}

/// An AF_PACKET socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketSocket {
    /// Inode.
    pub inode: u64,
    /// Index of its interface, 0 for all.
    pub index: u32,
    /// Ethernet's protocol number; 3 is all, 0 none: then it only sends.
    pub protocol: u16,
}

/// An AF_XDP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpSocket {
    /// Inode.
    pub inode: u64,
    /// Index of its interface, 0 where it isn't bound.
    pub index: u32,
    /// Queue.
    pub queue: u32,
    /// Whether driver and program share memory.
    pub zero_copy: Option<bool>,
}

/// What a queue's memory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOwner {
    /// An AF_XDP socket.
    Xsk,
    /// io_uring zero-copy receive.
    IoUring,
    /// A device's memory (devmem TCP).
    DeviceMemory,
}

/// A queue whose memory isn't the stack's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueUse {
    /// Index of the interface.
    pub index: u32,
    /// Queue.
    pub queue: u32,
    /// Whether it receives; else it sends.
    pub receives: bool,
    /// Whose.
    pub owner: QueueOwner,
}

/// A device on the PCI bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// Address.
    pub address: String,
    /// Driver, empty for none.
    pub driver: String,
    /// Whether its driver gives it to programs (vfio, uio).
    pub userspace: bool,
    /// Virtual functions switched on.
    pub functions: u32,
    /// Addresses of those, with their drivers.
    pub virtuals: Vec<(String, String)>,
    /// The physical function, of a virtual one.
    pub physical: Option<String>,
    /// Its interfaces, as far as they are in the namespace of this sysfs.
    pub interfaces: Vec<String>,
}

/// An RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Name.
    pub name: String,
    /// Bus address of its card.
    pub device: Option<String>,
    /// `InfiniBand`, `Ethernet` (RoCE), ... of its ports.
    pub layers: Vec<String>,
}
