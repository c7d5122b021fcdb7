//! The three namespaces, their links and addresses.

use super::{LabError, NetNs};
use std::os::unix::fs::MetadataExt as _;

/// ```text
///  client                     gate                      server
///  c0 10.77.1.2 --------- wan0 10.77.1.1
///     fd77:1::2                fd77:1::1
///                         lan0 10.77.2.1 --------- s0 10.77.2.2
///                              fd77:2::1                fd77:2::2
/// ```
/// The gate forwards both families. No duplicate address detection, no router solicitations, no
/// generated addresses: the links are silent until a test sends something. Without link-local
/// addresses a router can't ask for neighbours on behalf of others, so the gate knows its own.
#[derive(Debug)]
pub struct Lab {
    /// Where traffic begins.
    pub client: NetNs,
    /// Where Sluice stands.
    pub gate: NetNs,
    /// Where traffic goes.
    pub server: NetNs,
}

/// Addresses by end and family.
impl Lab {
    /// Client's IPv4 address.
    pub const CLIENT4: &str = "10.77.1.2";
    /// Client's IPv6 address.
    pub const CLIENT6: &str = "fd77:1::2";
    /// Gate's IPv4 address on the client's side.
    pub const GATE4: &str = "10.77.1.1";
    /// Gate's IPv6 address on the client's side.
    pub const GATE6: &str = "fd77:1::1";
    /// Server's IPv4 address.
    pub const SERVER4: &str = "10.77.2.2";
    /// Server's IPv6 address.
    pub const SERVER6: &str = "fd77:2::2";

    /// A filter of sockets that means only this lab's: every daemon sees all namespaces, those of tests beside it too.
    pub fn mine(&self, filter: &str) -> String {
        let inode = |ns: &NetNs| std::fs::metadata(ns.path()).map_or(0, |meta| meta.ino());
        let [a, b, c] = [&self.client, &self.gate, &self.server].map(inode);
        format!("netns in ({a}, {b}, {c}) and {filter}")
    }

    /// Builds the lab.
    ///
    /// # Errors
    /// Where the kernel or `ip` refuses.
    pub fn new() -> Result<Self, LabError> {
        let lab = Self {
            client: NetNs::new("client")?,
            gate: NetNs::new("gate")?,
            server: NetNs::new("server")?,
        };
        link(&lab.gate, "wan0", &lab.client, "c0")?;
        link(&lab.gate, "lan0", &lab.server, "s0")?;
        address(&lab.client, "c0", &["10.77.1.2/24", "fd77:1::2/64"])?;
        address(&lab.gate, "wan0", &["10.77.1.1/24", "fd77:1::1/64"])?;
        address(&lab.gate, "lan0", &["10.77.2.1/24", "fd77:2::1/64"])?;
        address(&lab.server, "s0", &["10.77.2.2/24", "fd77:2::2/64"])?;
        lab.client.ip(&["route", "add", "default", "via", "10.77.1.1"])?;
        lab.client.ip(&["-6", "route", "add", "default", "via", "fd77:1::1"])?;
        lab.server.ip(&["route", "add", "default", "via", "10.77.2.1"])?;
        lab.server.ip(&["-6", "route", "add", "default", "via", "fd77:2::1"])?;
        for (ns, name, inside, address) in
            [(&lab.client, "c0", "wan0", Self::CLIENT6), (&lab.server, "s0", "lan0", Self::SERVER6)]
        {
            let mac = ns.mac(name)?.map(|byte| format!("{byte:02x}")).join(":");
            lab.gate.ip(&[
                "-6",
                "neigh",
                "replace",
                address,
                "lladdr",
                &mac,
                "dev",
                inside,
                "nud",
                "permanent",
            ])?;
        }
        lab.gate.sysctl("ipv4/ip_forward", "1")?;
        lab.gate.sysctl("ipv6/conf/all/forwarding", "1")?;
        Ok(lab)
    }

    /// A lab, or a skip under this test's name where none can be had.
    ///
    /// # Panics
    /// Where the lab should work and doesn't.
    pub fn or_skip(test: &str) -> Option<Self> {
        if let Some(reason) = crate::skip::no_kernel_access() {
            crate::skip::skip(test, reason);
            return None;
        }
        Some(Self::new().unwrap_or_else(|error| panic!("building the lab: {error}")))
    }
}

/// A veth pair between two namespaces, both ends up.
pub(crate) fn link(a: &NetNs, a_name: &str, b: &NetNs, b_name: &str) -> Result<(), LabError> {
    let b_path = b.path();
    let b_path = b_path.to_str().expect("a path this file made");
    a.ip(&["link", "add", a_name, "type", "veth", "peer", "name", b_name, "netns", b_path])?;
    for (ns, name) in [(a, a_name), (b, b_name)] {
        // Group memberships are reported at once, not at random within seconds: whoever counts packets
        // then doesn't meet them.
        for (key, value) in [
            ("accept_dad", "0"),
            ("router_solicitations", "0"),
            ("accept_ra", "0"),
            ("mldv1_unsolicited_report_interval", "1"),
            ("mldv2_unsolicited_report_interval", "1"),
        ] {
            ns.sysctl(&format!("ipv6/conf/{name}/{key}"), value)?;
        }
        ns.ip(&["link", "set", name, "addrgenmode", "none"])?;
        ns.sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
    }
    a.ip(&["link", "set", a_name, "up"])?;
    b.ip(&["link", "set", b_name, "up"])
}

fn address(ns: &NetNs, name: &str, addresses: &[&str]) -> Result<(), LabError> {
    addresses.iter().try_for_each(|address| {
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        ns.ip(&[&["address", "add", address, "dev", name], nodad].concat())
    })
}

#[cfg(test)]
mod tests {
    use super::Lab;

    #[test]
    fn the_gate_forwards_both_families() {
        let Some(lab) = Lab::or_skip("lab::the_gate_forwards_both_families") else { return };
        for address in [Lab::GATE4, Lab::GATE6, Lab::SERVER4, Lab::SERVER6] {
            assert!(lab.client.ping(address, 1), "{address}");
        }
    }
}
