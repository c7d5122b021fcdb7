//! `sluice history`.

use super::{
    format,
    list::today,
    out::{CliError, Head, Out, Tone},
};
use crate::server::client::{Client, escape};
use crate::view::HISTORY_KINDS;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::process::ExitCode;

/// `sluice history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only what matches, such as `comm=curl and remote=192.0.2.0/24`; fields are those of `sluice sockets`, `flows`, `nat mappings`
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// What of the history: sockets and flows that have ended; verdicts, rules: what the kernel counted in each minute; nat: mappings; audit: what people had the daemon do
    #[arg(long, default_value = "sockets", value_name = "KIND", value_parser = HISTORY_KINDS)]
    kind: String,
    /// From when: how long ago, such as `1h`, or a time such as `2026-11-22T10:00:00Z`
    #[arg(long, default_value = "24h", value_name = "TIME")]
    since: String,
    /// Until when [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Sum up by: process, exe, user, host (the remote one), name (of that), unit, rule, protocol, port, ended, minute (sockets); source, host, port, rule, protocol, ended, minute (flows); ...
    #[arg(long, value_name = "WHAT")]
    by: Option<String>,
    /// How many sums at most [default: 20; by minute: all]
    #[arg(long, value_name = "N", requires = "by")]
    top: Option<usize>,
    /// Put sums in order by: bytes, packets, count, first, last, key; `-WHAT` turns it round [default: bytes; by minute: key]
    #[arg(long, value_name = "WHAT", requires = "by", allow_hyphen_values = true)]
    sort: Option<String>,
    /// How many rows at most [default: 100]
    #[arg(long, value_name = "N", conflicts_with = "by")]
    limit: Option<usize>,
    /// Print comma-separated values (RFC 4180), with a line of names
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Debug, Deserialize)]
struct Answer {
    rows: Vec<Value>,
    total: Option<u64>,
    more: bool,
    since: String,
    whole_since: String,
}

/// The columns of CSV: what rows of a kind hold, but for what they only hold while they live.
fn columns(kind: &str, by: bool) -> &'static [&'static str] {
    match kind {
        _ if by => {
            &["key", "count", "packets", "bytes", "reply_packets", "reply_bytes", "first", "last"]
        }
        "flows" => &[
            "id",
            "proto",
            "family",
            "src",
            "sport",
            "dst",
            "dport",
            "state",
            "direction",
            "in_iface",
            "out_iface",
            "vlan",
            "verdict",
            "rule",
            "generation",
            "packets",
            "bytes",
            "reply_packets",
            "reply_bytes",
            "first",
            "last",
            "age_ms",
            "idle_ms",
            "ended",
        ],
        "verdicts" => &["minute", "verdict", "reason", "packets", "bytes"],
        "rules" => &["minute", "rule", "action", "hits", "packets", "bytes"],
        "nat" => &[
            "id",
            "proto",
            "inside",
            "inside_port",
            "public",
            "public_port",
            "remote",
            "remote_port",
            "remote_inside",
            "remote_inside_port",
            "kind",
            "rule",
            "origin",
            "began",
            "last",
            "packets",
            "bytes",
            "reply_packets",
            "reply_bytes",
        ],
        "audit" => &["time", "who", "verb", "detail", "outcome"],
        _ => &[
            "id",
            "proto",
            "family",
            "state",
            "local",
            "local_port",
            "remote",
            "remote_port",
            "name",
            "name_source",
            "netns",
            "own_netns",
            "uid",
            "user",
            "pid",
            "comm",
            "exe",
            "unit",
            "container",
            "confidence",
            "created",
            "closed",
            "age_ms",
            "connect_us",
            "sent_bytes",
            "received_bytes",
            "sends",
            "receives",
            "segments_out",
            "segments_in",
            "rtt_us",
            "retransmits",
            "flow",
            "rule",
            "ended",
        ],
    }
}

pub async fn run(out: &Out, client: &Client, args: HistoryArgs) -> Result<ExitCode, CliError> {
    let HistoryArgs { filter, kind, since, until, by, top, sort, limit, csv } = args;
    let mut path = format!(
        "/api/v1/history?kind={kind}&since={}&filter={}",
        escape(&since),
        escape(&filter.join(" "))
    );
    let numbers =
        [("top", top), ("limit", limit)].map(|(name, n)| (name, n.map(|n| n.to_string())));
    let texts = [("until", until), ("by", by.clone()), ("sort", sort)];
    for (name, value) in texts.into_iter().chain(numbers) {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(&value)));
        }
    }
    let answer: Answer = client.get(&path).await?;
    if csv {
        print_csv(columns(&kind, by.is_some()), &answer.rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    if answer.rows.is_empty() && !out.json {
        out.line(out.paint("nothing", Tone::Dim))?;
    } else {
        let (heads, cells) = table(&kind, by.is_some());
        let today = today();
        out.rows(&answer.rows, heads, |row| {
            cells(row, &today).into_iter().map(|text| (text, tone(row))).collect()
        })?;
    }
    if out.json {
        return Ok(ExitCode::SUCCESS);
    }
    if answer.more {
        let shown = answer.rows.len();
        let note = match answer.total {
            Some(total) => format!("{shown} of {}; --top shows more", format::count(total)),
            None => format!("the latest {shown}; --limit shows more"),
        };
        out.line(out.paint(&note, Tone::Dim))?;
    }
    if answer.whole_since > answer.since {
        let note = format!("whole from {} on: what was before isn't kept", answer.whole_since);
        out.line(out.paint(&note, Tone::Dim))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_csv(columns: &[&str], rows: &[Value]) -> Result<(), CliError> {
    let failed = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => CliError::Output(error),
        other => CliError::Failed(format!("{other:?}")),
    };
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    writer.write_record(columns).map_err(failed)?;
    for row in rows {
        let cells = columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        writer.write_record(cells).map_err(failed)?;
    }
    writer.flush()?;
    Ok(())
}

fn tone(row: &Value) -> Tone {
    match (row["ended"].as_str(), row["verdict"].as_str(), row["outcome"].as_str()) {
        (Some("dropped" | "refused" | "timed-out" | "no-route" | "reset" | "failed"), None, _) => {
            Tone::Odd
        }
        (_, Some("drop" | "reject"), _) => Tone::Bad,
        (_, _, Some(outcome)) if outcome != "done" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn text(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => format::clean(text),
        other => other.to_string(),
    }
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_default()
}

fn time(row: &Value, field: &str, today: &str) -> String {
    row[field].as_str().map_or_else(|| "-".to_owned(), |at| format::time(at, today))
}

/// An end; `*` stands for any.
fn end(row: &Value, address: &str, port: &str) -> String {
    let port = u16::try_from(number(row, port)).unwrap_or_default();
    match (row[address].as_str().unwrap_or_default(), port) {
        ("0.0.0.0" | "::" | "", 0) => "*".to_owned(),
        ("0.0.0.0" | "::", port) => format!("*:{port}"),
        (address, port) => format::endpoint(address, port),
    }
}

type Cells = fn(&Value, &str) -> Vec<String>;

const SUMS: [Head; 8] = [
    Head::text("KEY"),
    Head::number("COUNT"),
    Head::number("BYTES"),
    Head::number("BACK"),
    Head::number("PACKETS"),
    Head::number("BACK"),
    Head::text("FIRST"),
    Head::text("LAST"),
];
const SOCKETS: [Head; 11] = [
    Head::text("CLOSED"),
    Head::text("PROTO"),
    Head::text("LOCAL"),
    Head::text("REMOTE"),
    Head::text("OWNER"),
    Head::text("USER"),
    Head::number("SENT"),
    Head::number("RECEIVED"),
    Head::number("LIVED"),
    Head::text("WHY"),
    Head::text("RULE"),
];
const FLOWS: [Head; 9] = [
    Head::text("LAST"),
    Head::text("PROTO"),
    Head::text("FROM"),
    Head::text("TO"),
    Head::number("BYTES"),
    Head::number("BACK"),
    Head::number("LIVED"),
    Head::text("WHY"),
    Head::text("RULE"),
];
const VERDICTS: [Head; 5] = [
    Head::text("MINUTE"),
    Head::text("VERDICT"),
    Head::text("REASON"),
    Head::number("PACKETS"),
    Head::number("BYTES"),
];
const RULES: [Head; 6] = [
    Head::text("MINUTE"),
    Head::text("RULE"),
    Head::text("ACTION"),
    Head::number("HITS"),
    Head::number("PACKETS"),
    Head::number("BYTES"),
];
const NAT: [Head; 9] = [
    Head::text("BEGAN"),
    Head::text("ENDED"),
    Head::text("PROTO"),
    Head::text("INSIDE"),
    Head::text("PUBLIC"),
    Head::text("REMOTE"),
    Head::text("KIND"),
    Head::number("BYTES"),
    Head::text("RULE"),
];
const AUDIT: [Head; 5] = [
    Head::text("TIME"),
    Head::text("WHO"),
    Head::text("VERB"),
    Head::text("OUTCOME"),
    Head::text("DETAIL"),
];

fn table(kind: &str, by: bool) -> (&'static [Head], Cells) {
    match kind {
        _ if by => (&SUMS, |row, today| {
            let key = text(row, "key");
            let minute = key.len() == 24 && key.get(10..11) == Some("T") && key.ends_with('Z');
            let key = if minute { format::time(&key, today) } else { key };
            vec![
                key,
                format::count(number(row, "count")),
                format::bytes(number(row, "bytes")),
                format::bytes(number(row, "reply_bytes")),
                format::count(number(row, "packets")),
                format::count(number(row, "reply_packets")),
                time(row, "first", today),
                time(row, "last", today),
            ]
        }),
        "flows" => (&FLOWS, |row, today| {
            vec![
                time(row, "last", today),
                text(row, "proto"),
                end(row, "src", "sport"),
                end(row, "dst", "dport"),
                format::bytes(number(row, "bytes")),
                format::bytes(number(row, "reply_bytes")),
                format::duration(number(row, "age_ms")),
                text(row, "ended"),
                text(row, "rule"),
            ]
        }),
        "verdicts" => (&VERDICTS, |row, today| {
            vec![
                time(row, "minute", today),
                text(row, "verdict"),
                text(row, "reason"),
                format::count(number(row, "packets")),
                format::bytes(number(row, "bytes")),
            ]
        }),
        "rules" => (&RULES, |row, today| {
            vec![
                time(row, "minute", today),
                text(row, "rule"),
                text(row, "action"),
                format::count(number(row, "hits")),
                format::count(number(row, "packets")),
                format::bytes(number(row, "bytes")),
            ]
        }),
        "nat" => (&NAT, |row, today| {
            vec![
                time(row, "began", today),
                time(row, "last", today),
                text(row, "proto"),
                end(row, "inside", "inside_port"),
                end(row, "public", "public_port"),
                end(row, "remote", "remote_port"),
                text(row, "kind"),
                format::bytes(number(row, "bytes") + number(row, "reply_bytes")),
                text(row, "rule"),
            ]
        }),
        "audit" => (&AUDIT, |row, today| {
            vec![
                time(row, "time", today),
                text(row, "who"),
                text(row, "verb"),
                text(row, "outcome"),
                text(row, "detail"),
            ]
        }),
        _ => (&SOCKETS, |row, today| {
            let owner = match row["pid"].as_u64() {
                Some(pid) => format!("{}/{pid}", text(row, "comm")),
                None => "?".to_owned(),
            };
            let lived = row["age_ms"].as_u64().map_or_else(|| "-".to_owned(), format::duration);
            vec![
                time(row, "closed", today),
                text(row, "proto"),
                end(row, "local", "local_port"),
                end(row, "remote", "remote_port"),
                owner,
                text(row, "user"),
                format::bytes(number(row, "sent_bytes")),
                format::bytes(number(row, "received_bytes")),
                lived,
                text(row, "ended"),
                text(row, "rule"),
            ]
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{
        DeedView, FlowView, HistorySumView, NatMappingView, RuleMinuteView, SocketView,
        VerdictMinuteView,
    };
    use serde::Serialize;

    /// Every column is a field of its rows.
    #[track_caller]
    fn holds<T: Serialize + Default>(kind: &str, by: bool) {
        let row = serde_json::to_value(T::default()).expect("JSON");
        for column in columns(kind, by) {
            assert!(row.get(column).is_some(), "{kind}: {column}");
        }
        let (heads, cells) = table(kind, by);
        assert_eq!(cells(&row, "").len(), heads.len(), "{kind}");
    }

    #[test]
    fn columns_are_fields() {
        holds::<HistorySumView>("sockets", true);
        holds::<SocketView>("sockets", false);
        holds::<FlowView>("flows", false);
        holds::<VerdictMinuteView>("verdicts", false);
        holds::<RuleMinuteView>("rules", false);
        holds::<NatMappingView>("nat", false);
        holds::<DeedView>("audit", false);
    }
}
