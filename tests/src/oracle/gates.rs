//! One sender, two gates with the same interfaces, one far side.

use super::frames::{self, Probe};
use super::nft::TABLE;
use super::rules::{INTERFACES, Place, Rules};
use crate::lab::{Daemon, DaemonOptions, LabError, NetNs, RawSocket, link, missing_tools};
use crate::packet::DST_MAC;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the end of a batch may take.
const SOON: Duration = Duration::from_secs(10);

/// By rule: packets that asked it and met it, all its packets, their bytes. The last two are 0 where rules enter flows:
/// there Sluice counts a flow's packets for the rule that let it in.
pub type Counts = BTreeMap<String, [u64; 3]>;

/// What one gate made of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Numbers of the frames that reached the far side.
    pub arrived: BTreeSet<u16>,
    /// What each rule decided (or counted, if that is all it does); what no rule decided is `rest`.
    pub counts: Counts,
}

/// Sockets on both sides of one gate.
#[derive(Debug)]
struct Lane {
    near: Vec<RawSocket>,
    far: RawSocket,
}

/// ```text
///  sender            gate `sluice`              far
///  s-wan0 -------- wan0 (TC)    lan0 -------- s-lan0
///  s-wan1 -------- wan1 (XDP)
///                    gate `nft`
///  n-wan0 -------- wan0         lan0 -------- n-lan0
///  n-wan1 -------- wan1
/// ```
/// Both gates send everything on through `lan0`, whatever its destination.
#[derive(Debug)]
pub struct Gates {
    nft: NetNs,
    daemon: Daemon,
    /// Of Sluice, of nftables.
    lanes: [Lane; 2],
    zone: u16,
    /// Whether flows of earlier rules may be in Sluice's table.
    flows: bool,
    /// What Sluice's default counted so far. Every other name is that of one policy alone.
    before: [u64; 3],
}

impl Gates {
    /// Builds both gates and starts the daemon, or skips under `test`'s name.
    ///
    /// # Panics
    /// Where it should work and doesn't.
    pub fn or_skip(test: &str) -> Option<Self> {
        if let Some(reason) = crate::skip::no_kernel_access() {
            crate::skip::skip(test, reason);
            return None;
        }
        if let Some(reason) = missing_tools(&["nft"]) {
            crate::skip::skip(test, &reason);
            return None;
        }
        let built = NetNs::new("sluice").and_then(|sluice| {
            let (sender, far) = (NetNs::new("sender")?, NetNs::new("far")?);
            let nft = NetNs::new("nft")?;
            let lanes = [lane(&sender, &sluice, &far, "s")?, lane(&sender, &nft, &far, "n")?];
            Ok((sluice, nft, lanes))
        });
        let (sluice, nft, lanes) = built.unwrap_or_else(|error| panic!("building: {error}"));
        let [at_tc, at_xdp] = INTERFACES;
        let options = DaemonOptions::on("default in drop\n", &[(at_tc, "tc"), (at_xdp, "xdp")]);
        let daemon = Daemon::or_skip(test, &sluice, options)?;
        Some(Self { nft, daemon, lanes, zone: 0, flows: false, before: [0; 3] })
    }

    /// Makes these rules the live ones in both gates.
    ///
    /// # Panics
    /// Where one of the two refuses them.
    pub fn install(&mut self, rules: &Rules) {
        if std::mem::replace(&mut self.flows, rules.place.tracks()) {
            // They would be judged again, as `established`; those of nftables are in another zone.
            let killed = self.daemon.cli(&["flow", "kill", "age>=0s"]);
            assert_eq!(killed.code, 0, "{killed:?}");
        }
        self.daemon.apply(&rules.to_sluice());
        self.zone += 1;
        let text = rules.to_nft(self.zone);
        if let Place::Tracked(pickup) = rules.place {
            let loose = if pickup { "1" } else { "0" };
            self.nft.sysctl("netfilter/nf_conntrack_tcp_loose", loose).expect("a sysctl");
        }
        self.nft.feed("nft", &["-f", "-"], &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }

    /// Sends these frames through both gates; what Sluice and nftables made of them.
    ///
    /// # Panics
    /// Where the end of the batch doesn't arrive.
    pub fn send(&mut self, rules: &Rules, probes: &[Probe]) -> [Outcome; 2] {
        let [through_sluice, through_nft] = [0, 1].map(|i| self.lanes[i].send(rules.seed, probes));
        let counts = self.sluice_counts(rules);
        [
            Outcome { arrived: through_sluice, counts },
            Outcome { arrived: through_nft, counts: self.nft_counts(rules) },
        ]
    }

    fn sluice_counts(&mut self, rules: &Rules) -> Counts {
        let tracks = rules.place.tracks();
        let rows = self.daemon.rows(&["rules"]);
        let name = |row: &serde_json::Value| row["name"].as_str().unwrap_or_default().to_owned();
        let number = |row: &serde_json::Value, field: &str| {
            row[field].as_u64().unwrap_or_else(|| panic!("no {field} in {row}"))
        };
        let mut counts = Counts::new();
        for row in &rows {
            let hits = number(row, "hits");
            let all = [hits, number(row, "packets"), number(row, "bytes")];
            match name(row) {
                name if name == "default in" => {
                    let then = std::mem::replace(&mut self.before, all);
                    if tracks {
                        counts.insert(rules.rest(), [hits - then[0], 0, 0]);
                    }
                }
                name if name == "default out" => {}
                name => drop(counts.insert(name, if tracks { [hits, 0, 0] } else { all })),
            }
        }
        counts
    }

    fn nft_counts(&self, rules: &Rules) -> Counts {
        let text = self.nft.exec("nft", &["-j", "list", "counters"]).expect("nft's counters");
        let listed: serde_json::Value = serde_json::from_str(&text).expect("JSON of nft");
        let counters = listed["nftables"].as_array().into_iter().flatten();
        counters
            .map(|row| &row["counter"])
            .filter(|row| row["table"] == TABLE)
            .map(|row| {
                let number = |field: &str| row[field].as_u64().expect("a number");
                let name = row["name"].as_str().expect("a name").to_owned();
                let (packets, bytes) = (number("packets"), number("bytes"));
                (
                    name,
                    if rules.place.tracks() { [packets, 0, 0] } else { [packets, packets, bytes] },
                )
            })
            .collect()
    }
}

impl Lane {
    /// Sends frames, each when the one before is through; the numbers of those that arrive.
    fn send(&self, seed: u64, probes: &[Probe]) -> BTreeSet<u16> {
        for probe in probes {
            self.near[probe.interface].send(&probe.bytes);
        }
        let mut arrived = BTreeSet::new();
        // The first marks may overtake what a driver still puts together; the second can't.
        for round in 0..2 {
            for (i, near) in self.near.iter().enumerate() {
                near.send(&frames::mark(seed, i, round));
            }
            let mut missing = self.near.len();
            let whole = self.far.receive(SOON, |frame| {
                let Some(number) = frames::number(seed, frame) else { return false };
                if number & 0x8000 == 0 {
                    arrived.insert(number);
                } else {
                    missing -= 1;
                }
                missing == 0
            });
            assert!(whole.is_some(), "{missing} marks of seed {seed}, round {round}, are missing");
        }
        arrived
    }
}

/// The links of one gate.
fn lane(sender: &NetNs, gate: &NetNs, far: &NetNs, initial: &str) -> Result<Lane, LabError> {
    let mac = DST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let mut near = Vec::new();
    // Nobody at the ends talks by himself.
    for ns in [sender, far] {
        ns.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    }
    for name in INTERFACES {
        let outside = format!("{initial}-{name}");
        link(gate, name, sender, &outside)?;
        gate.ip(&["link", "set", name, "address", &mac])?;
        near.push(RawSocket::open(sender, &outside)?);
    }
    let beyond = format!("{initial}-lan0");
    link(gate, "lan0", far, &beyond)?;
    let mac = far.mac(&beyond)?.map(|byte| format!("{byte:02x}")).join(":");
    for (family, next) in [("-4", "192.0.0.8"), ("-6", "fe80::8")] {
        let via = ["via", next, "dev", "lan0", "onlink"];
        gate.ip(&[
            family,
            "neigh",
            "replace",
            next,
            "lladdr",
            &mac,
            "dev",
            "lan0",
            "nud",
            "permanent",
        ])?;
        gate.ip(&[&[family, "route", "add", "default"], &via[..]].concat())?;
    }
    gate.sysctl("ipv4/ip_forward", "1")?;
    gate.sysctl("ipv4/conf/all/rp_filter", "0")?;
    gate.sysctl("ipv6/conf/all/forwarding", "1")?;
    Ok(Lane { near, far: RawSocket::open(far, &beyond)? })
}
