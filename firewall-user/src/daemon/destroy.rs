//! Ending sockets: SOCK_DESTROY of sock_diag (man 7 sock_diag; `inet_diag_handler_cmd` in net/ipv4/inet_diag.c).
//! The owner's next call on such a socket fails with ECONNABORTED, and a TCP peer gets a RST.

use firewall_common::abi::socket::{SocketRow, Usage};
use rustix::{
    fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
        socket_with, sockopt,
    },
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    thread,
    time::Duration,
};
use thiserror::Error;

/// SOCK_DESTROY (include/uapi/linux/sock_diag.h).
const DESTROY: u16 = 21;
/// AF_INET, AF_INET6.
const INET: u16 = 2;
const INET6: u16 = 10;
/// IPPROTO_TCP.
const TCP: u16 = 6;
/// Headers and request: `struct nlmsghdr`, `struct inet_diag_req_v2`.
const LENGTH: usize = 16 + 56;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a socket lives on.
#[derive(Debug, Error)]
pub enum DestroyError {
    /// There is no such request for this kind.
    #[error("only sockets of IPv4 and IPv6 can be ended")]
    Kind,
    /// It is gone, or it is another one now.
    #[error("it has ended by itself")]
    Gone,
    /// The kernel was built without CONFIG_INET_DIAG_DESTROY, or the protocol can't.
    #[error("this kernel can't end sockets of this kind")]
    Unsupported,
    /// Nobody leads there.
    #[error("its network namespace (inode {0}) is not to be found: nothing of it is within reach")]
    NoNamespace(u32),
    /// The daemon may not go there.
    #[error(
        "its network namespace (inode {0}) is closed to the daemon, which lacks CAP_SYS_ADMIN (docs/sockets.md)"
    )]
    Forbidden(u32),
    /// The kernel refuses.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A socket, and who holds it at which descriptor.
pub type Held = (SocketRow, Vec<(u32, u32)>);

/// Ends sockets; the outcome for each cookie. `own`: inode of our network namespace.
pub fn destroy(rows: &[Held], own: u32) -> BTreeMap<u64, Result<(), DestroyError>> {
    let mut spaces: BTreeMap<u32, Vec<&Held>> = BTreeMap::new();
    for held in rows {
        spaces.entry(held.0.netns).or_default().push(held);
    }
    let mut outcomes = BTreeMap::new();
    for (inode, rows) in spaces {
        // A thread of its own: it can't be led back for sure.
        let done = thread::scope(|scope| {
            let work = scope.spawn(|| {
                if inode != own {
                    let space = rows
                        .iter()
                        .find_map(|held| of_socket(inode, &held.1))
                        .or_else(|| namespace(inode))
                        .ok_or(DestroyError::NoNamespace(inode))?;
                    let kind = Some(LinkNameSpaceType::Network);
                    move_into_link_name_space(space.as_fd(), kind).map_err(
                        |error| match error {
                            Errno::PERM => DestroyError::Forbidden(inode),
                            error => io::Error::from(error).into(),
                        },
                    )?;
                }
                let socket = open().map_err(io::Error::from)?;
                let each = rows.iter().map(|(row, _)| (row.usage.cookie, one(&socket, row)));
                Ok::<_, DestroyError>(each.collect::<Vec<_>>())
            });
            work.join().unwrap_or_else(|_| Err(io::Error::other("a thread failed").into()))
        });
        match done {
            Ok(done) => outcomes.extend(done),
            Err(error) => {
                let why = error.to_string();
                let each = rows.iter().map(|(row, _)| {
                    (row.usage.cookie, Err(DestroyError::System(io::Error::other(why.clone()))))
                });
                outcomes.extend(each);
            }
        }
    }
    outcomes
}

/// Whether the kernel ends sockets for whoever asks: it is asked to end one that can't be.
pub fn outlook() -> Result<(), DestroyError> {
    let usage = Usage { cookie: 1 << 63, ..Usage::default() };
    let nobody = SocketRow { usage, family: INET, protocol: TCP, ..SocketRow::default() };
    match one(&open().map_err(io::Error::from)?, &nobody) {
        Ok(()) | Err(DestroyError::Gone) => Ok(()),
        Err(error) => Err(error),
    }
}

/// SIOCGSKNS (include/uapi/linux/sockios.h): the namespace of a socket.
const NAMESPACE_OF: libc::c_ulong = 0x894c;

/// A way into a network namespace by a socket of it: its holder needn't be there itself.
fn of_socket(inode: u32, holders: &[(u32, u32)]) -> Option<File> {
    holders.iter().find_map(|(pid, descriptor)| {
        let pid = Pid::from_raw(i32::try_from(*pid).ok()?)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let descriptor = i32::try_from(*descriptor).ok()?;
        let socket = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()?;
        // SAFETY: the request takes no argument; it answers with a new descriptor, or -1.
        let space = unsafe { libc::ioctl(socket.as_raw_fd(), NAMESPACE_OF) };
        if space < 0 {
            return None;
        }
        // SAFETY: a descriptor that was just made for us.
        let space = unsafe { File::from_raw_fd(space) };
        // The descriptor may have become another socket's.
        (space.metadata().ok()?.ino() == u64::from(inode)).then_some(space)
    })
}

/// A way into a network namespace: a process in it, or a name that was given to it.
fn namespace(inode: u32) -> Option<File> {
    let is_it = |path: PathBuf| {
        let file = File::open(path).ok()?;
        (file.metadata().ok()?.ino() == u64::from(inode)).then_some(file)
    };
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let named = entries("/run/netns").map(|entry| entry.path());
    let processes = entries("/proc").map(|entry| entry.path().join("ns/net"));
    named.chain(processes).find_map(is_it)
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

fn one(socket: &OwnedFd, row: &SocketRow) -> Result<(), DestroyError> {
    if !matches!(row.family, INET | INET6) {
        return Err(DestroyError::Kind);
    }
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(socket, &request(row), SendFlags::empty(), &kernel).map_err(io::Error::from)?;
    let mut buffer = [0u8; 4096];
    let length = loop {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, length)) => break length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    };
    match answer(buffer.get(..length).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(code) if code == -libc::ENOENT || code == -libc::ESTALE => Err(DestroyError::Gone),
        Some(code) if code == -libc::EOPNOTSUPP => Err(DestroyError::Unsupported),
        Some(code) => Err(io::Error::from_raw_os_error(-code).into()),
        None => Err(io::Error::other("the kernel's answer makes no sense").into()),
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`: ends in network order, the cookie in two halves.
fn request(row: &SocketRow) -> Vec<u8> {
    let mut message = Vec::with_capacity(LENGTH);
    message.extend((LENGTH as u32).to_ne_bytes());
    message.extend(DESTROY.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([row.family as u8, row.protocol as u8, 0, 0]);
    // Of any state.
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(row.local_port.to_be_bytes());
    message.extend(row.remote_port.to_be_bytes());
    message.extend(row.local);
    message.extend(row.remote);
    message.extend(row.bound_to.to_ne_bytes());
    let cookie = row.usage.cookie;
    message.extend((cookie as u32).to_ne_bytes());
    message.extend(((cookie >> 32) as u32).to_ne_bytes());
    message
}

/// The error of an acknowledgement (`struct nlmsgerr`), 0 where there is none.
fn answer(bytes: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_the_kernel_reads_it() {
        let usage = Usage { cookie: 0x1_0000_0002, ..Usage::default() };
        let row = SocketRow {
            usage,
            family: INET,
            protocol: 6,
            local_port: 80,
            remote_port: 4000,
            local: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ..SocketRow::default()
        };
        let bytes = request(&row);
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(bytes[16..18], [2, 6]);
        assert_eq!(bytes[24..28], [0, 80, 15, 160]);
        assert_eq!(bytes[28..32], [10, 0, 0, 1]);
        assert_eq!(bytes[64..72], [[2u32, 1].map(u32::to_ne_bytes)].concat().concat()[..]);
    }

    #[test]
    fn answers_are_read_and_nothing_else() {
        let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend((-libc::ENOENT).to_ne_bytes());
        assert_eq!(answer(&bytes), Some(-libc::ENOENT));
        assert_eq!(answer(&bytes[..19]), None);
        bytes[4] = 3;
        assert_eq!(answer(&bytes), None, "no acknowledgement");
    }

    #[test]
    fn our_own_namespace_is_found_by_its_number() {
        let own = fs::metadata("/proc/self/ns/net").expect("proc").ino() as u32;
        assert!(namespace(own).is_some());
        assert!(namespace(1).is_none());
    }
}
