//! Clients that send nonsense, nothing, or never read; and that others don't notice.

use super::support::{SOON, Socket, bearer, call};
use crate::{
    daemon::testing::TestDaemon,
    server::ws::{MAX_MESSAGE, Patience},
};
use futures_util::{SinkExt, StreamExt};
use hyper::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

async fn alive(daemon: &TestDaemon) {
    assert_eq!(call(daemon, Method::GET, "/api/v1/status", None).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_and_after_a_while_closed() {
    let daemon = TestDaemon::start("").await;
    let mut socket = Socket::open(&daemon).await;
    for (message, word) in [
        (json!({"type": "shout"}), "shout"),
        (json!({"type": "subscribe", "id": 1, "stream": "packets"}), "packets"),
        (
            json!({"type": "subscribe", "id": 1, "stream": "flows", "filter": "colour = red"}),
            "colour",
        ),
        (
            json!({"type": "subscribe", "id": 1, "stream": "stats", "filter": "port = 1"}),
            "no filter",
        ),
        (json!({"type": "unsubscribe", "id": 77}), "no such subscription"),
        (json!([1, 2]), "not understood"),
    ] {
        socket.say(message.clone()).await;
        let error = socket.hear_type("error").await;
        let text = error["message"].as_str().expect("a message");
        assert!(text.contains(word), "{message}: {error}");
    }
    socket.say(json!({"type": "command", "id": 1, "verb": "explode"})).await;
    assert_eq!(socket.hear_type("result").await["error"]["code"], "bad-request");
    socket.subscribe(5, "rules", json!({})).await;
    let twice = socket.subscribe(5, "flows", json!({})).await;
    assert!(twice["message"].as_str().is_some_and(|text| text.contains("taken")), "{twice}");
    socket.say(json!({"type": "unsubscribe", "id": 5})).await;
    assert_eq!(socket.hear_type("unsubscribed").await["id"], 5);
    socket.say(json!({"type": "ping", "t": 123})).await;
    assert_eq!(socket.hear_type("pong").await["t"], 123);
    for _ in 0..20 {
        let _ = socket.0.send(Message::Text("{".into())).await;
    }
    assert_eq!(socket.closed().await, 4004);
    alive(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_may_send_has_its_close_code() {
    let daemon = TestDaemon::start("").await;
    let mut socket = Socket::open(&daemon).await;
    let _ = socket.0.send(Message::Text("x".repeat(MAX_MESSAGE + 1).into())).await;
    assert_eq!(socket.closed().await, 1009);
    let mut socket = Socket::open(&daemon).await;
    let _ = socket.0.send(Message::Binary(vec![1, 2, 3].into())).await;
    assert_eq!(socket.closed().await, 1003);
    // A text that isn't UTF-8, and a frame with reserved bits, written by hand: masked with zeros.
    for (frame, code) in
        [([0x81, 0x81, 0, 0, 0, 0, 0xff], 1007u16), ([0xf1, 0x81, 0, 0, 0, 0, b'x'], 1002)]
    {
        let mut stream = TcpStream::connect(daemon.address).await.expect("connected");
        let head = format!(
            "GET /api/v1/ws HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            daemon.address,
            bearer()
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(&frame).await.expect("written");
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer))
            .await
            .expect("closed in time")
            .expect("read");
        let [.., 0x88, length, high, low] = close_frame(&answer) else {
            panic!("no close frame in {answer:?}")
        };
        assert!(*length >= 2);
        assert_eq!(u16::from_be_bytes([*high, *low]), code);
    }
    alive(&daemon).await;
}

/// The bytes up to the close code: what follows is the reason, in ASCII.
fn close_frame(bytes: &[u8]) -> &[u8] {
    let at = bytes.iter().rposition(|byte| *byte == 0x88).unwrap_or(0);
    bytes.get(..at + 4).unwrap_or(&[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_given_up() {
    let daemon = TestDaemon::start("").await;
    let mut stream = TcpStream::connect(daemon.address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x").await.expect("written");
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("given up in time").expect("read");
    alive(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_closed_and_one_that_pongs_is_not() {
    let patience = Patience {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(600),
        write: Duration::from_secs(10),
    };
    let daemon = TestDaemon::start_with("", patience).await;
    let mut silent = Socket::open(&daemon).await;
    let mut answering = Socket::open(&daemon).await;
    // Reading answers the pings.
    let keep = tokio::spawn(async move {
        let _ = timeout(Duration::from_secs(2), async {
            while let Some(Ok(_)) = answering.0.next().await {}
        })
        .await;
        answering
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(silent.closed().await, 4002);
    let mut answering = keep.await.expect("no panic");
    answering.say(json!({"type": "ping", "t": 1})).await;
    assert_eq!(answering.hear_type("pong").await["t"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_learns_exactly_what_it_missed_and_delays_nobody() {
    const BATCHES: u64 = 150;
    const BATCH: u64 = 400;
    let daemon = TestDaemon::start("").await;
    let mut slow = Socket::open(&daemon).await;
    let mut quick = Socket::open(&daemon).await;
    slow.subscribe(1, "events", json!({})).await;
    quick.subscribe(1, "events", json!({})).await;
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        while seen < BATCHES * BATCH {
            let delta = quick.hear().await;
            assert_ne!(delta["type"], "lost", "the quick one misses nothing");
            seen += delta["events"].as_array().map_or(0, |events| events.len() as u64);
        }
    });
    for _ in 0..BATCHES {
        daemon.kernel().verdicts(BATCH);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    timeout(Duration::from_secs(30), reader).await.expect("in time").expect("no panic");
    // Now the slow one begins to read: what it got and what it is told it missed is everything, once.
    let (mut got, mut missed, mut next) = (0u64, 0u64, 1u64);
    while got + missed < BATCHES * BATCH {
        let message = slow.hear().await;
        match message["type"].as_str() {
            Some("delta") => {
                let n = message["events"].as_array().expect("events").len() as u64;
                assert_eq!(
                    message["seq"].as_u64(),
                    Some(next + n - 1),
                    "no gap that nobody told of"
                );
                next += n;
                got += n;
            }
            Some("lost") => {
                let number = |name: &str| message[name].as_u64().expect("a number");
                assert_eq!(
                    (number("from"), number("to") - number("from") + 1),
                    (next, number("n"))
                );
                next += number("n");
                missed += number("n");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got + missed, BATCHES * BATCH);
    assert!(missed > 0, "the queue is bounded: {got} got");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_to_which_nothing_can_be_written_is_closed() {
    let patience = Patience {
        heartbeat: Duration::from_secs(20),
        silence: Duration::from_secs(45),
        write: Duration::from_millis(300),
    };
    let daemon = TestDaemon::start_with("", patience).await;
    let mut stalled = Socket::open(&daemon).await;
    stalled.subscribe(1, "events", json!({})).await;
    for _ in 0..100 {
        daemon.kernel().verdicts(400);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // What was on its way still arrives, then the connection ends.
    let ended = timeout(SOON, async { while let Some(Ok(_)) = stalled.0.next().await {} }).await;
    assert!(ended.is_ok(), "still open");
    alive(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_daemon_says_goodbye() {
    let daemon = TestDaemon::start("").await;
    let mut socket = Socket::open(&daemon).await;
    daemon.stop.send_replace(true);
    assert_eq!(socket.closed().await, 1001);
}
