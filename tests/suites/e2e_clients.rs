//! Real clients: the command line, and a WebSocket library that has nothing to do with ours (Python's
//! `websockets`), see what the generator sent. And what the server does with clients that misbehave.

use serde_json::{Value, json};
use sluice_tests::lab::{
    Daemon, DaemonOptions, Lab, RawSocket, UdpEcho, WsClient, python_with_websockets, udp_exchange,
    wait_for,
};
use sluice_tests::packet::Packet;
use sluice_tests::skip::skip;
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const POLICY: &str = "
default in drop
default out allow
rule dns allow in on wan0 udp to port 53
rule web allow in on wan0 tcp to port 80
";

fn setup(test: &str) -> Option<(Lab, Daemon, &'static str)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY))?;
    let Some(python) = python_with_websockets() else {
        skip(test, "no python3 with `websockets` (apt-get install python3-websockets)");
        return None;
    };
    Some((lab, daemon, python))
}

/// (source port, packets, bytes, reply packets) by flow.
type Totals = BTreeMap<u64, (u64, u64, u64)>;

fn totals(rows: &[Value]) -> Totals {
    let n = |row: &Value, field: &str| {
        row[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {row}"))
    };
    rows.iter()
        .filter(|row| row["dport"] == 53)
        .map(|row| (n(row, "sport"), (n(row, "packets"), n(row, "bytes"), n(row, "reply_packets"))))
        .collect()
}

#[test]
fn every_client_sees_the_flows_that_were_sent() {
    let test = "e2e_clients::every_client_sees_the_flows_that_were_sent";
    let Some((lab, daemon, python)) = setup(test) else { return };
    let _echo = UdpEcho::start(&lab.server, &format!("{}:53", Lab::SERVER4)).unwrap();
    let mut client = WsClient::start(&lab.gate, python, &daemon.token());
    let hello = client.wait("hello", |message| message["type"] == "hello");
    assert_eq!(hello["version"], 1, "{hello}");
    client.send(&json!({ "type": "subscribe", "id": 1, "stream": "flows", "filter": "proto=udp and dport=53" }).to_string());
    let snapshot = client.wait("snapshot", |message| message["type"] == "snapshot");
    assert_eq!(snapshot["rows"], json!([]), "nothing was sent yet");

    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    let mut sent = Totals::new();
    for i in 0..25u16 {
        let port = 20_000 + i;
        let packet = Packet::new()
            .macs(from, to)
            .ipv4(Lab::CLIENT4, Lab::SERVER4)
            .udp(port, 53)
            .fill(usize::from(i) * 10);
        let (count, bytes) = (u64::from(1 + i % 4), packet.ip_packet().len() as u64);
        for _ in 0..count {
            raw.send(&packet.build());
        }
        sent.insert(port.into(), (count, bytes * count, count));
    }

    // The WebSocket: rows by id, as the protocol says a client should keep them.
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    let mut last_seq = snapshot["seq"].as_u64().expect("a sequence number");
    client.wait("every flow with its totals", |message| {
        if message["type"] == "delta" {
            let seq = message["seq"].as_u64().expect("a sequence number");
            assert!(seq >= last_seq, "sequence numbers go forward: {last_seq} then {seq}");
            last_seq = seq;
            for row in message["upsert"].as_array().into_iter().flatten() {
                rows.insert(row["id"].to_string(), row.clone());
            }
            for id in message["remove"].as_array().into_iter().flatten() {
                rows.remove(&id.to_string());
            }
        }
        totals(&rows.values().cloned().collect::<Vec<_>>()) == sent
    });

    // The command line.
    let mut by_cli = Totals::new();
    let same = wait_for("the same from the CLI", SOON, || {
        by_cli = totals(&daemon.flows("proto=udp and dport=53"));
        (by_cli == sent).then_some(())
    });
    assert!(same.is_ok(), "sent {sent:?}\nCLI {by_cli:?}");
    // And as a table for people: each flow's port is in it.
    let table = daemon.cli(&["flows", "proto=udp and dport=53"]);
    assert_eq!(table.code, 0, "{table:?}");
    for port in sent.keys() {
        assert!(table.stdout.contains(&port.to_string()), "port {port} in\n{}", table.stdout);
    }
    assert!(!table.stdout.contains('\u{1b}'), "no colour into a pipe");
}

#[test]
fn drops_are_told_with_their_reason_and_rule() {
    let test = "e2e_clients::drops_are_told_with_their_reason_and_rule";
    let Some((lab, daemon, python)) = setup(test) else { return };
    let mut client = WsClient::start(&lab.gate, python, &daemon.token());
    client.wait("hello", |message| message["type"] == "hello");
    client.send(
        &json!({ "type": "subscribe", "id": "e", "stream": "events", "filter": "verdict=drop" })
            .to_string(),
    );
    client.wait("snapshot", |message| message["type"] == "snapshot");
    udp_exchange(
        &lab.client,
        31_000,
        &format!("{}:99", Lab::SERVER4),
        b"x",
        Duration::from_millis(100),
    )
    .unwrap_err();
    let mut found = Value::Null;
    client.wait("the drop", |message| {
        let events = message["events"].as_array().cloned().unwrap_or_default();
        found = events.into_iter().find(|event| event["sport"] == 31_000).unwrap_or_default();
        !found.is_null()
    });
    for (field, value) in [
        ("class", json!("verdict")),
        ("proto", json!("udp")),
        ("src", json!(Lab::CLIENT4)),
        ("dst", json!(Lab::SERVER4)),
        ("dport", json!(99)),
        ("iface", json!("wan0")),
        ("direction", json!("in")),
        ("reason", json!("default")),
        ("rule", json!("default in")),
    ] {
        assert_eq!(found[field], value, "{field}: {found}");
    }
}

#[test]
fn a_rule_added_by_the_command_line_reaches_subscribers() {
    let test = "e2e_clients::a_rule_added_by_the_command_line_reaches_subscribers";
    let Some((lab, daemon, python)) = setup(test) else { return };
    let mut client = WsClient::start(&lab.gate, python, &daemon.token());
    client.wait("hello", |message| message["type"] == "hello");
    client.send(&json!({ "type": "subscribe", "id": 2, "stream": "rules" }).to_string());
    let names = |message: &Value| -> Vec<String> {
        let rows = message["rows"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let first = client.wait("snapshot", |message| message["type"] == "snapshot");
    assert_eq!(names(&first), ["dns", "web", "default in", "default out"]);
    let added = daemon.cli(&[
        "rule",
        "add",
        "rule late allow in on wan0 tcp to port 2222",
        "--before",
        "web",
    ]);
    assert_eq!(added.code, 0, "{added:?}");
    let second = client.wait("another snapshot", |message| message["type"] == "snapshot");
    assert_eq!(names(&second), ["dns", "late", "web", "default in", "default out"]);
    let file = std::fs::read_to_string(daemon.dir.join("policy.sluice")).unwrap();
    assert!(file.contains("rule late allow"), "written back: {file}");
    // The client changes something itself.
    client.send(
        &json!({ "type": "command", "id": 9, "verb": "rule.delete", "args": { "name": "late" } })
            .to_string(),
    );
    let result = client.wait("result", |message| message["type"] == "result");
    assert_eq!((&result["id"], &result["ok"]), (&json!(9), &json!(true)), "{result}");
    assert_eq!(daemon.json(&["status"])["rules"], 2);
}

#[test]
fn broken_websocket_clients_are_told_and_the_daemon_lives() {
    let test = "e2e_clients::broken_websocket_clients_are_told_and_the_daemon_lives";
    let Some((lab, mut daemon, python)) = setup(test) else { return };
    let token = daemon.token();
    let closed = |message: &Value| message["closed"].is_u64() || message["refused"].is_u64();
    let connect = || {
        let client = WsClient::start(&lab.gate, python, &token);
        client.wait("hello", |message| message["type"] == "hello");
        client
    };
    let refused = WsClient::start(&lab.gate, python, "0000").wait("a refusal", closed);
    assert_eq!(refused["refused"], 401, "a wrong token: {refused}");
    for (what, line, code) in [
        ("a message beyond 64 KiB", "!huge 70000", 1009),
        ("a message of 20 MB", "!huge 20000000", 1009),
        ("a binary message", "!binary", 1003),
        ("broken framing", "!raw 83850000000000", 1002),
        ("text that isn't UTF-8", "!raw 818200000000fffe", 1007),
    ] {
        let mut client = connect();
        client.send(line);
        let end = client.wait(what, closed);
        assert_eq!(end["closed"], code, "{what}: {end}");
    }
    let mut client = connect();
    for (what, line) in [
        ("no JSON", "{\"type\": "),
        ("no object", "[1, 2]"),
        ("an unknown type", "{\"type\": \"dance\"}"),
        ("no stream", "{\"type\": \"subscribe\", \"id\": 1}"),
        ("an unknown stream", "{\"type\": \"subscribe\", \"id\": 1, \"stream\": \"stars\"}"),
        (
            "a bad filter",
            "{\"type\": \"subscribe\", \"id\": 1, \"stream\": \"flows\", \"filter\": \"proto==(\"}",
        ),
    ] {
        client.send(line);
        let error = client.wait(what, |message| message["type"] == "error");
        assert!(error["message"].as_str().is_some_and(|words| words.len() > 5), "{what}: {error}");
    }
    // The same connection still works, and so does the daemon.
    client.send("{\"type\": \"ping\", \"t\": 42}");
    assert_eq!(client.wait("pong", |message| message["type"] == "pong")["t"], 42);
    assert!(daemon.alive());
    assert_eq!(daemon.json(&["status"])["generation"], 1);
}
