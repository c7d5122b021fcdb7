//! `sluice summary`.

use super::{
    args::{SummaryCommand, SummaryRows},
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{
    server::client::{Client, escape},
    view::{SummaryRowView, SummaryStatView, SummaryView},
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// What the sockets did.
const DEEDS: [Head; 16] = [
    Head::text("KEY"),
    Head::number("LIVE"),
    Head::number("TOTAL"),
    Head::number("SENT"),
    Head::number("RECEIVED"),
    Head::number("PACKETS OUT/IN"),
    Head::number("CONNECTS"),
    Head::number("p50/p99"),
    Head::number("ACCEPTS"),
    Head::number("p50/p99"),
    Head::number("WRITES"),
    Head::number("p50/p99"),
    Head::number("READS"),
    Head::number("p50/p99"),
    Head::number("RESENT"),
    Head::number("LIVED p50/p99"),
];

/// Who is connected.
const CONNECTIONS: [Head; 6] = [
    Head::text("KEY"),
    Head::number("CURRENT"),
    Head::number("TOTAL"),
    Head::number("SENT"),
    Head::number("RECEIVED"),
    Head::number("PACKETS OUT/IN"),
];

pub async fn run(
    out: &Out,
    client: &Client,
    command: SummaryCommand,
) -> Result<ExitCode, CliError> {
    let (what, rows) = match command {
        SummaryCommand::By { what, rows } => {
            return show(out, client, &what, rows, &DEEDS, deeds).await;
        }
        SummaryCommand::Reset { what } => return reset(out, client, what).await,
        SummaryCommand::Users(rows) => ("user", rows),
        SummaryCommand::Hosts(rows) => ("host", rows),
        SummaryCommand::Accounts(rows) => ("account", rows),
    };
    let sort = rows.sort.or_else(|| Some("connected".to_owned()));
    show(out, client, what, SummaryRows { sort, ..rows }, &CONNECTIONS, connections).await
}

async fn show(
    out: &Out,
    client: &Client,
    what: &str,
    asked: SummaryRows,
    heads: &[Head],
    cells: fn(&SummaryRowView) -> Vec<String>,
) -> Result<ExitCode, CliError> {
    let SummaryRows { filter, sort, top } = asked;
    let mut path = format!("/api/v1/summary?by={what}&limit={top}");
    for (name, value) in [("filter", filter), ("sort", sort)] {
        if let Some(value) = value {
            path = format!("{path}&{name}={}", escape(&value));
        }
    }
    let summary: SummaryView = client.get(&path).await?;
    out.rows(&summary.rows, heads, |row| {
        let tone = if row.other { Tone::Odd } else { Tone::Plain };
        cells(row).into_iter().map(|text| (text, tone)).collect()
    })?;
    if out.json {
        return Ok(ExitCode::SUCCESS);
    }
    if summary.total > summary.rows.len() as u64 {
        let note = format!(
            "{} of {} rows; --top shows more",
            summary.rows.len(),
            format::count(summary.total)
        );
        out.line(out.paint(&note, Tone::Dim))?;
    }
    if summary.folded > 0 {
        let note = format!("{} rows were folded into `other`", format::count(summary.folded));
        out.line(out.paint(&note, Tone::Odd))?;
    }
    if summary.lost > 0 {
        let lost = format::count(summary.lost);
        let note =
            format!("{lost} sockets are in `other` as there was no room for a row of theirs");
        out.line(out.paint(&note, Tone::Odd))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the row is about; a host with its name, where one was observed.
fn key(row: &SummaryRowView) -> String {
    let key = format::clean(&row.key);
    match &row.name {
        Some(name) => format!("{key} ({})", format::clean(name)),
        None => key,
    }
}

fn packets(row: &SummaryRowView) -> String {
    format!("{}/{}", format::count(row.sent_packets), format::count(row.received_packets))
}

fn connections(row: &SummaryRowView) -> Vec<String> {
    vec![
        key(row),
        format::count(row.connected),
        format::count(row.connections),
        format::bytes(row.sent_bytes),
        format::bytes(row.received_bytes),
        packets(row),
    ]
}

fn deeds(row: &SummaryRowView) -> Vec<String> {
    let spread = |stat: &SummaryStatView, show: fn(u64) -> String| {
        if stat.count == 0 {
            "-".to_owned()
        } else {
            format!("{}/{}", show(stat.p50), show(stat.p99))
        }
    };
    vec![
        key(row),
        format::count(row.live),
        format::count(row.total),
        format::bytes(row.sent_bytes),
        format::bytes(row.received_bytes),
        packets(row),
        format::count(row.connect_us.count),
        spread(&row.connect_us, micros),
        format::count(row.accept_us.count),
        spread(&row.accept_us, micros),
        format::count(row.write_bytes.count),
        spread(&row.write_bytes, format::bytes),
        format::count(row.read_bytes.count),
        spread(&row.read_bytes, format::bytes),
        format::count(row.retransmits.sum),
        spread(&row.life_us, micros),
    ]
}

/// A short time.
fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

async fn reset(out: &Out, client: &Client, what: Option<String>) -> Result<ExitCode, CliError> {
    let body = what.as_ref().map_or_else(|| json!({}), |what| json!({"by": what}));
    let answer: Value = client.post("/api/v1/summary/reset", &body).await?;
    if out.json {
        out.object(&answer)?;
    } else if let Some(what) = what {
        out.line(format!("the summary by {what} begins anew"))?;
    } else {
        out.line("summaries begin anew")?;
    }
    Ok(ExitCode::SUCCESS)
}
