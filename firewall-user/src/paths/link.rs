//! Interfaces, as rtnetlink lists them.

use super::{
    error::PathsError,
    facts::{Link, Side, XdpMode},
    netlink::{Netlink, attribute, number, text},
};
use crate::netfilter::{
    DecodeError,
    attribute::{Attribute, Attributes},
};
use std::collections::HashMap;

/// include/uapi/linux/rtnetlink.h.
const RTM_GETLINK: u16 = 18;
const RTM_GETNSID: u16 = 90;
/// `struct ifinfomsg`.
const INFO: usize = 16;
/// include/uapi/linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// IFLA_MACVLAN_MODE and IFLA_IPVLAN_MODE; IFLA_IPVLAN_FLAGS.
const MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
/// MACVLAN_MODE_BRIDGE; siblings of all other modes don't talk within the parent.
const MACVLAN_BRIDGE: u32 = 4;
/// XDP_ATTACHED_DRV, _SKB, _HW; MULTI has attributes of its own for each.
const ATTACHED: [(u8, XdpMode); 3] =
    [(1, XdpMode::Native), (2, XdpMode::Generic), (3, XdpMode::Offload)];
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_MODES: [(u16, XdpMode); 3] =
    [(5, XdpMode::Native), (6, XdpMode::Generic), (7, XdpMode::Offload)];
/// RTEXT_FILTER_SKIP_STATS: nobody here counts.
const SKIP_STATS: u32 = 1 << 3;
/// include/uapi/linux/net_namespace.h.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The interfaces of the caller's network namespace; `spaces`: inodes by the numbers that this namespace
/// has given to others.
///
/// # Errors
/// The kernel refused, or said something strange.
pub fn read(netlink: &mut Netlink, spaces: &HashMap<i32, u64>) -> Result<Vec<Link>, PathsError> {
    let mut body = vec![0; INFO];
    attribute(&mut body, IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    let bodies = netlink.dump(RTM_GETLINK, &body)?;
    Ok(bodies.iter().map(|body| link(body, spaces)).collect::<Result<_, _>>()?)
}

/// The number by which the caller's namespace knows the one behind a descriptor, if it does.
///
/// # Errors
/// As [`read`].
pub fn space_number(netlink: &mut Netlink, fd: i32) -> Result<Option<i32>, PathsError> {
    let mut body = vec![0; 4];
    attribute(&mut body, NETNSA_FD, &fd.to_ne_bytes());
    let answer = netlink.ask(RTM_GETNSID, &body)?;
    for found in Attributes::new(answer.get(4..).unwrap_or_default()) {
        let found = found?;
        if found.kind == NETNSA_NSID {
            let number = i32::from_ne_bytes(found.array()?);
            return Ok((number >= 0).then_some(number));
        }
    }
    Ok(None)
}

fn ne32(found: &Attribute) -> Result<u32, DecodeError> {
    found.array().map(u32::from_ne_bytes)
}

fn link(body: &[u8], spaces: &HashMap<i32, u64>) -> Result<Link, DecodeError> {
    let attributes = body.get(INFO..).ok_or(DecodeError::Missing("fixed part"))?;
    let hardware = body.get(2..).and_then(|rest| rest.first_chunk());
    let mut link = Link {
        hardware: hardware.map(|bytes| u16::from_ne_bytes(*bytes)).unwrap_or_default(),
        index: number(body, 4)?,
        up: number(body, 8)? & libc::IFF_UP as u32 != 0,
        ..Link::default()
    };
    let (mut bus, mut device) = (None, None);
    for found in Attributes::new(attributes) {
        let found = found?;
        match found.kind {
            IFLA_IFNAME => link.name = text(found.value),
            IFLA_LINK => link.lower = Some(ne32(&found)?).filter(|lower| *lower != 0),
            IFLA_MASTER => link.master = Some(ne32(&found)?),
            IFLA_LINK_NETNSID => {
                let number = i32::from_ne_bytes(found.array()?);
                link.side = spaces.get(&number).map_or(Side::Unknown, |inode| Side::Space(*inode));
            }
            IFLA_PARENT_DEV_NAME => device = Some(text(found.value)),
            IFLA_PARENT_DEV_BUS_NAME => bus = Some(text(found.value)),
            IFLA_XDP => link.xdp = xdp(found.nested())?,
            IFLA_LINKINFO => kind(&mut link, found.nested())?,
            _ => {}
        }
    }
    // An interface that is its own link is nobody's upper one.
    if link.side == Side::Same && link.lower == Some(link.index) {
        link.lower = None;
    }
    link.bus = device.map(|device| match bus {
        Some(bus) => format!("{bus} {device}"),
        None => device,
    });
    Ok(link)
}

fn kind(link: &mut Link, found: Attributes) -> Result<(), DecodeError> {
    let mut data = None;
    for found in found {
        let found = found?;
        match found.kind {
            IFLA_INFO_KIND => link.kind = text(found.value),
            IFLA_INFO_DATA => data = Some(found),
            _ => {}
        }
    }
    let Some(data) = data else { return Ok(()) };
    for found in data.nested() {
        let found = found?;
        match (link.kind.as_str(), found.kind) {
            ("macvlan" | "macvtap", MODE) => link.isolated = ne32(&found)? != MACVLAN_BRIDGE,
            // IPVLAN_F_PRIVATE and IPVLAN_F_VEPA.
            ("ipvlan" | "ipvtap", IFLA_IPVLAN_FLAGS) => {
                link.isolated = u16::from_ne_bytes(found.array()?) & 3 != 0;
            }
            ("vxlan", IFLA_VXLAN_LINK) => link.lower = Some(ne32(&found)?),
            _ => {}
        }
    }
    Ok(())
}

/// Programs by mode, in the order that packets meet them.
fn xdp(found: Attributes) -> Result<Vec<(XdpMode, u32)>, DecodeError> {
    let (mut attached, mut only, mut each) = (0, None, Vec::new());
    for found in found {
        let found = found?;
        match found.kind {
            IFLA_XDP_ATTACHED => attached = found.u8()?,
            IFLA_XDP_PROG_ID => only = Some(ne32(&found)?),
            kind => {
                if let Some((_, mode)) = IFLA_XDP_MODES.iter().find(|(number, _)| *number == kind) {
                    each.push((*mode, ne32(&found)?));
                }
            }
        }
    }
    let mode = ATTACHED.iter().find(|(number, _)| *number == attached);
    if each.is_empty() {
        // Before Linux 4.20 there was one id for whatever mode.
        each.extend(mode.zip(only).map(|((_, mode), id)| (*mode, id)));
    }
    each.retain(|(_, id)| *id != 0);
    each.sort_unstable();
    Ok(each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::facts::{ARPHRD_ETHER, ARPHRD_LOOPBACK};

    fn info(hardware: u16, index: u32, flags: u32) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend(hardware.to_ne_bytes());
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        body
    }

    fn nested(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut inner = Vec::new();
        parts.iter().for_each(|(kind, value)| attribute(&mut inner, *kind, value));
        inner
    }

    #[test]
    fn a_veth_whose_other_end_is_elsewhere() {
        let mut body = info(ARPHRD_ETHER, 4, 1);
        attribute(&mut body, IFLA_IFNAME, b"wan0\0");
        attribute(&mut body, IFLA_LINK, &4u32.to_ne_bytes());
        attribute(&mut body, IFLA_LINK_NETNSID, &2i32.to_ne_bytes());
        attribute(&mut body, IFLA_LINKINFO, &nested(&[(IFLA_INFO_KIND, b"veth\0")]));
        let read = link(&body, &HashMap::from([(2, 4026532)])).unwrap();
        assert_eq!((read.name.as_str(), read.index, read.up), ("wan0", 4, true));
        assert_eq!((read.device(), read.lower, read.side), ("veth", Some(4), Side::Space(4026532)));
        assert_eq!(link(&body, &HashMap::new()).unwrap().side, Side::Unknown);
        for cut in 0..16 {
            assert!(link(&body[..cut], &HashMap::new()).is_err());
        }
    }

    #[test]
    fn hardware_has_a_bus_and_the_loopback_none() {
        let mut body = info(ARPHRD_ETHER, 2, 0);
        attribute(&mut body, IFLA_PARENT_DEV_NAME, b"0000:03:00.0\0");
        attribute(&mut body, IFLA_PARENT_DEV_BUS_NAME, b"pci\0");
        attribute(&mut body, IFLA_LINK, &2u32.to_ne_bytes());
        let card = link(&body, &HashMap::new()).unwrap();
        assert_eq!((card.device(), card.bus.as_deref()), ("physical", Some("pci 0000:03:00.0")));
        assert_eq!((card.lower, card.up), (None, false));
        let lo = link(&info(ARPHRD_LOOPBACK, 1, 1), &HashMap::new()).unwrap();
        assert_eq!(lo.device(), "loopback");
    }

    #[test]
    fn what_kinds_of_interfaces_say_of_themselves() {
        let isolated = |kind: &[u8], number: u16, value: &[u8]| {
            let data = nested(&[(number, value)]);
            let mut body = info(ARPHRD_ETHER, 5, 1);
            let info = nested(&[(IFLA_INFO_KIND, kind), (IFLA_INFO_DATA, &data)]);
            attribute(&mut body, IFLA_LINKINFO, &info);
            link(&body, &HashMap::new()).unwrap().isolated
        };
        assert!(!isolated(b"macvlan\0", MODE, &4u32.to_ne_bytes()));
        assert!(isolated(b"macvlan\0", MODE, &1u32.to_ne_bytes()));
        assert!(!isolated(b"ipvlan\0", IFLA_IPVLAN_FLAGS, &0u16.to_ne_bytes()));
        assert!(isolated(b"ipvlan\0", IFLA_IPVLAN_FLAGS, &1u16.to_ne_bytes()));
        assert!(!isolated(b"veth\0", MODE, &1u32.to_ne_bytes()));
        let data = nested(&[(IFLA_VXLAN_LINK, &9u32.to_ne_bytes())]);
        let mut body = info(ARPHRD_ETHER, 5, 1);
        let parts = nested(&[(IFLA_INFO_KIND, b"vxlan\0"), (IFLA_INFO_DATA, &data)]);
        attribute(&mut body, IFLA_LINKINFO, &parts);
        assert_eq!(link(&body, &HashMap::new()).unwrap().lower, Some(9), "what it sends through");
    }

    #[test]
    fn xdp_programs_by_mode_in_the_order_packets_meet_them() {
        let read = |parts: &[(u16, &[u8])]| xdp(Attributes::new(&nested(parts))).unwrap();
        let id = |id: u32| id.to_ne_bytes();
        assert_eq!(read(&[(2, &[0])]), []);
        let one = read(&[(2, &[2]), (4, &id(9)), (6, &id(9))]);
        assert_eq!(one, [(XdpMode::Generic, 9)]);
        assert_eq!(read(&[(2, &[1]), (4, &id(8))]), [(XdpMode::Native, 8)], "an old kernel");
        let several = read(&[(2, &[4]), (5, &id(3)), (7, &id(2))]);
        assert_eq!(several, [(XdpMode::Offload, 2), (XdpMode::Native, 3)]);
    }
}
