//! `sluice sockets`, `sluice socket kill`.

use super::{
    format,
    list::today,
    names,
    out::{CliError, Head, Out, Tone},
    page::{self, Page},
    policy::ssh_connection,
};
use crate::{
    server::client::{Client, escape},
    view::{KilledSocketsView, SocketStatsView, SocketView},
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Columns that only live sockets have.
const LIVE: [Head; 3] = [Head::number("OUT/S"), Head::number("IN/S"), Head::text("RULE")];

/// What is asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    pub filter: &'a str,
    pub limit: usize,
    pub sort: Option<&'a str>,
    pub ended: bool,
}

/// Columns that live and ended sockets have.
const COMMON: [Head; 9] = [
    Head::text("PROTO"),
    Head::text("STATE"),
    Head::text("LOCAL"),
    Head::text("REMOTE"),
    Head::text("OWNER"),
    Head::number("SENT"),
    Head::number("RECEIVED"),
    Head::number("RTT"),
    Head::number("RESENT"),
];

pub async fn list(out: &Out, client: &Client, asked: Asked<'_>) -> Result<ExitCode, CliError> {
    let Asked { filter, limit, sort, ended } = asked;
    let sort = page::sorted(sort);
    let path =
        format!("/api/v1/sockets?filter={}&limit={limit}&ended={ended}{sort}", escape(filter));
    let answer: Page<SocketView> = client.get(&path).await?;
    if answer.rows.is_empty() && !out.json {
        out.line(out.paint("no sockets", Tone::Dim))?;
    } else {
        let last =
            if ended { [Head::text("ENDED"), Head::text("WHY"), Head::text("RULE")] } else { LIVE };
        // Only where there are any: names are an option.
        let named = answer.rows.iter().any(|row| row.name.is_some());
        let name = named.then_some(Head::text("NAME"));
        let heads: Vec<Head> = COMMON.into_iter().chain(last).chain(name).collect();
        let today = today();
        out.rows(&answer.rows, &heads, |socket| {
            let mut cells = cells(socket, ended, &today);
            cells.extend(named.then(|| (name_of(socket), Tone::Plain)));
            cells
        })?;
    }
    if out.json {
        return Ok(ExitCode::SUCCESS);
    }
    page::more(out, &answer, "sockets")?;
    for limit in &answer.limits {
        out.line(out.paint(&format!("note: {limit}"), Tone::Odd))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn stats(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let stats: SocketStatsView = client.get("/api/v1/sockets/stats").await?;
    if out.json {
        out.object(&stats)?;
        return Ok(ExitCode::SUCCESS);
    }
    const HEADS: [Head; 4] = [
        Head::text("EVENTS"),
        Head::number("PRODUCED"),
        Head::number("DELIVERED"),
        Head::number("LOST"),
    ];
    out.line(format!(
        "{} live, {} ended kept, {} ended let go; {} descriptors read in {}",
        format::count(stats.live),
        format::count(stats.ended),
        format::count(stats.ended_dropped),
        format::count(stats.descriptors),
        millis(stats.snapshot_us),
    ))?;
    let tone =
        if stats.owners_unseen + stats.owners_overflowed > 0 { Tone::Odd } else { Tone::Plain };
    out.line(out.paint(&owners(&stats), tone))?;
    if let Some(exits) = exits(&stats) {
        out.line(out.paint(&exits, Tone::Odd))?;
    }
    out.rows(&stats.events, &HEADS, |row| {
        let tone = if row.lost > 0 { Tone::Bad } else { Tone::Plain };
        let counts = [row.produced, row.delivered, row.lost].map(format::count);
        std::iter::once(row.class.clone()).chain(counts).map(|text| (text, tone)).collect()
    })?;
    const TABLES: [Head; 5] = [
        Head::text("SUMMARY BY"),
        Head::number("ROWS"),
        Head::number("AT MOST"),
        Head::number("FOLDED"),
        Head::number("LOST"),
    ];
    out.line("")?;
    out.rows(&stats.tables, &TABLES, |row| {
        let tone = if row.folded + row.lost > 0 { Tone::Odd } else { Tone::Plain };
        let counts = [row.rows, row.capacity, row.folded, row.lost].map(format::count);
        std::iter::once(row.by.clone()).chain(counts).map(|text| (text, tone)).collect()
    })?;
    if stats.samples_without + stats.samples_forgotten > 0 {
        let note = format!(
            "over time: {} busy sockets have no room for samples, those of {} made room",
            format::count(stats.samples_without),
            format::count(stats.samples_forgotten),
        );
        out.line(out.paint(&note, Tone::Odd))?;
    }
    if let Some(names) = &stats.names {
        out.line("")?;
        names::say(out, names)?;
    }
    if stats.rules_lost + stats.rules_unsettled > 0 {
        let note = format!(
            "rules behind sockets: {} judgements weren't kept, {} sockets made room before theirs was found",
            format::count(stats.rules_lost),
            format::count(stats.rules_unsettled),
        );
        out.line(out.paint(&note, Tone::Odd))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of the looks at owners.
fn owners(stats: &SocketStatsView) -> String {
    format!(
        "{} owners to look at: {} seen, {} gone before, {} waiting, {} without room to wait; {} forgotten",
        format::count(stats.owners_met),
        format::count(stats.owners_seen),
        format::count(stats.owners_unseen),
        format::count(stats.owners_waiting),
        format::count(stats.owners_overflowed),
        format::count(stats.owners_forgotten),
    )
}

/// Ends of owners that were missed, if there were any.
fn exits(stats: &SocketStatsView) -> Option<String> {
    (stats.exits_unwatched + stats.exits_forgotten > 0).then(|| {
        format!(
            "ends of owners: {} times one couldn't be watched for, {} found no room",
            format::count(stats.exits_unwatched),
            format::count(stats.exits_forgotten),
        )
    })
}

/// Rows that are shown of those that were ended.
const SHOWN: usize = 100;

/// How to end sockets.
#[derive(Debug)]
pub struct How {
    pub dry_run: bool,
    pub force: bool,
    pub block: bool,
}

pub async fn kill(
    out: &Out,
    client: &Client,
    filter: &str,
    how: How,
) -> Result<ExitCode, CliError> {
    let How { dry_run, force, block } = how;
    let body = json!({
        "filter": filter,
        "dry_run": dry_run,
        "force": force,
        "block": block,
        "ssh_connection": ssh_connection(),
        "limit": SHOWN,
    });
    let code = |failed: usize| if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let answer: Value = client.post("/api/v1/sockets/kill", &body).await?;
    let killed: KilledSocketsView = serde_json::from_value(answer.clone())
        .map_err(|error| CliError::Failed(error.to_string()))?;
    if out.json {
        // As it came: a newer daemon may say more than this binary knows.
        out.object(&answer)?;
        return Ok(code(killed.failed.len()));
    }
    if !killed.rows.is_empty() {
        let heads: Vec<Head> = COMMON.into_iter().chain(LIVE).collect();
        out.rows(&killed.rows, &heads, |socket| cells(socket, false, ""))?;
    }
    let sockets = if killed.total == 1 { "socket" } else { "sockets" };
    let done = if killed.dry_run { "would be ended" } else { "ended" };
    out.line(format!("{} {sockets} {done}", format::count(killed.total)))?;
    if killed.spared > 0 {
        let note = format!(
            "{} left: the daemon's own, or the connection that you came by (--force)",
            format::count(killed.spared)
        );
        out.line(out.paint(&note, Tone::Odd))?;
    }
    if !killed.blocked.is_empty() {
        out.line("their remote addresses are refused from now on; to undo that:")?;
        for name in &killed.blocked {
            out.line(format!("  sluice rule delete {name}"))?;
        }
    }
    for failed in &killed.failed {
        out.line(out.paint(&format!("{}: {}", failed.id, failed.why), Tone::Bad))?;
    }
    Ok(code(killed.failed.len()))
}

fn cells(socket: &SocketView, ended: bool, today: &str) -> Vec<(String, Tone)> {
    let tone = match (socket.state.as_str(), socket.note.is_some()) {
        (_, true) => Tone::Odd,
        ("listen" | "unconnected", _) => Tone::Dim,
        _ => Tone::Plain,
    };
    let dash = || "-".to_owned();
    let mut cells = vec![
        socket.proto.clone(),
        socket.state.clone(),
        end(socket, &socket.local, socket.local_port),
        end(socket, &socket.remote, socket.remote_port),
        owner(socket),
        format::bytes(socket.sent_bytes),
        format::bytes(socket.received_bytes),
        socket.rtt_us.map_or_else(dash, millis),
        format::count(socket.retransmits),
    ];
    if ended {
        cells.push(socket.closed.as_deref().map_or_else(dash, |at| format::time(at, today)));
        cells.push(socket.ended.clone().unwrap_or_default());
    } else {
        cells.push(format::bytes(socket.sent_rate));
        cells.push(format::bytes(socket.received_rate));
    }
    cells.push(rule(socket));
    cells.into_iter().map(|text| (text, tone)).collect()
}

/// An end; `*` stands for any.
pub(super) fn end(socket: &SocketView, address: &str, port: u16) -> String {
    let any = matches!(address, "0.0.0.0" | "::");
    match (socket.family, any, port) {
        (0, ..) | (_, true, 0) => "*".to_owned(),
        (_, true, port) => format!("*:{port}"),
        _ => format::endpoint(address, port),
    }
}

/// Who owns it, and who uses it where that is somebody else.
pub(super) fn owner(socket: &SocketView) -> String {
    let name = |pid: Option<u32>, comm: &Option<String>| {
        pid.map(|pid| format!("{}/{pid}", format::clean(comm.as_deref().unwrap_or("?"))))
    };
    let mut text = name(socket.pid, &socket.comm).unwrap_or_else(|| "?".to_owned());
    if socket.owner_exited.is_some() && socket.ended.is_none() {
        text.push_str(" (exited)");
    }
    if let Some(user) = name(socket.user_pid, &socket.user_comm) {
        text = format!("{text} > {user}");
    }
    if socket.confidence == "held" {
        text.push('~');
    }
    text
}

pub(super) fn rule(socket: &SocketView) -> String {
    match (&socket.rule, socket.own_netns) {
        (Some(rule), _) => rule.clone(),
        (None, true) => "-".to_owned(),
        (None, false) => format!("(netns {})", socket.netns),
    }
}

/// What the other end is called: by DNS as it is, by its ClientHello with a mark.
fn name_of(socket: &SocketView) -> String {
    let Some(name) = &socket.name else { return "-".to_owned() };
    let name = format::clean(name);
    match socket.name_source.as_deref() {
        Some("dns") | None => name,
        Some(source) => format!("{name} ({source})"),
    }
}

pub(super) fn millis(us: u64) -> String {
    match us {
        0..1000 => format!("0.{:02} ms", us / 10),
        1000..100_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{} ms", us / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_what_there_is() {
        let mut socket = SocketView {
            proto: "tcp".into(),
            state: "established".into(),
            family: 4,
            local: "10.0.0.1".into(),
            local_port: 80,
            remote: "10.0.0.2".into(),
            remote_port: 4000,
            pid: Some(7),
            comm: Some("nginx".into()),
            user_pid: Some(8),
            user_comm: Some("wor\nker".into()),
            confidence: "held".into(),
            rtt_us: Some(1234),
            rule: Some("web".into()),
            ..SocketView::default()
        };
        let text = |socket: &SocketView| -> Vec<String> {
            cells(socket, false, "").into_iter().map(|(text, _)| text).collect()
        };
        let row = text(&socket);
        assert_eq!(row[2..4], ["10.0.0.1:80", "10.0.0.2:4000"]);
        assert!(row[4].starts_with("nginx/7 > wor") && row[4].ends_with("ker/8~"), "{}", row[4]);
        assert!(!row[4].contains('\n'), "no name breaks the table");
        socket.owner_exited = Some("2026-11-26T15:34:38.120Z".into());
        assert!(text(&socket)[4].starts_with("nginx/7 (exited) > wor"), "{}", text(&socket)[4]);
        socket.ended = Some("closed".into());
        assert_eq!(text(&socket)[4], row[4], "most owners end before their last sockets do");
        socket.ended = None;
        assert_eq!((row[7].as_str(), row[11].as_str()), ("1.2 ms", "web"));
        (socket.remote, socket.remote_port) = ("0.0.0.0".into(), 0);
        socket.local = "::".into();
        (socket.rule, socket.netns) = (None, 99);
        let row = text(&socket);
        assert_eq!(
            (row[2].as_str(), row[3].as_str(), row[11].as_str()),
            ("*:80", "*", "(netns 99)")
        );
    }

    #[test]
    fn round_trips_are_short() {
        let all = [40, 999, 1000, 99_999, 100_000].map(millis);
        assert_eq!(all, ["0.04 ms", "0.99 ms", "1.0 ms", "99.9 ms", "100 ms"].map(String::from));
    }
}
