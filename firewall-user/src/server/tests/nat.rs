//! Who was it?

use super::support::call;
use crate::{
    daemon::{
        history::{NatChange, record},
        testing::{Kernel, TestDaemon, directory},
    },
    server::client::Client,
    store::{Binding, BindingKind, Endpoint, Origin, Totals},
    view::{NatWhoView, StatusView},
};
use hyper::Method;
use serde_json::json;

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
