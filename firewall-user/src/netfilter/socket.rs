//! The two netlink sockets: one asks for dumps, one listens.

use super::{decode::dump_request, error::FollowError};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recvfrom,
        sendto, socket_with, sockopt,
    },
};
use std::time::Duration;

/// Multicast groups of entries that begin, change and end, as bits.
const GROUPS: u32 = group(libc::NFNLGRP_CONNTRACK_NEW)
    | group(libc::NFNLGRP_CONNTRACK_UPDATE)
    | group(libc::NFNLGRP_CONNTRACK_DESTROY);
/// What the kernel may hold for us. A limit, not a reservation.
const RECEIVE_BUFFER: usize = 16 << 20;
/// How long the kernel may take to fill one answer of a dump.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is never larger: the kernel makes them 32 KiB at most.
pub const ANSWER: usize = 64 << 10;

const fn group(number: libc::c_int) -> u32 {
    1 << (number - 1)
}

fn open(flags: SocketFlags, groups: u32) -> Result<OwnedFd, FollowError> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags | SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )
    .map_err(FollowError::system("opening a netlink socket"))?;
    if groups != 0 {
        // Past the machine's limit only with CAP_NET_ADMIN over it; a container has to do with less.
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))
            .map_err(FollowError::system("sizing a netlink socket"))?;
    }
    bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))
        .map_err(FollowError::system("listening to netfilter's events"))?;
    Ok(socket)
}

/// Receives from the kernel alone: another process may send to our port, but isn't heard (`Ok(0)`).
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (_, length, from) = recvfrom(socket, &mut *buffer, RecvFlags::TRUNC)?;
    let from = from.and_then(|from| netlink::SocketAddrNetlink::try_from(from).ok());
    if from.is_none_or(|from| from.pid() != 0) || length > buffer.len() {
        return Ok(0);
    }
    Ok(length)
}

/// Asks for dumps.
#[derive(Debug)]
pub struct DumpSocket {
    socket: OwnedFd,
    sequence: u32,
}

impl DumpSocket {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open() -> Result<Self, FollowError> {
        let socket = open(SocketFlags::empty(), 0)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(FollowError::system("setting a netlink socket's time-out"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for the whole table.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn ask(&mut self) -> Result<(), FollowError> {
        self.sequence = self.sequence.wrapping_add(1);
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &dump_request(self.sequence), SendFlags::empty(), &kernel)
            .map_err(FollowError::system("asking netfilter for its entries"))?;
        Ok(())
    }

    /// The next part of the answer.
    ///
    /// # Errors
    /// The kernel refused, or took too long.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize, FollowError> {
        loop {
            match receive(self.socket.as_fd(), buffer) {
                Err(Errno::INTR) => {}
                other => return other.map_err(FollowError::system("reading netfilter's entries")),
            }
        }
    }
}

/// What the event socket had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many bytes of messages.
    Bytes(usize),
    /// Events were lost.
    Overrun,
    /// Nothing more for now.
    Nothing,
}

/// Listens. Never blocks.
#[derive(Debug)]
pub struct EventSocket(OwnedFd);

impl EventSocket {
    /// Opens it and joins the groups.
    ///
    /// # Errors
    /// The kernel refused (it takes CAP_NET_ADMIN).
    pub fn open() -> Result<Self, FollowError> {
        open(SocketFlags::NONBLOCK, GROUPS).map(Self)
    }

    /// What is there.
    ///
    /// # Errors
    /// The socket broke.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Heard, FollowError> {
        loop {
            return match receive(self.0.as_fd(), buffer) {
                Ok(length) => Ok(Heard::Bytes(length)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Heard::Nothing),
                Err(Errno::NOBUFS) => Ok(Heard::Overrun),
                Err(error) => Err(FollowError::system("reading netfilter's events")(error)),
            };
        }
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for EventSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}
