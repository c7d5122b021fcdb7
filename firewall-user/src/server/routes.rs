//! Paths to verbs, and the checks that every request passes.

use super::{
    api::Api,
    auth::{Auth, Identity, Role, Via},
    console,
    dump::NDJSON,
    error::ApiError,
    origin::Origins,
    ws::{self, Patience},
};
use axum::{
    Json, Router,
    body::{Bytes, to_bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde_json::{Map, Value, json};
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};
use tokio::sync::{Semaphore, watch};

/// Largest request body, bytes: a policy of as many rules as there may be takes a quarter of it.
const MAX_BODY: usize = 32 << 20;
/// WebSocket sessions at once.
const MAX_SESSIONS: usize = 1024;

/// Who is at the other end of a connection, as far as the transport knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the Unix socket: let in by the kernel's word.
    Unix {
        /// User.
        uid: u32,
        /// Process.
        pid: Option<i32>,
    },
    /// Over the Unix socket: neither root nor in the group.
    Stranger {
        /// User.
        uid: u32,
        /// The group they would need.
        group: String,
    },
}

/// What the handlers share.
#[derive(Debug)]
pub struct Server {
    /// The verbs.
    pub api: Arc<Api>,
    /// The doorman.
    pub auth: Auth,
    /// Which names and pages belong here.
    pub origins: Origins,
    /// How patient WebSocket sessions are.
    pub patience: Patience,
    /// Turns true when the daemon stops.
    pub stop: watch::Receiver<bool>,
    /// One for each WebSocket session there may be.
    pub sessions: Arc<Semaphore>,
}

impl Server {
    /// Slots for as many sessions as there may be at once.
    pub fn session_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_SESSIONS))
    }
}

/// The router for both ways in. Every request must carry a [`Peer`] extension.
pub fn router(server: Arc<Server>) -> Router {
    let get_verb = |verb: &'static str| {
        get(
            move |State(server): State<Arc<Server>>, identity: Known, query: QueryArgs| async move {
                answer(&server, verb, query.0, &identity.0).await
            },
        )
    };
    let post_verb = |verb: &'static str| {
        post(move |State(server): State<Arc<Server>>, identity: Known, body: Body| async move {
            answer(&server, verb, body.0, &identity.0).await
        })
    };
    let rule_verb = |verb: &'static str| {
        post(
            move |State(server): State<Arc<Server>>,
                  Path(name): Path<String>,
                  identity: Known,
                  body: Body| async move {
                answer(&server, verb, named(body.0, name), &identity.0).await
            },
        )
    };
    // About one thing, which the path names.
    let one_verb = |verb: &'static str| {
        move |State(server): State<Arc<Server>>,
              Path(name): Path<String>,
              identity: Known,
              query: QueryArgs| async move {
            answer(&server, verb, named(query.0, name), &identity.0).await
        }
    };
    Router::new()
        .route("/api/v1/status", get_verb("status"))
        .route("/api/v1/stats", get_verb("stats"))
        .route("/api/v1/rules", get_verb("rules").merge(post_verb("rule.add")))
        .route("/api/v1/plan", get_verb("plan"))
        .route("/api/v1/flows", get(flows))
        .route("/api/v1/flows/kill", post_verb("flows.kill"))
        .route("/api/v1/events", get_verb("events"))
        .route("/api/v1/netfilter/flows", get_verb("netfilter.flows"))
        .route("/api/v1/netfilter/accounts", get_verb("netfilter.accounts"))
        .route("/api/v1/paths", get_verb("paths"))
        .route("/api/v1/policy", get_verb("policy"))
        .route("/api/v1/policy/check", post_verb("policy.check"))
        .route("/api/v1/policy/apply", post_verb("policy.apply"))
        .route("/api/v1/rules/{name}", delete(one_verb("rule.delete")))
        .route("/api/v1/rules/{name}/move", rule_verb("rule.move"))
        .route("/api/v1/rules/{name}/enable", rule_verb("rule.enable"))
        .route("/api/v1/rules/{name}/disable", rule_verb("rule.disable"))
        .route("/api/v1/counters/reset", post_verb("counters.reset"))
        .route("/api/v1/nat/who", get_verb("nat.who"))
        .route("/api/v1/nat/mappings", get_verb("nat.mappings"))
        .route("/api/v1/nat/rules", get_verb("nat.rules"))
        .route("/api/v1/nat/hosts", get_verb("nat.hosts"))
        .route("/api/v1/nat/pools", get_verb("nat.pools"))
        .route("/api/v1/history", get_verb("history"))
        .route("/api/v1/sockets", get_verb("sockets"))
        .route("/api/v1/sockets/drops", get_verb("sockets.drops"))
        .route("/api/v1/sockets/attributes", get_verb("sockets.attributes"))
        .route("/api/v1/names", get_verb("names"))
        .route("/api/v1/learn", get_verb("learn"))
        .route("/api/v1/explain", get_verb("explain").merge(post_verb("explain")))
        .route("/api/v1/replay", post_verb("replay"))
        .route("/api/v1/sets", get_verb("sets"))
        .route("/api/v1/sets/{name}", get(one_verb("sets.show")).put(load_set))
        .route(
            "/api/v1/sets/{name}/entries",
            rule_verb("sets.add").delete(
                move |State(server): State<Arc<Server>>,
                      Path(name): Path<String>,
                      identity: Known,
                      body: Body| async move {
                    answer(&server, "sets.delete", named(body.0, name), &identity.0).await
                },
            ),
        )
        .route("/api/v1/sets/{name}/flush", rule_verb("sets.flush"))
        .route("/api/v1/sets/{name}/test", get(one_verb("sets.test")))
        .route("/api/v1/summary", get_verb("summary"))
        .route("/api/v1/summary/reset", post_verb("summary.reset"))
        .route("/api/v1/sockets/kill", post_verb("sockets.kill"))
        .route("/api/v1/sockets/stats", get_verb("sockets.stats"))
        .route("/api/v1/sockets/{id}", get(one_verb("sockets.show")))
        .route("/api/v1/sockets/{id}/samples", get(one_verb("sockets.samples")))
        .route("/api/v1/sockets/{id}/note", rule_verb("sockets.note"))
        .route("/api/v1/login", post(login))
        .route("/api/v1/logout", post(logout))
        .route("/api/v1/ws", get(ws::upgrade))
        .method_not_allowed_fallback(|method: Method| async move {
            let message = format!("{method} isn't possible here; docs/protocol.md lists what is");
            ApiError::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
        })
        .fallback(files)
        .layer(middleware::from_fn_with_state(server.clone(), guard))
        .layer(middleware::map_response(secure))
        .with_state(server)
}

async fn answer(
    server: &Server,
    verb: &str,
    args: Value,
    identity: &Identity,
) -> Result<Json<Value>, ApiError> {
    server.api.call(verb, args, identity).await.map(Json)
}

/// Flows: a list, or for whoever accepts that, a stream of all of them.
async fn flows(
    State(server): State<Arc<Server>>,
    identity: Known,
    headers: HeaderMap,
    query: QueryArgs,
) -> Result<Response, ApiError> {
    if text(&headers, header::ACCEPT).is_some_and(|accept| accept.contains(NDJSON)) {
        return server.api.stream_flows(query.0);
    }
    Ok(answer(&server, "flows", query.0, &identity.0).await?.into_response())
}

/// A list of entries is text, not JSON: there may be a million of them. Without one, the file that the policy names.
async fn load_set(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
    identity: Known,
    query: QueryArgs,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let mut args = named(query.0, name);
    if args["file"] != Value::Bool(true) {
        let bytes = read(request.into_body()).await?;
        // Comments are in whatever their writers speak.
        let text = String::from_utf8(bytes.into())
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        args["text"] = Value::String(text);
    }
    answer(&server, "sets.load", args, &identity.0).await
}

/// The rule in the path is an argument like any other.
fn named(args: Value, name: String) -> Value {
    let mut args = match args {
        Value::Object(args) => args,
        _ => Map::new(),
    };
    args.insert("name".to_owned(), Value::String(name));
    Value::Object(args)
}

async fn files(method: Method, uri: axum::http::Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/api/") {
        return ApiError::not_found(
            "not-found",
            format!("there is no {}; docs/protocol.md lists what there is", uri.path()),
        )
        .into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return ApiError::new(
            axum::http::StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "files can only be read",
        )
        .into_response();
    }
    console::serve(uri, headers).await
}

async fn login(State(server): State<Arc<Server>>, body: Body) -> Result<Response, ApiError> {
    let token = body
        .0
        .get("token")
        .and_then(Value::as_str)
        .ok_or_else(|| ApiError::bad_request("expected {\"token\": \"...\"}"))?;
    let cookie = server.auth.login(token.trim(), Instant::now())?;
    with_cookie(json!({"ok": true, "role": Role::Admin.name()}), &cookie)
}

async fn logout(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let cookies = text(&headers, header::COOKIE).unwrap_or("");
    with_cookie(json!({"ok": true}), &server.auth.logout(cookies))
}

fn with_cookie(body: Value, cookie: &str) -> Result<Response, ApiError> {
    let value =
        HeaderValue::from_str(cookie).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::SET_COOKIE, value)], Json(body)).into_response())
}

/// Host, Origin, authentication, in this order.
async fn guard(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let peer = request.extensions().get::<Peer>().cloned();
    let headers = request.headers();
    let identity = match peer {
        None => return Err(ApiError::internal("a request came from nowhere")),
        Some(Peer::Stranger { uid, group }) => {
            let message = format!(
                "user {uid} is neither root nor in group `{group}`; `usermod -aG {group} USER`, then log in again"
            );
            return Err(ApiError::new(axum::http::StatusCode::FORBIDDEN, "forbidden", message));
        }
        Some(Peer::Unix { .. }) => {
            Some(Identity { role: Role::Admin, via: Via::Socket, from: None })
        }
        Some(Peer::Tcp(_)) => {
            let host = text(headers, header::HOST);
            // HTTP/1.1 lets the target carry the authority; then that is what counts.
            server.origins.check_host(
                request.uri().authority().map(|authority| authority.as_str()).or(host),
            )?;
            let origin = text(headers, header::ORIGIN);
            server.origins.check_origin(origin)?;
            let path = request.uri().path();
            let upgrade = path == "/api/v1/ws";
            let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
            if !path.starts_with("/api/") || path == "/api/v1/login" {
                None
            } else {
                let cookies = text(headers, header::COOKIE);
                let identity = server.auth.identify(
                    text(headers, header::AUTHORIZATION),
                    cookies,
                    Instant::now(),
                )?;
                if matches!(identity.via, Via::Cookie(_)) && (changes || upgrade) {
                    server.origins.require_origin(origin)?;
                }
                Some(identity)
            }
        }
    };
    if let Some(identity) = identity {
        let from = request.extensions().get::<Peer>().cloned();
        request.extensions_mut().insert(Identity { from, ..identity });
    }
    Ok(next.run(request).await)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Headers that every answer carries.
async fn secure(mut response: Response) -> Response {
    const ALWAYS: [(&str, &str); 7] = [
        (
            "content-security-policy",
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whoever [`guard`] let in.
pub struct Known(pub Identity);

impl<S: Sync> axum::extract::FromRequestParts<S> for Known {
    type Rejection = ApiError;
    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Identity>()
            .cloned()
            .map(Known)
            .ok_or_else(|| ApiError::internal("nobody was let in"))
    }
}

/// Query parameters as arguments: what reads as a number or a truth value is one.
struct QueryArgs(Value);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for QueryArgs {
    type Rejection = ApiError;
    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<HashMap<String, String>>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad_request(error.body_text()))?;
        let args = pairs.into_iter().map(|(name, value)| {
            let numeric = matches!(name.as_str(), "limit" | "top" | "after" | "base_generation");
            let yes_or_no =
                matches!(name.as_str(), "force" | "dry_run" | "ended" | "all" | "add" | "file");
            let value = match value.as_str() {
                "true" | "1" | "" if yes_or_no => Value::Bool(true),
                "false" | "0" if yes_or_no => Value::Bool(false),
                text if numeric => text.parse::<u64>().map_or(Value::String(value), Value::from),
                _ => Value::String(value),
            };
            (name, value)
        });
        Ok(Self(Value::Object(args.collect())))
    }
}

async fn read(body: axum::body::Body) -> Result<Bytes, ApiError> {
    to_bytes(body, MAX_BODY).await.map_err(|error| {
        let message =
            format!("the body can't be read, or is larger than {} MiB: {error}", MAX_BODY >> 20);
        ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    })
}

/// A JSON body; an empty one is `{}`.
struct Body(Value);

impl<S: Sync> axum::extract::FromRequest<S> for Body {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let is_json =
            kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json");
        let told = !kind.is_empty();
        let bytes = read(request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Self(json!({})));
        }
        if told && !is_json {
            return Err(ApiError::bad_request(format!(
                "Content-Type is `{kind}`, expected `application/json`"
            )));
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("the body isn't JSON: {error}")))?;
        if !value.is_object() {
            return Err(ApiError::bad_request("the body must be a JSON object"));
        }
        Ok(Self(value))
    }
}
