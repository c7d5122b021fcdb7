//! The WebSocket as it is meant: subscribe, follow, resume, command.

use super::support::Socket;
use crate::daemon::testing::{Kernel, TestDaemon};
use firewall_common::abi::{counter::RuleCounter, event::Class, table::SLOT_FIRST};
use serde_json::{Value, json};

fn ports(rows: &Value) -> Vec<u64> {
    rows.as_array()
        .expect("rows")
        .iter()
        .map(|row| row["sport"].as_u64().expect("a port"))
        .collect()
}

/// Reads deltas until `n` events have come; their source ports, and the last `seq`.
async fn follow(socket: &mut Socket, n: usize) -> (Vec<u64>, u64) {
    let (mut seen, mut seq) = (Vec::new(), 0);
    while seen.len() < n {
        let delta = socket.hear_type("delta").await;
        seen.extend(ports(&delta["events"]));
        seq = delta["seq"].as_u64().expect("a number");
    }
    (seen, seq)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_and_filtered() {
    let daemon = TestDaemon::start("").await;
    daemon.kernel().verdicts(5);
    let mut socket = Socket::open(&daemon).await;
    // Until the first turn has taken them in.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let all = socket.subscribe(1, "events", json!({})).await;
    assert_eq!((&all["type"], ports(&all["rows"])), (&json!("snapshot"), vec![0, 1, 2, 3, 4]));
    assert_eq!((&all["seq"], &all["epoch"]), (&json!(5), &json!(daemon.epoch)));
    let mut some = Socket::open(&daemon).await;
    let snapshot = some.subscribe(2, "events", json!({"filter": "sport >= 7"})).await;
    assert_eq!(snapshot["rows"], json!([]));
    daemon.kernel().verdicts(5);
    assert_eq!(follow(&mut socket, 5).await, (vec![5, 6, 7, 8, 9], 10));
    assert_eq!(follow(&mut some, 3).await, (vec![7, 8, 9], 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_goes_on_where_he_was() {
    let daemon = TestDaemon::start("").await;
    let mut socket = Socket::open(&daemon).await;
    socket.subscribe(1, "events", json!({})).await;
    daemon.kernel().verdicts(3);
    let (_, seq) = follow(&mut socket, 3).await;
    drop(socket);
    daemon.kernel().verdicts(4);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let mut socket = Socket::open(&daemon).await;
    let resume = json!({"resume": {"epoch": daemon.epoch, "seq": seq}});
    let delta = socket.subscribe(1, "events", resume).await;
    assert_eq!(
        (&delta["type"], ports(&delta["events"]), &delta["seq"]),
        (&json!("delta"), vec![3, 4, 5, 6], &json!(7))
    );
    // Nothing happened in between: an empty delta says so.
    let resume = json!({"resume": {"epoch": daemon.epoch, "seq": 7}});
    let delta = socket.subscribe(2, "events", resume).await;
    assert_eq!((&delta["type"], &delta["events"]), (&json!("delta"), &json!([])));

    for (id, stream, resume, reason) in [
        (3, "events", json!({"epoch": "another", "seq": 1}), "epoch"),
        (4, "events", json!({"epoch": daemon.epoch, "seq": 99}), "too-old"),
        (5, "flows", json!({"epoch": "another", "seq": 0}), "epoch"),
        (6, "flows", json!({"epoch": daemon.epoch, "seq": 99_999}), "too-old"),
    ] {
        let reset = socket.subscribe(id, stream, json!({"resume": resume})).await;
        assert_eq!((&reset["type"], &reset["reason"]), (&json!("reset"), &json!(reason)));
        assert_eq!(socket.hear_type("snapshot").await["id"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ring_lost_is_told_with_its_numbers() {
    let daemon = TestDaemon::start("").await;
    let mut socket = Socket::open(&daemon).await;
    socket.subscribe(1, "events", json!({})).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    {
        let mut kernel = daemon.kernel();
        kernel.verdicts(2);
        kernel.lose(Class::Verdict, 3);
        kernel.verdicts(1);
    }
    let lost = socket.hear_type("lost").await;
    assert_eq!(
        (&lost["class"], &lost["from"], &lost["to"], &lost["n"]),
        (&json!("verdict"), &json!(2), &json!(4), &json!(3))
    );
    let mut stats = Socket::open(&daemon).await;
    let mut row = stats.subscribe(1, "stats", json!({})).await["rows"][0].clone();
    while row["events"][3]["produced"] != 6 {
        row = stats.hear_type("delta").await["upsert"][0].clone();
    }
    assert_eq!((&row["events"][3]["delivered"], &row["events"][3]["lost"]), (&json!(3), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_appear_grow_leave_the_filter_and_end() {
    let daemon = TestDaemon::start("").await;
    daemon.kernel().flows = vec![Kernel::flow(1, 10), Kernel::flow(2, 20)];
    let mut socket = Socket::open(&daemon).await;
    let first = socket.subscribe(1, "flows", json!({"filter": "packets < 50"})).await;
    let mut known = first["rows"].as_array().expect("rows").len();
    while known < 2 {
        known += socket.hear_type("delta").await["upsert"].as_array().expect("rows").len();
    }
    daemon.kernel().flows = vec![Kernel::flow(1, 11), Kernel::flow(2, 60), Kernel::flow(3, 100)];
    let delta = socket.hear_type("delta").await;
    let upsert = delta["upsert"].as_array().expect("rows");
    assert_eq!((upsert.len(), &upsert[0]["packets"]), (1, &json!(11)));
    assert_eq!(
        delta["remove"],
        json!(["0000000000000002"]),
        "it matches no more; flow 3 never did"
    );
    {
        let mut kernel = daemon.kernel();
        kernel.flows = vec![];
        kernel.expired = vec![Kernel::flow(1, 12)];
    }
    let ended = &socket.hear_type("delta").await["upsert"][0];
    assert_eq!((&ended["ended"], &ended["packets"]), (&json!("timed-out"), &json!(12)));
    daemon.kernel().now_ms = 60_000;
    assert_eq!(socket.hear_type("delta").await["remove"], json!(["0000000000000001"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_count_and_a_new_policy_is_a_new_snapshot() {
    let daemon = TestDaemon::start("rule web allow in tcp to port 80\n").await;
    let mut socket = Socket::open(&daemon).await;
    let rules = socket.subscribe("rules".len() as u32, "rules", json!({})).await;
    assert_eq!((&rules["generation"], &rules["rows"][0]["name"]), (&json!(1), &json!("web")));
    daemon.kernel().counters.rules =
        vec![(SLOT_FIRST, RuleCounter { hits: 1, packets: 7, bytes: 700, last: 5 })];
    let delta = socket.hear_type("delta").await;
    assert_eq!(
        (&delta["upsert"][0]["name"], &delta["upsert"][0]["packets"]),
        (&json!("web"), &json!(7))
    );

    let add =
        json!({"text": "rule dns drop in udp to port 53", "before": "web", "base_generation": 1});
    socket.say(json!({"type": "command", "id": "c", "verb": "rule.add", "args": add})).await;
    let (mut result, mut snapshot) = (Value::Null, Value::Null);
    while result.is_null() || snapshot.is_null() {
        let message = socket.hear().await;
        match message["type"].as_str() {
            Some("result") => result = message,
            Some("snapshot") => snapshot = message,
            _ => {}
        }
    }
    assert_eq!(
        (&result["id"], &result["ok"], &result["data"]["generation"]),
        (&json!("c"), &json!(true), &json!(2))
    );
    assert_eq!(snapshot["generation"], 2);
    assert_eq!(
        (&snapshot["rows"][0]["name"], &snapshot["rows"][1]["packets"]),
        (&json!("dns"), &json!(7))
    );

    let late = json!({"name": "dns", "base_generation": 1});
    socket.say(json!({"type": "command", "id": 9, "verb": "rule.delete", "args": late})).await;
    let result = socket.hear_type("result").await;
    assert_eq!(
        (&result["ok"], &result["error"]["code"]),
        (&json!(false), &json!("generation-conflict"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_answers_over_the_socket() {
    let daemon = TestDaemon::start("rule web allow in tcp to port 80\n").await;
    let mut socket = Socket::open(&daemon).await;
    for (verb, args, field) in [
        ("status", json!(null), "epoch"),
        ("stats", json!({}), "reasons"),
        ("rules", json!({"filter": "name = web"}), "rows"),
        ("flows", json!({"limit": 1, "sort": "-bytes"}), "total"),
        ("events", json!({"after": 0}), "seq"),
        ("policy", json!({}), "text"),
        ("policy.check", json!({"text": ""}), "warnings"),
        ("policy.apply", json!({"text": "", "dry_run": true}), "changes"),
        ("rule.move", json!({"name": "web", "position": 1}), "generation"),
        ("rule.disable", json!({"name": "web"}), "generation"),
        ("rule.enable", json!({"name": "web"}), "generation"),
        ("rule.delete", json!({"name": "web"}), "generation"),
        ("counters.reset", json!({}), "ok"),
        ("nat.who", json!({"address": "203.0.113.5", "port": 40021}), "since"),
    ] {
        socket.say(json!({"type": "command", "id": 1, "verb": verb, "args": args})).await;
        let result = socket.hear_type("result").await;
        assert_eq!(result["ok"], true, "{verb}: {result}");
        assert!(!result["data"][field].is_null(), "{verb}: {result}");
    }
}
