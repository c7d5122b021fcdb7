//! `sluice set`: live sets, whose entries change while the rules stay.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
    page::{self, Page},
};
use crate::{
    server::client::{Client, escape},
    view::{SetChangeView, SetEntryView, SetPageView, SetTestView, SetView},
};
use clap::Subcommand;
use serde_json::json;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What a live set holds is written like this.
const ENTRIES: &str = "Entries:
  192.0.2.7  192.0.2.0/24  192.0.2.1-192.0.2.9  2001:db8::/32   sets of addresses
  192.0.2.1:443  [2001:db8::1]:53                               sets of pairs
  80  1000-2000                                                 sets of ports";

/// What a list looks like.
const LISTS: &str = "Lists:
  One entry a line, with `timeout 10m` behind it if it is to end. Empty lines, and comments that begin with `#`, `;` or
  `//`, are passed over: blocklists as they are published will do.";

/// `sluice set`.
#[derive(Debug, Subcommand)]
#[command(after_help = ENTRIES)]
pub enum SetCommand {
    /// List the live sets: what they hold, how much, what rules added, and what they found no room for
    List,
    /// Show a set's entries, with the time that is left to them
    Show {
        /// The set
        name: String,
        /// Only entries that are a part of this one, or that it is a part of
        #[arg(long, value_name = "PREFIX")]
        filter: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Pass over so many
        #[arg(long, default_value_t = 0, value_name = "N")]
        after: usize,
    },
    /// Add entries, all or none; those that are there get their time anew
    #[command(after_help = ENTRIES)]
    Add {
        /// The set
        name: String,
        /// The entries
        #[arg(required = true, value_name = "ENTRY")]
        entries: Vec<String>,
        /// How long they stay, such as `10m` or `1d12h` [default: as the policy says of the set]
        #[arg(long, value_name = "DURATION")]
        timeout: Option<String>,
    },
    /// Delete entries; those that aren't there are passed over
    #[command(after_help = ENTRIES)]
    Delete {
        /// The set
        name: String,
        /// The entries
        #[arg(required = true, value_name = "ENTRY")]
        entries: Vec<String>,
    },
    /// Delete all entries at once
    Flush {
        /// The set
        name: String,
    },
    /// Make a list the set's entries, at one moment: no packet meets a half of it
    #[command(after_help = LISTS)]
    Load {
        /// The set
        name: String,
        /// The list; `-` is standard input [default: the file that the policy names]
        file: Option<PathBuf>,
        /// Keep the entries that are there
        #[arg(long)]
        add: bool,
    },
    /// Say whether a set holds something, and by which entries; exits with 1 if it doesn't
    #[command(after_help = ENTRIES)]
    Test {
        /// The set
        name: String,
        /// What may be in it
        entry: String,
    },
}

/// Does what it says.
pub async fn run(out: &Out, client: &Client, command: SetCommand) -> Result<ExitCode, CliError> {
    let at = |name: &str, rest: &str| format!("/api/v1/sets/{}{rest}", escape(name));
    match command {
        SetCommand::List => list(out, client).await,
        SetCommand::Show { name, filter, limit, after } => {
            let mut query = format!("?limit={limit}&after={after}");
            if let Some(filter) = filter {
                query.push_str(&format!("&filter={}", escape(&filter)));
            }
            let shown: SetPageView = client.get(&at(&name, &query)).await?;
            show(out, shown)
        }
        SetCommand::Add { name, entries, timeout } => {
            let mut body = json!({"entries": entries});
            if let Some(timeout) = timeout {
                body["timeout"] = timeout.into();
            }
            report(out, &client.post(&at(&name, "/entries"), &body).await?)
        }
        SetCommand::Delete { name, entries } => {
            let body = json!({"entries": entries});
            report(out, &client.delete_some(&at(&name, "/entries"), &body).await?)
        }
        SetCommand::Flush { name } => {
            report(out, &client.post(&at(&name, "/flush"), &json!({})).await?)
        }
        SetCommand::Load { name, file, add } => {
            let (query, text) = match file {
                None => (format!("?file=true&add={add}"), Vec::new()),
                Some(file) if file == Path::new("-") => {
                    (format!("?add={add}&called=standard%20input"), read(&file)?)
                }
                Some(file) => {
                    let called = escape(&file.display().to_string());
                    (format!("?add={add}&called={called}"), read(&file)?)
                }
            };
            report(out, &client.put_text(&at(&name, &query), text).await?)
        }
        SetCommand::Test { name, entry } => {
            let query = format!("/test?entry={}", escape(&entry));
            test(out, &client.get(&at(&name, &query)).await?)
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    if file == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        return Ok(text);
    }
    fs::read(file).map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))
}

async fn list(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    const HEADS: [Head; 9] = [
        Head::text("NAME"),
        Head::text("KIND"),
        Head::number("ENTRIES"),
        Head::number("OF"),
        Head::number("MEMORY"),
        Head::text("TIMEOUT"),
        Head::number("ADDED"),
        Head::number("REFUSED"),
        Head::number("BUSY"),
    ];
    page::print(out, client, "/api/v1/sets", "live sets", &HEADS, |set: &SetView| {
        let bad = |many: u64| if many > 0 { Tone::Bad } else { Tone::Plain };
        vec![
            (set.name.clone(), Tone::Plain),
            (set.kind.clone(), Tone::Plain),
            (format::count(set.entries), Tone::Plain),
            (format::count(set.room), Tone::Plain),
            (format::bytes(set.bytes), Tone::Plain),
            (set.timeout_ms.map_or_else(|| "-".to_owned(), format::duration), Tone::Plain),
            (format::count(set.added), Tone::Plain),
            (format::count(set.refused), bad(set.refused)),
            (format::count(set.busy), Tone::Plain),
        ]
    })
    .await
}

fn show(out: &Out, shown: SetPageView) -> Result<ExitCode, CliError> {
    let SetPageView { name, kind: _, total, rows } = shown;
    if rows.is_empty() && !out.json {
        out.line(out.paint(&format!("no such entries in set {name}"), Tone::Dim))?;
        return Ok(ExitCode::SUCCESS);
    }
    out.rows(&rows, &[Head::text("ENTRY"), Head::text("LEFT")], |row: &SetEntryView| {
        vec![(row.entry.clone(), Tone::Plain), (left(row), Tone::Plain)]
    })?;
    page::more(out, &Page { rows, total, limits: Vec::new() }, "entries")?;
    Ok(ExitCode::SUCCESS)
}

fn left(row: &SetEntryView) -> String {
    row.left_ms.map_or_else(|| "-".to_owned(), format::duration)
}

fn report(out: &Out, change: &SetChangeView) -> Result<ExitCode, CliError> {
    if out.json {
        out.object(change)?;
        return Ok(ExitCode::SUCCESS);
    }
    let SetChangeView { name, added, renewed, deleted, entries } = change;
    let parts = [(added, "added"), (renewed, "renewed"), (deleted, "deleted")];
    let parts = parts.iter().filter(|(many, _)| **many > 0);
    let said: Vec<String> =
        parts.map(|(many, what)| format!("{} {what}", format::count(**many))).collect();
    let said = if said.is_empty() { "nothing changed".to_owned() } else { said.join(", ") };
    out.line(format!("{name}: {said}; {} entries", format::count(*entries)))?;
    Ok(ExitCode::SUCCESS)
}

fn test(out: &Out, tested: &SetTestView) -> Result<ExitCode, CliError> {
    let code = if tested.found { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if out.json {
        out.object(tested)?;
        return Ok(code);
    }
    let SetTestView { name, entry, .. } = tested;
    if !tested.found {
        out.line(format!("{entry} is {} in {name}", out.paint("not", Tone::Bad)))?;
    }
    for row in &tested.rows {
        let by = if row.entry == *entry { String::new() } else { format!(" by {}", row.entry) };
        let until =
            row.left_ms.map_or_else(String::new, |ms| format!(", {} more", format::duration(ms)));
        out.line(format!("{entry} is {} {name}{by}{until}", out.paint("in", Tone::Good)))?;
    }
    Ok(code)
}
