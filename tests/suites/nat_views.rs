//! What is told of translation: mappings, accounts and ports, by every way there is, with real traffic through
//! a real gate; and that totals add up to the byte, also after the daemon was killed.

use serde_json::{Value, json};
use sluice_tests::lab::{
    Daemon, DaemonOptions, Lab, TcpEcho, UdpEcho, sluice_bin, udp_exchange, wait_for,
};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
/// The server, and where the gate stands towards it.
const DNS: &str = "10.77.2.2:53";
const WEB: &str = "10.77.2.2:80";
const PUBLIC: &str = "10.77.2.1";
const CLIENT: &str = "10.77.1.2";

const MASQUERADE: &str = "
option timeout udp-new 5s
option timeout udp-established 5s
option timeout udp-stream 5s
default in allow
default out allow
nat lan masquerade on lan0 from 10.77.1.0/24
";

/// What a datagram has around its payload.
const UDP_HEADERS: u64 = 28;

fn gate(policy: &str) -> DaemonOptions {
    DaemonOptions::on(policy, &[("wan0", "tc"), ("lan0", "tc")])
}

fn lab_and_daemon(test: &str, policy: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, gate(policy))?;
    Some((lab, daemon))
}

/// Packets and bytes there and back.
fn totals(row: &Value) -> [u64; 4] {
    ["packets", "bytes", "reply_packets", "reply_bytes"]
        .map(|field| row[field].as_u64().unwrap_or_else(|| panic!("no {field} in {row}")))
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a Value>) -> [u64; 4] {
    rows.into_iter().map(totals).fold([0; 4], |sum, row| {
        [sum[0] + row[0], sum[1] + row[1], sum[2] + row[2], sum[3] + row[3]]
    })
}

/// Answer of the API over TCP, as a program asks.
fn api(daemon: &Daemon, lab: &Lab, path: &str) -> Value {
    let token = daemon.token();
    let mut stream = lab.gate.connect(&format!("127.0.0.1:{}", Daemon::PORT), SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!(
        "GET /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n",
        Daemon::PORT
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// One exchange over UDP; what it must be counted as.
fn exchange(lab: &Lab, sport: u16, payload: usize) -> [u64; 4] {
    udp_exchange(&lab.client, sport, DNS, &vec![7; payload], SOON).unwrap();
    let bytes = payload as u64 + UDP_HEADERS;
    [1, bytes, 1, bytes]
}

/// What the history says of a public endpoint; `at` as its `--at`.
fn who(daemon: &Daemon, endpoint: &str, at: &str) -> Value {
    let who = daemon.json(&["nat", "who", endpoint, "--at", at]);
    who["bindings"][0].clone()
}

/// When the mapping of a public port began, as the history has it while it lives.
fn began(daemon: &Daemon, endpoint: &str) -> String {
    wait_for("the history's row", SOON, || {
        who(daemon, endpoint, "now")["start"].as_str().map(str::to_owned)
    })
    .unwrap()
}

/// The history's row of a mapping that has ended.
fn ended(daemon: &Daemon, endpoint: &str, began: &str) -> Value {
    wait_for("the end in the history", SOON, || {
        let row = who(daemon, endpoint, began);
        (!row["end"].is_null()).then_some(row)
    })
    .unwrap_or_else(|late| {
        panic!("{late}: {endpoint} at {began}: {}", who(daemon, endpoint, began))
    })
}

fn only<'a>(rows: &'a [Value], what: &str) -> &'a Value {
    match rows {
        [row] => row,
        rows => panic!("one {what}: {rows:#?}"),
    }
}

#[test]
fn totals_are_what_was_sent_by_every_way_also_after_a_kill() {
    let test = "nat_views::totals_are_what_was_sent_by_every_way_also_after_a_kill";
    // What begins while nobody runs is to live until the next daemon is up, also on a busy machine.
    let policy = MASQUERADE.replace("5s", "10s");
    let Some((lab, mut daemon)) = lab_and_daemon(test, &policy) else { return };
    let _dns = UdpEcho::start(&lab.server, DNS).unwrap();
    let mut sent = [0; 4];
    let mut beginnings = Vec::new();
    let public = |port: u16| format!("{PUBLIC}:{port}");
    for (sport, payload) in [(5001, 100), (5002, 333), (5003, 1400)] {
        let counted = exchange(&lab, sport, payload);
        sent = [0, 1, 2, 3].map(|i| sent[i] + counted[i]);
        beginnings.push((public(sport), began(&daemon, &public(sport))));
    }
    // Long enough ago for the first to be swept: ended and live are one total.
    let compare = |daemon: &Daemon, sent: [u64; 4]| {
        let rule = daemon.rows(&["nat", "rules"]);
        let host = daemon.rows(&["nat", "hosts"]);
        let (rule, host) = (only(&rule, "rule"), only(&host, "host"));
        assert_eq!((totals(rule), totals(host)), (sent, sent), "{rule} {host}");
        assert_eq!((&rule["name"], &rule["kind"]), (&json!("lan"), &json!("masquerade")));
        assert_eq!(rule["text"], "nat lan masquerade on lan0 from 10.77.1.0/24");
        assert_eq!(host["host"], Lab::CLIENT4);
        for (path, row) in [("nat/rules", rule), ("nat/hosts", host)] {
            assert_eq!(totals(&api(daemon, &lab, path)["rows"][0]), totals(row));
        }
        for row in [rule, host] {
            let live = row["live"].as_u64().expect("a number");
            let ended = row["ended"].as_u64().expect("a number");
            assert_eq!(row["mappings"], live + ended, "{row}");
        }
    };
    let mappings = daemon.rows(&["nat", "mappings", "--sort", "inside"]);
    assert_eq!((mappings.len(), sum(&mappings)), (3, sent), "{mappings:#?}");
    for (row, sport) in mappings.iter().zip([5001, 5002, 5003]) {
        assert_eq!((&row["inside"], &row["inside_port"]), (&json!(Lab::CLIENT4), &json!(sport)));
        assert_eq!((&row["public"], &row["remote"]), (&json!(PUBLIC), &json!("10.77.2.2")));
        assert_eq!((&row["kind"], &row["rule"]), (&json!("masquerade"), &json!("lan")));
        assert_eq!((&row["origin"], &row["remote_inside"]), (&json!("sluice"), &Value::Null));
    }
    let one = daemon.rows(&["nat", "mappings", "public_port=5002 and kind=masquerade"]);
    let id = only(&one, "mapping")["id"].clone();
    let flow = daemon.flows("sport=5002");
    assert_eq!((&flow[0]["id"], totals(&flow[0])), (&id, totals(&one[0])));
    let through_api = api(&daemon, &lab, "nat/mappings?filter=inside_port%3D5002");
    assert_eq!((&through_api["total"], &through_api["rows"][0]["id"]), (&json!(1), &id));
    compare(&daemon, sent);
    // While nobody runs, more is sent: on a mapping that lives, and on a new one.
    daemon.kill9();
    for (sport, payload) in [(5003, 50), (5004, 60)] {
        let counted = exchange(&lab, sport, payload);
        sent = [0, 1, 2, 3].map(|i| sent[i] + counted[i]);
    }
    daemon.start();
    beginnings.push((public(5004), began(&daemon, &public(5004))));
    compare(&daemon, sent);
    // All end; nothing changes but where it is counted.
    wait_for("the flows' ends", Duration::from_secs(30), || {
        let rules = daemon.rows(&["nat", "rules"]);

        assert_eq!(totals(&rules[0]), sent, "no instant in which a flow is counted twice, or not");
        (rules[0]["live"] == 0).then_some(())
    })
    .unwrap();
    compare(&daemon, sent);
    assert_eq!(daemon.rows(&["nat", "mappings"]), Vec::<Value>::new());
    // The history has the same, of what it was told of and what it found.
    let rows: Vec<Value> =
        beginnings.iter().map(|(public, began)| ended(&daemon, public, began)).collect();
    assert_eq!(sum(&rows), sent, "{rows:#?}");
    let told = |row: &Value| row["kind"] == "masquerade" && row["rule"] == "lan";
    assert!(rows.iter().all(told), "{rows:#?}");
}

#[test]
fn destinations_are_seen_from_the_server_inside() {
    let test = "nat_views::destinations_are_seen_from_the_server_inside";
    let policy = "default in allow\ndefault out allow\n\
        nat web destination on wan0 tcp to 10.77.1.1 port 8080 => 10.77.2.2 port 80\n";
    let Some((lab, daemon)) = lab_and_daemon(test, policy) else { return };
    let _web = TcpEcho::start(&lab.server, WEB).unwrap();
    let mut stream = lab.client.connect("10.77.1.1:8080", SOON).unwrap();
    stream.write_all(b"through the door").unwrap();
    let mut back = [0; 16];
    stream.read_exact(&mut back).unwrap();
    let rows = daemon.rows(&["nat", "mappings"]);
    let row = only(&rows, "mapping");
    let ends: Vec<String> = ["inside", "public", "remote_inside"]
        .iter()
        .map(|end| {
            let port = &row[format!("{end}_port")];
            format!("{}:{port}", row[*end].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(ends, ["10.77.2.2:80", "10.77.1.1:8080", "10.77.2.2:80"], "{row}");
    assert_eq!((&row["kind"], &row["remote"]), (&json!("destination"), &json!(Lab::CLIENT4)));
    let start = began(&daemon, "10.77.1.1:8080");
    let live = who(&daemon, "10.77.1.1:8080", &start);
    assert_eq!(live["kind"], "destination", "{live}");
    assert_eq!(totals(&live), totals(&daemon.rows(&["nat", "hosts"])[0]));
    // Killed by an operator: the history has the flow's own last word.
    let killed = daemon.json(&["flow", "kill", "dport=8080"]);
    let last = totals(&killed["rows"][0]);
    let end = ended(&daemon, "10.77.1.1:8080", &start);
    assert_eq!(end["ended"], "killed", "{end}");
    assert_eq!(totals(&end), last);
    assert_eq!(totals(&daemon.rows(&["nat", "rules"])[0]), last);
}

#[test]
fn a_flow_that_a_policy_cuts_ends_in_the_history_with_its_totals() {
    let test = "nat_views::a_flow_that_a_policy_cuts_ends_in_the_history_with_its_totals";
    let Some((lab, daemon)) = lab_and_daemon(test, MASQUERADE.trim_start()) else { return };
    let _dns = UdpEcho::start(&lab.server, DNS).unwrap();
    let sent = exchange(&lab, 5100, 77);
    let public = format!("{PUBLIC}:5100");
    let start = began(&daemon, &public);
    daemon.apply(
        "default in allow\ndefault out allow\n\
         nat lan masquerade on lan0 from 10.77.1.0/24\nrule no drop in udp to port 53\n",
    );
    let refused = udp_exchange(&lab.client, 5100, DNS, &[1; 9], Duration::from_millis(300));
    assert!(refused.is_err(), "the new policy lets nothing through");
    let row = ended(&daemon, &public, &start);
    assert_eq!((totals(&row), &row["ended"]), (sent, &json!("policy-changed")), "{row}");
    assert_eq!(totals(&daemon.rows(&["nat", "rules"])[0]), sent);
}

#[test]
fn ports_that_run_out_are_counted_shown_and_said_once() {
    let test = "nat_views::ports_that_run_out_are_counted_shown_and_said_once";
    let policy = "default in allow\ndefault out allow\n\
        nat lan source on lan0 from 10.77.1.0/24 => 10.77.2.1 ports 40000-40003\n";
    let Some((lab, daemon)) = lab_and_daemon(test, policy) else { return };
    let _dns = UdpEcho::start(&lab.server, DNS).unwrap();
    for sport in 6000..6004 {
        exchange(&lab, sport, 10);
    }
    let refuse = |sport| {
        let wait = Duration::from_millis(200);
        assert!(udp_exchange(&lab.client, sport, DNS, &[1; 10], wait).is_err(), "{sport}");
    };
    (6004..6007).for_each(refuse);
    let alarm = wait_for("the alarm", SOON, || {
        let alarms = daemon.json(&["status"])["alarms"].clone();
        (alarms[0]["code"] == "nat-ports-exhausted").then(|| alarms[0].clone())
    })
    .unwrap();
    assert_eq!(alarm["severity"], "error");
    let text = alarm["text"].as_str().expect("a text");
    assert!(text.contains("udp ports of 10.77.2.1") && text.contains("refused"), "{text}");
    // Ports are counted every other second.
    let pool = wait_for("the count of ports", SOON, || {
        let pools = daemon.rows(&["nat", "pools"]);
        (pools[0]["in_use"] == 4).then(|| pools[0].clone())
    })
    .unwrap();
    for (field, value) in [
        ("address", json!("10.77.2.1")),
        ("interface", Value::Null),
        ("rules", json!(["lan"])),
        ("proto", json!("udp")),
        ("ports", json!(4)),
        ("peak", json!(4)),
        ("made", json!(4)),
        ("failures", json!(3)),
        ("used_percent", json!(100.0)),
    ] {
        assert_eq!(pool[field], value, "{field} of {pool}");
    }
    let stats = daemon.json(&["stats"]);
    assert_eq!(stats["nat"], json!({"mappings_live": 4, "failures": 3, "exhausted_pools": 1}));
    assert_eq!(daemon.rows(&["nat", "rules"])[0]["failures"], 3);
    assert_eq!(daemon.reason("nat-exhausted"), 3);
    refuse(6008);
    wait_for("the end of the alarm", Duration::from_secs(20), || {
        (daemon.json(&["status"])["alarms"] == json!([])).then_some(())
    })
    .unwrap();
    let log = daemon.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("no port is left")).collect();
    assert_eq!(said.len(), 2, "once when it began, once when it was over: {said:#?}");
    assert!(said[0].contains("WARN") && said[1].contains("over: "), "{said:#?}");
    assert!(said[1].contains("4 mappings refused"), "{said:#?}");
}

#[test]
fn a_full_table_is_an_alarm() {
    let test = "nat_views::a_full_table_is_an_alarm";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(bin) = sluice_bin() else {
        return sluice_tests::skip::skip(test, "SLUICE_BIN isn't set (run `cargo xtask test`)");
    };
    let policy = "default in allow\ndefault out allow\n";
    let mut daemon = Daemon::prepare(&lab.gate, &bin, gate(policy)).unwrap();
    std::fs::write(daemon.dir.join("sluice.toml"), "max_flows = 64\n").unwrap();
    daemon.start();
    assert_eq!(daemon.json(&["stats"])["table"]["pressure"], "ok");
    let socket = lab.client.run(|| UdpSocket::bind("10.77.1.2:0")).unwrap();
    for port in 1000..1300 {
        socket.send_to(b"knock", ("10.77.2.2", port)).unwrap();
    }
    let table = wait_for("a full table", SOON, || {
        let table = daemon.json(&["stats"])["table"].clone();
        (table["pressure"] == "full" && table["used_percent"].as_f64() > Some(50.0))
            .then_some(table)
    })
    .unwrap();
    assert!(table["refused"].as_u64() > Some(100), "{table}");
    assert_eq!(table["half_open"], table["flows"], "{table}");
    let alarms = daemon.json(&["status"])["alarms"].clone();
    assert_eq!(
        (&alarms[0]["code"], &alarms[0]["severity"]),
        (&json!("flow-table-pressure"), &json!("error"))
    );
    let shown = daemon.cli(&["status"]);
    assert!(shown.stdout.contains("the flow table has no room"), "{}", shown.stdout);
    assert!(daemon.log().contains("the flow table has no room"), "{}", daemon.log());
}

#[test]
fn a_masquerade_follows_the_interfaces_address() {
    let test = "nat_views::a_masquerade_follows_the_interfaces_address";
    let Some((lab, daemon)) = lab_and_daemon(test, MASQUERADE) else { return };
    let _dns = UdpEcho::start(&lab.server, DNS).unwrap();
    exchange(&lab, 5001, 10);
    let public = |sport: u16| {
        let rows = daemon.rows(&["nat", "mappings", &format!("inside_port={sport}")]);
        rows.first().map(|row| row["public"].clone())
    };
    assert_eq!(public(5001), Some(json!(PUBLIC)));
    lab.gate.ip(&["address", "del", "10.77.2.1/24", "dev", "lan0"]).unwrap();
    lab.gate.ip(&["address", "add", "10.77.2.9/24", "dev", "lan0"]).unwrap();
    let changed = Instant::now();
    wait_for("word of the change", SOON, || {
        daemon.log().contains("lan0 has 10.77.2.9 and an MTU of 1500 now").then_some(())
    })
    .unwrap();
    assert!(changed.elapsed() < Duration::from_millis(900), "the kernel says so: nobody waits");
    exchange(&lab, 5002, 10);
    assert_eq!(public(5002), Some(json!("10.77.2.9")));
    let pools = daemon.rows(&["nat", "pools"]);
    let pool = only(&pools, "pool");
    assert_eq!((&pool["address"], &pool["interface"]), (&json!("10.77.2.9"), &json!("lan0")));
    lab.gate.ip(&["link", "set", "lan0", "mtu", "1400"]).unwrap();
    wait_for("word of the MTU", SOON, || {
        daemon.log().contains("lan0 has 10.77.2.9 and an MTU of 1400 now").then_some(())
    })
    .unwrap();
}

#[test]
fn netfilters_translations_are_shown_and_written_down() {
    let test = "nat_views::netfilters_translations_are_shown_and_written_down";
    let Some(lab) = Lab::or_skip(test) else { return };
    lab.gate
        .exec(
            "nft",
            &["add table ip t; add chain ip t post { type nat hook postrouting priority srcnat; }; \
               add rule ip t post oifname lan0 masquerade"],
        )
        .unwrap();
    lab.gate.sysctl("netfilter/nf_conntrack_acct", "1").unwrap();
    lab.gate.sysctl("netfilter/nf_conntrack_timestamp", "1").unwrap();
    let policy = "default in allow\ndefault out allow\n";
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, gate(policy)) else { return };
    let _dns = UdpEcho::start(&lab.server, DNS).unwrap();
    let sent = exchange(&lab, 7001, 40);
    let rows = daemon.rows(&["nat", "mappings", "origin=netfilter and inside_port=7001"]);
    let row = only(&rows, "mapping");
    assert_eq!((&row["inside"], &row["public"]), (&json!(Lab::CLIENT4), &json!(PUBLIC)));
    assert_eq!((&row["kind"], &row["rule"], totals(row)), (&json!("source"), &Value::Null, sent));
    let public = |port: u16| format!("{PUBLIC}:{port}");
    let start = began(&daemon, &public(7001));
    let written = who(&daemon, &public(7001), &start);
    assert_eq!((&written["host"], &written["origin"]), (&json!(Lab::CLIENT4), &json!("netfilter")));
    // One that ends is completed with its totals; one that ends while nobody looks, at the next start.
    exchange(&lab, 7002, 40);
    let other = began(&daemon, &public(7002));
    lab.gate.exec("conntrack", &["-D", "-p", "udp", "--orig-port-src", "7001"]).unwrap();
    let ended_row = ended(&daemon, &public(7001), &start);
    assert_eq!((totals(&ended_row), &ended_row["ended"]), (sent, &json!("ended")));
    daemon.terminate();
    lab.gate.exec("conntrack", &["-D", "-p", "udp", "--orig-port-src", "7002"]).unwrap();
    daemon.start();
    assert_eq!(ended(&daemon, &public(7002), &other)["ended"], "unseen");
}

#[test]
fn all_flows_come_as_a_stream() {
    let test = "nat_views::all_flows_come_as_a_stream";
    let Some((lab, daemon)) = lab_and_daemon(test, "default in allow\ndefault out allow\n") else {
        return;
    };
    let socket = lab.client.run(|| UdpSocket::bind("10.77.1.2:0")).unwrap();
    for port in 1000..3000 {
        socket.send_to(b"knock", ("10.77.2.2", port)).unwrap();
        if port % 100 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let ids = |rows: Vec<Value>| {
        let mut ids: Vec<String> =
            rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    let filter = "dport in (1000-2999)";
    let listed = ids(daemon.rows(&["flows", filter, "--limit", "50000"]));
    assert_eq!(listed.len(), 2000);
    assert_eq!(ids(daemon.rows(&["flows", filter, "--limit", "2000000"])), listed);
    let streamed = daemon.rows(&["flows", filter, "--sort", "none", "--limit", "150"]);
    assert_eq!(streamed.len(), 150);
    let mut one = daemon.rows(&["flows", "dport=1500", "--sort", "none", "--limit", "2000000"]);
    let mut same = daemon.rows(&["flows", "dport=1500"]);
    for row in one.iter_mut().chain(&mut same) {
        for moving in ["age_ms", "idle_ms", "timeout_ms"] {
            row[moving] = Value::Null;
        }
    }
    assert_eq!(one, same, "a row is the same whichever way it comes");
    let refused = daemon.cli(&["--json", "flows", "colour=red", "--limit", "2000000"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (3, ""), "{refused:?}");
    assert!(refused.stderr.contains("bad-filter"), "{refused:?}");
}

/// Also where the packet that an event is about had other ends at its hook.
#[test]
fn events_have_their_flows_own_ends_and_its_translation() {
    let test = "nat_views::events_have_their_flows_own_ends_and_its_translation";
    let Some((lab, daemon)) = lab_and_daemon(test, MASQUERADE) else { return };
    let _web = TcpEcho::start(&lab.server, WEB).unwrap();
    let _dns = UdpEcho::start(&lab.server, DNS).unwrap();
    exchange(&lab, 5001, 10);
    // The server has the last word.
    let mut stream = lab.client.connect(WEB, SOON).unwrap();
    stream.write_all(b"x").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let by_class = |class: &str| {
        let events = api(&daemon, &lab, &format!("events?filter=class%3D{class}+and+nat%3Dtrue"));
        events["rows"].as_array().cloned().unwrap_or_default()
    };
    let mut seen = Vec::new();
    let told = wait_for("both established, one closed", SOON, || {
        seen = ["nat", "established", "closed"].map(by_class).concat();
        (seen.len() == 5).then_some(())
    });
    assert!(told.is_ok(), "{seen:#?}");
    for event in &seen {
        assert_eq!(
            (&event["src"], &event["nat"]["src"]),
            (&json!(CLIENT), &json!(PUBLIC)),
            "{event}"
        );
        assert_eq!((&event["nat"]["rule"], &event["dst"]), (&json!("lan"), &event["nat"]["dst"]));
        assert_eq!(event["dport"], event["nat"]["dport"], "{event}");
    }
    assert_eq!(
        daemon
            .rows(&["watch", "--recent", "9", "--count", "1", "nat_src=10.77.2.1 and class=closed"])
            .len(),
        1
    );
}
