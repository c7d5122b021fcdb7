//! Who was it? And what is translated now.

use super::support::{Socket, call};
use crate::{
    daemon::{
        history::{NatChange, record},
        testing::{Kernel, TestDaemon, directory},
    },
    monitor::{FlowRecord, NatAccount, NatReading, NatSum, NatTuple, PortFigures},
    server::client::{Client, ClientError},
    store::{Binding, BindingKind, Endpoint, Origin, Totals},
    view::{FlowView, NatWhoView, StatusView},
};
use firewall_common::abi::flow::bits;
use hyper::Method;
use serde_json::{Value, json};

const POLICY: &str = "default in allow\n";

fn mapping(id: u64, host: &str, start_ms: i64) -> Binding {
    let end = |address: &str, port| Endpoint::new(address.parse().expect("an address"), port);
    Binding {
        id,
        origin: Origin::Sluice,
        kind: BindingKind::Masquerade,
        proto: 17,
        src: end(host, 5000),
        dst: end("198.51.100.7", 53),
        to_src: end("203.0.113.5", 40021),
        to_dst: end("198.51.100.7", 53),
        rule: "lan".into(),
        start_ms,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_the_port_is_answered_at_once_and_for_any_time() {
    // A flow that the kernel still has: its totals are in the table.
    let dir = directory();
    std::fs::write(dir.join("policy"), POLICY).expect("written");
    let mut kernel = Kernel::default();
    kernel.flows.push(Kernel::flow(7, 12));
    let daemon = TestDaemon::start_on(&dir, kernel, crate::server::ws::Patience::default())
        .await
        .expect("started");
    let totals = Totals { packets: 3, bytes: 300, reply_packets: 2, reply_bytes: 2_000 };
    let now = crate::store::now_ms();
    let ended = NatChange::Ended {
        origin: Origin::Sluice,
        id: 5,
        totals,
        reason: "timed-out",
        at_ms: now - 60_000,
    };
    record(
        Some(&daemon.history),
        [
            NatChange::Began(mapping(5, "10.0.0.1", now - 120_000)),
            ended,
            NatChange::Began(mapping(7, "10.0.0.2", now - 50_000)),
        ],
    );
    let client = Client::new(daemon.dir.join("sock"));
    let ask = async |more: &str| -> NatWhoView {
        let path = format!("/api/v1/nat/who?address=203.0.113.5&port=40021{more}");
        client.get(&path).await.expect("an answer")
    };
    let answer = ask("").await;
    assert_eq!(answer.bindings.len(), 1);
    let live = &answer.bindings[0];
    assert_eq!(
        (live.host.as_str(), live.end.as_ref(), live.rule.as_str()),
        ("10.0.0.2", None, "lan")
    );
    assert_eq!((live.packets, live.bytes), (12, 1200));

    let answer = ask("&at=90s%20ago&proto=udp").await;
    assert_eq!(answer.bindings.len(), 1);
    let past = &answer.bindings[0];
    assert_eq!((past.host.as_str(), past.ended.as_deref()), ("10.0.0.1", Some("timed-out")));
    assert_eq!(
        (past.packets, past.bytes, past.reply_packets, past.reply_bytes),
        (3, 300, 2, 2_000)
    );
    assert_eq!((past.id.as_str(), past.kind.as_str()), ("0000000000000005", "masquerade"));
    assert_eq!(ask("&at=90s%20ago&proto=6").await.bindings, []);
    assert_eq!(ask("&at=55s%20ago").await.bindings, []);

    let status: StatusView = client.get("/api/v1/status").await.expect("a status");
    let history = status.history.expect("one is kept");
    assert_eq!((history.written, history.completed, history.lost), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_make_no_sense_are_answered_with_what_would() {
    let daemon = TestDaemon::start(POLICY).await;
    for (query, words) in [
        ("", ["`address` is missing", "203.0.113.5"]),
        ("address=203.0.113.5:80", ["`203.0.113.5:80`", "a parameter of its own"]),
        ("address=::1&port=70000", ["`port` is `70000`", "65535"]),
        ("address=::1&port=http", ["`port` is `http`", "65535"]),
        ("address=::1&proto=gre", ["`proto` is `gre`", "icmpv6"]),
        ("address=::1&at=yesterday", ["`at` is `yesterday`, column 1", "RFC 3339"]),
        ("address=::1&when=now", ["when", "expected"]),
    ] {
        let answer = call(&daemon, Method::GET, &format!("/api/v1/nat/who?{query}"), None).await;
        let message = answer.body["error"]["message"].as_str().expect("a message");
        assert_eq!(answer.body["error"]["code"], json!("bad-request"), "{query}");
        for word in words {
            assert!(message.contains(word), "{query}: `{word}` is missing in: {message}");
        }
    }
}

/// A flow whose source is `10.0.0.1`, translated by the rule in `slot`.
fn translated(id: u64, packets: u64, slot: u32) -> FlowRecord {
    let mut flow = Kernel::flow(id, packets);
    let (src, dst) = ([203, 0, 113, 5], [10, 0, 0, 2]);
    flow.nat = Some(NatTuple { src, sport: 40_000 + id as u16, dst, dport: 80, rule: slot });
    flow.flow.bits |= bits::NAT_SOURCE;
    flow
}

#[tokio::test(flavor = "multi_thread")]
async fn translations_are_told_by_http_and_websocket_alike() {
    let daemon = TestDaemon::start("default in allow\nnat lan masquerade on wan0\n").await;
    let slot = daemon.kernel().slots.rule("lan").expect("it has counters");
    let account =
        |mappings, bytes| NatAccount { mappings, ended: 1, failures: 2, totals: [1, bytes, 3, 4] };
    let sum = |mappings, bytes| NatSum { account: account(mappings, bytes), live: mappings - 1 };
    {
        let mut kernel = daemon.kernel();
        kernel.flows = (1..=4).map(|id| translated(id, 10 * id, slot)).collect();
        kernel.flows.push(Kernel::flow(9, 1));
        kernel.nat = NatReading {
            rules: vec![(slot, sum(5, 100))],
            hosts: vec![(Some([10, 0, 0, 1]), sum(3, 40)), (None, sum(2, 60))],
        };
        let ports = PortFigures { index: 3, in_use: 4, made: 5, ..PortFigures::default() };
        kernel.counters.table.ports = vec![ports];
        kernel.counters.table.addresses = vec![(1, [203, 0, 113, 5])];
    }
    let mut socket = Socket::open(&daemon).await;
    let mut ask = async |verb: &str, args: Value, query: &str| -> Value {
        socket.say(json!({"type": "command", "id": 1, "verb": verb, "args": args})).await;
        let answer = socket.hear_type("result").await;
        assert_eq!(answer["ok"], json!(true), "{answer}");
        let path = format!("/api/v1/{}{query}", verb.replace('.', "/"));
        let http = call(&daemon, Method::GET, &path, None).await;
        assert_eq!(http.body, answer["data"], "{path}");
        http.body
    };
    let filter = "public_port in (40002-40003)";
    let rows = ask(
        "nat.mappings",
        json!({"filter": filter, "sort": "-packets", "limit": 1}),
        "?filter=public_port%20in%20(40002-40003)&sort=-packets&limit=1",
    )
    .await;
    assert_eq!((&rows["total"], rows["rows"].as_array().map(Vec::len)), (&json!(2), Some(1)));
    let row = &rows["rows"][0];
    assert_eq!((&row["packets"], &row["rule"]), (&json!(20), &json!("lan")));
    assert_eq!((&row["kind"], &row["inside"]), (&json!("masquerade"), &json!("10.0.0.1")));

    let rows = ask("nat.rules", Value::Null, "").await;
    let row = &rows["rows"][0];
    assert_eq!((&row["text"], &row["live"]), (&json!("nat lan masquerade on wan0"), &json!(4)));
    assert_eq!((&row["bytes"], &row["failures"]), (&json!(100), &json!(2)));

    let rows = ask("nat.hosts", json!({"limit": 1}), "?limit=1").await;
    assert_eq!((&rows["total"], &rows["rows"][0]["host"]), (&json!(2), &json!("other")));
    let rows = ask("nat.hosts", json!({"sort": "host"}), "?sort=host").await;
    assert_eq!(rows["rows"][0]["host"], json!("10.0.0.1"));

    let rows = ask("nat.pools", Value::Null, "").await;
    let row = &rows["rows"][0];
    assert_eq!((&row["address"], &row["proto"]), (&json!("203.0.113.5"), &json!("tcp")));
    assert_eq!((&row["ports"], &row["rules"]), (&json!(64_512), &json!(["lan"])));

    for (path, words) in [
        ("nat/mappings?filter=sport%3D5", "a field of mappings"),
        ("nat/mappings?sort=colour", "bytes, packets, began"),
        ("nat/mappings?after=5", "doesn't take `after`"),
        ("nat/hosts?filter=host%3D1", "doesn't take `filter`"),
        ("nat/rules?limit=5", "limit"),
    ] {
        let answer = call(&daemon, Method::GET, &format!("/api/v1/{path}"), None).await;
        let message = answer.body["error"]["message"].as_str().expect("refused");
        assert!(message.contains(words), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_come_as_a_stream_to_whoever_asks_for_one() {
    let daemon = TestDaemon::start(POLICY).await;
    daemon.kernel().flows = (1..=5000).map(|id| Kernel::flow(id, id)).collect();
    let client = Client::new(daemon.dir.join("sock"));
    let stream = async |path: &str| -> Result<Vec<FlowView>, ClientError> {
        let mut text = Vec::new();
        let take = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok::<_, ClientError>(())
        };
        client.rows(path, take).await?;
        let rows = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(rows.map(|line| serde_json::from_slice(line).expect("a row")).collect())
    };
    let mut rows = stream("/api/v1/flows").await.expect("streamed");
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(rows.len(), 5000);
    assert!(rows.iter().zip(1..).all(|(row, packets)| row.packets == packets));
    let few = stream("/api/v1/flows?filter=packets%3E4000&limit=7").await.expect("streamed");
    assert!(few.len() == 7 && few.iter().all(|row| row.packets > 4000));
    for refused in ["/api/v1/flows?sort=bytes", "/api/v1/flows?filter=colour%3Dred"] {
        assert!(matches!(stream(refused).await, Err(ClientError::Refused(_))), "{refused}");
    }
    // Whoever goes away in the middle holds nobody up.
    let gone = client.rows("/api/v1/flows", |_| Err(ClientError::Broken("enough".into()))).await;
    assert!(gone.is_err());
    assert_eq!(stream("/api/v1/flows?limit=3").await.expect("streamed").len(), 3);
}
