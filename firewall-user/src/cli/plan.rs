//! `sluice rules --plan`.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{server::client::Client, view::PlanView};
use std::process::ExitCode;

/// Prints how the live policy is laid out.
pub async fn print(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let plan: PlanView = client.get("/api/v1/plan").await?;
    if out.json {
        out.object(&plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    out.line(format!(
        "generation {}: {} rules, {} parts, {} of tables in a map of {}",
        plan.generation,
        plan.rules,
        plan.parts.len(),
        format::bytes(plan.bytes as u64),
        format::bytes(plan.room as u64)
    ))?;
    if !plan.gates.is_empty() {
        out.line(format!("asked first: {}", plan.gates.join(", ")))?;
    }
    const HEADS: [Head; 7] = [
        Head::number("PART"),
        Head::text("ASKED"),
        Head::number("RULES"),
        Head::number("ROWS"),
        Head::number("WORDS"),
        Head::number("BYTES"),
        Head::text("ADDRESSES"),
    ];
    out.rows(&plan.parts, &HEADS, |part| {
        [
            part.part.to_string(),
            part.asked.clone(),
            format::count(part.rules as u64),
            format::count(part.rows as u64),
            part.words.to_string(),
            format::bytes(part.bytes as u64),
            part.addresses.clone().unwrap_or_else(|| "-".to_owned()),
        ]
        .into_iter()
        .map(|cell| (cell, Tone::Plain))
        .collect()
    })?;
    Ok(ExitCode::SUCCESS)
}
