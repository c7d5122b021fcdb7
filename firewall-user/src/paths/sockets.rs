//! AF_PACKET and AF_XDP sockets of the caller's network namespace, as sock_diag lists them.

use super::{
    error::PathsError,
    facts::{PacketSocket, XdpSocket},
    netlink::{Netlink, number},
};
use crate::netfilter::{DecodeError, attribute::Attributes};
use rustix::net::netlink;
use std::{fs, path::Path};

/// include/uapi/linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct packet_diag_req` and `struct xdp_diag_req` are laid out alike.
const REQUEST: usize = 20;
/// `struct packet_diag_msg` and `struct xdp_diag_msg`, too.
const MESSAGE: usize = 16;
/// PACKET_SHOW_INFO and PACKET_DIAG_INFO (include/uapi/linux/packet_diag.h).
const PACKET_SHOW: u32 = 1;
const PACKET_DIAG_INFO: u16 = 0;
/// XDP_SHOW_INFO and XDP_SHOW_UMEM (include/uapi/linux/xdp_diag.h).
const XDP_SHOW: u32 = 1 | 1 << 2;
const XDP_DIAG_INFO: u16 = 1;
const XDP_DIAG_UMEM: u16 = 5;
/// Offset of `flags` in `struct xdp_diag_umem`, and XDP_DU_F_ZEROCOPY.
const UMEM_FLAGS_AT: usize = 32;
const ZERO_COPY: u32 = 1;

/// Opens a socket for what follows.
///
/// # Errors
/// The kernel has no sock_diag, or refused.
pub fn open() -> Result<Netlink, PathsError> {
    Netlink::open(Some(netlink::SOCK_DIAG))
}

fn request(family: libc::c_int, show: u32) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[0] = family as u8;
    request[8..12].copy_from_slice(&show.to_ne_bytes());
    request
}

/// AF_PACKET sockets.
///
/// # Errors
/// The kernel refused, or has no PACKET_DIAG ([`PathsError::is_unknown`]).
pub fn packet(netlink: &mut Netlink) -> Result<Vec<PacketSocket>, PathsError> {
    let bodies = netlink.dump(SOCK_DIAG_BY_FAMILY, &request(libc::AF_PACKET, PACKET_SHOW))?;
    Ok(bodies.iter().map(|body| packet_socket(body)).collect::<Result<_, _>>()?)
}

/// AF_XDP sockets.
///
/// # Errors
/// The kernel refused, or has no XDP_DIAG (Linux 4.21; [`PathsError::is_unknown`]).
pub fn xdp(netlink: &mut Netlink) -> Result<Vec<XdpSocket>, PathsError> {
    let bodies = netlink.dump(SOCK_DIAG_BY_FAMILY, &request(libc::AF_XDP, XDP_SHOW))?;
    Ok(bodies.iter().map(|body| xdp_socket(body)).collect::<Result<_, _>>()?)
}

fn packet_socket(body: &[u8]) -> Result<PacketSocket, DecodeError> {
    let protocol = body.get(2..4).and_then(|bytes| bytes.first_chunk());
    let mut socket = PacketSocket {
        // The kernel has turned it into host order already (`sk_diag_fill`).
        protocol: protocol.map(|bytes| u16::from_ne_bytes(*bytes)).unwrap_or_default(),
        inode: u64::from(number(body, 4)?),
        index: 0,
    };
    for found in Attributes::new(body.get(MESSAGE..).unwrap_or_default()) {
        let found = found?;
        if found.kind == PACKET_DIAG_INFO {
            socket.index = number(found.value, 0)?;
        }
    }
    Ok(socket)
}

fn xdp_socket(body: &[u8]) -> Result<XdpSocket, DecodeError> {
    let mut socket = XdpSocket { inode: u64::from(number(body, 4)?), ..XdpSocket::default() };
    for found in Attributes::new(body.get(MESSAGE..).unwrap_or_default()) {
        let found = found?;
        match found.kind {
            XDP_DIAG_INFO => {
                socket.index = number(found.value, 0)?;
                socket.queue = number(found.value, 4)?;
            }
            XDP_DIAG_UMEM => {
                let flags = number(found.value, UMEM_FLAGS_AT)?;
                socket.zero_copy = Some(flags & ZERO_COPY != 0);
            }
            _ => {}
        }
    }
    Ok(socket)
}

/// AF_PACKET sockets without PACKET_DIAG: `proc` is the namespace's /proc/…/net.
///
/// # Errors
/// The file can't be read.
pub fn packet_from_proc(proc: &Path) -> Result<Vec<PacketSocket>, PathsError> {
    let text = fs::read_to_string(proc.join("packet"))
        .map_err(|error| PathsError::System { what: "reading /proc/net/packet", error })?;
    Ok(packet_table(&text))
}

/// Lines of `sk RefCnt Type Proto Iface R Rmem User Inode` (net/packet/af_packet.c, `packet_seq_show`).
fn packet_table(text: &str) -> Vec<PacketSocket> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(PacketSocket {
            protocol: u16::from_str_radix(words.get(3)?, 16).ok()?,
            index: words.get(4)?.parse().ok()?,
            inode: words.get(8)?.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::netlink::attribute;

    fn message(protocol: u16, inode: u32, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0, 3];
        body.extend(protocol.to_ne_bytes());
        body.extend(inode.to_ne_bytes());
        body.extend([0; 8]);
        parts.iter().for_each(|(kind, value)| attribute(&mut body, *kind, value));
        body
    }

    #[test]
    fn packet_sockets_have_interface_protocol_and_inode() {
        let mut info = 7u32.to_ne_bytes().to_vec();
        info.extend([0; 20]);
        let read = packet_socket(&message(0x0003, 4711, &[(0, &info)])).unwrap();
        assert_eq!(read, PacketSocket { inode: 4711, index: 7, protocol: 3 });
        assert!(packet_socket(&[17, 3]).is_err());
        let text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                    ffff8881 3      3    0003   7     1 0      0      4711\nnonsense\n";
        assert_eq!(packet_table(text), [read]);
    }

    #[test]
    fn xdp_sockets_have_interface_queue_and_how_they_copy() {
        let info = [9u32, 3].map(u32::to_ne_bytes).concat();
        let mut umem = vec![0; 40];
        umem[UMEM_FLAGS_AT] = 1;
        if cfg!(target_endian = "big") {
            umem[UMEM_FLAGS_AT..].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
        }
        let read = xdp_socket(&message(0, 12, &[(1, &info), (5, &umem)])).unwrap();
        assert_eq!(read, XdpSocket { inode: 12, index: 9, queue: 3, zero_copy: Some(true) });
        let bare = xdp_socket(&message(0, 13, &[])).unwrap();
        assert_eq!((bare.index, bare.zero_copy), (0, None), "not bound yet");
        assert!(xdp_socket(&message(0, 13, &[(5, &[0; 8])])).is_err());
    }
}
