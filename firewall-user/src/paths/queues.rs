//! Queues whose memory isn't the stack's: the generic netlink family `netdev` tells them since Linux 6.15,
//! the release that brought io_uring's zero-copy receive.

use super::{
    error::PathsError,
    facts::{QueueOwner, QueueUse},
    netlink::{Netlink, attribute},
};
use crate::netfilter::{DecodeError, attribute::Attributes};
use rustix::net::netlink;

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME and _ID (include/uapi/linux/genetlink.h).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// NETDEV_CMD_QUEUE_GET and its attributes (include/uapi/linux/netdev.h).
const QUEUE_GET: u8 = 10;
const QUEUE_ID: u16 = 1;
const QUEUE_IFINDEX: u16 = 2;
const QUEUE_TYPE: u16 = 3;
const QUEUE_DMABUF: u16 = 5;
const QUEUE_IO_URING: u16 = 6;
const QUEUE_XSK: u16 = 7;
/// `struct genlmsghdr`.
const HEADER: usize = 4;

/// The queues of the caller's network namespace that belong to somebody.
///
/// # Errors
/// The kernel refused, or doesn't tell ([`PathsError::is_unknown`]).
pub fn read() -> Result<Vec<QueueUse>, PathsError> {
    let mut netlink = Netlink::open(Some(netlink::GENERIC))?;
    let mut ask = vec![GET_FAMILY, 1, 0, 0];
    attribute(&mut ask, FAMILY_NAME, b"netdev\0");
    let family = family(&netlink.ask(CONTROLLER, &ask)?)?;
    let bodies = netlink.dump(family, &[QUEUE_GET, 1, 0, 0])?;
    let mut found = Vec::new();
    for body in bodies {
        found.extend(queue(&body)?);
    }
    Ok(found)
}

fn family(body: &[u8]) -> Result<u16, DecodeError> {
    for found in Attributes::new(body.get(HEADER..).unwrap_or_default()) {
        let found = found?;
        if found.kind == FAMILY_ID {
            return found.array().map(u16::from_ne_bytes);
        }
    }
    Err(DecodeError::Missing("family number"))
}

fn queue(body: &[u8]) -> Result<Option<QueueUse>, DecodeError> {
    let (mut index, mut queue, mut receives, mut owner) = (0, 0, true, None);
    for found in Attributes::new(body.get(HEADER..).unwrap_or_default()) {
        let found = found?;
        match found.kind {
            QUEUE_ID => queue = found.array().map(u32::from_ne_bytes)?,
            QUEUE_IFINDEX => index = found.array().map(u32::from_ne_bytes)?,
            QUEUE_TYPE => receives = found.array().map(u32::from_ne_bytes)? == 0,
            QUEUE_DMABUF => owner = Some(QueueOwner::DeviceMemory),
            QUEUE_IO_URING => owner = Some(QueueOwner::IoUring),
            QUEUE_XSK => owner = Some(QueueOwner::Xsk),
            _ => {}
        }
    }
    Ok(owner.map(|owner| QueueUse { index, queue, receives, owner }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_belong_to_somebody_say_to_whom() {
        let message = |parts: &[(u16, &[u8])]| {
            let mut body = vec![QUEUE_GET, 1, 0, 0];
            parts.iter().for_each(|(kind, value)| attribute(&mut body, *kind, value));
            body
        };
        let [id, index, rx] = [3u32, 8, 0].map(u32::to_ne_bytes);
        let place = [(QUEUE_ID, &id[..]), (QUEUE_IFINDEX, &index), (QUEUE_TYPE, &rx)];
        let of = |kind: u16| queue(&message(&[&place[..], &[(kind, b"")]].concat())).unwrap();
        let found = |owner| Some(QueueUse { index: 8, queue: 3, receives: true, owner });
        assert_eq!(of(QUEUE_IO_URING), found(QueueOwner::IoUring));
        assert_eq!(of(QUEUE_XSK), found(QueueOwner::Xsk));
        assert_eq!(of(QUEUE_DMABUF), found(QueueOwner::DeviceMemory));
        assert_eq!(queue(&message(&place)).unwrap(), None, "the stack's");
        assert_eq!(family(&message(&[(FAMILY_ID, &[0x21, 0x21])])), Ok(0x2121));
        assert!(family(&[]).is_err());
    }
}
