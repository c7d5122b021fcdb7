//! The peers: `xdp-filter` (Debian's xdp-tools) and nftables.

use super::{PORTS, Subject, packet, rule, rules_of};
use crate::bench::pair::{DST, Pair, SRC};
use crate::bench::xdp_filter::XdpFilter;
use crate::bpf::{self, Program};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

const REPEAT: u32 = 200_000;

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
        // As many addresses as the case has rules, the packet's own among them.
        let others = (1..count as u32).map(|i| Ipv4Addr::from_bits(0xcb00_0000 + i));
        let own: Ipv4Addr = DST.parse().expect("an address");
        self.drop_what_goes_to(others.chain([own]).collect()).expect("a map of addresses");
        let (src, dst) = self.macs();
        Some(self.over_empty(&packet(src, dst), REPEAT).expect("a dropped packet"))
    }
}

/// nftables at prerouting, rule by rule.
pub(super) struct Nftables {
    pair: Pair,
    frame: Vec<u8>,
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
            frame: packet(pair.macs.0, pair.macs.1),
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
                program.time_live(&self.frame, self.pair.index, repeat).expect("a live run")
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
