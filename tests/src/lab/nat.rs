//! The lab for translation: hosts inside on one network, the gate, a router, a server outside.

use super::topology::link;
use super::{LabError, NetNs};

/// ```text
///  a0 10.9.0.2 --+                                   (routed to the gate: 203.0.113.64/26)
///                +-- switch -- lan0 10.9.0.1 |gate| wan0 203.0.113.1 --- r0 203.0.113.254
///  b0 10.9.0.3 --+                                                       r1 198.51.100.1 --- s0 198.51.100.2
/// ```
/// The router knows no way to 10.9.0.0/24: what isn't translated gets no answer. IPv4 alone, and all
/// neighbours are known, so that nothing is on the wires but what a test sends. ICMP errors aren't limited.
#[derive(Debug)]
pub struct NatLab {
    /// A host inside.
    pub a: NetNs,
    /// Another.
    pub b: NetNs,
    /// Where Sluice stands.
    pub gate: NetNs,
    /// Where the provider's network begins.
    pub router: NetNs,
    /// A server outside.
    pub server: NetNs,
    switch: NetNs,
}

/// Who puts transport checksums into packets, and whether they travel in aggregated buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// The senders: the gate sees whole checksums, of packets as they are on a wire.
    Whole,
    /// The gate's links, behind its programs: these see partial ones, in aggregated buffers, and what they
    /// made of them shows when the link completes them.
    Partial,
    /// Nobody: packets stay aggregated and partial all the way, as veth has it by itself.
    Offloaded,
}

const OFF: [&str; 6] = ["tx", "off", "tso", "off", "gso", "off"];

impl NatLab {
    /// Address of `a`.
    pub const A: &str = "10.9.0.2";
    /// Address of `b`.
    pub const B: &str = "10.9.0.3";
    /// The gate's address inside.
    pub const GATE: &str = "10.9.0.1";
    /// The gate's address outside.
    pub const PUBLIC: &str = "203.0.113.1";
    /// The router's address towards the gate.
    pub const ROUTER: &str = "203.0.113.254";
    /// The server's address.
    pub const SERVER: &str = "198.51.100.2";

    /// Builds the lab.
    ///
    /// # Errors
    /// Where the kernel or `ip` refuses.
    pub fn new() -> Result<Self, LabError> {
        let lab = Self {
            a: NetNs::new("a")?,
            b: NetNs::new("b")?,
            gate: NetNs::new("gate")?,
            router: NetNs::new("router")?,
            server: NetNs::new("server")?,
            switch: NetNs::new("switch")?,
        };
        for ns in lab.all() {
            ns.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
            ns.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
            ns.sysctl("ipv4/icmp_ratelimit", "0")?;
        }
        link(&lab.switch, "pa", &lab.a, "a0")?;
        link(&lab.switch, "pb", &lab.b, "b0")?;
        link(&lab.switch, "pg", &lab.gate, "lan0")?;
        link(&lab.gate, "wan0", &lab.router, "r0")?;
        link(&lab.router, "r1", &lab.server, "s0")?;
        let ports = ["pa", "pb", "pg"].map(|port| format!("link set {port} master br0\n")).concat();
        lab.batch(&lab.switch, &format!("link add br0 type bridge\n{ports}link set br0 up\n"))?;
        let inside = |ns, name: &str, address: &str| {
            let text = format!(
                "address add {address}/24 dev {name}\nroute add default via {}\n",
                Self::GATE
            );
            lab.batch(ns, &text)
        };
        inside(&lab.a, "a0", Self::A)?;
        inside(&lab.b, "b0", Self::B)?;
        lab.batch(
            &lab.gate,
            "address add 10.9.0.1/24 dev lan0\naddress add 203.0.113.1/24 dev wan0\n\
             route add default via 203.0.113.254\n",
        )?;
        lab.batch(
            &lab.router,
            "address add 203.0.113.254/24 dev r0\naddress add 198.51.100.1/24 dev r1\n\
             route add 203.0.113.64/26 via 203.0.113.1\n",
        )?;
        lab.batch(
            &lab.server,
            "address add 198.51.100.2/24 dev s0\nroute add default via 198.51.100.1\n",
        )?;
        // The switch knows who is where: nobody hears what is meant for others.
        for (port, ns, name) in
            [("pa", &lab.a, "a0"), ("pb", &lab.b, "b0"), ("pg", &lab.gate, "lan0")]
        {
            let args = ["fdb", "replace", &mac(ns, name)?, "dev", port, "master", "static"];
            lab.switch.exec("bridge", &args)?;
        }
        for (ns, name, neighbours) in [
            (&lab.a, "a0", &[(Self::GATE, &lab.gate, "lan0"), (Self::B, &lab.b, "b0")][..]),
            (&lab.b, "b0", &[(Self::GATE, &lab.gate, "lan0"), (Self::A, &lab.a, "a0")]),
            (&lab.gate, "lan0", &[(Self::A, &lab.a, "a0"), (Self::B, &lab.b, "b0")]),
            (&lab.gate, "wan0", &[(Self::ROUTER, &lab.router, "r0")]),
            (&lab.router, "r0", &[(Self::PUBLIC, &lab.gate, "wan0")]),
            (&lab.router, "r1", &[(Self::SERVER, &lab.server, "s0")]),
            (&lab.server, "s0", &[("198.51.100.1", &lab.router, "r1")]),
        ] {
            let mut text = String::new();
            for (address, whose, at) in neighbours {
                let mac = mac(whose, at)?;
                text += &format!("neigh replace {address} lladdr {mac} dev {name} nud permanent\n");
            }
            lab.batch(ns, &text)?;
        }
        // A switch that netfilter looks into would drop what the gate should see; there may be none.
        let _ = lab.switch.sysctl("bridge/bridge-nf-call-iptables", "0");
        lab.gate.sysctl("ipv4/ip_forward", "1")?;
        lab.router.sysctl("ipv4/ip_forward", "1")?;
        Ok(lab)
    }

    /// A lab, or a skip under this test's name where none can be had, or a tool of `tools` is missing.
    ///
    /// # Panics
    /// Where the lab should work and doesn't.
    pub fn or_skip(test: &str, tools: &[&str]) -> Option<Self> {
        let reason = crate::skip::no_kernel_access().map(str::to_owned);
        if let Some(reason) = reason.or_else(|| super::missing_tools(tools)) {
            crate::skip::skip(test, &reason);
            return None;
        }
        Some(Self::new().unwrap_or_else(|error| panic!("building the lab: {error}")))
    }

    /// Says who puts checksums into packets.
    ///
    /// # Panics
    /// Where `ethtool` refuses.
    pub fn checksums(&self, who: Checksums) {
        let links: &[(&NetNs, &str)] = match who {
            Checksums::Whole => &[(&self.a, "a0"), (&self.b, "b0"), (&self.server, "s0")],
            Checksums::Partial => &[(&self.gate, "lan0"), (&self.gate, "wan0")],
            Checksums::Offloaded => &[],
        };
        for (ns, name) in links {
            ns.exec("ethtool", &[&["-K", name], &OFF[..]].concat())
                .unwrap_or_else(|error| panic!("offloads: {error}"));
        }
    }

    fn all(&self) -> [&NetNs; 6] {
        [&self.a, &self.b, &self.gate, &self.router, &self.server, &self.switch]
    }

    fn batch(&self, ns: &NetNs, text: &str) -> Result<(), LabError> {
        ns.feed("ip", &["-batch", "-"], text).map(drop)
    }
}

fn mac(ns: &NetNs, name: &str) -> Result<String, LabError> {
    Ok(ns.mac(name)?.map(|byte| format!("{byte:02x}")).join(":"))
}

#[cfg(test)]
mod tests {
    use super::NatLab;

    #[test]
    fn nothing_comes_back_that_is_not_translated() {
        let Some(lab) = NatLab::or_skip("lab::nothing_comes_back", &["ping"]) else { return };
        for address in [NatLab::GATE, NatLab::B] {
            assert!(lab.a.ping(address, 1), "{address}");
        }
        assert!(lab.gate.ping(NatLab::SERVER, 1), "the gate reaches the server");
        assert!(!lab.a.ping(NatLab::SERVER, 1), "the router knows no way inside");
    }
}
