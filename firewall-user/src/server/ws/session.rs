//! One WebSocket conversation, from the upgrade to the close.

use super::{
    hub::Hub,
    message::{Id, Reply, Request, Stream, VERSION},
    outbox::Outbox,
};
use crate::server::{
    api::{Api, VERBS},
    auth::{Identity, Via},
    error::ApiError,
};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// How patient a session is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between the server's pings.
    pub heartbeat: Duration,
    /// A client that says nothing for so long is gone.
    pub silence: Duration,
    /// A client to which nothing can be written for so long is too slow.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(20),
            silence: Duration::from_secs(45),
            write: Duration::from_secs(10),
        }
    }
}

/// Largest message from a client, bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Messages that can't be understood before the server gives up.
const MAX_BAD_MESSAGES: u32 = 20;

/// Close codes of our own; docs/protocol.md lists them.
mod close {
    pub const LOGGED_OUT: u16 = 4001;
    pub const SILENT: u16 = 4002;
    pub const TOO_SLOW: u16 = 4003;
    pub const NONSENSE: u16 = 4004;
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Why a session ends.
enum End {
    /// The client closed or vanished: nothing to say.
    Gone,
    /// With this code and reason.
    Close(u16, &'static str),
}

/// Talks to one client until it, or the daemon, has had enough.
pub async fn run(
    upgraded: hyper::upgrade::Upgraded,
    api: Arc<Api>,
    identity: Identity,
    patience: Patience,
    stop: watch::Receiver<bool>,
) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // 4 KiB to read (the default, 128 KiB, is zero-filled memory a client never needs).
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(64 * 1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    log::debug!("session {number}: open, {}", identity.role.name());
    let hub = api.hub().clone();
    let mut session = Session {
        number,
        socket,
        hub: hub.clone(),
        api,
        identity,
        patience,
        outbox: Arc::default(),
        bad_messages: 0,
    };
    let end = session.converse(stop).await;
    hub.leave(number);
    if let End::Close(code, reason) = end {
        log::debug!("session {number}: closed with {code}, {reason}");
        session.close(code, reason).await;
    } else {
        log::debug!("session {number}: gone");
    }
}

struct Session {
    number: u64,
    socket: Socket,
    hub: Arc<Hub>,
    api: Arc<Api>,
    identity: Identity,
    patience: Patience,
    outbox: Arc<Outbox>,
    bad_messages: u32,
}

impl Session {
    async fn converse(&mut self, mut stop: watch::Receiver<bool>) -> End {
        self.hello();
        let mut ended = match &self.identity.via {
            Via::Cookie(ended) => Some(ended.clone()),
            Via::Bearer | Via::Socket => None,
        };
        let start = Instant::now();
        let mut heard = start;
        let mut heartbeat = interval_at(start + self.patience.heartbeat, self.patience.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let silence = tokio::time::sleep_until(heard + self.patience.silence);
            let outbox = self.outbox.clone();
            tokio::select! {
                () = outbox.ready() => {
                    if let Err(end) = self.write().await {
                        return end;
                    }
                }
                message = self.socket.next() => {
                    heard = Instant::now();
                    if let Err(end) = self.received(message).await {
                        return end;
                    }
                }
                _ = heartbeat.tick() => {
                    let ping = self.socket.send(Message::Ping(Default::default()));
                    match timeout(self.patience.write, ping).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return End::Gone,
                        Err(_) => return End::Close(close::TOO_SLOW, "too slow"),
                    }
                }
                () = silence => return End::Close(close::SILENT, "silent"),
                () = turned_true(Some(&mut stop)) => return End::Close(CloseCode::Away.into(), "the daemon is stopping"),
                () = turned_true(ended.as_mut()) => return End::Close(close::LOGGED_OUT, "logged out"),
            }
        }
    }

    fn hello(&self) {
        let mut capabilities: Vec<&str> = Stream::ALL.iter().map(|stream| stream.name()).collect();
        capabilities.extend(VERBS);
        let hello = Reply::Hello {
            version: VERSION,
            server: env!("CARGO_PKG_VERSION"),
            epoch: self.hub.epoch(),
            role: self.identity.role.name(),
            capabilities,
            heartbeat_s: self.patience.heartbeat.as_secs(),
            time: format!("{:.3}", jiff::Timestamp::now()),
        };
        self.outbox.insist(hello.encode());
    }

    /// Writes what waits: everything is fed, then flushed once.
    async fn write(&mut self) -> Result<(), End> {
        let waiting = self.outbox.take();
        if waiting.is_empty() {
            return Ok(());
        }
        let socket = &mut self.socket;
        // The deadline is for each message: a large snapshot over a thin line may take its time as a
        // whole, as long as it moves.
        for message in waiting {
            match timeout(self.patience.write, socket.feed(Message::Text(message))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) => return Err(End::Close(close::TOO_SLOW, "too slow")),
            }
        }
        match timeout(self.patience.write, socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(close::TOO_SLOW, "too slow")),
        }
    }

    async fn received(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) => self.request(&text).await,
            Some(Ok(Message::Binary(_))) => {
                Err(End::Close(CloseCode::Unsupported.into(), "text messages only"))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                // The answer to a close is queued by the library and goes out with a flush.
                let _ = timeout(Duration::from_secs(1), self.socket.flush()).await;
                Err(End::Gone)
            }
            None => Err(End::Gone),
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
                Err(End::Close(CloseCode::Size.into(), "more than 64 KiB"))
            }
            Some(Err(Error::Utf8(_))) => Err(End::Close(CloseCode::Invalid.into(), "not UTF-8")),
            Some(Err(Error::Protocol(error))) => {
                log::debug!("session {}: {error}", self.number);
                Err(End::Close(CloseCode::Protocol.into(), "broken framing"))
            }
            Some(Err(_)) => Err(End::Gone),
        }
    }

    async fn request(&mut self, text: &Utf8Bytes) -> Result<(), End> {
        let request = match serde_json::from_str::<Request>(text) {
            Ok(request) => request,
            Err(error) => {
                self.bad_messages += 1;
                if self.bad_messages >= MAX_BAD_MESSAGES {
                    return Err(End::Close(
                        close::NONSENSE,
                        "too many messages that can't be understood",
                    ));
                }
                self.complain(
                    None,
                    &ApiError::bad_request(format!("message not understood: {error}")),
                );
                return Ok(());
            }
        };
        match request {
            Request::Subscribe { id, stream, filter, resume } => {
                let done = self.hub.subscribe(
                    self.number,
                    &self.outbox,
                    &id,
                    stream,
                    filter.as_deref(),
                    resume.as_ref(),
                );
                if let Err(error) = done {
                    self.complain(Some(&id), &error);
                }
            }
            Request::Unsubscribe { id } => {
                if self.hub.unsubscribe(self.number, &id) {
                    self.outbox.insist(Reply::Unsubscribed { id: &id }.encode());
                } else {
                    self.complain(
                        Some(&id),
                        &ApiError::not_found("not-found", "there is no such subscription"),
                    );
                }
            }
            Request::Command { id, verb, args } => {
                let answer = self.api.call(&verb, args, &self.identity).await;
                let (ok, data, error) = match answer {
                    Ok(data) => (true, Some(data), None),
                    Err(error) => (false, None, Some(error.body)),
                };
                self.outbox.insist(Reply::Result { id: &id, ok, data, error }.encode());
            }
            Request::Ping { t } => self.outbox.insist(Reply::Pong { t }.encode()),
        }
        Ok(())
    }

    fn complain(&self, id: Option<&Id>, error: &ApiError) {
        self.outbox.insist(Reply::Error { id, error: &error.body }.encode());
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        // One more second to say goodbye, whatever state the line is in.
        let _ = timeout(Duration::from_secs(1), self.socket.close(Some(frame))).await;
        // Read on until the peer answers, so that the kernel doesn't reset the connection (and with it
        // the close frame) because of bytes that nobody read.
        let _ = timeout(Duration::from_secs(1), async {
            while let Some(Ok(_)) = self.socket.next().await {}
        })
        .await;
    }
}

async fn turned_true(flag: Option<&mut watch::Receiver<bool>>) {
    match flag {
        Some(flag) => {
            if flag.wait_for(|ended| *ended).await.is_err() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}
