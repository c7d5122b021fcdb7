//! `bypass ... => xsk`: who gets the packets, and that nobody loses or counts one twice.

use serde_json::Value;
use sluice_tests::kernel::{Fate, Hook, Kernel};
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, RawSocket, wait_for};
use sluice_tests::packet::{Packet, tcp};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(400);
/// A host behind the gate that no stack answers for.
const THERE: &str = "10.77.2.50";
const THERE_MAC: [u8; 6] = [2, 0, 0, 0, 2, 0x50];
const TUNNEL: u16 = 4789;
const POLICY: &str = "default in drop\ndefault out allow\n\
    rule tunnel bypass in on wan0 udp to port 4789 => xsk\nrule dns allow in on wan0 udp to port 53\n";

/// Client's frames through a gate to a host that only listens.
struct Scene {
    lab: Lab,
    daemon: Daemon,
    here: RawSocket,
    there: RawSocket,
    macs: ([u8; 6], [u8; 6]),
    first: u64,
}

impl Scene {
    fn or_skip(test: &str, mode: &str) -> Option<Self> {
        let lab = Lab::or_skip(test)?;
        let options = DaemonOptions::on(POLICY, &[("wan0", mode), ("lan0", "tc")]);
        let daemon = Daemon::or_skip(test, &lab.gate, options)?;
        let mac = THERE_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let what = ["neigh", "replace", THERE, "lladdr", &mac, "dev", "lan0", "nud", "permanent"];
        lab.gate.ip(&what).unwrap();
        let status = daemon.json(&["status"]);
        let rows = status["interfaces"].as_array().unwrap();
        let wan = rows.iter().find(|row| row["name"] == "wan0").unwrap();
        Some(Self {
            here: RawSocket::open(&lab.client, "c0").unwrap(),
            there: RawSocket::open(&lab.server, "s0").unwrap(),
            macs: (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap()),
            first: wan["xsk_first"].as_u64().unwrap_or_default(),
            daemon,
            lab,
        })
    }

    /// Sends a datagram; its frame's length.
    fn send(&self, port: u16, fill: usize) -> usize {
        let packet = Packet::new().macs(self.macs.0, self.macs.1);
        let frame = packet.ipv4(Lab::CLIENT4, THERE).udp(4000, port).fill(fill).build();
        self.here.send(&frame);
        frame.len()
    }

    /// Whether a datagram to `port` comes out behind the stack.
    fn arrives(&self, port: u16, limit: Duration) -> bool {
        let wanted = |got: &[u8]| got[12..14] == [8, 0] && got[36..38] == port.to_be_bytes();
        self.there.receive(limit, wanted).is_some()
    }

    /// Starts the sample program and waits until it is in the map.
    fn receiver(&self, args: &[&str]) -> Receiver {
        let mut child = self
            .lab
            .gate
            .command(env!("CARGO_BIN_EXE_xsk-receiver"))
            .args(["--pins", &self.daemon.pin_dir.display().to_string(), "--interface", "wan0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Receiver { child, said }
    }

    fn first(&self) -> String {
        self.first.to_string()
    }

    /// Packets and bytes of the tunnel's flow.
    fn tunnel(&self) -> [u64; 2] {
        let rows = self.daemon.flows("dport=4789");
        let row = rows.first().unwrap_or_else(|| panic!("no flow"));
        ["packets", "bytes"].map(|name| row[name].as_u64().unwrap())
    }
}

/// A running sample program.
struct Receiver {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Receiver {
    /// What it got, once it ends.
    fn done(mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_socket_gets_its_flow(test: &str, mode: &str) {
    let Some(scene) = Scene::or_skip(test, mode) else { return };
    let daemon = &scene.daemon;
    // Nobody there: the usual way.
    let mut sent = 0;
    for i in 0..3 {
        sent += scene.send(TUNNEL, 40 + i) - 14;
        assert!(scene.arrives(TUNNEL, SOON), "{i}");
    }
    assert_eq!((daemon.reason("bypassed"), scene.tunnel()), (0, [3, sent as u64]));

    let receiver = scene.receiver(&["--first", &scene.first(), "--packets", "25"]);
    let mut theirs = 0;
    for i in 0..25 {
        let frame = scene.send(TUNNEL, 10 + 50 * i);
        theirs += frame;
        sent += frame - 14;
        if i % 3 == 0 {
            scene.send(53, 30);
            assert!(scene.arrives(53, SOON), "other flows keep to the stack");
        }
    }
    let got = receiver.done();
    assert_eq!(got, serde_json::json!({"packets": 25, "bytes": theirs, "lost": 0}));
    assert!(!scene.arrives(TUNNEL, SILENCE), "and the stack none of them");
    assert_eq!(daemon.reason("bypassed"), 25);
    let totals = || (scene.tunnel() == [28, sent as u64]).then_some(());
    wait_for("the flow's totals", SOON, totals)
        .unwrap_or_else(|late| panic!("{late}: {:?}, sent {sent}", scene.tunnel()));
    let rule = daemon.rule("tunnel");
    assert_eq!((&rule["packets"], &rule["bytes"]), (&28.into(), &(sent as u64).into()), "{rule}");

    // The program is gone, and its socket with it.
    scene.send(TUNNEL, 20);
    assert!(scene.arrives(TUNNEL, SOON), "back to the usual way");
    assert_eq!(daemon.reason("bypassed"), 25);
    let limits = daemon.json(&["status"])["limits"].to_string();
    assert!(limits.contains("25 packets were handed to AF_XDP sockets"), "{limits}");
}

#[test]
fn a_socket_gets_its_flow_in_the_driver() {
    a_socket_gets_its_flow("bypass::a_socket_gets_its_flow_in_the_driver", "xdp");
}

#[test]
fn a_socket_gets_its_flow_under_generic_xdp() {
    a_socket_gets_its_flow("bypass::a_socket_gets_its_flow_under_generic_xdp", "xdp-generic");
}

#[test]
fn a_socket_in_anothers_place_costs_nobody_a_packet() {
    let test = "bypass::a_socket_in_anothers_place_costs_nobody_a_packet";
    let Some(scene) = Scene::or_skip(test, "xdp") else { return };
    // Queue 0's socket in the place of queue 1, and in that of another interface's queue 0.
    for place in [scene.first + 1, scene.first + 64] {
        let receiver = scene.receiver(&["--first", &place.to_string(), "--seconds", "2"]);
        scene.send(TUNNEL, 40);
        assert!(scene.arrives(TUNNEL, SOON), "place {place}");
        assert_eq!(receiver.done()["packets"], 0, "place {place}");
    }
    assert_eq!(scene.daemon.reason("bypassed"), 0);
}

#[test]
fn the_policy_says_where_a_live_flow_goes() {
    let test = "bypass::the_policy_says_where_a_live_flow_goes";
    let Some(scene) = Scene::or_skip(test, "xdp") else { return };
    let receiver = scene.receiver(&["--first", &scene.first(), "--packets", "4"]);
    scene.send(TUNNEL, 20);
    scene.send(TUNNEL, 20);
    let met = || (scene.daemon.reason("bypassed") == 2).then_some(());
    wait_for("two packets bypassed", SOON, met).unwrap();
    let allow = POLICY.replace("tunnel bypass", "tunnel allow").replace(" => xsk", "");
    scene.daemon.apply(&allow);
    for _ in 0..2 {
        scene.send(TUNNEL, 20);
        assert!(scene.arrives(TUNNEL, SOON), "the policy lets it by");
    }
    scene.daemon.apply(POLICY);
    scene.send(TUNNEL, 20);
    scene.send(TUNNEL, 20);
    assert_eq!(receiver.done()["packets"], 4);
    assert!(!scene.arrives(TUNNEL, SILENCE));
    scene.daemon.apply(&POLICY.replace("4789", "4790"));
    scene.send(TUNNEL, 20);
    assert!(!scene.arrives(TUNNEL, SILENCE), "what no rule lets in, no socket gets");
    assert_eq!(scene.daemon.reason("bypassed"), 4);
}

#[test]
fn at_tc_there_is_no_socket_and_that_is_said() {
    let test = "bypass::at_tc_there_is_no_socket_and_that_is_said";
    let Some(scene) = Scene::or_skip(test, "tc") else { return };
    scene.send(TUNNEL, 20);
    assert!(scene.arrives(TUNNEL, SOON));
    let limits = scene.daemon.json(&["status"])["limits"].to_string();
    assert!(limits.contains("wan0: `bypass` rules only let packets in here"), "{limits}");
}

#[test]
fn half_a_connection_is_not_held_to_its_numbers() {
    let test = "bypass::half_a_connection_is_not_held_to_its_numbers";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let policy = |rule: &str| format!("default in drop\ndefault out drop\nrule web {rule}\n");
    let ns = kernel.namespace().clone();
    let forth = || Packet::new().ipv4("10.0.0.1", "192.0.2.1").tcp(4000, 80).window(500);
    let syn = forth().seq(100, 0).flags(tcp::SYN).build();
    // The other side's numbers are seen by nobody here.
    let far = forth().seq(101, 77_000).flags(tcp::ACK).fill(10).build();
    let farther = forth().seq(200_000, 3_000_000).flags(tcp::ACK).fill(10).build();
    for (rule, fate) in
        [("bypass in tcp to port 80 => xsk", Fate::Pass), ("allow in tcp to port 80", Fate::Drop)]
    {
        kernel.clear();
        kernel.install(&policy(rule));
        let run = |frame: &[u8]| ns.run(|| kernel.run(Hook::Xdp, 0, frame).unwrap().0);
        assert_eq!(run(&syn), Fate::Pass, "{rule}");
        assert_eq!(run(&far), fate, "{rule}");
        assert_eq!(run(&farther), fate, "{rule}");
    }
}
