//! Live sets, as they are asked for.

use super::{
    api::{done, parse},
    arguments::Nothing,
    error::ApiError,
};
use crate::{
    daemon::control::{
        Control,
        sets::{Shown, Source},
    },
    policy::units,
    sets::LiveError,
};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Entries of a page, if nobody says.
const PAGE: usize = 1_000;
/// Most entries of a page: they are JSON.
const MOST: usize = 100_000;

/// `sets.show`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowArgs {
    name: String,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    after: usize,
    #[serde(default)]
    limit: Option<usize>,
}

/// `sets.add`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddArgs {
    name: String,
    entries: Vec<String>,
    #[serde(default)]
    timeout: Option<String>,
}

/// `sets.delete`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteArgs {
    name: String,
    entries: Vec<String>,
}

/// `sets.flush`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlushArgs {
    name: String,
}

/// `sets.load`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadArgs {
    name: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    file: bool,
    #[serde(default)]
    add: bool,
    /// What the list is called where it comes from.
    #[serde(default)]
    called: Option<String>,
}

/// `sets.test`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestArgs {
    name: String,
    entry: String,
}

/// Does a verb.
pub async fn answer(control: &Control, verb: &str, args: Value) -> Result<Value, ApiError> {
    match verb {
        "sets" => {
            let Nothing {} = parse(args)?;
            Ok(json!({"rows": control.list_sets().await?}))
        }
        "sets.show" => {
            let ShowArgs { name, filter, after, limit } = parse(args)?;
            let limit = limit.unwrap_or(PAGE).min(MOST);
            done(control.show_set(name, Shown { filter, after, limit }).await?)
        }
        "sets.add" => {
            let AddArgs { name, entries, timeout } = parse(args)?;
            some(&entries)?;
            let timeout = timeout.map(|text| duration(&text)).transpose()?;
            done(control.add_to_set(name, entries, timeout).await?)
        }
        "sets.delete" => {
            let DeleteArgs { name, entries } = parse(args)?;
            some(&entries)?;
            done(control.delete_from_set(name, entries).await?)
        }
        "sets.flush" => {
            let FlushArgs { name } = parse(args)?;
            let change = control.flush_set(name).await?;
            log::info!("set `{}`: flushed of {} entries", change.name, change.deleted);
            done(change)
        }
        "sets.load" => {
            let LoadArgs { name, text, file, add, called } = parse(args)?;
            let source = match (text, file) {
                (Some(text), false) => {
                    let called = called.unwrap_or_else(|| "the list".to_owned());
                    Source::Text { text, called }
                }
                (None, true) => Source::File,
                _ => {
                    return Err(ApiError::bad_request(
                        "expected either `text`, a list, or `file: true`, for the file that the policy names",
                    ));
                }
            };
            let change = control.load_set(name, source, add).await?;
            log::info!("set `{}`: loaded, {} entries now", change.name, change.entries);
            done(change)
        }
        _ => {
            let TestArgs { name, entry } = parse(args)?;
            done(control.test_set(name, entry).await?)
        }
    }
}

fn some(entries: &[String]) -> Result<(), ApiError> {
    if entries.is_empty() {
        return Err(ApiError::bad_request("`entries` is empty; expected at least one"));
    }
    Ok(())
}

fn duration(text: &str) -> Result<u64, ApiError> {
    units::duration_ms(text).filter(|ms| *ms > 0).ok_or_else(|| {
        ApiError::bad_request(format!(
            "`timeout` is `{text}`, expected a duration such as `30s`, `10m` or `1d12h`"
        ))
    })
}

/// Why a set isn't as it was to be.
pub fn refused(error: &LiveError, message: String) -> ApiError {
    let (status, code) = match error {
        LiveError::TooMany(_) | LiveError::Size { .. } => (StatusCode::CONFLICT, "set-full"),
        LiveError::Kind { .. } | LiveError::Lasting { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "bad-entry")
        }
        LiveError::Kernel { .. } | LiveError::Nowhere => {
            (StatusCode::SERVICE_UNAVAILABLE, "datapath")
        }
    };
    ApiError::new(status, code, message)
}
