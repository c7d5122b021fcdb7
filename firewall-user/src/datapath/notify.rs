//! Hearing that interfaces or their addresses change: the kernel's route messages, of which only matters
//! that there was one.

use super::error::DatapathError;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with},
};

/// Links that come, go or change; IPv4 addresses that do.
const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR).cast_unsigned();

/// Listens to changes of interfaces, in the namespace in which it was opened. Never blocks.
#[derive(Debug)]
pub struct LinkNotices(OwnedFd);

impl LinkNotices {
    /// Opens the socket and joins the groups.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open() -> Result<Self, DatapathError> {
        let failed =
            |error: Errno| DatapathError::io("listening to changes of interfaces")(error.into());
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // NETLINK_ROUTE is protocol 0.
            None,
        )
        .map_err(failed)?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS)).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Whether anything changed since the last call. Messages that were lost count as a change.
    pub fn heard(&self) -> bool {
        // What is in it doesn't matter: a message that is cut off is taken off the queue all the same.
        let mut buffer = [0; 64];
        let mut heard = false;
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok(_) | Err(Errno::NOBUFS) => heard = true,
                Err(Errno::INTR) => {}
                Err(_) => return heard,
            }
        }
    }
}
