//! `sluice names`.

use super::{
    format,
    list::today,
    out::{CliError, Head, Out, Tone},
    page,
};
use crate::{
    server::client::{Client, escape},
    view::{NameStatsView, NameView, SocketStatsView},
};
use std::process::ExitCode;

pub async fn list(
    out: &Out,
    client: &Client,
    filter: &str,
    limit: usize,
    sort: Option<&str>,
) -> Result<ExitCode, CliError> {
    let sort = page::sorted(sort);
    let path = format!("/api/v1/names?filter={}&limit={limit}{sort}", escape(filter));
    const HEADS: [Head; 7] = [
        Head::text("NAME"),
        Head::text("ADDRESS"),
        Head::number("ANSWERS"),
        Head::text("FIRST"),
        Head::text("LAST"),
        Head::text("BY"),
        Head::number("NETNS"),
    ];
    let today = today();
    let cells = |row: &NameView| {
        let tone = if row.expired { Tone::Dim } else { Tone::Plain };
        let cells = [
            format::clean(&row.name),
            row.address.clone(),
            format::count(row.answers),
            format::time(&row.first, &today),
            format::time(&row.last, &today),
            row.server.clone(),
            row.netns.to_string(),
        ];
        cells.map(|text| (text, tone)).into()
    };
    page::print(out, client, &path, "names", &HEADS, cells).await
}

/// `--stats`: what was seen, and what came of it.
pub async fn stats(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let stats: SocketStatsView = client.get("/api/v1/sockets/stats").await?;
    let Some(names) = stats.names else {
        let why =
            "names aren't read: the configuration doesn't say `names = true` under `[sockets]`";
        return Err(CliError::Failed(why.to_owned()));
    };
    if out.json {
        out.object(&names)?;
    } else {
        say(out, &names)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The counters, as people read them.
pub fn say(out: &Out, names: &NameStatsView) -> Result<(), CliError> {
    const HEADS: [Head; 5] = [
        Head::text("SEEN FOR NAMES"),
        Head::number("PRODUCED"),
        Head::number("DELIVERED"),
        Head::number("LOST"),
        Head::number("NOT READ"),
    ];
    out.rows(&names.observed, &HEADS, |row| {
        let tone = if row.lost > 0 { Tone::Bad } else { Tone::Plain };
        let counts = [row.produced, row.delivered, row.lost, row.unread].map(format::count);
        std::iter::once(row.kind.clone()).chain(counts).map(|text| (text, tone)).collect()
    })?;
    out.line(format!(
        "addresses with names: {}; answers to no question: {}; hellos cut off: {}, without a name: {}",
        format::count(names.addresses),
        format::count(names.unasked),
        format::count(names.incomplete),
        format::count(names.nameless),
    ))?;
    let made_room = [
        (names.addresses_forgotten, "addresses"),
        (names.names_forgotten, "names of one address"),
        (names.questions_forgotten, "questions"),
        (names.hellos_forgotten, "hellos"),
    ];
    let made_room: Vec<String> = made_room
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", format::count(*count)))
        .collect();
    if !made_room.is_empty() {
        let note = format!("made room for later ones: {}", made_room.join(", "));
        out.line(out.paint(&note, Tone::Odd))?;
    }
    Ok(())
}
