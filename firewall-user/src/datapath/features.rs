//! What a driver can do with XDP frames, as the kernel tells through generic netlink (family `netdev`,
//! Linux 6.3), asked in the caller's network namespace.

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recvfrom,
        sendto, socket_with, sockopt,
    },
};
use std::time::Duration;

/// NETDEV_XDP_ACT_NDO_XMIT (include/uapi/linux/netdev.h): the driver takes frames that an XDP program of
/// another interface redirects to it.
const NDO_XMIT: u64 = 4;

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME and _ID (include/uapi/linux/genetlink.h).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_NAME: u16 = 2;
const FAMILY_ID: u16 = 1;
/// NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX and _XDP_FEATURES.
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;

/// Headers of a message: netlink's and generic netlink's.
const HEADERS: usize = 16 + 4;
/// The kernel answers at once, or not at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether an interface's driver takes frames redirected to it; `None`: the kernel doesn't tell.
pub(super) fn takes_redirected(ifindex: u32) -> Option<bool> {
    let socket = open().ok()?;
    let family = ask(&socket, CONTROLLER, GET_FAMILY, (FAMILY_NAME, b"netdev\0"), FAMILY_ID)?;
    let family = u16::from_ne_bytes(family.try_into().ok()?);
    let index = ifindex.to_ne_bytes();
    let features = ask(&socket, family, GET_DEVICE, (IFINDEX, &index), XDP_FEATURES)?;
    Some(u64::from_ne_bytes(features.try_into().ok()?) & NDO_XMIT != 0)
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::GENERIC),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// One question with one attribute; the attribute of the answer that is wanted.
fn ask(
    socket: &OwnedFd,
    family: u16,
    command: u8,
    (kind, value): (u16, &[u8]),
    wanted: u16,
) -> Option<Vec<u8>> {
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(socket, &request(family, command, kind, value), SendFlags::empty(), &kernel).ok()?;
    let mut buffer = vec![0; 8192];
    loop {
        let (_, length, from) = match recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            other => other.ok()?,
        };
        let from = from.and_then(|from| netlink::SocketAddrNetlink::try_from(from).ok())?;
        if from.pid() == 0 {
            return answer(buffer.get(..length)?, family, wanted);
        }
    }
}

/// `struct nlmsghdr`, `struct genlmsghdr`, one attribute.
fn request(family: u16, command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute = 4 + value.len();
    let mut message = Vec::with_capacity(HEADERS + attribute);
    message.extend(((HEADERS + attribute.next_multiple_of(4)) as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(HEADERS + attribute.next_multiple_of(4), 0);
    message
}

/// The wanted attribute of the first message, where it is of this family (and no error).
fn answer(bytes: &[u8], family: u16, wanted: u16) -> Option<Vec<u8>> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    if kind != family {
        return None;
    }
    let mut rest = bytes.get(HEADERS..length)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        // The two bits above say how the value is laid out.
        if kind & 0x3fff == wanted {
            return Some(value.to_vec());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these attributes.
    fn message(family: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = request(family, 9, 0, &[]);
        bytes.truncate(HEADERS);
        for (kind, value) in attributes {
            bytes.extend((4 + value.len() as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = (bytes.len() as u32).to_ne_bytes();
        bytes[..4].copy_from_slice(&length);
        bytes
    }

    #[test]
    fn the_wanted_attribute_is_found_and_nothing_else() {
        let bytes = message(30, &[(2, b"netdev\0"), (1, &[7, 0, 0, 0]), (3, &[5; 8])]);
        assert_eq!(answer(&bytes, 30, XDP_FEATURES), Some(vec![5; 8]));
        assert_eq!(answer(&bytes, 30, 9), None, "it isn't there");
        assert_eq!(answer(&bytes, 31, XDP_FEATURES), None, "another family's, or an error");
        for cut in 0..bytes.len() {
            assert_eq!(answer(&bytes[..cut], 30, XDP_FEATURES), None, "{cut} bytes");
        }
        // Longer than the message, and shorter than its own header.
        for length in [200u8, 0, 3] {
            let mut bad = message(30, &[(2, b"x")]);
            bad[HEADERS] = length;
            assert_eq!(answer(&bad, 30, XDP_FEATURES), None);
        }
    }

    #[test]
    fn the_loopback_takes_no_frames() {
        // Where the kernel tells at all.
        if let Some(takes) = takes_redirected(1) {
            assert!(!takes);
        }
    }
}
