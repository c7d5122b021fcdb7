//! The peer: nftables and the kernel's connection tracking.

use super::train::Engine;
use crate::bpf::{self, Asm, Hook, Kind, Link, Program};
use crate::lab::{LabError, NetNs};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

/// Replaces the rules of a namespace.
///
/// # Errors
/// In words, where nft refuses.
pub(super) fn nft(ns: &NetNs, rules: &str) -> Result<(), String> {
    let mut child = ns
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("nft: {error}"))?;
    let mut input = child.stdin.take().ok_or("nft has no input")?;
    input
        .write_all(format!("flush ruleset\n{rules}").as_bytes())
        .map_err(|error| format!("nft: {error}"))?;
    drop(input);
    let output = child.wait_with_output().map_err(|error| format!("nft: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("nft refuses: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Packets that the only `counter` of the rules counted.
///
/// # Errors
/// In words, where there is none.
pub(super) fn counted(ns: &NetNs) -> Result<u64, String> {
    let text = ns.exec("nft", &["list", "ruleset"]).map_err(|error| error.to_string())?;
    text.split_once("counter packets ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("no counter in {text}"))
}

const MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// Room for a million entries in the kernel's table, as long as it lives: both limits are the machine's.
#[derive(Debug)]
pub(super) struct Room {
    before: Vec<(&'static str, String)>,
}

impl Room {
    /// Makes room, with a bucket for each entry as the kernel has it by itself.
    ///
    /// # Errors
    /// In words, where this namespace may not.
    pub fn make() -> Result<Self, String> {
        let mut room = Self { before: Vec::new() };
        for (path, value) in [(MOST, "1400000"), (BUCKETS, "1400000")] {
            let before =
                std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            std::fs::write(path, value).map_err(|error| format!("{path}: {error}"))?;
            room.before.push((path, before));
        }
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The size of the table moves the limit too, so the limit comes last.
        for (path, value) in self.before.drain(..).rev() {
            let _ = std::fs::write(Path::new(path), value.trim());
        }
    }
}

/// A router of one namespace: frames come in at `b0` as from a driver; what is forwarded leaves through
/// `d0`, where a program throws it away behind all the rules.
#[derive(Debug)]
pub(super) struct Router {
    /// The namespace.
    pub ns: NetNs,
    /// MAC address of `b0`.
    pub mac: [u8; 6],
    index: u32,
    _far: NetNs,
    _end: Link,
}

impl Router {
    /// Address of `d0`: what masquerade translates to.
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    /// Builds one.
    ///
    /// # Errors
    /// In words.
    pub fn new() -> Result<Self, String> {
        let (ns, far) = Self::build().map_err(|error| error.to_string())?;
        let words = |error: LabError| error.to_string();
        // TC_ACT_SHOT
        let end = Program::load(Kind::Tc, &Asm::returning(2)).map_err(|error| error.to_string())?;
        let out = ns.ifindex("d0").map_err(words)?;
        let link = ns.run(|| Link::attach(&end, out, Hook::TcxOut));
        Ok(Self {
            index: ns.ifindex("b0").map_err(words)?,
            mac: ns.mac("b0").map_err(words)?,
            _end: link.map_err(|error| format!("the end of the way: {error}"))?,
            ns,
            _far: far,
        })
    }

    fn build() -> Result<(NetNs, NetNs), LabError> {
        let (ns, far) = (NetNs::new("router")?, NetNs::new("far")?);
        // Nobody speaks but the benchmark.
        far.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
        far.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        let path = far.path();
        let path = path.to_str().unwrap_or_default();
        for (near, peer) in [("b0", "b1"), ("d0", "d1")] {
            ns.ip(&["link", "add", near, "type", "veth", "peer", "name", peer, "netns", path])?;
            ns.ip(&["link", "set", near, "up"])?;
            far.ip(&["link", "set", peer, "up"])?;
        }
        ns.ip(&["address", "add", &format!("{}/24", Self::OUTSIDE), "dev", "d0"])?;
        let beyond = ["neigh", "add", "203.0.113.2", "lladdr", "02:00:00:00:00:03", "dev", "d0"];
        ns.ip(&[&beyond[..], &["nud", "permanent"]].concat())?;
        ns.ip(&["route", "add", "default", "via", "203.0.113.2"])?;
        // Both ends of a flow are behind d0: answers come in at b0 like anything.
        ns.sysctl("ipv4/conf/all/rp_filter", "0")?;
        ns.sysctl("ipv4/conf/b0/rp_filter", "0")?;
        ns.sysctl("ipv4/ip_forward", "1")?;
        // NAPI, so that live frames are received as from a driver.
        ns.exec("ethtool", &["-K", "b0", "gro", "on"])?;
        Ok((ns, far))
    }

    /// Receives `repeat` frames of an engine's train: nanoseconds a frame.
    ///
    /// # Errors
    /// In words.
    pub fn time(&self, engine: &Engine, repeat: usize) -> Result<f64, String> {
        self.ns.run(|| {
            bpf::pin_to_cpu(0);
            let frame = vec![0; engine.frame_len];
            engine
                .program
                .time_live(&frame, self.index, repeat as u32)
                .map_err(|error| format!("live frames: {error}"))
        })
    }

    /// Entries of the namespace's table.
    pub fn entries(&self) -> u64 {
        let count = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text = self.ns.run(|| std::fs::read_to_string(count)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}
