//! `sluice summary by process|exe|user|host|unit|protocol`.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{
    server::client::Client,
    view::{SummaryRowView, SummaryStatView, SummaryView},
};
use serde_json::{Value, json};
use std::process::ExitCode;

pub async fn by(out: &Out, client: &Client, what: &str, top: usize) -> Result<ExitCode, CliError> {
    let path = format!("/api/v1/summary?by={what}&limit={top}");
    let summary: SummaryView = client.get(&path).await?;
    let heads = [
        Head::text("KEY"),
        Head::number("LIVE"),
        Head::number("TOTAL"),
        Head::number("SENT"),
        Head::number("RECEIVED"),
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
    out.rows(&summary.rows, &heads, |row| {
        let tone = if row.key == "other" { Tone::Odd } else { Tone::Plain };
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
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &SummaryRowView) -> Vec<String> {
    let spread = |stat: &SummaryStatView, show: fn(u64) -> String| {
        if stat.count == 0 {
            "-".to_owned()
        } else {
            format!("{}/{}", show(stat.p50), show(stat.p99))
        }
    };
    vec![
        format::clean(&row.key),
        format::count(row.live),
        format::count(row.total),
        format::bytes(row.sent_bytes),
        format::bytes(row.received_bytes),
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

pub async fn reset(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let answer: Value = client.post("/api/v1/summary/reset", &json!({})).await?;
    if out.json {
        out.object(&answer)?;
    } else {
        out.line("summaries begin anew")?;
    }
    Ok(ExitCode::SUCCESS)
}
