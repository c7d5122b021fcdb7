//! What has been: rows of the history, or sums of them.

mod kinds;
pub(super) mod owner;
mod rows;

use super::{error::ApiError, query};
use crate::{
    filter::{Filter, Subject, SubjectKind},
    monitor::text,
    store::{BindingFilter, History, Past, Span, StoreError, Sums, now_ms, when},
    view::{
        DeedView, FlowView, HISTORY_KINDS, HistorySumView, NatMappingView, RuleMinuteView,
        SocketView, VerdictMinuteView,
    },
};
use axum::http::StatusCode;
use kinds::HistoryKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{cmp::Reverse, collections::HashMap, time::Duration};

/// How far back where nothing is said.
const DEFAULT_SINCE: &str = "24h";
/// Rows where nothing is said.
const DEFAULT_LIMIT: usize = 100;
/// Sums where nothing is said.
const DEFAULT_TOP: usize = 20;
/// Most rows, and most sums.
const MAX_LIMIT: usize = 100_000;
/// How long a question waits for what was handed over before it.
const SETTLE: Duration = Duration::from_secs(1);
/// Keys that are summed up under where that is done row by row.
const KEYS: usize = 1_000_000;

/// `?kind=&filter=&since=&until=&by=&top=&sort=&limit=`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    top: Option<usize>,
    #[serde(default)]
    sort: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

/// A question that makes sense.
#[derive(Debug)]
struct Asked {
    kind: HistoryKind,
    span: Span,
    filter: Option<Filter>,
    by: Option<&'static str>,
    most: usize,
    sort: (Order, bool),
}

/// How sums are put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Bytes,
    Packets,
    Count,
    First,
    Last,
    Key,
}

impl Order {
    const ALL: [(&'static str, Self); 6] = [
        ("bytes", Self::Bytes),
        ("packets", Self::Packets),
        ("count", Self::Count),
        ("first", Self::First),
        ("last", Self::Last),
        ("key", Self::Key),
    ];
}

fn instead<'a>(what: &str, seen: &str, all: impl IntoIterator<Item = &'a str>) -> ApiError {
    let all: Vec<&str> = all.into_iter().collect();
    ApiError::bad_request(format!("{what} `{seen}`; there are: {}", all.join(", ")))
}

impl HistoryQuery {
    fn asked(&self, now_ms: i64) -> Result<Asked, ApiError> {
        let kind = self.kind.as_deref().unwrap_or("sockets");
        let kind = HistoryKind::from_name(kind)
            .ok_or_else(|| instead("there is no history of", kind, HISTORY_KINDS))?;
        let time = |name: &str, text: &str| {
            when::parse_back(text, now_ms)
                .map_err(|error| ApiError::bad_request(format!("`{name}` is {error}")))
        };
        let since_ms = time("since", self.since.as_deref().unwrap_or(DEFAULT_SINCE))?;
        // What ends while we look is looked at.
        let until_ms = self.until.as_deref().map_or(Ok(i64::MAX), |text| time("until", text))?;
        if since_ms > until_ms {
            return Err(ApiError::bad_request(format!(
                "`since` ({}) is after `until` ({})",
                when::show(since_ms),
                when::show(until_ms)
            )));
        }
        let by = self.by.as_deref().map(|by| {
            kind.by().iter().copied().find(|name| *name == by).ok_or_else(|| {
                let what = format!("the history of {} can't be summed up by", kind.name());
                instead(&what, by, kind.by().iter().copied())
            })
        });
        let by = by.transpose()?;
        let sort = match (self.sort.as_deref(), by) {
            (None, Some("minute")) => (Order::Key, false),
            (None, Some(_)) if kind == HistoryKind::Audit => (Order::Count, false),
            (None, _) => (Order::Bytes, false),
            (Some(_), None) => {
                return Err(ApiError::bad_request(
                    "`sort` is for sums (`by`): rows come latest first",
                ));
            }
            (Some(text), Some(_)) => {
                let (name, turned) =
                    text.strip_prefix('-').map_or((text, false), |name| (name, true));
                let order = Order::ALL.iter().find(|(word, _)| *word == name);
                let (_, order) = order.ok_or_else(|| {
                    query::unsortable(name, Order::ALL.iter().map(|(word, _)| *word))
                })?;
                (*order, turned)
            }
        };
        let most = match (by, self.top, self.limit) {
            (Some(_), Some(_), Some(_)) => {
                return Err(ApiError::bad_request("give only one of `top` and `limit`"));
            }
            (None, Some(_), _) => {
                return Err(ApiError::bad_request("`top` is for sums (`by`); rows take `limit`"));
            }
            (Some("minute"), None, None) => MAX_LIMIT,
            (Some(_), top, limit) => top.or(limit).unwrap_or(DEFAULT_TOP),
            (None, None, limit) => limit.unwrap_or(DEFAULT_LIMIT),
        };
        let text = self.filter.as_deref().unwrap_or("");
        let filter = match kind {
            HistoryKind::Sockets => filter::<SocketView>(kind, text)?,
            HistoryKind::Flows => filter::<FlowView>(kind, text)?,
            HistoryKind::Verdicts => filter::<VerdictMinuteView>(kind, text)?,
            HistoryKind::Rules => filter::<RuleMinuteView>(kind, text)?,
            HistoryKind::Nat => filter::<NatMappingView>(kind, text)?,
            HistoryKind::Audit => filter::<DeedView>(kind, text)?,
        };
        let span = Span { since_ms, until_ms };
        Ok(Asked { kind, span, filter, by, most: most.min(MAX_LIMIT), sort })
    }
}

fn filter<T: Subject>(kind: HistoryKind, text: &str) -> Result<Option<Filter>, ApiError> {
    let filter = query::filter::<T>(text)?;
    if let Some(filter) = &filter {
        kind.check(filter, T::KIND).map_err(query::bad_filter)?;
    }
    Ok(filter)
}

/// Answers at once, from what is written by now.
///
/// # Errors
/// The question makes no sense; 503 `history`: it can't be read.
pub fn ask(history: &History, query: &HistoryQuery) -> Result<Value, ApiError> {
    answer(history, &query.asked(now_ms())?)
}

/// Answers.
///
/// # Errors
/// The question makes no sense; 503 `history`: none is kept, or it can't be read.
pub async fn history(history: Option<History>, query: &HistoryQuery) -> Result<Value, ApiError> {
    let asked = query.asked(now_ms())?;
    let history = history.ok_or_else(|| {
        unavailable(
            "no history is kept; `[history] enabled = true` in sluice.toml keeps one".into(),
        )
    })?;
    tokio::task::spawn_blocking(move || {
        // Whoever asks wants to see what was just sent; where the disk is slow, what is there.
        history.settle(SETTLE);
        answer(&history, &asked)
    })
    .await
    .map_err(|error| ApiError::internal(error.to_string()))?
}

fn unavailable(message: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "history", message)
}

fn failed(error: StoreError) -> ApiError {
    let code = if matches!(error, StoreError::Slow(_)) { "history-slow" } else { "history" };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
}

fn answer(history: &History, asked: &Asked) -> Result<Value, ApiError> {
    let (mut data, more) = match asked.by {
        Some(by) => {
            let mut all = sums(history, asked, by)?;
            put_in_order(&mut all, asked.sort);
            let total = all.len();
            all.truncate(asked.most);
            let rows: Vec<HistorySumView> = all.into_iter().map(rows::sums).collect();
            (json!({"rows": rows, "total": total}), total > asked.most)
        }
        None => {
            let mut found: Vec<Value> = Vec::new();
            let mut more = false;
            each(history, asked, &mut |row| {
                more = found.len() == asked.most;
                if let (Found::Row(row), false) = (row, more) {
                    found.push(row);
                }
                !more
            })?;
            (json!({"rows": found, "total": null}), more)
        }
    };
    if let Value::Object(object) = &mut data {
        let until = asked.span.until_ms;
        object.insert("kind".into(), asked.kind.name().into());
        object.insert("by".into(), asked.by.into());
        object.insert("since".into(), when::show(asked.span.since_ms).into());
        object.insert(
            "until".into(),
            if until == i64::MAX { Value::Null } else { when::show(until).into() },
        );
        object.insert("whole_since".into(), when::show(history.since().map_err(failed)?).into());
        object.insert("more".into(), more.into());
    }
    Ok(data)
}

fn put_in_order(all: &mut [(String, Sums)], (order, turned): (Order, bool)) {
    // Ties by key, so that the same rows come in the same order.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    match order {
        Order::Bytes => all.sort_by_key(|(_, sums)| {
            Reverse(u128::from(sums.bytes) + u128::from(sums.reply_bytes))
        }),
        Order::Packets => all.sort_by_key(|(_, sums)| {
            Reverse(u128::from(sums.packets) + u128::from(sums.reply_packets))
        }),
        Order::Count => all.sort_by_key(|(_, sums)| Reverse(sums.count)),
        Order::First => all.sort_by_key(|(_, sums)| Reverse(sums.first_ms)),
        Order::Last => all.sort_by_key(|(_, sums)| Reverse(sums.last_ms)),
        Order::Key => {}
    }
    if turned {
        all.reverse();
    }
}

fn sums(
    history: &History,
    asked: &Asked,
    by: &'static str,
) -> Result<Vec<(String, Sums)>, ApiError> {
    if let Some((table, dim)) = asked.kind.dim(by) {
        let of = if table == Past::Sockets { SubjectKind::Socket } else { SubjectKind::Flow };
        let condition =
            asked.filter.as_ref().map(|filter| asked.kind.condition(&filter.simple(), of));
        // Where the database can do all of the filter, it sums up too.
        let whole = match &condition {
            None => Some(None),
            Some((Some(condition), true)) => Some(Some(condition)),
            Some(_) => None,
        };
        if let Some(condition) = whole {
            let mut all = history.sums(table, asked.span, condition, dim).map_err(failed)?;
            if matches!(dim, crate::store::Dim::FlowProtocol) {
                for (key, _) in &mut all {
                    *key = key.parse().map_or_else(|_| key.clone(), text::proto);
                }
            }
            return Ok(all);
        }
    }
    let mut all: HashMap<String, Sums> = HashMap::new();
    let mut too_many = false;
    each(history, asked, &mut |row| {
        let Found::Sum(key, sums) = row else { return true };
        too_many = all.len() >= KEYS && !all.contains_key(&key);
        if !too_many {
            all.entry(key).or_default().add(&sums);
        }
        !too_many
    })?;
    if too_many {
        return Err(ApiError::bad_request(format!(
            "more than {KEYS} different keys: give a shorter time, or a narrower filter"
        )));
    }
    Ok(all.into_iter().collect())
}

/// What is made of a row that the filter matches.
enum Found {
    /// The row itself.
    Row(Value),
    /// What it is summed up under, and what it adds.
    Sum(String, Sums),
}

/// Gives away what is made of each row that is asked for, as long as it is wanted.
fn each(
    history: &History,
    asked: &Asked,
    give: &mut dyn FnMut(Found) -> bool,
) -> Result<(), ApiError> {
    let span = asked.span;
    let condition = |of| {
        let simple = asked.filter.as_ref().map(Filter::simple)?;
        asked.kind.condition(&simple, of).0
    };
    match asked.kind {
        HistoryKind::Sockets => {
            history.sockets(span, condition(SubjectKind::Socket).as_ref(), &mut |row| {
                let at = row.end_ms;
                take(asked, at, &rows::socket(row), rows::socket_sum, give)
            })
        }
        HistoryKind::Flows => {
            history.flows(span, condition(SubjectKind::Flow).as_ref(), &mut |row| {
                let at = row.end_ms;
                take(asked, at, &rows::flow(row), rows::flow_sum, give)
            })
        }
        HistoryKind::Verdicts => history.verdict_minutes(span, &mut |row| {
            let at = row.minute * 60_000;
            take(asked, at, &rows::verdict(row), rows::verdict_sum, give)
        }),
        HistoryKind::Rules => history.rule_minutes(span, &mut |row| {
            let at = row.minute * 60_000;
            take(asked, at, &rows::rule(row), rows::rule_sum, give)
        }),
        HistoryKind::Audit => history.deeds(span, &mut |row| {
            let at = row.at_ms;
            take(asked, at, &rows::deed(row), rows::deed_sum, give)
        }),
        HistoryKind::Nat => {
            let filter = BindingFilter {
                since_ms: Some(span.since_ms),
                until_ms: Some(span.until_ms),
                ..BindingFilter::default()
            };
            history.each_binding(&filter, &mut |row| {
                let at = row.end_ms.unwrap_or(row.binding.start_ms);
                take(asked, at, &rows::mapping(&row), rows::mapping_sum, give)
            })
        }
    }
    .map_err(failed)
}

/// Gives away what is made of a row, if the filter matches it; whether more is wanted.
fn take<T: Subject + Serialize>(
    asked: &Asked,
    at_ms: i64,
    row: &T,
    sum: fn(&T, &str) -> (String, Sums),
    give: &mut dyn FnMut(Found) -> bool,
) -> bool {
    if !asked.filter.as_ref().is_none_or(|filter| filter.matches(row)) {
        return true;
    }
    give(match asked.by {
        None => Found::Row(serde_json::to_value(row).unwrap_or_default()),
        Some("minute") => {
            let (_, sums) = sum(row, "minute");
            let minute = when::show(at_ms - at_ms.rem_euclid(60_000));
            Found::Sum(minute, Sums { first_ms: at_ms, last_ms: at_ms, ..sums })
        }
        Some(by) => {
            let (key, sums) = sum(row, by);
            Found::Sum(key, Sums { first_ms: at_ms, last_ms: at_ms, ..sums })
        }
    })
}
