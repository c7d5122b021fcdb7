//! Clients.

use crate::daemon::testing::{TOKEN, TestDaemon};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

/// How long anything may take.
pub const SOON: Duration = Duration::from_secs(10);

/// An answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// One request over TCP with exactly these headers (and `Host`, unless it is among them).
pub async fn request(
    daemon: &TestDaemon,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let stream = TcpStream::connect(daemon.address).await.expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", daemon.address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(String::new, |body| body.to_string());
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let response =
        timeout(SOON, sender.send_request(request)).await.expect("in time").expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status, headers, body }
}

/// `Authorization` with the right token.
pub fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

/// With the token.
pub async fn call(daemon: &TestDaemon, method: Method, path: &str, body: Option<Value>) -> Answer {
    request(daemon, method, path, &[("authorization", &bearer())], body).await
}

/// A WebSocket client.
pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    /// Opens one with these headers.
    pub async fn open_with(
        daemon: &TestDaemon,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, StatusCode> {
        let url = format!("ws://{}/api/v1/ws", daemon.address);
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let stream = TcpStream::connect(daemon.address).await.expect("connected");
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status()),
            Err(other) => panic!("neither open nor refused: {other}"),
        }
    }

    /// Opens one with the token, and hears `hello`.
    pub async fn open(daemon: &TestDaemon) -> Self {
        let mut socket =
            Self::open_with(daemon, &[("authorization", &bearer())]).await.expect("let in");
        let hello = socket.hear().await;
        assert_eq!((&hello["type"], &hello["epoch"]), (&json!("hello"), &json!(daemon.epoch)));
        socket
    }

    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::Text(message.to_string().into())).await.expect("sent");
    }

    /// The next text message.
    pub async fn hear(&mut self) -> Value {
        loop {
            match timeout(SOON, self.0.next()).await.expect("a message in time") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("not a text message: {other:?}"),
            }
        }
    }

    /// The next message of this type; others are passed over.
    pub async fn hear_type(&mut self, kind: &str) -> Value {
        loop {
            let message = self.hear().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The close code, whatever comes before it.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match timeout(SOON, self.0.next()).await.expect("closed in time") {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("closed without a code: {other:?}"),
            }
        }
    }

    /// Subscribes and returns the first answer.
    pub async fn subscribe(&mut self, id: u32, stream: &str, more: Value) -> Value {
        let mut message = json!({"type": "subscribe", "id": id, "stream": stream});
        for (name, value) in more.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        self.say(message).await;
        loop {
            let answer = self.hear().await;
            if answer["id"] == id {
                return answer;
            }
        }
    }
}
