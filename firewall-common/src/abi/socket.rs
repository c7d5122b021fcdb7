//! The socket monitor: what its programs keep of each socket, and what they tell.
//!
//! Its object stands apart from the filter's: nothing of it is pinned, it judges nothing, and it ends with the
//! daemon. What was there before it is read by an iterator.

use super::{numbers, plain_bytes};
use bytemuck::{Pod, Zeroable};

numbers! {
    /// Class of a socket event; each has its own sequence and its own loss counter.
    SocketClass(u8) {
        /// TCP: a socket listens.
        Listening = 0 => "listening",
        /// TCP: a SYN is about to be sent.
        Connecting = 1 => "connecting",
        /// TCP: the handshake is done, on either side.
        Established = 2 => "established",
        /// A socket is gone; TCP: its connection is.
        Closed = 3 => "closed",
        /// A process is gone that owned sockets: the record has its owner alone.
        Exited = 4 => "exited",
    }
}

/// How many classes there are: the size of map `SOCKET_COUNTERS`.
pub const SOCKET_CLASSES: usize = 5;

/// Processes that own sockets whose ends are watched for at a time: the size of map `OWNING`.
pub const OWNING_PROCESSES: usize = 65_536;

/// Where the running kernel's structures have the members that the programs read: byte offsets. Set by user
/// space from the kernel's BTF before it loads them, so that one object fits every kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Layout {
    /// `struct sock`: `skc_family` (u16).
    pub family: u32,
    /// `skc_state` (u8).
    pub state: u32,
    /// `skc_rcv_saddr` (be32).
    pub local4: u32,
    /// `skc_daddr` (be32).
    pub remote4: u32,
    /// `skc_v6_rcv_saddr` (16 bytes).
    pub local6: u32,
    /// `skc_v6_daddr` (16 bytes).
    pub remote6: u32,
    /// `skc_num` (u16, host order).
    pub local_port: u32,
    /// `skc_dport` (be16).
    pub remote_port: u32,
    /// `skc_net` (pointer to `struct net`).
    pub net: u32,
    /// `skc_bound_dev_if` (i32).
    pub bound_to: u32,
    /// `sk_type` (u16).
    pub kind: u32,
    /// `sk_protocol` (u16).
    pub protocol: u32,
    /// `sk_uid` (u32).
    pub uid: u32,
    /// `sk_err` (i32).
    pub error: u32,
    /// `struct net`: `ns.inum` (u32).
    pub net_inode: u32,
    /// `struct socket`: `sk` (pointer to `struct sock`).
    pub socket_sock: u32,
    /// `struct task_struct`: `group_leader` (pointer to itself).
    pub group_leader: u32,
    /// `start_boottime` (u64, ns since boot).
    pub start_boottime: u32,
    /// `tgid` (i32).
    pub tgid: u32,
    /// `comm` (16 bytes).
    pub comm: u32,
    /// `cred` (pointer to `struct cred`).
    pub cred: u32,
    /// `struct cred`: `uid` (u32).
    pub cred_uid: u32,
    /// `struct task_struct`: `cgroups` (pointer to `struct css_set`).
    pub cgroups: u32,
    /// `struct css_set`: `dfl_cgrp` (pointer to `struct cgroup`).
    pub default_cgroup: u32,
    /// `struct cgroup`: `kn` (pointer to `struct kernfs_node`).
    pub cgroup_node: u32,
    /// `struct kernfs_node`: `id` (u64).
    pub node_id: u32,
    /// `struct task_struct`: `mm` (pointer to `struct mm_struct`).
    pub mm: u32,
    /// `struct mm_struct`: `exe_file` (pointer to `struct file`).
    pub exe_file: u32,
    /// `struct file`: `f_inode` (pointer to `struct inode`).
    pub file_inode: u32,
    /// `struct inode`: `i_ino` (u64).
    pub inode_number: u32,
    /// `i_sb` (pointer to `struct super_block`).
    pub inode_super: u32,
    /// `struct super_block`: `s_dev` (u32).
    pub super_device: u32,
    /// `struct tcp_sock`: `bytes_acked` (u64).
    pub bytes_acked: u32,
    /// `bytes_received` (u64).
    pub bytes_received: u32,
    /// `segs_out` (u32).
    pub segs_out: u32,
    /// `segs_in` (u32).
    pub segs_in: u32,
    /// `srtt_us` (u32, an eighth of a microsecond).
    pub srtt: u32,
    /// `snd_cwnd` (u32).
    pub cwnd: u32,
    /// `total_retrans` (u32).
    pub retransmits: u32,
    /// `inet_sport` (be16): the local port, also when the socket isn't bound to it any more.
    pub source_port: u32,
    /// `struct sk_buff`: `sk` (pointer to `struct sock`).
    pub buffer_sock: u32,
    /// `protocol` (be16).
    pub buffer_protocol: u32,
    /// 1: tracepoint `kfree_skb` has a fourth argument, the socket that was to receive (Linux 6.11).
    pub drop_receiver: u32,
    /// `struct task_struct`: `signal` (pointer to `struct signal_struct`).
    pub signal: u32,
    /// `struct signal_struct`: `live` (i32): threads of the process that haven't ended.
    pub signal_live: u32,
}

/// A process: never its number alone, which is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Process {
    /// `start_boottime` of its first thread, nanoseconds since boot; 0: not known.
    pub start_ns: u64,
    /// Its cgroup (v2): inode of the directory; 0: not known.
    pub cgroup: u64,
    /// Number of the process, in the first pid namespace; 0: not known.
    pub tgid: u32,
    /// User.
    pub uid: u32,
    /// Name of the thread, as the kernel has it; zero-terminated.
    pub comm: [u8; 16],
    /// Its executable: number of the inode, 0: not known.
    pub exe_inode: u64,
    /// And of the file system, as the kernel numbers it.
    pub exe_device: u32,
    /// Zero.
    pub _pad: u32,
}

/// How many classes of sizes there are.
pub const SIZES: usize = 16;

/// Calls by the bytes they moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Sizes {
    /// Fewest; 0: there was none.
    pub least: u32,
    /// Most.
    pub most: u32,
    /// Calls by [`size_class`].
    pub calls: [u32; SIZES],
}

/// The class of a size, which is not 0: below 16, 32, 64, ... 256 KiB bytes, and all above.
#[inline(always)]
pub const fn size_class(bytes: u32) -> usize {
    let doubled = 31 - (bytes | 8).leading_zeros();
    let class = doubled as usize - 3;
    if class < SIZES { class } else { SIZES - 1 }
}

/// The largest size of a class; the last has none.
pub const fn class_limit(class: usize) -> u32 {
    (16 << class) - 1
}

/// What is kept of a socket, in its own storage. Owner and times are written once; the counters with plain
/// additions by whoever holds the socket (a lost race costs one call's count).
///
/// What every socket has comes first: where no call has moved data, all from `used_ns` on is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Usage {
    /// Cookie of the socket that this belongs to: an accepted one inherits its listener's, and begins anew.
    pub cookie: u64,
    /// When the socket was made, CLOCK_MONOTONIC ns; 0: before the monitor was there.
    pub created_ns: u64,
    /// TCP: when the SYN was sent or the connection came in; 0: neither was seen.
    pub asked_ns: u64,
    /// TCP: when the handshake was done.
    pub established_ns: u64,
    /// Who made it (an accepted one: who made its listener).
    pub owner: Process,
    /// When data was sent or received last.
    pub used_ns: u64,
    /// Bytes that were sent, as the calls returned.
    pub sent_bytes: u64,
    /// Bytes that were received.
    pub received_bytes: u64,
    /// Calls that sent.
    pub sends: u32,
    /// Calls that received.
    pub receives: u32,
    /// Bytes of the calls that sent.
    pub sent: Sizes,
    /// Bytes of the calls that received.
    pub received: Sizes,
    /// Who sent or received last; `tgid` 0: the owner.
    pub user: Process,
}

/// A socket as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketRow {
    /// TCP: bytes that the other end acknowledged.
    pub bytes_acked: u64,
    /// TCP: bytes that came, in order.
    pub bytes_received: u64,
    /// Local address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Remote address; as `local`.
    pub remote: [u8; 16],
    /// Network namespace: inode.
    pub netns: u32,
    /// Interface that it is bound to, 0: none.
    pub bound_to: u32,
    /// User of the socket.
    pub uid: u32,
    /// TCP: segments out.
    pub segs_out: u32,
    /// TCP: segments in.
    pub segs_in: u32,
    /// TCP: smoothed round trip, microseconds; 0: not measured.
    pub srtt_us: u32,
    /// TCP: congestion window, segments.
    pub cwnd: u32,
    /// TCP: segments sent again.
    pub retransmits: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// AF_*.
    pub family: u16,
    /// IPPROTO_*.
    pub protocol: u16,
    /// SOCK_*.
    pub kind: u16,
    /// TCP_* of include/net/tcp_states.h, for every protocol.
    pub state: u8,
    /// Zero.
    pub _pad: u8,
    /// Pending error (`sk_err`), positive.
    pub error: u32,
    /// Packets of it that the stack dropped; told by the iterator only.
    pub drops: u32,
    /// The kernel's number of the reason of the last of them.
    pub drop_reason: u32,
    /// What is kept of it; all zeros (but for the cookie) where nothing is.
    pub usage: Usage,
}

/// What the iterator writes for each descriptor that is a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HeldSocket {
    /// The socket.
    pub row: SocketRow,
    /// Who holds the descriptor.
    pub holder: Process,
    /// Its number.
    pub descriptor: u32,
    /// Zero.
    pub _pad: u32,
}

/// Bytes of the record of a socket on which no call has moved data: it ends where only zeros would follow. Most
/// events are of such sockets, and what isn't written needn't be read.
pub const BRIEF: usize = core::mem::offset_of!(SocketEvent, row.usage.used_ns);

/// One record of the ring `SOCKET_EVENTS`: whole, or its first [`BRIEF`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketEvent {
    /// Sequence number within the class, from 0, without gaps unless events were lost.
    pub seq: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// [`SocketClass`], raw.
    pub class: u8,
    /// TCP: the state that was left.
    pub before: u8,
    /// Zero.
    pub _pad: [u8; 6],
    /// The socket.
    pub row: SocketRow,
}

plain_bytes!(
    Layout => 180,
    Process => 56,
    Sizes => 72,
    Usage => 320,
    SocketRow => 424,
    HeldSocket => 488,
    SocketEvent => 448
);

const _: () = assert!(BRIEF == 216);
