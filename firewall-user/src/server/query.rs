//! `filter`, `sort` and `limit`, the same for HTTP, WebSocket and the command line.

use super::error::ApiError;
use crate::{
    filter::{self, Filter, FilterError, Subject},
    monitor::FlowOrder,
    view::FlowView,
};
use axum::http::StatusCode;
use serde::Deserialize;
use std::cmp::Ordering;

/// Rows in an answer where nothing is said.
const DEFAULT_LIMIT: usize = 1_000;
/// Most rows in an answer.
const MAX_LIMIT: usize = 100_000;

/// In the place of a field: in no order.
pub const UNSORTED: &str = "none";

/// `?filter=&limit=&sort=&after=`, or a command's `args`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Filter expression.
    #[serde(default)]
    pub filter: Option<String>,
    /// Rows at most.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Field to sort flows by.
    #[serde(default)]
    pub sort: Option<String>,
    /// Events past this sequence number only.
    #[serde(default)]
    pub after: Option<u64>,
}

impl Query {
    /// The limit that holds.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }
}

/// The filter in `text` for rows of type `T`; `None` where it is empty.
///
/// # Errors
/// 400 `bad-filter`.
pub fn filter<T: Subject>(text: &str) -> Result<Option<Filter>, ApiError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    filter::parse_for::<T>(text).map(Some).map_err(bad_filter)
}

/// 400 `bad-filter`.
pub fn bad_filter(error: FilterError) -> ApiError {
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let message = format!("filter, {error}{hint}");
    let details = serde_json::to_value(&error).unwrap_or_default();
    ApiError::new(StatusCode::BAD_REQUEST, "bad-filter", message).details(details)
}

type Compare = fn(&FlowView, &FlowView) -> Ordering;

/// How to sort flows, by field: numbers and times from the largest, text from A.
const SORTS: &[(&str, Compare)] = &[
    ("packets", |a, b| (b.packets + b.reply_packets).cmp(&(a.packets + a.reply_packets))),
    ("bytes", |a, b| (b.bytes + b.reply_bytes).cmp(&(a.bytes + a.reply_bytes))),
    ("first", |a, b| b.first.cmp(&a.first)),
    ("last", |a, b| b.last.cmp(&a.last)),
    ("age", |a, b| b.age_ms.cmp(&a.age_ms)),
    ("idle", |a, b| b.idle_ms.cmp(&a.idle_ms)),
    ("timeout", |a, b| b.timeout_ms.cmp(&a.timeout_ms)),
    ("generation", |a, b| b.generation.cmp(&a.generation)),
    ("sport", |a, b| b.sport.cmp(&a.sport)),
    ("dport", |a, b| b.dport.cmp(&a.dport)),
    ("src", |a, b| a.src.cmp(&b.src)),
    ("dst", |a, b| a.dst.cmp(&b.dst)),
    ("proto", |a, b| a.proto.cmp(&b.proto)),
    ("state", |a, b| a.state.cmp(&b.state)),
    ("rule", |a, b| a.rule.cmp(&b.rule)),
    ("id", |a, b| a.id.cmp(&b.id)),
];

/// 400 that names the fields there are.
pub fn unsortable<'a>(name: &str, fields: impl Iterator<Item = &'a str>) -> ApiError {
    let fields: Vec<&str> = fields.collect();
    ApiError::bad_request(format!("can't sort by `{name}`; there are: {}", fields.join(", ")))
}

/// Sorts flows by the field `by` (default `last`; `-` in front turns the order round).
///
/// # Errors
/// 400 that names the fields there are.
pub fn sort_flows(rows: &mut [FlowView], by: Option<&str>) -> Result<(), ApiError> {
    let by = by.unwrap_or("last");
    let (name, turned) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    if by == UNSORTED {
        return Ok(());
    }
    let Some((_, compare)) = SORTS.iter().find(|(field, _)| *field == name) else {
        return Err(unsortable(name, SORTS.iter().map(|(field, _)| *field).chain([UNSORTED])));
    };
    // Ties by id, so that the same table comes out in the same order.
    rows.sort_by(|a, b| {
        if turned { compare(b, a) } else { compare(a, b) }.then_with(|| a.id.cmp(&b.id))
    });
    Ok(())
}

/// The order that `by` asks for (and whether it is turned round), if flows can be put in it before
/// they are made into rows.
pub fn quick_order(by: Option<&str>) -> Option<(FlowOrder, bool)> {
    let by = by.unwrap_or("last");
    let (name, turned) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    let order = match name {
        "packets" => FlowOrder::Packets,
        "bytes" => FlowOrder::Bytes,
        "first" => FlowOrder::First,
        "last" => FlowOrder::Last,
        _ => return None,
    };
    Some((order, turned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting() {
        let flow = |id: &str, bytes, src: &str| FlowView {
            id: id.into(),
            bytes,
            src: src.into(),
            ..FlowView::default()
        };
        let mut rows = vec![flow("1", 5, "b"), flow("2", 9, "a"), flow("3", 5, "c")];
        let mut order = |by: &str| -> String {
            sort_flows(&mut rows, Some(by)).expect("known");
            rows.iter().map(|row| row.id.as_str()).collect()
        };
        assert_eq!(order("bytes"), "213");
        assert_eq!(order("-bytes"), "132");
        assert_eq!(order("src"), "213");
        assert!(
            sort_flows(&mut rows, Some("colour"))
                .unwrap_err()
                .body
                .message
                .contains("packets, bytes")
        );
    }
}
