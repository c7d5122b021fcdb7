//! `sluice explain` and `sluice replay` say what really happens: each packet is explained first, then sent through the
//! same gate, and the gate's counters tell.

use serde_json::{Value, json};
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, RawSocket, TcpEcho, WsClient, wait_for};
use sluice_tests::packet::Packet;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const POLICY: &str = "
interface outside = wan0
set friends = { 10.77.1.0/24, fd77:1::/64 }
set web = { 80, 443 }

default in drop
default out allow
option malformed drop

nat door destination on wan0 tcp to 10.77.1.1 port 8080 => 10.77.2.2 port 80

rule seen    count  in on outside tcp
rule telnet  drop   in on outside tcp to port 23
rule echo    reject in on outside udp to port 7
rule http    allow  in on outside tcp from @friends to port @web
rule dns     allow  in on outside udp to 10.77.2.2 port 53
rule six     allow  in on outside ipv6 udp to port 53
rule pings   allow  in on outside icmp type echo-request
rule others  allow  in on lan0 tcp to port 22
";

/// Packets counted by reason, and hits by rule.
type Totals = (BTreeMap<String, u64>, BTreeMap<String, u64>);

fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn totals(daemon: &Daemon) -> Totals {
    let stats = daemon.json(&["stats"]);
    let reasons = stats["reasons"].as_array().expect("reasons").iter();
    // What the links say to find each other is nobody's packet here.
    let links = |row: &&Value| row["reason"] != "arp" && row["reason"] != "neighbour-discovery";
    let reasons = reasons.filter(links);
    let reasons =
        reasons.map(|row| (row["reason"].as_str().unwrap_or("").to_owned(), n(&row["packets"])));
    let rules = daemon.rows(&["rules"]);
    let rules =
        rules.iter().map(|row| (row["name"].as_str().expect("a name").to_owned(), n(&row["hits"])));
    (reasons.collect(), rules.collect())
}

fn moved(before: &Totals, after: &Totals) -> Totals {
    let less = |then: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>| {
        let since =
            |(name, n): (&String, &u64)| (name.clone(), n - then.get(name).copied().unwrap_or(0));
        now.iter().map(since).filter(|(_, n)| *n > 0).collect()
    };
    (less(&before.0, &after.0), less(&before.1, &after.1))
}

/// What an explanation says would be counted.
fn said(explained: &Value) -> Totals {
    let rows = explained["counters"].as_array().expect("counters");
    let of = |kind: &str, field: &str| {
        let rows = rows.iter().filter(|row| row["kind"] == kind && n(&row[field]) > 0);
        rows.map(|row| {
            let name = row["name"].as_str().expect("a name");
            // The verdict stands before a reason; `stats` has the reason alone.
            let name =
                if kind == "reason" { name.split_once(' ').expect("two words").1 } else { name };
            (name.to_owned(), n(&row[field]))
        })
        .collect()
    };
    (of("reason", "packets"), of("rule", "hits"))
}

fn explain(daemon: &Daemon, packet: &str) -> Value {
    let view = daemon.json(&["explain", packet]);
    assert_eq!(view["warnings"], json!([]), "{packet}: {view}");
    view
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn start(test: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(
        test,
        &lab.gate,
        DaemonOptions::on(POLICY, &[("wan0", "tc"), ("lan0", "tc")]),
    )?;
    Some((lab, daemon))
}

/// A client's packet, addressed to the gate.
fn to_gate(lab: &Lab) -> Packet {
    Packet::new().macs(lab.client.mac("c0").expect("a mac"), lab.gate.mac("wan0").expect("a mac"))
}

/// A packet as it is described, and as it is sent; who decides, and what the verdict is.
fn scenes(lab: &Lab) -> Vec<(String, Vec<u8>, Value, &'static str)> {
    let four = || to_gate(lab).ipv4(Lab::CLIENT4, Lab::SERVER4);
    let mut broken = four().tcp(4010, 80).build();
    broken.truncate(14 + 20 + 12);
    // The total length agrees, so that TCP's header is what is cut.
    broken[16..18].copy_from_slice(&32u16.to_be_bytes());
    let mut sum = broken[14..34].to_vec();
    sum[10..12].fill(0);
    let total: u32 =
        sum.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = !(((total & 0xffff) + (total >> 16)) as u16);
    broken[24..26].copy_from_slice(&folded.to_be_bytes());
    let of = |text: &str| format!("in on wan0 {text}");
    vec![
        (
            of("tcp 10.77.1.2:4001 > 10.77.2.2:80 syn"),
            four().tcp(4001, 80).flags(2).build(),
            json!("http"),
            "allow",
        ),
        (
            of("tcp 10.77.1.2:4002 > 10.77.2.2:23 syn"),
            four().tcp(4002, 23).flags(2).build(),
            json!("telnet"),
            "drop",
        ),
        (
            of("tcp 10.77.1.2:4003 > 10.77.2.2:81 syn"),
            four().tcp(4003, 81).flags(2).build(),
            json!("default in"),
            "drop",
        ),
        (
            of("udp 10.77.1.2:4004 > 10.77.2.2:7"),
            four().udp(4004, 7).build(),
            json!("echo"),
            "reject",
        ),
        (
            of("udp 10.77.1.2:4005 > 10.77.2.2:53 length 20"),
            four().udp(4005, 53).fill(20).build(),
            json!("dns"),
            "allow",
        ),
        (
            of("udp [fd77:1::2]:4006 > [fd77:2::2]:53"),
            to_gate(lab).ipv6(Lab::CLIENT6, "fd77:2::2").udp(4006, 53).build(),
            json!("six"),
            "allow",
        ),
        (
            of("icmp 10.77.1.2 > 10.77.2.2 type echo-request id 77"),
            four().ping(77).build(),
            json!("pings"),
            "allow",
        ),
        // What the rules see of it is what it is translated to.
        (
            of("tcp 10.77.1.2:4008 > 10.77.1.1:8080 syn"),
            to_gate(lab).ipv4(Lab::CLIENT4, Lab::GATE4).tcp(4008, 8080).flags(2).build(),
            json!("http"),
            "allow",
        ),
        (of(&format!("hex {}", hex(&broken))), broken, Value::Null, "drop"),
        (
            of("tcp 10.77.1.2:4011 > 10.77.2.2:80 rst"),
            four().tcp(4011, 80).flags(4).build(),
            json!("http"),
            "allow",
        ),
    ]
}

#[test]
fn what_is_explained_is_what_happens_and_explaining_changes_nothing() {
    let test = "e2e_explain::what_is_explained_is_what_happens_and_explaining_changes_nothing";
    let Some((lab, daemon)) = start(test) else { return };
    // All are explained before any is sent: so nothing else can have moved a counter.
    let scenes = scenes(&lab);
    let before = totals(&daemon);
    let views: Vec<Value> = scenes.iter().map(|(packet, ..)| explain(&daemon, packet)).collect();
    assert_eq!(totals(&daemon), before, "explaining counts nothing");
    assert_eq!(daemon.flows("").len(), 0, "explaining enters no flow");
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    for ((packet, frame, rule, verdict), view) in scenes.into_iter().zip(views) {
        assert_eq!((&view["verdict"], &view["rule"]), (&json!(verdict), &rule), "{packet}: {view}");
        let expected = said(&view);
        assert_eq!(expected.0.values().sum::<u64>(), 1, "{packet}: one verdict: {view}");
        let before = totals(&daemon);
        raw.send(&frame);
        // The packet goes on and is answered, all of which counts elsewhere: the rules inwards have only itself.
        let arrived = wait_for("the packet's counters", SOON, || {
            let (reasons, rules) = moved(&before, &totals(&daemon));
            let has = |all: &BTreeMap<String, u64>, part: &BTreeMap<String, u64>| {
                part.iter().all(|(name, n)| all.get(name) >= Some(n))
            };
            (has(&reasons, &expected.0) && has(&rules, &expected.1)).then_some(rules)
        });
        let mut rules = arrived.unwrap_or_else(|late| panic!("{packet}: {late}: {view}"));
        rules.remove("default out");
        assert_eq!(rules, expected.1, "{packet}: just these rules: {view}");
        // Each is a conversation of its own.
        daemon.cli(&["flow", "kill", "family in (4, 6)"]);
    }
}

#[test]
fn each_rule_says_what_it_misses() {
    let Some((_lab, daemon)) = start("e2e_explain::each_rule_says_what_it_misses") else { return };
    let rules = |view: &Value| -> Vec<String> {
        let line = |row: &Value| {
            let misses = row["misses"].as_array().expect("misses");
            let miss = |miss: &Value| {
                let word = |field: &str| miss[field].as_str().unwrap_or_default().to_owned();
                format!("{} {} for {}", word("field"), word("seen"), word("expected"))
            };
            let misses: Vec<String> = misses.iter().map(miss).collect();
            format!("{}: {}", row["rule"].as_str().unwrap_or_default(), misses.join("; "))
        };
        view["rules"].as_array().expect("rules").iter().map(line).collect()
    };
    let view = explain(&daemon, "in on outside tcp 10.99.0.1:5 > 10.77.2.2:80 syn");
    assert_eq!(
        rules(&view),
        ["seen: ", "telnet: dport 80 for 23", "http: src 10.99.0.1 for @friends"],
        "rules that miss one condition: {view}"
    );
    assert_eq!((&view["hidden"], &view["interface"]), (&json!(5), &json!("wan0")), "{view}");
    let all =
        daemon.json(&["explain", "--all", "in on outside tcp 10.99.0.1:5 > 10.77.2.2:80 syn"]);
    assert_eq!(rules(&all).len(), 8, "{all}");
    assert_eq!(rules(&all)[7], "others: interface wan0 for lan0; dport 80 for 22", "{all}");
    // The deciding rule is the last.
    let view = explain(&daemon, "in on wan0 tcp 10.77.1.9:5 > 10.77.2.2:443 syn");
    assert_eq!(rules(&view).last().map(String::as_str), Some("http: "), "{view}");
    assert_eq!(
        view["rules"].as_array().and_then(|rules| rules.last()).map(|row| row["decides"].clone()),
        Some(json!(true))
    );
    let text = daemon.cli(&["explain", "in on wan0 tcp 10.77.1.9:5 > 10.77.2.2:81 syn"]).stdout;
    assert!(text.contains("dport 81 is not in @web"), "{text}");
    assert!(text.contains("verdict   drop: default by default in"), "{text}");
}

#[test]
fn a_live_flow_is_known_to_the_twin_and_stays_as_it_is() {
    let test = "e2e_explain::a_live_flow_is_known_to_the_twin_and_stays_as_it_is";
    let Some((lab, daemon)) = start(test) else { return };
    let _server = TcpEcho::start(&lab.server, &format!("{}:80", Lab::SERVER4)).unwrap();
    let held = lab.client.connect(&format!("{}:8080", Lab::GATE4), SOON).expect("through the door");
    let port = held.local_addr().expect("bound").port();
    let flow = wait_for("the flow", SOON, || {
        daemon.flows(&format!("sport={port} and state=established")).pop()
    })
    .unwrap();
    let id = flow["id"].as_str().expect("an id").to_owned();
    // No numbers fit but those of the live connection: what is made up is out of its window.
    let packet = format!("in on wan0 tcp 10.77.1.2:{port} > 10.77.1.1:8080 ack");
    let view = explain(&daemon, &packet);
    assert_eq!(
        (&view["flow"]["id"], &view["state"]),
        (&json!(id), &json!("established")),
        "{view}"
    );
    assert_eq!(view["reason"], "out-of-window", "{view}");
    // The same tuple as a new one: the live flow is left aside.
    let view = explain(
        &daemon,
        &format!("in on wan0 tcp 10.77.1.2:{port} > 10.77.1.1:8080 syn state new"),
    );
    assert_eq!(
        (&view["flow"], &view["state"], &view["rule"]),
        (&Value::Null, &json!("new"), &json!("http")),
        "{view}"
    );
    assert_eq!(view["translation"], "door", "{view}");
    // The reply at the other side is found through its translation.
    let reply = explain(&daemon, &format!("in on lan0 tcp 10.77.2.2:80 > 10.77.1.2:{port} ack"));
    assert_eq!(reply["flow"]["id"], json!(id), "{reply}");
    let after = daemon.flows(&format!("sport={port}")).pop().expect("it lives");
    for field in ["id", "state", "packets", "bytes", "reply_packets", "rule"] {
        assert_eq!(after[field], flow[field], "{field}: {after}");
    }
}

#[test]
fn an_established_flow_may_be_made_up() {
    let Some((_lab, daemon)) = start("e2e_explain::an_established_flow_may_be_made_up") else {
        return;
    };
    let view = explain(&daemon, "in on wan0 tcp 10.77.1.2:5 > 10.77.2.2:80 ack state established");
    assert_eq!((&view["reason"], &view["rule"]), (&json!("established"), &json!("http")), "{view}");
    assert_eq!(view["rules"], json!([]), "rules aren't asked: {view}");
    let view =
        explain(&daemon, "out on wan0 tcp 10.77.2.2:80 > 10.77.1.2:5 ack state established reply");
    assert_eq!((&view["reason"], &view["rule"]), (&json!("established"), &json!("http")), "{view}");
    // The policy lets no such flow begin: it is cut.
    let view = explain(&daemon, "in on wan0 tcp 10.77.1.2:5 > 10.77.2.2:23 ack state established");
    assert_eq!((&view["verdict"], &view["rule"]), (&json!("drop"), &json!("telnet")), "{view}");
    assert_eq!(view["state"], "established", "{view}");
}

#[test]
fn mistakes_say_where_and_what_was_expected() {
    let Some((_lab, daemon)) = start("e2e_explain::mistakes_say_where_and_what_was_expected")
    else {
        return;
    };
    for (packet, place, words) in [
        ("in on wan0 tcp 10.0.0.1:1 > 10.0.0.2:2 sny", "packet:1:40", "did you mean `syn`?"),
        (
            "in on wan9 tcp 10.0.0.1:1 > 10.0.0.2:2",
            "packet:1:7",
            "is no interface that is filtered",
        ),
        ("in on wan0", "packet:1:11", "expected a protocol"),
        ("in on wan0 hex 0011", "packet:1:16", "at least an Ethernet header"),
    ] {
        let output = daemon.cli(&["explain", packet]);
        assert_eq!(output.code, 3, "{output:?}");
        assert!(output.stderr.contains(place), "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
    }
    let missing = daemon.cli(&["replay", "/no/such/file", "--on", "wan0"]);
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(missing.stderr.contains("/no/such/file: No such file"), "{missing:?}");
    let file = daemon.dir.join("broken.pcap");
    std::fs::write(&file, b"this is no capture at all, but it is long enough").unwrap();
    let broken = daemon.cli(&["replay", &file.display().to_string(), "--on", "wan0"]);
    assert!(broken.code == 1 && broken.stderr.contains("no capture file"), "{broken:?}");
    let other = write_capture(&daemon, "wifi.pcap", 105, &[vec![0; 60]]);
    let other = daemon.cli(&["replay", &other.display().to_string(), "--on", "wan0"]);
    assert!(
        other.code == 1 && other.stderr.contains("link type 105; expected Ethernet (1)"),
        "{other:?}"
    );
}

/// A legacy capture file.
fn write_capture(daemon: &Daemon, name: &str, linktype: u32, frames: &[Vec<u8>]) -> PathBuf {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, linktype] {
        bytes.extend_from_slice(&u32::to_le_bytes(word));
    }
    for frame in frames {
        let length = frame.len() as u32;
        for word in [0, 0, length, length] {
            bytes.extend_from_slice(&u32::to_le_bytes(word));
        }
        bytes.extend_from_slice(frame);
    }
    let file = daemon.dir.join(name);
    std::fs::write(&file, bytes).expect("a capture");
    file
}

#[test]
fn a_capture_is_replayed_and_compared_with_another_policy() {
    let test = "e2e_explain::a_capture_is_replayed_and_compared_with_another_policy";
    let Some((lab, daemon)) = start(test) else { return };
    // A whole connection, as it passes `wan0`: it comes in, and is answered.
    let inwards = || to_gate(&lab).ipv4(Lab::CLIENT4, Lab::SERVER4);
    let outwards = || {
        let (from, to) = (lab.gate.mac("wan0").unwrap(), lab.client.mac("c0").unwrap());
        Packet::new().macs(from, to).ipv4(Lab::SERVER4, Lab::CLIENT4)
    };
    let mut frames = vec![
        inwards().tcp(5000, 80).flags(2).seq(100, 0).build(),
        outwards().tcp(80, 5000).flags(0x12).seq(900, 101).build(),
        inwards().tcp(5000, 80).flags(0x10).seq(101, 901).build(),
        inwards().tcp(5000, 80).flags(0x18).seq(101, 901).fill(50).build(),
        outwards().tcp(80, 5000).flags(0x10).seq(901, 151).build(),
        inwards().tcp(5001, 23).flags(2).build(),
        inwards().udp(5002, 53).fill(30).build(),
        outwards().udp(53, 5002).fill(90).build(),
        inwards().udp(5003, 54).build(),
    ];
    // More than one part, so that flows go on from one to the next.
    for _ in 0..2500 {
        frames.push(inwards().tcp(5000, 80).flags(0x10).seq(151, 901).build());
    }
    let file = write_capture(&daemon, "talk.pcap", 1, &frames).display().to_string();
    let before = totals(&daemon);
    let rows = daemon.rows(&["replay", &file, "--on", "outside"]);
    assert_eq!(rows.len(), frames.len() + 1, "a row a packet, and the totals");
    let fates: Vec<String> = rows[..9]
        .iter()
        .map(|row| {
            let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let fate = &row["fate"];
            format!(
                "{} {} {} {}",
                word(&row["direction"]),
                word(&fate["verdict"]),
                word(&fate["reason"]),
                word(&fate["rule"])
            )
        })
        .collect();
    assert_eq!(
        fates,
        [
            "in allow rule http",
            "out allow established http",
            "in allow established http",
            "in allow established http",
            "out allow established http",
            "in drop rule telnet",
            "in allow rule dns",
            "out allow established dns",
            "in drop default default in",
        ]
    );
    let last = &rows[frames.len() - 1];
    assert_eq!(last["fate"]["reason"], "established", "flows outlive a part: {last}");
    let sums = &rows[frames.len()]["totals"];
    assert_eq!((&sums["packets"], &sums["failed"]), (&json!(frames.len()), &json!(0)), "{sums}");
    let by = sums["by"].as_array().expect("sums");
    assert_eq!(by.iter().map(|row| n(&row["packets"])).sum::<u64>(), frames.len() as u64, "{sums}");
    assert_eq!(
        (&by[0]["reason"], &by[0]["packets"]),
        (&json!("established"), &json!(2504)),
        "{sums}"
    );
    assert_eq!(totals(&daemon), before, "the live counters stay");
    assert_eq!(daemon.flows("").len(), 0, "and the live flows");

    // Another policy: 23 is let in, 53 no more, and so neither are its replies.
    let other = POLICY
        .replace("rule telnet  drop ", "rule telnet  allow")
        .replace("rule dns     allow", "disabled rule dns allow")
        .replace("default out allow", "default out drop");
    let against = daemon.dir.join("other.sluice");
    std::fs::write(&against, other).unwrap();
    let changed = daemon.rows(&[
        "replay",
        &file,
        "--on",
        "wan0",
        "--quiet",
        "--against",
        &against.display().to_string(),
    ]);
    let numbers: Vec<u64> =
        changed[..changed.len() - 1].iter().map(|row| n(&row["number"])).collect();
    assert_eq!(numbers, [6, 7, 8], "just the packets whose verdict changes: {changed:?}");
    assert_eq!(changed[changed.len() - 1]["totals"]["changed"], 3, "{changed:?}");
    assert_eq!(
        (&changed[0]["fate"]["verdict"], &changed[0]["against"]["rule"]),
        (&json!("drop"), &json!("telnet"))
    );
    // A policy with a mistake is refused as everywhere.
    std::fs::write(&against, "rule broken alow in\n").unwrap();
    let broken =
        daemon.cli(&["replay", &file, "--on", "wan0", "--against", &against.display().to_string()]);
    assert!(broken.code == 3 && broken.stderr.contains("did you mean `allow`"), "{broken:?}");
    assert_eq!(totals(&daemon), before, "the live counters stay");
}

#[test]
fn a_packet_of_a_capture_is_explained_and_programs_may_ask() {
    let test = "e2e_explain::a_packet_of_a_capture_is_explained_and_programs_may_ask";
    let Some((lab, daemon)) = start(test) else { return };
    let frames = [23u16, 80].map(|port| {
        to_gate(&lab).ipv4(Lab::CLIENT4, Lab::SERVER4).tcp(4000, port).flags(2).build()
    });
    let file = write_capture(&daemon, "two.pcap", 1, &frames).display().to_string();
    let view = daemon.json(&["explain", "--pcap", &file, "--number", "2", "in on wan0"]);
    assert_eq!(
        (&view["rule"], &view["frame"]),
        (&json!("http"), &json!(hex(&frames[1]))),
        "{view}"
    );
    let beyond = daemon.cli(&["explain", "--pcap", &file, "--number", "3", "in on wan0"]);
    assert!(
        beyond.code == 1 && beyond.stderr.contains("packet 3 isn't there; it has 2"),
        "{beyond:?}"
    );
    // Bare IP gets an Ethernet header.
    let raw = write_capture(&daemon, "raw.pcap", 101, &[frames[0][14..].to_vec()]);
    let view = daemon.json(&["explain", "--pcap", &raw.display().to_string(), "in on wan0"]);
    assert_eq!(
        (&view["rule"], &view["length"]),
        (&json!("telnet"), &json!(frames[0].len())),
        "{view}"
    );

    let Some(python) = sluice_tests::lab::python_with_websockets() else { return };
    let mut client = WsClient::start(&lab.gate, python, &daemon.token());
    let hello = client.wait("hello", |message| message["type"] == "hello");
    let can = hello["capabilities"].as_array().expect("capabilities");
    assert!(can.contains(&json!("explain")) && can.contains(&json!("replay")), "{hello}");
    let command = json!({ "type": "command", "id": 1, "verb": "explain", "args": { "packet": "in on wan0 udp 10.77.1.2:1 > 10.77.2.2:7" } });
    client.send(&command.to_string());
    let answer = client.wait("an answer", |message| message["type"] == "result");
    assert_eq!(
        (&answer["ok"], &answer["data"]["verdict"]),
        (&json!(true), &json!("reject")),
        "{answer}"
    );
    let command = json!({ "type": "command", "id": 2, "verb": "replay", "args": {
        "interface": "wan0", "direction": "in", "last": true, "frames": [{ "frame": hex(&frames[0]) }, { "frame": "00" }],
    } });
    client.send(&command.to_string());
    let answer = client.wait("an answer", |message| message["id"] == 2);
    assert_eq!(answer["data"]["rows"][0]["fate"]["rule"], "telnet", "{answer}");
    assert!(
        answer["data"]["rows"][1]["error"].is_string(),
        "a frame that can't be run says so: {answer}"
    );
    assert_eq!(answer["data"]["session"], Value::Null, "{answer}");
}

#[test]
fn nothing_is_left_of_a_twin() {
    let Some((_lab, daemon)) = start("e2e_explain::nothing_is_left_of_a_twin") else { return };
    let twins = || {
        let name = daemon.pin_dir.file_name().unwrap().to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/sys/fs/bpf").unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|other| other.starts_with(&format!("{name}-twin-"))).count()
    };
    // One that a daemon left which died while it loaded it.
    let stale = format!("{}-twin-1-0", daemon.pin_dir.display());
    std::fs::create_dir(&stale).unwrap();
    assert_eq!(twins(), 1);
    explain(&daemon, "in on wan0 udp 10.77.1.2:1 > 10.77.2.2:7");
    assert_eq!(twins(), 0, "neither its own pins nor those of one that died");
}
