//! Lists as the API answers them: a table, and how much of it isn't shown.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::server::client::{Client, escape};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::process::ExitCode;

/// A list; `total` where it may be longer than what is shown.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub rows: Vec<T>,
    #[serde(default)]
    pub total: u64,
    /// What can't be seen on this machine.
    #[serde(default)]
    pub limits: Vec<String>,
}

/// Asks for a list and prints it; where it is empty, that there are no `what`.
pub async fn print<T: Serialize + DeserializeOwned>(
    out: &Out,
    client: &Client,
    path: &str,
    what: &str,
    heads: &[Head],
    cells: impl Fn(&T) -> Vec<(String, Tone)>,
) -> Result<ExitCode, CliError> {
    let page: Page<T> = client.get(path).await?;
    if page.rows.is_empty() && !out.json {
        out.line(out.paint(&format!("no {what}"), Tone::Dim))?;
        return Ok(ExitCode::SUCCESS);
    }
    out.rows(&page.rows, heads, cells)?;
    more(out, &page, what)?;
    Ok(ExitCode::SUCCESS)
}

/// Says, to people, how many of the list aren't shown.
pub fn more<T>(out: &Out, page: &Page<T>, what: &str) -> Result<(), CliError> {
    let shown = page.rows.len();
    if !out.json && page.total > shown as u64 {
        let note = format!("{shown} of {} {what}; --limit shows more", format::count(page.total));
        out.line(out.paint(&note, Tone::Dim))?;
    }
    Ok(())
}

/// The part of a query that asks for an order.
pub fn sorted(sort: Option<&str>) -> String {
    sort.map(|sort| format!("&sort={}", escape(sort))).unwrap_or_default()
}
