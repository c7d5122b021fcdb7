//! Connections from a port of one's choice.

use super::NetNs;
use std::io::Error;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

impl NetNs {
    /// Connects to `to` over IPv4, from source port `sport`.
    ///
    /// # Errors
    /// As `TcpStream::connect_timeout`.
    pub fn connect_from(
        &self,
        sport: u16,
        to: &str,
        limit: Duration,
    ) -> std::io::Result<TcpStream> {
        let to: SocketAddrV4 = to.parse().expect("an IPv4 socket address");
        self.run(|| {
            // SAFETY: socket takes numbers; the descriptor it returns is owned by nobody else.
            let fd = unsafe {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
                if fd < 0 {
                    return Err(Error::last_os_error());
                }
                OwnedFd::from_raw_fd(fd)
            };
            let stream = TcpStream::from(fd);
            // Linux holds connect(2) to the send time-out.
            stream.set_write_timeout(Some(limit))?;
            let yes: i32 = 1;
            let mine = address(SocketAddrV4::new([0, 0, 0, 0].into(), sport));
            let theirs = address(to);
            let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            let fd = stream.as_raw_fd();
            // SAFETY: the option's value and both addresses outlive the calls and are as long as said.
            let failed = unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    libc::SO_REUSEADDR,
                    (&raw const yes).cast(),
                    4,
                ) != 0
                    || libc::bind(fd, (&raw const mine).cast(), len) != 0
                    || libc::connect(fd, (&raw const theirs).cast(), len) != 0
            };
            if failed {
                let error = Error::last_os_error();
                // What connect(2) says when its time is over.
                if error.raw_os_error() == Some(libc::EINPROGRESS) {
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                return Err(error);
            }
            Ok(stream)
        })
    }
}

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}
