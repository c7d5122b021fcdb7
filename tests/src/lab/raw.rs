//! Frames as they are: an AF_PACKET socket on one interface.

use super::{LabError, NetNs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Sends and receives whole Ethernet frames on one interface.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
}

impl RawSocket {
    /// Opens one on `interface` of `ns`.
    ///
    /// # Errors
    /// Where the interface is missing or the kernel refuses.
    pub fn open(ns: &NetNs, interface: &str) -> Result<Self, LabError> {
        let index = ns.ifindex(interface)?;
        let what = format!("opening a raw socket on {interface} of {}", ns.label);
        ns.run(|| {
            let every = (libc::ETH_P_ALL as u16).to_be();
            // SAFETY: socket takes numbers; the descriptor it returns is owned by nobody else.
            let fd = unsafe {
                let fd = libc::socket(
                    libc::AF_PACKET,
                    libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                    i32::from(every),
                );
                if fd < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                OwnedFd::from_raw_fd(fd)
            };
            // SAFETY: all-zero bytes are a valid sockaddr_ll.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = every;
            address.sll_ifindex = index as i32;
            // SAFETY: the address is a whole sockaddr_ll and its size is what is said.
            let bound = unsafe {
                libc::bind(
                    fd.as_raw_fd(),
                    (&raw const address).cast(),
                    std::mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
                )
            };
            if bound != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Without this the socket would also hear what it sent itself.
            let yes: i32 = 1;
            // SAFETY: the option's value is an i32 that outlives the call.
            unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_IGNORE_OUTGOING,
                    (&raw const yes).cast(),
                    4,
                );
            }
            Ok(Self { fd })
        })
        .map_err(LabError::system(what))
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// Where the kernel doesn't take it.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is as long as said and outlives the call.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(
            sent,
            frame.len() as isize,
            "sending a frame: {}",
            std::io::Error::last_os_error()
        );
    }

    /// Sends frames, as many as the kernel takes now; how many that were.
    ///
    /// # Panics
    /// Where the interface is gone.
    pub fn send_batch(&self, frames: &[Vec<u8>]) -> usize {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all-zero bytes are a valid message without address, parts and control data.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        // SAFETY: each message has one part, each part a frame that outlives the call; nothing is written there.
        let sent = unsafe {
            libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0)
        };
        if sent < 0 {
            let error = std::io::Error::last_os_error();
            // A full queue is what a flood is for.
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "sending frames: {error}");
            return 0;
        }
        sent as usize
    }

    /// The next frame that `wanted` accepts, or `None` after `limit`.
    pub fn receive(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut buffer = vec![0u8; 65_536];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut poll =
                libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, as said.
            if unsafe { libc::poll(&raw mut poll, 1, left.as_millis().max(1) as i32) } <= 0 {
                continue;
            }
            // SAFETY: the buffer is as long as said and outlives the call.
            let n = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if n > 0 && wanted(&buffer[..n as usize]) {
                return Some(buffer[..n as usize].to_vec());
            }
        }
    }
}
