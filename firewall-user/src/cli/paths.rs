//! `sluice paths`: every way that packets enter and leave by.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{
    server::client::Client,
    view::{PathProgramView, PathView, PathsSummaryView, PathsView},
};
use serde_json::Value;
use std::process::ExitCode;

const HEADS: [Head; 6] = [
    Head::text("KIND"),
    Head::text("NAME"),
    Head::text("FILTERED"),
    Head::text("COUNTED"),
    Head::text("WHAT"),
    Head::text("WHY"),
];

pub async fn run(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    if out.json {
        // As it came: a newer daemon may say more than this binary knows.
        let answer: Value = client.get("/api/v1/paths").await?;
        out.object(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let report: PathsView = client.get("/api/v1/paths").await?;
    out.rows(&report.rows, &HEADS, |row| {
        vec![
            (row.kind.clone(), Tone::Plain),
            (name(row), Tone::Plain),
            (row.filtered.clone(), tone(&row.filtered)),
            (row.accounted.clone(), tone(&row.accounted)),
            (what(row), Tone::Dim),
            (row.why.clone(), Tone::Plain),
        ]
    })?;
    let mut todo = report.rows.iter().filter(|row| row.todo.is_some()).peekable();
    if todo.peek().is_some() {
        out.line("")?;
    }
    for row in todo {
        let text = row.todo.as_deref().unwrap_or_default();
        let line = format!("{} {}: {text}", row.kind, name(row));
        out.line(format!("{} {}", out.paint("to do", Tone::Odd), format::clean(&line)))?;
    }
    for unread in &report.unread {
        let line = format!("{}: {}", unread.what, unread.why);
        out.line(format!("{} {}", out.paint("not read", Tone::Bad), format::clean(&line)))?;
    }
    out.line("")?;
    out.line(summary(&report.summary))?;
    Ok(ExitCode::SUCCESS)
}

/// The report in one line.
pub fn summary(paths: &PathsSummaryView) -> String {
    let mut text = format!(
        "{} ways in and out: {} filtered, {} in part, {} not",
        paths.ways, paths.filtered.yes, paths.filtered.part, paths.filtered.no
    );
    if paths.todo > 0 {
        text.push_str(&format!("; {} with something to do", paths.todo));
    }
    if paths.unread > 0 {
        text.push_str(&format!("; {} not read", paths.unread));
    }
    text
}

fn tone(share: &str) -> Tone {
    match share {
        "yes" => Tone::Good,
        "part" => Tone::Odd,
        _ => Tone::Bad,
    }
}

fn name(row: &PathView) -> String {
    let mut text = row.name.clone();
    if let Some(queue) = row.queue {
        text.push_str(&format!(" queue {queue}"));
    }
    if let Some(netns) = &row.netns {
        text.push_str(&format!(" in {netns}"));
    }
    text
}

/// Kind, parent, what hangs there in its order, and whose it is.
fn what(row: &PathView) -> String {
    let owner = |owner: &crate::view::PathOwnerView| format!("{} ({})", owner.comm, owner.pid);
    let count = (row.count > 1).then(|| format!("{} of them", row.count));
    let mode = row
        .mode
        .as_ref()
        .map(|mode| if row.kind == "interface" { format!("XDP {mode}") } else { mode.clone() });
    let owners: Vec<String> = row.owners.iter().map(owner).collect();
    let owners = (!owners.is_empty()).then(|| owners.join(", "));
    let chain: Vec<String> = row.attached.iter().map(program).collect();
    let chain = (!chain.is_empty()).then(|| chain.join(" > "));
    let parts = [row.device.clone(), row.parent.clone(), count, mode, owners, chain];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn program(program: &PathProgramView) -> String {
    if program.ours {
        return format!("{} Sluice", program.hook);
    }
    let name = program.name.clone().filter(|name| !name.is_empty());
    let id = program.id.map(|id| format!("#{id}"));
    let words: Vec<String> = [Some(program.hook.clone()), name, id].into_iter().flatten().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{PathCountsView, PathOwnerView};

    #[test]
    fn a_row_says_what_hangs_there_in_its_order_and_whose_it_is() {
        let at = |hook: &str, id, name: Option<&str>, ours| PathProgramView {
            hook: hook.into(),
            id,
            name: name.map(str::to_owned),
            priority: None,
            ours,
        };
        let row = PathView {
            kind: "interface".into(),
            name: "wan0".into(),
            device: Some("veth".into()),
            mode: Some("native".into()),
            count: 1,
            attached: vec![
                at("xdp", Some(9), Some("lb"), false),
                at("tcx-in", Some(10), Some("sluice_tc_in"), true),
                at("nf-input", None, Some("inet filter input"), false),
            ],
            ..PathView::default()
        };
        let expected = "veth; XDP native; xdp lb #9 > tcx-in Sluice > nf-input inet filter input";
        assert_eq!(what(&row), expected);
        let socket = PathView {
            kind: "af-xdp".into(),
            name: "wan0".into(),
            netns: Some("blue".into()),
            queue: Some(3),
            count: 2,
            owners: vec![PathOwnerView { pid: 7, comm: "recv".into(), exe: None }],
            ..PathView::default()
        };
        assert_eq!(name(&socket), "wan0 queue 3 in blue");
        assert_eq!(what(&socket), "2 of them; recv (7)");
    }

    #[test]
    fn the_summary_is_one_line() {
        let paths = PathsSummaryView {
            ways: 9,
            filtered: PathCountsView { yes: 5, part: 1, no: 3 },
            todo: 2,
            ..PathsSummaryView::default()
        };
        let expected = "9 ways in and out: 5 filtered, 1 in part, 3 not; 2 with something to do";
        assert_eq!(summary(&paths), expected);
    }
}
