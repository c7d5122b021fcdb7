//! The other end: what the command line uses to ask the daemon over its control socket.

use super::error::{ErrorBody, ErrorEnvelope};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header,
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;
use tokio::{net::UnixStream, task::JoinHandle};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Why the daemon gave no good answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("{}", unreachable(.socket, .error))]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke, or spoke something else.
    #[error("the daemon's answer broke off: {0}")]
    Broken(String),
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
}

fn unreachable(socket: &Path, error: &io::Error) -> String {
    let at = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "no daemon: there is no {at}; start it with `systemctl start sluice` or `sluice daemon`"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{at} is for root and members of group `sluice`: use sudo, or join the group")
        }
        io::ErrorKind::ConnectionRefused => format!(
            "no daemon: nobody answers on {at}; it was stopped or killed (the filter goes on); start it again"
        ),
        _ => format!("can't reach the daemon on {at}: {error}"),
    }
}

/// The task that moves a connection's bytes; ends with whoever waits for them.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body is still to come.
struct Answer {
    response: Response<Incoming>,
    _connection: Connection,
}

impl Answer {
    async fn bytes(self) -> Result<Bytes, ClientError> {
        let whole = self.response.into_body().collect().await;
        Ok(whole.map_err(|error| broken(&error))?.to_bytes())
    }

    /// Why not.
    async fn refusal(self) -> ClientError {
        let status = self.response.status();
        let bytes = match self.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorEnvelope>(&bytes) {
            Ok(envelope) => ClientError::Refused(envelope.error),
            Err(_) => ClientError::Broken(format!("status {status}")),
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// A client of the control socket. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A WebSocket conversation: JSON objects both ways (docs/protocol.md).
#[derive(Debug)]
pub struct Conversation(WebSocketStream<UnixStream>);

impl Conversation {
    /// Says something.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn say(&mut self, message: &Value) -> Result<(), ClientError> {
        let text = Message::Text(message.to_string().into());
        self.0.send(text).await.map_err(|error| ClientError::Broken(error.to_string()))
    }

    /// The next message; `None` when the daemon closed the conversation.
    ///
    /// # Errors
    /// The connection broke, or what came isn't JSON.
    pub async fn hear(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map(Some)
                        .map_err(|error| ClientError::Broken(error.to_string()));
                }
                // The library answers pings, and sends the answers along with the next read or write.
                Some(Ok(Message::Ping(_))) => {
                    let _ = self.0.flush().await;
                }
                Some(Ok(Message::Binary(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Broken(error.to_string())),
            }
        }
    }
}

impl Client {
    /// A client of the daemon on this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// The daemon isn't there, or said no.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// The daemon isn't there, or said no.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// The daemon isn't there, or said no.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, None).await
    }

    /// `DELETE path` with a JSON body.
    ///
    /// # Errors
    /// The daemon isn't there, or said no.
    pub async fn delete_some<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, Some(body)).await
    }

    /// `PUT path` with a body of plain text.
    ///
    /// # Errors
    /// The daemon isn't there, or said no.
    pub async fn put_text<T: DeserializeOwned>(
        &self,
        path: &str,
        text: Vec<u8>,
    ) -> Result<T, ClientError> {
        let request = Request::builder().method(Method::PUT).uri(path);
        let request = request.header(header::CONTENT_TYPE, "text/plain");
        self.answered(request, text).await
    }

    /// `GET path` as a stream of rows, a line each: every piece goes to `each` as it comes.
    ///
    /// # Errors
    /// The daemon isn't there, said no, or `each` did.
    pub async fn rows<E: From<ClientError>>(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let request = Request::builder().uri(path).header(header::ACCEPT, "application/x-ndjson");
        let mut answer = self.send(request, String::new()).await?;
        if !answer.response.status().is_success() {
            return Err(answer.refusal().await.into());
        }
        while let Some(frame) = answer.response.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            if let Some(piece) = frame.data_ref() {
                each(piece)?;
            }
        }
        Ok(())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.answered(request, body.map_or_else(String::new, Value::to_string)).await
    }

    async fn answered<T: DeserializeOwned>(
        &self,
        request: Builder,
        body: impl Into<Bytes>,
    ) -> Result<T, ClientError> {
        let answer = self.send(request, body).await?;
        if !answer.response.status().is_success() {
            return Err(answer.refusal().await);
        }
        serde_json::from_slice(&answer.bytes().await?).map_err(|error| broken(&error))
    }

    async fn send(&self, request: Builder, body: impl Into<Bytes>) -> Result<Answer, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let connection = Connection(tokio::spawn(async move {
            // What breaks here breaks the answer, which says so.
            let _ = connection.await;
        }));
        let request = request
            .header(header::HOST, "localhost")
            .body(Full::new(body.into()))
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        Ok(Answer { response, _connection: connection })
    }

    /// Opens the WebSocket.
    ///
    /// # Errors
    /// The daemon isn't there, or said no.
    pub async fn talk(&self) -> Result<Conversation, ClientError> {
        let stream = self.connect().await?;
        match client_async("ws://localhost/api/v1/ws", stream).await {
            Ok((socket, _)) => Ok(Conversation(socket)),
            Err(error) => Err(ClientError::Broken(error.to_string())),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::Unreachable { socket: self.socket.clone(), error })
    }
}

/// Encodes a query parameter or a path segment (RFC 3986: everything but the unreserved).
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping() {
        assert_eq!(
            escape("proto=tcp and port in (22,80)"),
            "proto%3Dtcp%20and%20port%20in%20%2822%2C80%29"
        );
        assert_eq!(escape("ä/"), "%C3%A4%2F");
    }
}
