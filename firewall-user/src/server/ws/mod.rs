//! The WebSocket: upgrade by hand (hyper's upgrade under tokio-tungstenite), sessions, and the
//! switchboard that feeds them.

pub mod frames;
pub mod hub;
pub mod message;
pub mod outbox;
mod session;

pub use session::{MAX_MESSAGE, Patience};

use super::{
    error::ApiError,
    routes::{Known, Server},
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// `GET /api/v1/ws` (RFC 6455 section 4.2). Whoever comes here has been let in.
pub async fn upgrade(
    State(server): State<Arc<Server>>,
    Known(identity): Known,
    mut request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    if !has_word(headers, header::CONNECTION, "upgrade")
        || !has_word(headers, header::UPGRADE, "websocket")
    {
        return Err(upgrade_required(
            "this is the WebSocket's address: ask for an upgrade to `websocket`",
        ));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(upgrade_required("Sec-WebSocket-Version must be 13"));
    }
    let Some(key) =
        headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()))
    else {
        return Err(ApiError::bad_request("Sec-WebSocket-Key is missing"));
    };
    let accept =
        HeaderValue::from_str(&key).map_err(|error| ApiError::internal(error.to_string()))?;
    let Ok(slot) = server.sessions.clone().try_acquire_owned() else {
        let message = "too many WebSocket sessions are open: close some";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-sessions", message));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let (api, patience, stop) = (server.api.clone(), server.patience, server.stop.clone());
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => session::run(upgraded, api, identity, patience, stop).await,
            Err(error) => log::debug!("WebSocket upgrade failed: {error}"),
        }
        drop(slot);
    });
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn upgrade_required(message: &str) -> ApiError {
    ApiError::new(StatusCode::UPGRADE_REQUIRED, "bad-request", message)
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(word))
}
