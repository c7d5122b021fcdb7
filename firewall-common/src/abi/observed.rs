//! What names of remote hosts are read from: DNS messages of local sockets, and TLS ClientHellos that leave them.
//!
//! Its object is loaded only where the configuration wants names, and nothing of it is pinned.

use super::{numbers, plain_bytes};
use bytemuck::{Pod, Zeroable};

numbers! {
    /// What was seen; each kind has its own counters.
    ObservedKind(u8) {
        /// A DNS message over UDP to port 53 (RFC 1035, section 4): what is asked.
        Question = 0 => "question",
        /// One from port 53: what is answered.
        Answer = 1 => "answer",
        /// The TLS records that begin with a ClientHello (RFC 8446, section 4.1.2).
        Hello = 2 => "hello",
    }
}

/// How many kinds there are: the size of map `OBSERVED_COUNTERS`.
pub const OBSERVED_KINDS: usize = ObservedKind::ALL.len();
/// Most bytes of a question that are taken: a name has 255 at most.
pub const QUESTION_MOST: usize = 512;
/// Most bytes of an answer that are taken.
pub const ANSWER_MOST: usize = 2048;
/// Most bytes of a ClientHello that are taken: with post-quantum key shares they have some 1,800.
pub const HELLO_MOST: usize = 2048;

/// What each record of the ring `OBSERVED` begins with; `length` bytes of the message follow, and after them bytes that
/// mean nothing.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Observed {
    /// Cookie of the local socket.
    pub cookie: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Address of the other end; IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// Network namespace of the socket: its inode; 0: it couldn't be read.
    pub netns: u32,
    /// How many bytes of the message were in the packet.
    pub whole: u32,
    /// How many of them follow.
    pub length: u16,
    /// [`ObservedKind`], raw.
    pub kind: u8,
    /// 4 or 6.
    pub family: u8,
    #[doc(hidden)]
    pub _pad: u32,
}

/// Where the kernel has what names need of a socket: byte offsets. Set by user space from the kernel's BTF.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct NetLayout {
    /// `struct sock`: its namespace (pointer to `struct net`). Less than 120.
    pub net: u32,
    /// `struct net`: inode (u32).
    pub inode: u32,
}

plain_bytes!(Observed => 48, NetLayout => 8);
