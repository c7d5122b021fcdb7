//! What can be asked about translation: for now, who was behind a public endpoint.

use super::error::ApiError;
use crate::{
    monitor::text,
    store::{
        BindingRow, Endpoint, History, StoreError, StoreStats, Who, WhoQuery, when, who::BlockHit,
    },
    view::{HistoryStatsView, NatBindingView, NatBlockView, NatWhoView},
};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::{net::IpAddr, time::Duration};

/// Mappings in an answer where nothing is said.
const DEFAULT_LIMIT: usize = 100;
/// Most mappings in an answer.
const MAX_LIMIT: usize = 10_000;
/// How long a question waits for what was handed to the history before it.
const SETTLE: Duration = Duration::from_secs(1);

/// `?address=&port=&proto=&at=&limit=`, or a command's `args`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoArgs {
    address: Option<String>,
    #[serde(default)]
    port: Option<Value>,
    #[serde(default)]
    proto: Option<Value>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

impl WhoArgs {
    /// The question.
    ///
    /// # Errors
    /// 400 that names the parameter, what was seen, and what was expected.
    pub fn query(&self, now_ms: i64) -> Result<WhoQuery, ApiError> {
        let address = self.address.as_deref().ok_or_else(|| {
            ApiError::bad_request("`address` is missing: whose port, such as `203.0.113.5`?")
        })?;
        let address = address.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "`address` is `{address}`; expected an address alone, such as `203.0.113.5` or \
                 `2001:db8::1` (the port is a parameter of its own)"
            ))
        })?;
        let port = number(&self.port).map(|seen| {
            seen.parse::<u16>().map_err(|_| {
                ApiError::bad_request(format!(
                    "`port` is `{seen}`; expected a number from 0 to 65535"
                ))
            })
        });
        let proto = number(&self.proto).map(|seen| {
            proto(&seen).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "`proto` is `{seen}`; expected tcp, udp, icmp, icmpv6, or a number from 0 to 255"
                ))
            })
        });
        let at = self.at.as_deref().map(|at| {
            when::parse(at, now_ms)
                .map_err(|error| ApiError::bad_request(format!("`at` is {error}")))
        });
        Ok(WhoQuery {
            address,
            port: port.transpose()?,
            proto: proto.transpose()?,
            at_ms: at.transpose()?.unwrap_or(now_ms),
            limit: self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT),
        })
    }
}

/// A number or a text: as text.
fn number(value: &Option<Value>) -> Option<String> {
    match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    }
}

fn proto(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(text::TCP),
        "udp" => Some(text::UDP),
        "icmp" => Some(text::ICMP),
        "icmpv6" => Some(text::ICMPV6),
        number => number.parse().ok(),
    }
}

/// Asks the history.
///
/// # Errors
/// 503 `history`: none is kept, or it can't be read.
pub async fn who(history: Option<History>, query: WhoQuery) -> Result<NatWhoView, ApiError> {
    let unavailable =
        |message: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "history", message);
    let history = history.ok_or_else(|| {
        unavailable(
            "no history is kept; `[history] enabled = true` in sluice.toml keeps one".into(),
        )
    })?;
    let asked = tokio::task::spawn_blocking(move || {
        // Whoever asks wants to see what was just sent; where the disk is slow, what is there.
        history.settle(SETTLE);
        history.who(&query)
    });
    let answer: Result<Who, StoreError> =
        asked.await.map_err(|error| ApiError::internal(error.to_string()))?;
    let answer = answer.map_err(|error| unavailable(error.to_string()))?;
    Ok(NatWhoView {
        address: query.address.to_string(),
        port: query.port,
        proto: query.proto.map(text::proto),
        at: when::show(query.at_ms),
        bindings: answer.bindings.iter().map(binding_view).collect(),
        more: answer.more,
        blocks: answer.blocks.iter().map(block_view).collect(),
        since: when::show(answer.since_ms),
    })
}

/// A mapping as people see it.
pub fn binding_view(row: &BindingRow) -> NatBindingView {
    let binding = &row.binding;
    let end = |end: Endpoint| (end.address.to_string(), end.port);
    // A query's identifier is shown once, at the end that asks.
    let far = |far: Endpoint| match binding.proto {
        text::ICMP => (far.address.to_string(), 0),
        _ => end(far),
    };
    let ((src, sport), (dst, dport)) = (end(binding.src), far(binding.dst));
    let ((to_src, to_sport), (to_dst, to_dport)) = (end(binding.to_src), far(binding.to_dst));
    NatBindingView {
        id: text::flow_id(binding.id),
        origin: binding.origin.name().into(),
        kind: binding.kind.name().into(),
        family: if matches!(binding.src.address, IpAddr::V4(_)) { 4 } else { 6 },
        proto: text::proto(binding.proto),
        host: binding.host().to_string(),
        src,
        sport,
        dst,
        dport,
        to_src,
        to_sport,
        to_dst,
        to_dport,
        rule: binding.rule.to_string(),
        start: when::show(binding.start_ms),
        end: row.end_ms.map(when::show),
        packets: row.totals.packets,
        bytes: row.totals.bytes,
        reply_packets: row.totals.reply_packets,
        reply_bytes: row.totals.reply_bytes,
        ended: row.reason.clone(),
    }
}

fn block_view(hit: &BlockHit) -> NatBlockView {
    NatBlockView {
        host: hit.host.to_string(),
        rule: hit.row.assignment.rule.to_string(),
        prefix: hit.row.prefix(),
        address: hit.address.to_string(),
        port_first: hit.ports[0],
        port_last: hit.ports[1],
        start: when::show(hit.row.start_ms),
        end: hit.row.end_ms.map(when::show),
    }
}

/// The history's counters as people see them.
pub fn stats_view(stats: &StoreStats) -> HistoryStatsView {
    HistoryStatsView {
        path: stats.path.display().to_string(),
        bytes: stats.bytes,
        max_bytes: stats.max_bytes,
        wal_bytes: stats.wal_bytes,
        max_age_ms: stats.max_age_ms,
        written: stats.written,
        completed: stats.completed,
        deleted: stats.deleted,
        lost: stats.lost,
        unmatched: stats.unmatched,
        errors: stats.errors,
        queued: stats.queued,
        trouble: stats.trouble.clone(),
    }
}
