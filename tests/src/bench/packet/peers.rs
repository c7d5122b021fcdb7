//! The peers: `xdp-filter` (Debian's xdp-tools) and nftables.

use super::{DST, PORTS, SRC, Subject, packet, rule, rules_of};
use crate::bpf::{self, Map, Program};
use crate::lab::NetNs;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const REPEAT: u32 = 200_000;

/// Two ends of a veth in namespaces of their own; the measured end is the first.
struct Pair {
    near: NetNs,
    far: NetNs,
    index: u32,
    frame: Vec<u8>,
}

impl Pair {
    fn new() -> Result<Self, String> {
        let build = || -> Result<Self, crate::lab::LabError> {
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
            let frame = packet(far.mac("p0")?, near.mac("b0")?);
            Ok(Self { near, far, index, frame })
        };
        build().map_err(|error| error.to_string())
    }
}

/// `xdp-filter`, matching exact destination addresses: it knows neither prefixes nor ranges.
pub(super) struct XdpFilter {
    pair: Pair,
    empty: Program,
    program: Program,
    addresses: Map,
    /// A value that xdp-filter itself wrote: one for each CPU.
    flags: Vec<u8>,
}

const PINS: &str = "/sys/fs/bpf/xdp-filter";

impl XdpFilter {
    pub fn new() -> Result<Self, String> {
        if Path::new(PINS).exists() {
            return Err(format!("{PINS} exists: an xdp-filter runs on this machine"));
        }
        let pair = Pair::new()?;
        let words = |error: std::io::Error| error.to_string();
        let run =
            |args: &[&str]| pair.near.exec("xdp-filter", args).map_err(|error| error.to_string());
        // All its features, as it loads by default: the program that can match what ours can (addresses
        // and ports of both families).
        run(&["load", "b0", "-m", "skb", "-p", "allow"])?;
        run(&["ip", DST, "-m", "dst"])?;
        let links = pair
            .near
            .exec("ip", &["-j", "-d", "link", "show", "dev", "b0"])
            .map_err(|error| error.to_string())?;
        let links: serde_json::Value =
            serde_json::from_str(&links).map_err(|error| error.to_string())?;
        let id = links[0]["xdp"]["prog"]["id"]
            .as_u64()
            .ok_or_else(|| format!("no program on b0: {links}"))?;
        let addresses = Map::pinned(&Path::new(PINS).join("filter_ipv4")).map_err(words)?;
        let key: Ipv4Addr = DST.parse().map_err(|_| "an address")?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error.to_string())?;
        let flags = addresses.lookup(&key.octets(), 8 * cpus).map_err(words)?;
        Ok(Self {
            program: Program::by_id(id as u32).map_err(words)?,
            empty: Program::returning(2).map_err(words)?,
            addresses,
            flags,
            pair,
        })
    }

    /// As many addresses as the case has rules, the packet's own among them.
    fn fill(&self, count: usize) {
        for i in 0..1000u32 {
            let key = (u32::from(Ipv4Addr::new(203, 0, 0, 0)) + i).to_be_bytes();
            if (i as usize) + 1 < count {
                self.addresses
                    .update(&key, &self.flags)
                    .expect("xdp-filter's map takes an address");
            } else {
                // Absent already, where it was never written.
                let _ = self.addresses.delete(&key);
            }
        }
    }
}

impl Subject for XdpFilter {
    fn name(&self) -> &'static str {
        "xdp-filter"
    }

    fn measure(&mut self, case: &str) -> Option<f64> {
        let count = match case {
            "drop" => 1,
            // It keeps no state.
            "established" => return None,
            _ => rules_of(case)?,
        };
        self.fill(count);
        self.pair.near.run(|| {
            bpf::pin_to_cpu(0);
            let time = |program: &Program| {
                program.time_xdp(&self.pair.frame, self.pair.index, REPEAT).expect("a test run")
            };
            let ((empty, _), (theirs, code)) = (time(&self.empty), time(&self.program));
            assert_eq!(code, 1, "xdp-filter drops the packet");
            Some(theirs - empty)
        })
    }
}

impl Drop for XdpFilter {
    fn drop(&mut self) {
        let _ = self.pair.near.exec("xdp-filter", &["unload", "--all"]);
    }
}

/// nftables at prerouting, rule by rule.
pub(super) struct Nftables {
    pair: Pair,
    pass: Program,
    drop: Program,
    /// Cost of frames that nothing sees, measured once a round before anything else.
    loaded: String,
}

impl Nftables {
    pub fn new() -> Result<Self, String> {
        let words = |error: std::io::Error| error.to_string();
        let pair = Pair::new()?;
        // NAPI, so that live frames are received as from a driver.
        pair.near.exec("ethtool", &["-K", "b0", "gro", "on"]).map_err(|error| error.to_string())?;
        pair.near.exec("nft", &["list", "ruleset"]).map_err(|error| error.to_string())?;
        Ok(Self {
            pair,
            pass: Program::returning(2).map_err(words)?,
            drop: Program::returning(1).map_err(words)?,
            loaded: String::new(),
        })
    }

    fn ruleset(case: &str) -> String {
        let mut text = String::from(
            "flush ruleset\ntable ip bench {\n chain pre {\n  type filter hook prerouting priority 0;",
        );
        match case {
            "drop" => text.push_str(" policy drop;\n"),
            "established" => {
                text.push_str(" policy accept;\n  ct state established counter drop\n")
            }
            _ => {
                text.push_str(" policy accept;\n");
                let n = rules_of(case).unwrap_or(1);
                for i in 0..n {
                    let (src, dst, (low, high)) = rule(i, n);
                    let _ = writeln!(
                        text,
                        "  ip saddr {src} ip daddr {dst} udp sport 1024-65535 udp dport {low}-{high} counter drop"
                    );
                }
            }
        }
        text.push_str(" }\n}\n");
        text
    }

    fn load(&mut self, case: &str) {
        let text = Self::ruleset(case);
        if self.loaded == text {
            return;
        }
        if case == "established" {
            self.nft("flush ruleset\ntable ip bench {\n chain pre {\n  type filter hook prerouting priority 0; policy accept;\n  ct state new,established counter accept\n }\n}\n");
            self.talk();
        }
        self.nft(&text);
        self.loaded = text;
    }

    fn nft(&self, text: &str) {
        let mut child = self
            .pair
            .near
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft");
        child
            .stdin
            .take()
            .expect("its input")
            .write_all(text.as_bytes())
            .expect("a rule set written");
        assert!(child.wait().expect("nft's end").success(), "nft refuses:\n{text}");
    }

    /// A real exchange with the packet's own addresses and ports, so that conntrack calls it established.
    fn talk(&self) {
        let server =
            self.pair.near.run(|| UdpSocket::bind((DST, PORTS.1))).expect("the server's port");
        let client =
            self.pair.far.run(|| UdpSocket::bind((SRC, PORTS.0))).expect("the client's port");
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        }
        let mut buffer = [0; 64];
        for _ in 0..3 {
            client.send_to(b"ask", (DST, PORTS.1)).expect("a question sent");
            let (_, from) = server.recv_from(&mut buffer).expect("the question");
            server.send_to(b"tell", from).expect("an answer sent");
            client.recv_from(&mut buffer).expect("the answer");
        }
    }
}

impl Subject for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn measure(&mut self, case: &str) -> Option<f64> {
        self.load(case);
        // A live call costs tens of milliseconds of grace periods, so it is long where packets are
        // cheap; a linear walk of a thousand rules isn't.
        let repeat = if case == "1000 rules" { 20_000 } else { 150_000 };
        let unseen = || self.pair.near.snmp("Udp", "NoPorts");
        let before = unseen();
        let cost = self.pair.near.run(|| {
            bpf::pin_to_cpu(0);
            let time = |program: &Program| {
                program.time_live(&self.pair.frame, self.pair.index, repeat).expect("a live run")
            };
            let (dropped, passed) = (time(&self.drop), time(&self.pass));
            passed - dropped
        });
        assert_eq!(
            unseen(),
            before,
            "{case}: every frame was dropped by the rules, none reached UDP"
        );
        Some(cost)
    }
}
