//! Two namespaces with a veth between them: where peers that stand at one interface are measured.

use crate::lab::{LabError, NetNs};

/// Address of the far end.
pub(super) const SRC: &str = "192.0.2.10";
/// Address of the measured end.
pub(super) const DST: &str = "198.51.100.20";

/// Two ends of a veth in namespaces of their own; the measured end is the first.
pub(super) struct Pair {
    /// Where `b0` is, the measured end.
    pub near: NetNs,
    /// Where `p0` is.
    pub far: NetNs,
    /// Index of `b0`.
    pub index: u32,
    /// MAC addresses of `p0` and `b0`: of frames that come in at `b0`.
    pub macs: ([u8; 6], [u8; 6]),
}

impl Pair {
    /// Makes them.
    ///
    /// # Errors
    /// In words.
    pub fn new() -> Result<Self, String> {
        Self::build().map_err(|error| error.to_string())
    }

    fn build() -> Result<Self, LabError> {
        let (near, far) = (NetNs::new("bench")?, NetNs::new("peer")?);
        let path = far.path();
        let path = path.to_str().unwrap_or_default();
        near.ip(&["link", "add", "b0", "type", "veth", "peer", "name", "p0", "netns", path])?;
        near.ip(&["address", "add", &format!("{DST}/24"), "dev", "b0"])?;
        far.ip(&["address", "add", "198.51.100.1/24", "dev", "p0"])?;
        far.ip(&["address", "add", &format!("{SRC}/32"), "dev", "p0"])?;
        for ns in [&near, &far] {
            ns.sysctl("ipv4/conf/all/rp_filter", "0")?;
            ns.sysctl("ipv4/conf/default/rp_filter", "0")?;
        }
        near.sysctl("ipv4/conf/b0/rp_filter", "0")?;
        near.ip(&["link", "set", "b0", "up"])?;
        far.ip(&["link", "set", "p0", "up"])?;
        near.ip(&["route", "add", &format!("{SRC}/32"), "dev", "b0"])?;
        let index = near.ifindex("b0")?;
        let macs = (far.mac("p0")?, near.mac("b0")?);
        Ok(Self { near, far, index, macs })
    }
}
