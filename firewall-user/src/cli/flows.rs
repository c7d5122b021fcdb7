//! `sluice flows` and `sluice flow kill`.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
    page::{self, Page},
};
use crate::{
    server::client::{Client, escape},
    view::{FlowView, KilledView},
};
use serde_json::{Value, json};
use std::{io::Write, process::ExitCode};

/// More rows than a list has: they come unsorted, as the table is read.
const MANY: usize = 100_000;
/// Rows that are shown of what was killed.
const SHOWN: usize = 20;

pub async fn list(
    out: &Out,
    client: &Client,
    filter: &str,
    limit: usize,
    sort: Option<&str>,
) -> Result<ExitCode, CliError> {
    if out.json && (sort == Some("none") || (sort.is_none() && limit > MANY)) {
        let path = format!("/api/v1/flows?filter={}&limit={limit}", escape(filter));
        let mut stdout = std::io::stdout().lock();
        client.rows(&path, |piece| Ok::<_, CliError>(stdout.write_all(piece)?)).await?;
        stdout.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let sort = page::sorted(sort);
    let path = format!("/api/v1/flows?filter={}&limit={limit}{sort}", escape(filter));
    let answer: Page<FlowView> = client.get(&path).await?;
    table(out, &answer.rows)?;
    page::more(out, &answer, "flows")?;
    Ok(ExitCode::SUCCESS)
}

fn table(out: &Out, rows: &[FlowView]) -> Result<(), CliError> {
    const HEADS: [Head; 12] = [
        Head::text("PROTO"),
        Head::text("FROM"),
        Head::text("TO"),
        Head::text("STATE"),
        Head::text("DIR"),
        Head::text("RULE"),
        Head::number("PACKETS"),
        Head::number("BYTES"),
        Head::number("BACK"),
        Head::number("AGE"),
        Head::number("IDLE"),
        Head::number("LEFT"),
    ];
    // Where nothing is translated the column would only be wide.
    let nat = rows.iter().any(|flow| flow.nat.is_some()).then_some(Head::text("NAT"));
    let heads: Vec<Head> =
        HEADS[..3].iter().copied().chain(nat).chain(HEADS[3..].to_vec()).collect();
    out.rows(rows, &heads, |flow| {
        let tone = if flow.ended.is_some() { Tone::Dim } else { Tone::Plain };
        let mut cells = vec![
            (flow.proto.clone(), tone),
            (format::endpoint(&flow.src, flow.sport), tone),
            (format::endpoint(&flow.dst, flow.dport), tone),
        ];
        cells.extend(nat.map(|_| (translation(flow), tone)));
        cells.extend([
            (format::flow_state(flow), if flow.verdict == "allow" { tone } else { Tone::Bad }),
            (flow.direction.clone(), tone),
            (flow.rule.clone(), tone),
            (format::count(flow.packets + flow.reply_packets), tone),
            (format::bytes(flow.bytes), tone),
            (format::bytes(flow.reply_bytes), tone),
            (format::duration(flow.age_ms), tone),
            (format::duration(flow.idle_ms), tone),
            (format::duration(flow.timeout_ms), tone),
        ]);
        cells
    })
}

fn translation(flow: &FlowView) -> String {
    let Some(nat) = &flow.nat else { return "-".to_owned() };
    format::translation(
        [(&flow.src, flow.sport), (&flow.dst, flow.dport)],
        [(&nat.src, nat.sport), (&nat.dst, nat.dport)],
    )
}

pub async fn kill(
    out: &Out,
    client: &Client,
    filter: &str,
    dry_run: bool,
) -> Result<ExitCode, CliError> {
    let body = json!({"filter": filter, "dry_run": dry_run, "limit": SHOWN});
    if out.json {
        // As it came: a newer daemon may say more than this binary knows.
        let answer: Value = client.post("/api/v1/flows/kill", &body).await?;
        out.object(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer: KilledView = client.post("/api/v1/flows/kill", &body).await?;
    if !answer.rows.is_empty() {
        table(out, &answer.rows)?;
    }
    let flows = if answer.total == 1 { "flow" } else { "flows" };
    let done = if answer.dry_run { "would be killed" } else { "killed" };
    out.line(format!("{} {flows} {done}", format::count(answer.total)))?;
    Ok(ExitCode::SUCCESS)
}
