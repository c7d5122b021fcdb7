//! `sluice explain`.

use super::{
    format,
    out::{CliError, Out, Tone},
};
use crate::{
    explain::{
        capture::{self, CaptureError, Captured},
        hex_text,
    },
    server::client::Client,
    view::{ExplainView, ExplainedRuleView, MissView},
};
use clap::Args;
use serde_json::json;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
};

const AFTER: &str = "Packets:
  in on wan tcp 203.0.113.9:4242 > 10.0.0.5:22 syn
  out on eth1 udp [2001:db8::1]:5000 > [2001:db8::2]:53 length 30
  in on eth0 vlan 5 icmp 10.0.0.1 > 10.0.0.2 type echo-request
  in on eth0 tcp 10.0.0.9:4242 > 10.0.0.5:22 ack state established
  in on eth0 hex 020000000002020000000001 0800 4500...
  in on eth0                                  (with --pcap: the frame is in the file)
docs/explain.md has the whole language.";

/// `sluice explain`.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct ExplainArgs {
    /// The packet: direction, interface, protocol, addresses, and what else is to be said of it
    #[arg(required = true, value_name = "PACKET")]
    packet: Vec<String>,
    /// Take the frame from a capture file (pcap, pcapng)
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Which packet of the file, from 1
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap", value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
    /// Show each rule before the deciding one, however many conditions it misses
    #[arg(long)]
    all: bool,
}

/// Asks, and says what came of it.
///
/// # Errors
/// The packet has a mistake, the file can't be read, or the daemon said no.
pub async fn explain(out: &Out, client: &Client, args: ExplainArgs) -> Result<ExitCode, CliError> {
    let ExplainArgs { packet, pcap, number, all } = args;
    let mut body = json!({"packet": packet.join(" "), "all": all});
    if let Some(file) = pcap {
        let Captured { bytes, length, .. } = nth(&file, number)?;
        body["frame"] = hex_text(&bytes).into();
        body["length"] = length.into();
    }
    let view: ExplainView = client.post("/api/v1/explain", &body).await?;
    if out.json {
        out.object(&view)?;
    } else {
        show(out, &view)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A packet of a capture file.
fn nth(file: &Path, number: u64) -> Result<Captured, CliError> {
    let mut found = None;
    let mut seen = 0;
    read(file, |packet| {
        seen = packet.number;
        if packet.number == number {
            found = Some(packet);
        }
        Ok(found.is_none())
    })?;
    found.ok_or_else(|| {
        CliError::Failed(format!("{}: packet {number} isn't there; it has {seen}", file.display()))
    })
}

/// Gives `each` every packet of a file, until it says false.
///
/// # Errors
/// The file can't be read, or is no capture of frames.
pub fn read(
    file: &Path,
    each: impl FnMut(Captured) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let named =
        |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", file.display()));
    let opened = File::open(file).map_err(|error| named(&error))?;
    capture::read(opened, each).map_err(|error| match error {
        CliError::Capture(error) => named(&error),
        other => other,
    })
}

impl From<CaptureError> for CliError {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

fn show(out: &Out, view: &ExplainView) -> Result<(), CliError> {
    let label = |name: &str, text: &str| out.line(format!("{name:<9} {}", format::clean(text)));
    let at = format!("{} on {}, {} bytes", view.direction, view.interface, view.length);
    label("packet", &format!("{} ({at})", view.packet))?;
    match &view.state {
        Some(state) => label("flow", &format!("{state}: {}", view.tracking))?,
        None => label("flow", &view.tracking)?,
    }
    if let Some(flow) = &view.flow {
        label(
            "",
            &format!(
                "live flow {}: {} {}:{} > {}:{} {}, {} by {}, {} packets, {} in reply",
                flow.id,
                flow.proto,
                flow.src,
                flow.sport,
                flow.dst,
                flow.dport,
                flow.state,
                flow.verdict,
                flow.rule,
                flow.packets,
                flow.reply_packets
            ),
        )?;
    }
    if let Some(seen) = &view.seen {
        let by = view.translation.as_ref().map(|nat| format!(" (translated by {nat})"));
        label("rules see", &format!("{seen}{}", by.unwrap_or_default()))?;
    }
    if view.hidden > 0 {
        let text = format!("{} that miss more than one condition (--all shows them)", view.hidden);
        label("rules", &out.paint(&text, Tone::Dim))?;
    }
    let width = view.rules.iter().map(|rule| rule.rule.chars().count()).max().unwrap_or(0);
    for rule in &view.rules {
        let tone = match (rule.met, rule.decides) {
            (_, true) => Tone::of_verdict(&rule.action),
            (true, false) => Tone::Plain,
            (false, false) => Tone::Dim,
        };
        let name = format!("{:<width$}", rule.rule);
        let line = format!("rule {:>4} {name}  {}", rule.position, fate(rule));
        out.line(out.paint(&format::clean(&line), tone))?;
    }
    let verdict = out.paint(&view.verdict, Tone::of_verdict(&view.verdict));
    let by = view.rule.as_ref().map(|rule| format!(" by {}", format::clean(rule)));
    out.line(format!("{:<9} {verdict}: {}{}", "verdict", view.reason, by.unwrap_or_default()))?;
    if let Some(packet) = &view.becomes_packet {
        let what = if view.action == "answer" { "answer" } else { "goes on as" };
        label(what, packet)?;
    }
    for counter in &view.counters {
        let moved = match counter.kind.as_str() {
            "event" => format!("+{}", counter.hits),
            "rule" => format!(
                "+{} hits, +{} packets, +{} bytes",
                counter.hits, counter.packets, counter.bytes
            ),
            _ => format!("+{} packets, +{} bytes", counter.packets, counter.bytes),
        };
        label("counter", &format!("{} {}: {moved}", counter.kind, counter.name))?;
    }
    for note in &view.notes {
        label("note", note)?;
    }
    for warning in &view.warnings {
        out.line(out.paint(&format!("WARNING   {}", format::clean(warning)), Tone::Bad))?;
    }
    out.line(out.paint(
        &format!("judged by generation {} at {}; nothing was changed", view.generation, view.hook),
        Tone::Dim,
    ))
}

fn fate(rule: &ExplainedRuleView) -> String {
    if rule.met {
        return format!("met: {}", rule.action);
    }
    format!("miss: {}", rule.misses.iter().map(miss).collect::<Vec<_>>().join("; "))
}

fn miss(miss: &MissView) -> String {
    let MissView { field, seen, expected } = miss;
    let several = expected.starts_with(['{', '@']);
    match expected.strip_prefix("not ") {
        Some(list) => format!("{field} {seen} is {list}, which the rule leaves out"),
        None if several => format!("{field} {seen} is not in {expected}"),
        None => format!("{field} {seen} is not {expected}"),
    }
}
