//! What the kernel tells of an interface, asked in the caller's network namespace.
//!
//! By ioctl and not through sysfs: a daemon that was put into a namespace from outside still sees the
//! old namespace's /sys/class/net.

use super::error::DatapathError;
use firewall_common::abi::iface::{IFACE_WIRE, Iface};
use std::{ffi::CString, io, os::fd::AsRawFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const SIOCGIFHWADDR: libc::c_ulong = 0x8927;
const ETHTOOL_GDRVINFO: u32 = 3;
/// ARPHRD_ETHER and ARPHRD_LOOPBACK (include/uapi/linux/if_arp.h).
const ETHERNET_LIKE: [u16; 2] = [1, 772];

/// Drivers whose frames never meet a wire below them: segmentation offload is worth more there than
/// an early hook.
const VIRTUAL: [&str; 14] = [
    "veth",
    "tun",
    "tap",
    "bridge",
    "bonding",
    "team",
    "macvlan",
    "macvtap",
    "ipvlan",
    "vxlan",
    "geneve",
    "dummy",
    "netkit",
    "802.1Q VLAN Support",
];

/// `struct ethtool_drvinfo` (include/uapi/linux/ethtool.h).
#[repr(C)]
struct DrvInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved2: [u8; 12],
    n_priv_flags: u32,
    n_stats: u32,
    testinfo_len: u32,
    eedump_len: u32,
    regdump_len: u32,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct NetDev {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// Driver's name, empty where the kernel doesn't tell.
    pub driver: String,
    /// Whether frames come off a wire: it has a bus and no virtual driver.
    pub physical: bool,
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Names of all interfaces here.
pub fn names() -> Vec<String> {
    let mut found = Vec::new();
    // SAFETY: the list is walked up to its zero entry and freed once.
    unsafe {
        let list = libc::if_nameindex();
        if list.is_null() {
            return found;
        }
        let mut at = list;
        while (*at).if_index != 0 && !(*at).if_name.is_null() {
            found.push(std::ffi::CStr::from_ptr((*at).if_name).to_string_lossy().into_owned());
            at = at.add(1);
        }
        libc::if_freenameindex(list);
    }
    found
}

/// Index of an interface, if it is there.
pub fn index(name: &str) -> Option<u32> {
    let c = CString::new(name).ok()?;
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(c.as_ptr()) };
    (index != 0).then_some(index)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in req.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    req
}

/// Looks an interface up.
///
/// # Errors
/// [`DatapathError::NoInterface`] names those there are; [`DatapathError::NotEthernet`] otherwise.
pub fn find(name: &str) -> Result<NetDev, DatapathError> {
    let Some(ifindex) = index(name) else {
        let existing = names().join(", ");
        return Err(DatapathError::NoInterface { name: name.to_owned(), existing });
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")
        .or_else(|_| std::net::UdpSocket::bind("[::1]:0"))
        .or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))
        .map_err(DatapathError::io("opening a socket to ask about interfaces"))?;
    let mut req = request(name);
    // SAFETY: SIOCGIFHWADDR fills the request it is given.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFHWADDR, &mut req) } != 0 {
        return Err(DatapathError::io(format!("asking for the type of `{name}`"))(
            io::Error::last_os_error(),
        ));
    }
    // SAFETY: the ioctl wrote this member of the union.
    let arphrd = unsafe { req.ifr_ifru.ifru_hwaddr.sa_family };
    if !ETHERNET_LIKE.contains(&arphrd) {
        return Err(DatapathError::NotEthernet { name: name.to_owned(), arphrd });
    }
    // SAFETY: all-zero bytes are a valid DrvInfo.
    let mut info: DrvInfo = unsafe { std::mem::zeroed() };
    info.cmd = ETHTOOL_GDRVINFO;
    let mut req = request(name);
    req.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: ETHTOOL_GDRVINFO fills the structure behind ifru_data, which outlives the call.
    let told = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &mut req) } == 0;
    let (driver, bus) =
        if told { (text(&info.driver), text(&info.bus_info)) } else { <_>::default() };
    let physical = !bus.is_empty() && bus != "N/A" && !VIRTUAL.contains(&driver.as_str());
    Ok(NetDev { name: name.to_owned(), ifindex, driver, physical })
}

/// What the programs are told of an interface: slot, whether its frames come off a wire, first IPv4
/// address, MTU.
pub fn entry(dev: &NetDev, slot: u8) -> Iface {
    let flags = if dev.physical { IFACE_WIRE } else { 0 };
    Iface {
        slot: u32::from(slot),
        flags,
        address: address(&dev.name).unwrap_or_default(),
        mtu: mtu(&dev.name).unwrap_or(1500),
    }
}

/// Asks something of an interface that the kernel fills into the request.
fn ask(name: &str, what: libc::c_ulong) -> Option<libc::ifreq> {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
            .ok()?;
    let mut req = request(name);
    // SAFETY: the requests that are asked here fill the structure they are given, and nothing else.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), what as libc::Ioctl, &mut req) };
    (asked == 0).then_some(req)
}

/// MTU of an interface.
pub fn mtu(name: &str) -> Option<u32> {
    let req = ask(name, libc::SIOCGIFMTU as libc::c_ulong)?;
    // SAFETY: the ioctl wrote this member of the union.
    u32::try_from(unsafe { req.ifr_ifru.ifru_mtu }).ok()
}

/// The first IPv4 address of an interface.
pub fn address(name: &str) -> Option<[u8; 4]> {
    let req = ask(name, libc::SIOCGIFADDR as libc::c_ulong)?;
    // SAFETY: the ioctl wrote this member of the union; `sa_data` begins with the port.
    let data = unsafe { req.ifr_ifru.ifru_addr.sa_data };
    let byte = |i: usize| data.get(i).map_or(0, |b| b.cast_unsigned());
    Some([byte(2), byte(3), byte(4), byte(5)])
}
