//! What netfilter runs in the caller's network namespace: nftables' base chains, everything else that is
//! registered (nfnetlink_hook, Linux 5.14), and where that can't be asked, iptables' tables by name.

use super::{
    error::PathsError,
    facts::{Family, NetfilterHook},
    netlink::{Netlink, attribute, text},
};
use crate::netfilter::{DecodeError, attribute::Attributes};
use rustix::net::netlink;
use std::{fs, path::Path};

/// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETCHAIN (include/uapi/linux/netfilter/nf_tables.h).
const GET_CHAINS: u16 = 10 << 8 | 4;
/// NFNL_SUBSYS_HOOK and NFNL_MSG_HOOK_GET (include/uapi/linux/netfilter/nfnetlink_hook.h).
const GET_HOOKS: u16 = 12 << 8;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_HOOK_DEVS: u16 = 4;
const NFTA_DEVICE_NAME: u16 = 1;

const NFNLA_HOOK_HOOKNUM: u16 = 1;
const NFNLA_HOOK_PRIORITY: u16 = 2;
const NFNLA_HOOK_DEV: u16 = 3;
const NFNLA_HOOK_FUNCTION_NAME: u16 = 4;
const NFNLA_HOOK_MODULE_NAME: u16 = 5;
const NFNLA_HOOK_CHAIN_INFO: u16 = 6;

/// NFPROTO_* (include/uapi/linux/netfilter.h).
const INET: u8 = 1;
const IPV4: u8 = 2;
const ARP: u8 = 3;
const NETDEV: u8 = 5;
const BRIDGE: u8 = 7;
const IPV6: u8 = 10;

const fn family_name(family: u8) -> &'static str {
    match family {
        INET => "inet",
        IPV4 => "ip",
        ARP => "arp",
        NETDEV => "netdev",
        BRIDGE => "bridge",
        IPV6 => "ip6",
        _ => "other",
    }
}

/// The hook and its family, of a protocol family and a number in it.
fn place(family: u8, number: u32) -> Option<(Family, &'static str)> {
    let five = ["nf-prerouting", "nf-input", "nf-forward", "nf-output", "nf-postrouting"];
    let at = |names: &[&'static str]| names.get(number as usize).copied();
    Some(match family {
        INET if number == 5 => (Family::Device, "nf-ingress"),
        INET | IPV4 | IPV6 => (Family::Ip, at(&five)?),
        ARP => (Family::Arp, at(&["nf-input", "nf-output", "nf-forward"])?),
        // NF_BR_BROUTING comes before all others.
        BRIDGE if number == 5 => (Family::Bridge, "nf-prerouting"),
        BRIDGE => (Family::Bridge, at(&five)?),
        NETDEV => (Family::Device, at(&["nf-ingress", "nf-egress"])?),
        _ => return None,
    })
}

/// Opens a socket for what follows.
///
/// # Errors
/// The kernel has no netfilter, or refused.
pub fn open() -> Result<Netlink, PathsError> {
    Netlink::open(Some(netlink::NETFILTER))
}

/// nftables' base chains. Takes CAP_NET_ADMIN.
///
/// # Errors
/// The kernel refused, or has no nftables ([`PathsError::is_unknown`]).
pub fn chains(netlink: &mut Netlink) -> Result<Vec<NetfilterHook>, PathsError> {
    let bodies = netlink.dump(GET_CHAINS, &[0; HEADER])?;
    let mut found = Vec::new();
    for body in bodies {
        found.extend(chain(&body)?);
    }
    Ok(found)
}

/// What isn't a chain of nftables': connection tracking, iptables, others' modules.
///
/// # Errors
/// The kernel refused, or can't be asked ([`PathsError::is_unknown`]).
pub fn others(
    netlink: &mut Netlink,
    interfaces: &[&str],
) -> Result<Vec<NetfilterHook>, PathsError> {
    let mut found = Vec::new();
    let mut ask = |family: u8, number: u32, device: Option<&str>| {
        let mut body = vec![family, 0, 0, 0];
        attribute(&mut body, NFNLA_HOOK_HOOKNUM, &number.to_be_bytes());
        if let Some(device) = device {
            attribute(&mut body, NFNLA_HOOK_DEV, &[device.as_bytes(), b"\0"].concat());
        }
        for body in netlink.dump(GET_HOOKS, &body)? {
            found.extend(hook(&body, device)?);
        }
        Ok::<(), PathsError>(())
    };
    for family in [IPV4, IPV6, BRIDGE] {
        for number in 0..5 {
            match ask(family, number, None) {
                // A family that the kernel is built without.
                Err(error) if error.is_unknown() && family != IPV4 => {}
                other => other?,
            }
        }
    }
    for device in interfaces {
        for number in 0..2 {
            match ask(NETDEV, number, Some(device)) {
                // Gone meanwhile, or a kernel without that hook.
                Err(error) if error.is_unknown() => {}
                other => other?,
            }
        }
    }
    Ok(found)
}

/// iptables' tables in use, by name, where the kernel lists nothing more of them; `proc` is /proc/…/net.
pub fn iptables(proc: &Path) -> Vec<NetfilterHook> {
    let mut found = Vec::new();
    for (file, tool) in [("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables")] {
        let text = fs::read_to_string(proc.join(file)).unwrap_or_default();
        for table in text.lines() {
            found.extend(table_hooks(table).iter().map(|(hook, priority)| NetfilterHook {
                family: Family::Ip,
                hook,
                priority: *priority,
                name: format!("{tool} {table}"),
                devices: Vec::new(),
            }));
        }
    }
    found
}

/// Where a table hangs (net/ipv4/netfilter/iptable_*.c, include/uapi/linux/netfilter_ipv4.h).
const fn table_hooks(table: &str) -> &'static [(&'static str, i32)] {
    match table.as_bytes() {
        b"raw" => &[("nf-prerouting", -300), ("nf-output", -300)],
        b"mangle" => &[
            ("nf-prerouting", -150),
            ("nf-input", -150),
            ("nf-forward", -150),
            ("nf-output", -150),
            ("nf-postrouting", -150),
        ],
        b"nat" => &[
            ("nf-prerouting", -100),
            ("nf-input", 100),
            ("nf-output", -100),
            ("nf-postrouting", 100),
        ],
        b"security" => &[("nf-input", 50), ("nf-forward", 50), ("nf-output", 50)],
        _ => &[("nf-input", 0), ("nf-forward", 0), ("nf-output", 0)],
    }
}

/// A base chain; `None` for one that only others jump to.
fn chain(body: &[u8]) -> Result<Option<NetfilterHook>, DecodeError> {
    let family = *body.first().ok_or(DecodeError::Missing("netfilter header"))?;
    let (mut table, mut name, mut base) = (String::new(), String::new(), None);
    for found in Attributes::new(body.get(HEADER..).unwrap_or_default()) {
        let found = found?;
        match found.kind {
            NFTA_CHAIN_TABLE => table = text(found.value),
            NFTA_CHAIN_NAME => name = text(found.value),
            NFTA_CHAIN_HOOK => base = Some(found),
            _ => {}
        }
    }
    let Some(base) = base else { return Ok(None) };
    let (mut number, mut priority, mut devices) = (0, 0, Vec::new());
    for found in base.nested() {
        let found = found?;
        match found.kind {
            NFTA_HOOK_HOOKNUM => number = found.be32()?,
            NFTA_HOOK_PRIORITY => priority = found.be32()?.cast_signed(),
            NFTA_HOOK_DEV => devices.push(text(found.value)),
            NFTA_HOOK_DEVS => {
                for device in found.nested() {
                    let device = device?;
                    if device.kind == NFTA_DEVICE_NAME {
                        devices.push(text(device.value));
                    }
                }
            }
            _ => {}
        }
    }
    devices.sort_unstable();
    devices.dedup();
    let name = format!("{} {table} {name}", family_name(family));
    Ok(place(family, number).map(|(family, hook)| NetfilterHook {
        family,
        hook,
        priority,
        name,
        devices,
    }))
}

/// A registered function; `None` for a chain of nftables', which [`chains`] tells better.
fn hook(body: &[u8], device: Option<&str>) -> Result<Option<NetfilterHook>, DecodeError> {
    let family = *body.first().ok_or(DecodeError::Missing("netfilter header"))?;
    let (mut number, mut priority, mut function, mut module) = (0, 0, String::new(), String::new());
    for found in Attributes::new(body.get(HEADER..).unwrap_or_default()) {
        let found = found?;
        match found.kind {
            NFNLA_HOOK_HOOKNUM => number = found.be32()?,
            NFNLA_HOOK_PRIORITY => priority = found.be32()?.cast_signed(),
            NFNLA_HOOK_FUNCTION_NAME => function = text(found.value),
            NFNLA_HOOK_MODULE_NAME => module = text(found.value),
            NFNLA_HOOK_CHAIN_INFO => return Ok(None),
            _ => {}
        }
    }
    let name = if module.is_empty() { function } else { format!("{module}: {function}") };
    Ok(place(family, number).map(|(family, hook)| NetfilterHook {
        family,
        hook,
        priority,
        name,
        devices: device.map(str::to_owned).into_iter().collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(family: u8, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        parts.iter().for_each(|(kind, value)| attribute(&mut body, *kind, value));
        body
    }

    #[test]
    fn base_chains_say_where_they_hang() {
        let mut base = Vec::new();
        attribute(&mut base, NFTA_HOOK_HOOKNUM, &1u32.to_be_bytes());
        attribute(&mut base, NFTA_HOOK_PRIORITY, &(-10i32).to_be_bytes());
        let parts = [(1, &b"filter\0"[..]), (3, b"input\0"), (4, &base)];
        let expected = NetfilterHook {
            family: Family::Ip,
            hook: "nf-input",
            priority: -10,
            name: "inet filter input".into(),
            devices: vec![],
        };
        assert_eq!(chain(&body(INET, &parts)).unwrap(), Some(expected));
        assert_eq!(chain(&body(INET, &parts[..2])).unwrap(), None, "no base chain");
        assert!(chain(&[]).is_err());
    }

    #[test]
    fn a_chain_of_interfaces_names_each_once() {
        let mut devices = Vec::new();
        for name in [&b"wan0\0"[..], b"lan0\0"] {
            attribute(&mut devices, NFTA_DEVICE_NAME, name);
        }
        let mut base = Vec::new();
        attribute(&mut base, NFTA_HOOK_HOOKNUM, &0u32.to_be_bytes());
        attribute(&mut base, NFTA_HOOK_DEV, b"wan0\0");
        attribute(&mut base, NFTA_HOOK_DEVS, &devices);
        let read = chain(&body(NETDEV, &[(1, b"t\0"), (3, b"c\0"), (4, &base)])).unwrap().unwrap();
        assert_eq!((read.family, read.hook), (Family::Device, "nf-ingress"));
        assert_eq!(read.devices, ["lan0", "wan0"]);
    }

    #[test]
    fn registered_functions_have_a_module_and_chains_are_left_out() {
        let parts = [
            (NFNLA_HOOK_HOOKNUM, &0u32.to_be_bytes()[..]),
            (NFNLA_HOOK_PRIORITY, &(-200i32).to_be_bytes()),
            (NFNLA_HOOK_FUNCTION_NAME, b"ipv4_conntrack_in\0"),
            (NFNLA_HOOK_MODULE_NAME, b"nf_conntrack\0"),
            (NFNLA_HOOK_CHAIN_INFO, b""),
        ];
        let read = hook(&body(IPV4, &parts[..4]), None).unwrap().unwrap();
        assert_eq!(read.name, "nf_conntrack: ipv4_conntrack_in");
        assert_eq!((read.hook, read.priority), ("nf-prerouting", -200));
        assert_eq!(hook(&body(IPV4, &parts), None).unwrap(), None);
    }
}
