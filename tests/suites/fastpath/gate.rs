//! The fast path at a real gate: accounts, real connections, too-big packets, changes of the policy.

use super::{HERE, HERE_MAC, HERE6, THERE, THERE_MAC, THERE6, neighbours};
use firewall_common::abi::iface::{IFACE_FAST, IFACE_WIRE, Iface};
use serde_json::Value;
use sluice_tests::bpf::{self, Kind, Link, Map, Program, Reg};
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, RawSocket, Transfer, wait_for};
use sluice_tests::packet::{Packet, tcp, verify_all};
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(400);

/// A lab with a daemon.
struct Scene {
    lab: Lab,
    daemon: Daemon,
    here: RawSocket,
    there: RawSocket,
    wan: [u8; 6],
    lan: [u8; 6],
}

impl Scene {
    fn or_skip(test: &str, mode: &str, policy: &str) -> Option<Self> {
        let lab = Lab::or_skip(test)?;
        if mode == "xdp" {
            // So that frames can be redirected to each end, and sums are whole.
            for (ns, name) in
                [(&lab.client, "c0"), (&lab.gate, "wan0"), (&lab.gate, "lan0"), (&lab.server, "s0")]
            {
                ns.exec("ethtool", &["-K", name, "gro", "on", "tx", "off"]).unwrap();
            }
        }
        let options = DaemonOptions::on(policy, &[("wan0", mode), ("lan0", mode)]);
        let daemon = Daemon::or_skip(test, &lab.gate, options)?;
        neighbours(&lab.gate);
        let scene = Self {
            here: RawSocket::open(&lab.client, "c0").unwrap(),
            there: RawSocket::open(&lab.server, "s0").unwrap(),
            wan: lab.gate.mac("wan0").unwrap(),
            lan: lab.gate.mac("lan0").unwrap(),
            lab,
            daemon,
        };
        if mode == "xdp" {
            scene.pretend_wires();
        }
        Some(scene)
    }

    /// Veths whose ends compute their sums are as good as wires: says so to the programs.
    fn pretend_wires(&self) {
        let map = Map::pinned(&self.daemon.pin_dir.join("IFACES")).unwrap();
        for name in ["wan0", "lan0"] {
            let key = self.lab.gate.ifindex(name).unwrap().to_ne_bytes();
            let mut entry = map.lookup(&key, size_of::<Iface>()).unwrap();
            entry[4] |= (IFACE_WIRE | IFACE_FAST) as u8;
            map.update(&key, &entry).unwrap();
        }
    }

    /// Sends a packet from here to there, or back, and waits for it at the other end.
    #[track_caller]
    fn carry(&self, forth: bool, packet: Packet) -> Vec<u8> {
        let (from, to, macs) = if forth {
            (&self.here, &self.there, (HERE_MAC, self.wan))
        } else {
            (&self.there, &self.here, (THERE_MAC, self.lan))
        };
        let frame = packet.macs(macs.0, macs.1).build();
        let length = frame.len();
        from.send(&frame);
        let wanted = if forth { THERE_MAC } else { HERE_MAC };
        let came = to
            .receive(SOON, |got| got.len() == length && got[..6] == wanted)
            .expect("what was sent arrives");
        assert_eq!(verify_all(&came), Ok(()));
        came
    }

    /// Whether a packet from here comes out on the other side.
    fn passes(&self, packet: Packet) -> bool {
        let frame = packet.macs(HERE_MAC, self.wan).build();
        self.here.send(&frame);
        self.there
            .receive(SILENCE, |got| got.len() == frame.len() && got[..6] == THERE_MAC)
            .is_some()
    }
}

/// Two talks, TCP and UDP, in both families, the same each time; how many packets could skip the stack.
fn talk(scene: &Scene) -> u64 {
    let mut able = 0;
    for (a, b) in [(HERE, THERE), (HERE6, THERE6)] {
        let forth = || Packet::new().ip(a, b).tcp(4000, 80).window(60_000);
        let back = || Packet::new().ip(b, a).tcp(80, 4000).window(60_000);
        scene.carry(true, forth().seq(100, 0).flags(tcp::SYN));
        scene.carry(false, back().seq(500, 101).flags(tcp::SYN | tcp::ACK));
        scene.carry(true, forth().seq(101, 501).flags(tcp::ACK));
        let (mut mine, mut yours) = (101, 501);
        for i in 0..20usize {
            scene.carry(true, forth().seq(mine, yours).flags(tcp::ACK).fill(10 + i));
            mine += 10 + i as u32;
            scene.carry(false, back().seq(yours, mine).flags(tcp::ACK).fill(700 - i));
            yours += 700 - i as u32;
        }
        able += 41;
        scene.carry(true, forth().seq(mine, yours).flags(tcp::FIN | tcp::ACK));
        scene.carry(false, back().seq(yours, mine + 1).flags(tcp::FIN | tcp::ACK));
        scene.carry(true, forth().seq(mine + 1, yours + 1).flags(tcp::ACK));
        let ask = |n: usize| Packet::new().ip(a, b).udp(4000, 53).fill(n);
        let tell = |n: usize| Packet::new().ip(b, a).udp(53, 4000).fill(n);
        for i in 0..20 {
            scene.carry(true, ask(30 + i));
            scene.carry(false, tell(300 - i));
        }
        // The first has no answer yet; the answer to it is one.
        able += 39;
    }
    able
}

/// Everything that counts: flows by their ends, rules by name.
#[derive(Debug, PartialEq, Eq)]
struct Accounts {
    flows: BTreeMap<String, [u64; 4]>,
    rules: BTreeMap<String, [u64; 3]>,
}

impl Accounts {
    fn of(daemon: &Daemon) -> Self {
        let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_default();
        let flow = |row: &Value| {
            let ends = format!("{} {} {} {}", row["proto"], row["src"], row["dst"], row["dport"]);
            let totals =
                ["packets", "bytes", "reply_packets", "reply_bytes"].map(|name| number(row, name));
            (ends, totals)
        };
        let rule = |row: &Value| {
            let name = row["name"].as_str().unwrap_or_default().to_owned();
            (name, ["hits", "packets", "bytes"].map(|name| number(row, name)))
        };
        Self {
            flows: daemon.flows("").iter().map(flow).collect(),
            rules: daemon.rows(&["rules"]).iter().map(rule).collect(),
        }
    }
}

const RULES: &str = "default in drop\ndefault out drop\n\
    rule web_in allow in on wan0 tcp to port 80\nrule web_out allow out on lan0 tcp to port 80\n\
    rule ask_in allow in on wan0 udp to port 53\nrule ask_out allow out on lan0 udp to port 53\n";

/// The same talks with the stack and past it.
fn both_ways_count_the_same(test: &str, mode: &str) {
    let mut seen = Vec::new();
    for fast in ["off", "on"] {
        // Nothing is forgotten before it was looked at.
        let policy = format!("option fast-path {fast}\noption timeout tcp-closed 10m\n{RULES}");
        let Some(scene) = Scene::or_skip(test, mode, &policy) else { return };
        let able = talk(&scene);
        let daemon = &scene.daemon;
        let past = daemon.reason("fast-path");
        if fast == "on" {
            // At XDP a tick's packets take the stack now and then.
            assert!(past <= able && past > able * 3 / 4, "{past} of {able} went past the stack");
            assert!(mode == "xdp" || past == able, "{past} of {able} at TC");
        } else {
            assert_eq!(past, 0);
        }
        wait_for("the flows", SOON, || {
            let totals: u64 = Accounts::of(daemon).flows.values().map(|f| f[0] + f[2]).sum();
            (totals == 2 * (46 + 40)).then_some(())
        })
        .unwrap_or_else(|late| panic!("{late}: {:?}", Accounts::of(daemon)));
        // Each packet under one reason at each hook that it met: the fast path's met one of two.
        let met = ["rule", "established", "fast-path"].map(|name| daemon.reason(name));
        assert_eq!(met[0] + met[1] + 2 * met[2], 2 * 2 * (46 + 40), "{met:?}");
        seen.push(Accounts::of(daemon));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].flows.len(), 4);
    for rule in ["web_in", "web_out", "ask_in", "ask_out"] {
        assert!(seen[0].rules[rule][1] >= 80, "{rule}: {:?}", seen[0].rules);
    }
}

#[test]
fn both_ways_count_the_same_at_tc() {
    both_ways_count_the_same("fastpath::gate::both_ways_count_the_same_at_tc", "tc");
}

#[test]
fn both_ways_count_the_same_in_the_driver() {
    both_ways_count_the_same("fastpath::gate::both_ways_count_the_same_in_the_driver", "xdp");
}

/// A real connection, translated, past the stack; its bytes whole, its totals the sockets'.
fn a_connection_goes_past(test: &str, mode: &str) {
    let policy = format!(
        "option fast-path on\nnat away masquerade on lan0\n{}",
        RULES.replace("80", "9000")
    );
    let Some(scene) = Scene::or_skip(test, mode, &policy) else { return };
    let Scene { lab, daemon, .. } = &scene;
    let transfer = Transfer::start(&lab.client, &lab.server, Lab::SERVER4, 9000).unwrap();
    transfer.advance(2_000_000, SOON).unwrap();
    let whole = transfer.finish().unwrap();
    assert!(whole >= 2_000_000);
    let flow = || daemon.flows("dport=9000").first().cloned();
    let row = wait_for("the flow's last totals", SOON, || {
        flow().filter(|row| row["bytes"].as_u64().is_some_and(|bytes| bytes > whole))
    });
    let row = row.unwrap_or_else(|late| panic!("{late}: {:?}", flow()));
    let met = row["packets"].as_u64().unwrap() + row["reply_packets"].as_u64().unwrap();
    let past = daemon.reason("fast-path");
    assert!(past > met * 3 / 4, "{past} of {met} packets went past the stack: {row}");
    assert!(row["nat"].is_object(), "{row}");
    // The server saw the gate as its client.
    let drops = daemon.reason("default") + daemon.reason("out-of-window");
    assert_eq!(drops, 0, "nothing was refused");
}

#[test]
fn a_translated_connection_goes_past_the_stack_at_tc() {
    let test = "fastpath::gate::a_translated_connection_goes_past_the_stack_at_tc";
    a_connection_goes_past(test, "tc");
}

#[test]
fn a_translated_connection_goes_past_the_stack_in_the_driver() {
    let test = "fastpath::gate::a_translated_connection_goes_past_the_stack_in_the_driver";
    a_connection_goes_past(test, "xdp");
}

#[test]
fn what_is_too_big_is_told_its_sender() {
    let test = "fastpath::gate::what_is_too_big_is_told_its_sender";
    let policy = format!("option fast-path on\n{RULES}");
    let Some(scene) = Scene::or_skip(test, "tc", &policy) else { return };
    let ask = |n: usize| Packet::new().ipv4(HERE, THERE).udp(4000, 53).fill(n);
    scene.carry(true, ask(20));
    scene.carry(false, Packet::new().ipv4(THERE, HERE).udp(53, 4000).fill(20));
    scene.carry(true, ask(1400));
    assert_eq!(scene.daemon.reason("fast-path"), 2);
    scene.lab.gate.ip(&["link", "set", "lan0", "mtu", "1300"]).unwrap();
    // Don't fragment.
    let mut big = ask(1400).macs(HERE_MAC, scene.wan).build();
    big[20] = 0x40;
    big[24..26].fill(0);
    let sum = sluice_tests::packet::checksum::internet(&big[14..34]);
    big[24..26].copy_from_slice(&sum.to_be_bytes());
    let told = |patience| {
        scene.here.send(&big);
        scene.here.receive(patience, |got| got[12..14] == [8, 0] && got[23] == 1)
    };
    // The way is remembered for 64 ms: until then the link's old MTU holds.
    wait_for("an ICMP error", SOON, || told(Duration::from_millis(100))).unwrap();
    let past = scene.daemon.reason("fast-path");
    let told = told(SOON).expect("an ICMP error");
    assert_eq!((told[34], told[35], &told[40..42]), (3, 4, &1300u16.to_be_bytes()[..]));
    assert_eq!(scene.daemon.reason("fast-path"), past, "the stack took it");
}

#[test]
fn a_new_policy_cuts_what_went_past_the_stack() {
    let test = "fastpath::gate::a_new_policy_cuts_what_went_past_the_stack";
    let policy = format!("option fast-path on\n{RULES}");
    let Some(scene) = Scene::or_skip(test, "tc", &policy) else { return };
    let ask = || Packet::new().ipv4(HERE, THERE).udp(4000, 53).fill(20);
    scene.carry(true, ask());
    scene.carry(false, Packet::new().ipv4(THERE, HERE).udp(53, 4000).fill(20));
    scene.carry(true, ask());
    assert_eq!(scene.daemon.reason("fast-path"), 2);
    scene.daemon.apply(&policy.replace("rule ask_out allow", "rule ask_out drop"));
    assert!(!scene.passes(ask()), "egress says no");
    scene.daemon.apply(&policy);
    scene.carry(true, ask());
    scene.daemon.apply(&policy.replace("fast-path on", "fast-path off"));
    scene.carry(true, ask());
    scene.carry(true, ask());
    assert_eq!(scene.daemon.reason("fast-path"), 2, "nothing went past since");
}

#[test]
fn status_says_where_there_is_a_fast_path() {
    let test = "fastpath::gate::status_says_where_there_is_a_fast_path";
    let policy = format!("option fast-path on\n{RULES}");
    for (mode, word, first) in [("tc", "at TC", false), ("xdp", "partial checksums", true)] {
        let Some(scene) = Scene::or_skip(test, mode, &policy) else { return };
        let status = scene.daemon.json(&["status"]);
        for iface in status["interfaces"].as_array().unwrap() {
            let said = iface["fast_path"].as_str().unwrap();
            assert!(said.contains(word), "{iface}");
            assert_eq!(iface["xsk_first"].is_u64(), first, "{iface}");
            // Both ends have generic receive offload in mode xdp: then a veth takes frames.
            assert_eq!(said.contains("to here: yes"), mode == "xdp", "{iface}");
        }
        let limits = status["limits"].to_string();
        assert!(limits.contains("went past the stack"), "{limits}");
        if mode == "tc" {
            // Found out while it runs.
            scene.lab.server.exec("ethtool", &["-K", "s0", "gro", "on"]).unwrap();
            wait_for("the daemon's next look", SOON, || {
                let status = scene.daemon.json(&["status"]);
                let rows = status["interfaces"].as_array().cloned().unwrap_or_default();
                let lan = rows.iter().find(|row| row["name"] == "lan0").cloned()?;
                lan["fast_path"].as_str()?.contains("to here: yes").then_some(())
            })
            .unwrap();
        }
    }
}

#[test]
fn only_our_own_word_lets_a_packet_by_at_egress() {
    // The word that says "judged already" is taken off at ingress: a packet that comes with it (from a
    // privileged container) is judged at egress like all others.
    let test = "fastpath::gate::only_our_own_word_lets_a_packet_by_at_egress";
    let Some(lab) = Lab::or_skip(test) else { return };
    let policy = "option fast-path on\ndefault in allow\ndefault out drop\n";
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy)) else {
        return;
    };
    neighbours(&lab.gate);
    // r1 is the context; tc_index is at offset 44 of `struct __sk_buff`.
    let code = sluice_tests::bpf::Asm::new()
        .set(Reg::R2, 0x51ce)
        .store32(Reg::R1, 44, Reg::R2)
        .set(Reg::R0, -1)
        .exit();
    let program = Program::load(Kind::Tc, &code).unwrap();
    let index = lab.client.ifindex("c0").unwrap();
    let attach = || Link::attach(&program, index, bpf::Hook::TcxOut).unwrap();
    let _link = lab.client.run(attach);
    let here = RawSocket::open(&lab.client, "c0").unwrap();
    let there = RawSocket::open(&lab.server, "s0").unwrap();
    let frame = Packet::new()
        .macs(HERE_MAC, lab.gate.mac("wan0").unwrap())
        .ipv4(HERE, THERE)
        .udp(4000, 80)
        .fill(20)
        .build();
    here.send(&frame);
    let seen = there.receive(SILENCE, |got| got.len() == frame.len() && got[23] == 17);
    assert!(seen.is_none(), "egress drops it");
    wait_for("its refusal", SOON, || (daemon.rule("default out")["hits"] == 1).then_some(()))
        .unwrap();
}
