//! A new policy under traffic: live flows meet it, no packet is lost, none sees a mix.

use firewall_user::server::client::Client;
use serde_json::{Value, json};
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, RawSocket, TcpEcho, Transfer};
use sluice_tests::packet::Packet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Policies that go live one after the other, under traffic.
const SWAPS: u64 = 1_000;
const SOON: Duration = Duration::from_secs(5);

const OPEN: &str =
    "default in drop\ndefault out allow\nrule talk allow in on wan0 tcp to port 9000\n";

fn lab_and_daemon(test: &str, policy: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy))?;
    Some((lab, daemon))
}

#[test]
fn a_transfer_outlives_a_policy_that_still_allows_it() {
    let test = "e2e_swap::a_transfer_outlives_a_policy_that_still_allows_it";
    let Some((lab, daemon)) = lab_and_daemon(test, OPEN) else { return };
    for address in [Lab::SERVER4, Lab::SERVER6] {
        let transfer = Transfer::start(&lab.client, &lab.server, address, 9000).unwrap();
        transfer.advance(1_000_000, SOON).unwrap();
        // Other rules, another order, another name: the flow is judged again and goes on.
        daemon.apply(
            "default in drop\ndefault out allow\nrule first drop in udp to port 1\nrule moved allow in on wan0 tcp to port 9000-9001\n",
        );
        transfer.advance(1_000_000, SOON).unwrap();
        daemon.apply(OPEN);
        transfer.advance(1_000_000, SOON).unwrap();
        transfer.finish().unwrap();
    }
    assert_eq!(
        daemon.json(&["stats"])["dropped_packets"],
        0,
        "no packet was lost on the way: {}",
        daemon.json(&["stats"])
    );
}

#[test]
fn a_transfer_is_cut_by_a_policy_that_forbids_it() {
    let test = "e2e_swap::a_transfer_is_cut_by_a_policy_that_forbids_it";
    let Some((lab, daemon)) = lab_and_daemon(test, OPEN) else { return };
    let transfer = Transfer::start(&lab.client, &lab.server, Lab::SERVER4, 9000).unwrap();
    transfer.advance(1_000_000, SOON).unwrap();
    daemon.apply("default in drop\ndefault out allow\nrule cut drop in on wan0 tcp to port 9000\n");
    // What was on its way may still arrive.
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        transfer.stalls_for(Duration::from_millis(1500)),
        "the transfer goes on under a policy that forbids it"
    );
    assert!(daemon.rule("cut")["hits"].as_u64() > Some(0));
    // The CLI tells of it while it remembers ended flows; the flow isn't a live one in any case.
    let live = daemon
        .flows("proto=tcp and dport=9000")
        .into_iter()
        .filter(|row| row["ended"].is_null())
        .count();
    assert_eq!(live, 0);
    // Allowed again: the retransmissions take the connection up in mid-stream.
    daemon.apply(OPEN);
    transfer.advance(100_000, Duration::from_secs(15)).unwrap();
    transfer.finish().unwrap();
}

/// Two policies that decide every packet of the test alike, and share nothing else: other rules in
/// other places, other address and port lists. A packet that met rows of one and actions of the other
/// would go astray.
fn twins() -> (String, String) {
    let both = "default in drop\ndefault out allow\nrule bulk allow in on wan0 tcp to port 9000\n";
    let (mut a, mut b) = (String::from(both), String::from(both));
    for i in 0..150 {
        let _ = writeln!(a, "rule a{i} drop in udp from 192.0.{i}.0/24 to port {}", 1 + i);
    }
    a.push_str("rule yes allow in on wan0 udp to port 53\nrule nope drop in on wan0 udp\n");
    b.push_str("rule well allow in on wan0 udp from 10.77.1.0/24 port 1024-65535 to 10.77.2.2 port { 50-55 }\n");
    for i in 0..90 {
        let _ = writeln!(
            b,
            "rule b{i} drop in tcp from 198.51.{i}.0/25 port {} flags syn/syn,ack",
            2000 + i
        );
    }
    b.push_str("rule no drop in on wan0 udp\n");
    (a, b)
}

/// Sends packets of ever new flows to an allowed port and to a refused one while `meanwhile` goes on: how many of each were
/// sent, and that all allowed and no refused ones arrived.
fn under_traffic(lab: &Lab, meanwhile: impl FnOnce()) -> u64 {
    under_paced_traffic(lab, Duration::from_millis(2), meanwhile)
}

/// As [`under_traffic`], with such a rest behind each 64 of both: there are 60,000 different ones.
fn under_paced_traffic(lab: &Lab, rest: Duration, meanwhile: impl FnOnce()) -> u64 {
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    let sink = |port: u16| {
        let socket = lab.server.run(|| UdpSocket::bind((Lab::SERVER4, port))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        socket
    };
    let (allowed, denied) = (sink(53), sink(99));
    let stop = AtomicBool::new(false);
    let (sent, received, leaked) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0u64;
            // Each packet is a new flow, so that each asks the rules.
            for sport in (1024..=65_535u16).cycle() {
                if stop.load(SeqCst) || sent == 60_000 {
                    break;
                }
                let head = Packet::new().macs(from, to).ipv4(Lab::CLIENT4, Lab::SERVER4);
                raw.send(&head.clone().udp(sport, 53).fill(8).build());
                raw.send(&head.udp(sport, 99).fill(8).build());
                sent += 1;
                if sent.is_multiple_of(64) {
                    std::thread::sleep(rest);
                }
            }
            sent
        });
        let count = |socket: UdpSocket| {
            let stop = &stop;
            move || {
                let mut buffer = [0; 64];
                let mut n = 0u64;
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(_) => n += 1,
                        Err(_) if stop.load(SeqCst) => return n,
                        Err(_) => {}
                    }
                }
            }
        };
        let (allowed, denied) = (scope.spawn(count(allowed)), scope.spawn(count(denied)));
        meanwhile();
        stop.store(true, SeqCst);
        (sender.join().unwrap(), allowed.join().unwrap(), denied.join().unwrap())
    });
    assert!(sent > 500, "only {sent} packets met the changes");
    assert_eq!(leaked, 0, "of {sent} denied packets");
    let dropped_by_socket = lab.server.snmp("Udp", "RcvbufErrors");
    assert_eq!(received + dropped_by_socket, sent, "every allowed packet arrives");
    sent
}

#[test]
fn no_packet_sees_a_mix_of_two_policies() {
    let test = "e2e_swap::no_packet_sees_a_mix_of_two_policies";
    let (a, b) = twins();
    let Some((lab, daemon)) = lab_and_daemon(test, &a) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(daemon.dir.join("sock"));
    let _echo = TcpEcho::start(&lab.server, &format!("{}:9000", Lab::SERVER4)).unwrap();
    let mut talk = lab.client.run(|| TcpStream::connect((Lab::SERVER4, 9000))).unwrap();
    talk.set_read_timeout(Some(SOON)).unwrap();
    let mut said = |i: u64| {
        let (text, mut heard) = (i.to_be_bytes(), [0; 8]);
        talk.write_all(&text).unwrap();
        talk.read_exact(&mut heard).unwrap();
        assert_eq!(heard, text);
    };
    said(0);
    let id = || daemon.flows("proto=tcp and dport=9000")[0]["id"].clone();
    let flow = id();
    // Some 40 ms each, as each waits for those who look into what the last but one left.
    let sent = under_paced_traffic(&lab, Duration::from_millis(60), || {
        for i in 0..SWAPS {
            let text = if i % 2 == 0 { &b } else { &a };
            let body = json!({"text": text, "force": true});
            let applied = client.post::<Value>("/api/v1/policy/apply", &body);
            let applied = runtime.block_on(applied).expect("applied");
            assert_eq!(applied["generation"], 2 + i);
            said(i);
        }
    });
    assert_eq!(id(), flow, "its flow outlived them all");
    // Each policy's own rule refused its share, and counters outlive the policies: both shares are
    // there to read. (What the links themselves send, such as MLD, meets the default, not these.)
    let refused = |policy: &str, rule: &str| {
        daemon.apply(policy);
        daemon.rule(rule)["packets"].as_u64().unwrap()
    };
    assert_eq!(refused(&a, "nope") + refused(&b, "no"), sent, "exactly the denied ones");
}

/// Says whether a datagram to port 53 arrives.
fn knocker(lab: &Lab) -> impl Fn() -> bool {
    let socket = lab.server.run(|| UdpSocket::bind((Lab::SERVER4, 53))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let client = lab.client.run(|| UdpSocket::bind((Lab::CLIENT4, 4053))).unwrap();
    move || {
        client.send_to(b"x", (Lab::SERVER4, 53)).unwrap();
        socket.recv(&mut [0; 8]).is_ok()
    }
}

/// Rules enough that single ones change by themselves, and two that decide.
fn many() -> String {
    let mut text = String::from("default in drop\ndefault out allow\n");
    for i in 0..600 {
        let _ = writeln!(
            text,
            "rule r{i} drop in udp from 192.0.2.{}/32 to port {}",
            i % 250,
            1000 + i
        );
    }
    text + "rule yes allow in on wan0 udp to port 53\nrule nope drop in on wan0 udp to port 54-1000\n"
}

#[test]
fn single_rules_join_and_leave_under_traffic() {
    let test = "e2e_swap::single_rules_join_and_leave_under_traffic";
    let Some((lab, daemon)) = lab_and_daemon(test, OPEN) else { return };
    daemon.apply(&many());
    let edit = |args: &[&str]| {
        let args: Vec<&str> = ["rule"].iter().chain(args).chain(&["--force"]).copied().collect();
        let said = daemon.cli(&args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
    };
    let sent = under_traffic(&lab, || {
        for i in 0..10 {
            let (name, port) = (format!("new{i}"), format!("{}", 2_000 + i));
            let text = format!("{name} drop in udp from 198.51.100.1 to port {port}");
            edit(&["add", "--before", "r300", &text]);
            edit(&["delete", &format!("r{i}")]);
            if i >= 3 {
                edit(&["delete", &format!("new{}", i - 3)]);
            }
        }
        // It takes the place of the one that refuses, which goes.
        edit(&[
            "add",
            "--before",
            "nope",
            "other drop in on wan0 udp from 10.0.0.0/8 to port 54-999",
        ]);
        edit(&["delete", "nope"]);
    });
    // One by one, none as a whole policy: each is two generations on.
    assert_eq!(daemon.json(&["status"])["generation"], 2 + 2 * (10 + 10 + 7 + 2));
    // The file follows.
    let file = || std::fs::read_to_string(daemon.dir.join("policy.sluice")).unwrap();
    let begun = std::time::Instant::now();
    while file().contains("rule nope ") && begun.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = file();
    for (name, there) in [("new9", true), ("new6", false), ("r9", false), ("r10", true)] {
        assert_eq!(text.contains(&format!("rule {name} ")), there, "{name}\n{text}");
    }
    let refused = daemon.rule("other")["packets"].as_u64().unwrap();
    assert!((1..=sent).contains(&refused), "{refused} of {sent}");
}

#[test]
fn a_rule_that_joined_decides_and_one_that_left_no_more() {
    let test = "e2e_swap::a_rule_that_joined_decides_and_one_that_left_no_more";
    let Some((lab, daemon)) = lab_and_daemon(test, OPEN) else { return };
    daemon.apply(&many());
    let passes = knocker(&lab);
    assert!(passes());
    let add = |place: &[&str], text: &str| {
        let args: Vec<&str> =
            ["rule", "add", "--force"].iter().chain(place).chain(&[text]).copied().collect();
        assert_eq!(daemon.cli(&args).code, 0, "{text}");
    };
    let delete = |name: &str| assert_eq!(daemon.cli(&["rule", "delete", "--force", name]).code, 0);
    // The flow lives; the rule that joined above judges it again.
    add(&["--before", "yes"], "block drop in on wan0 udp from 10.0.0.0/8 to port 53");
    assert!(!passes());
    assert_eq!(daemon.rule("block")["packets"], 1);
    // Above it one more joins, for this client.
    add(&["--before", "block"], "but allow in on wan0 udp from 10.77.1.0/24 to port 53");
    assert!(passes());
    delete("block");
    delete("but");
    assert!(passes());
    // The rule that was there from the beginning.
    delete("yes");
    assert!(!passes());
    assert_eq!(daemon.json(&["status"])["generation"], 2 + 2 * 5);
    // The next whole policy begins with all of that.
    daemon.apply(&many());
    assert!(passes());
    assert_eq!(daemon.json(&["status"])["generation"], 13);
}

#[test]
fn the_next_daemon_finds_text_and_tables_as_one() {
    let test = "e2e_swap::the_next_daemon_finds_text_and_tables_as_one";
    let Some((lab, mut daemon)) = lab_and_daemon(test, OPEN) else { return };
    let passes = knocker(&lab);
    let add = [
        "rule",
        "add",
        "--force",
        "--before",
        "yes",
        "block drop in on wan0 udp from 10.0.0.0/8 to port 53",
    ];
    for at_once in [true, false] {
        daemon.apply(&many());
        assert!(passes());
        assert_eq!(daemon.cli(&add).code, 0);
        let edited = daemon.json(&["status"])["generation"].as_u64().unwrap();
        assert!(!passes());
        if !at_once {
            let written = || {
                let read = |name: &str| std::fs::read_to_string(daemon.dir.join(name)).unwrap();
                read("policy.sluice").contains("rule block ")
                    && read("state/live.json").contains("rule block ")
            };
            let begun = std::time::Instant::now();
            while !written() {
                assert!(begun.elapsed() < SOON, "the file doesn't follow");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        daemon.kill9();
        assert!(!passes(), "the filter stays");
        daemon.start();
        let said = daemon.cli(&["policy"]).stdout;
        assert_eq!(passes(), !said.contains("rule block "), "{said}");
        let found = daemon.json(&["status"])["generation"].as_u64().unwrap();
        if !at_once {
            assert!(said.contains("rule block "));
            assert_eq!(found, edited, "it is taken over");
        }
        // The first change is a whole policy, the next one isn't.
        for (i, by) in [(0, 1), (1, 2)] {
            let before = daemon.json(&["status"])["generation"].as_u64().unwrap();
            assert_eq!(daemon.cli(&["rule", "delete", "--force", &format!("r{i}")]).code, 0);
            assert_eq!(daemon.json(&["status"])["generation"], before + by);
        }
    }
}
