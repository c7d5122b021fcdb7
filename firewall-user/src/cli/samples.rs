//! Sockets over time: `sluice socket watch`, and the lines of `sluice socket show`.

use super::{
    format,
    list::today,
    out::{CliError, Out, Tone},
    sockets::millis,
};
use crate::{
    server::client::{Client, escape},
    view::{SocketSampleView, SocketSamplesView},
};
use std::{process::ExitCode, time::Duration};

/// From one question to the next: the daemon looks no more often.
const EVERY: Duration = Duration::from_secs(1);
/// Samples of a line.
const SHOWN: usize = 40;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

async fn ask(client: &Client, id: &str) -> Result<SocketSamplesView, CliError> {
    Ok(client.get(&format!("/api/v1/sockets/{}/samples", escape(id))).await?)
}

/// Prints samples as they come, until the socket ends or `count` were printed.
pub async fn watch(
    out: &Out,
    client: &Client,
    id: &str,
    count: Option<u64>,
) -> Result<ExitCode, CliError> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let (mut last, mut left) = (String::new(), count);
    let today = today();
    loop {
        let view = ask(client, id).await?;
        let mut new: Vec<SocketSampleView> =
            view.rows.into_iter().filter(|row| row.time > last).collect();
        if let Some(left) = &mut left {
            new.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= new.len() as u64;
        }
        if last.is_empty() && !out.json {
            out.line(line(["TIME", "RTT", "CWND", "RESENT", "OUT/S", "IN/S"].map(String::from)))?;
        }
        for row in &new {
            last.clone_from(&row.time);
            if out.json {
                out.object(row)?;
            } else {
                out.line(line(cells(row, &today)))?;
            }
        }
        if view.ended {
            if !out.json {
                out.line(out.paint("it has ended", Tone::Dim))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if left == Some(0) {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = &mut interrupt => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn cells(row: &SocketSampleView, today: &str) -> [String; 6] {
    let dash = || "-".to_owned();
    let count = |value: Option<u64>| value.map_or_else(dash, format::count);
    let rate = |value: Option<u64>| value.map_or_else(dash, format::bytes);
    [
        format::time(&row.time, today),
        row.rtt_us.map_or_else(dash, millis),
        count(row.cwnd),
        count(row.retransmits),
        rate(row.sent_rate),
        rate(row.received_rate),
    ]
}

/// Columns of a width of their own: later lines aren't known yet.
fn line([time, rtt, cwnd, resent, out, into]: [String; 6]) -> String {
    format!(" {time:<12}  {rtt:>9}  {cwnd:>6}  {resent:>6}  {out:>8}  {into:>8}")
}

/// A socket over time, a line for each thing that there is to tell; empty where it was looked at but once.
pub async fn lines(client: &Client, id: &str) -> Result<Vec<(&'static str, String)>, CliError> {
    let view = ask(client, id).await?;
    let rows = &view.rows[view.rows.len().saturating_sub(SHOWN)..];
    if rows.len() < 3 {
        return Ok(Vec::new());
    }
    let span = |row: Option<&SocketSampleView>| {
        row.and_then(|row| row.time.parse::<jiff::Timestamp>().ok())
    };
    let seconds = match (span(rows.first()), span(rows.last())) {
        (Some(first), Some(last)) => last.duration_since(first).as_secs().unsigned_abs(),
        _ => 0,
    };
    let mut lines =
        vec![("over", format!("{}, in {} looks", format::duration(seconds * 1000), rows.len()))];
    type Line = (&'static str, fn(&SocketSampleView) -> Option<u64>, fn(u64) -> String);
    let all: [Line; 4] = [
        ("round trip", |row| row.rtt_us, millis),
        ("resent", |row| row.retransmits, format::count),
        ("sent a second", |row| row.sent_rate, format::bytes),
        ("received a second", |row| row.received_rate, format::bytes),
    ];
    for (name, field, show) in all {
        let values: Vec<Option<u64>> = rows.iter().map(field).collect();
        let known = || values.iter().flatten().copied();
        if let (Some(least), Some(most)) = (known().min(), known().max())
            && most > 0
        {
            let line = spark(&values);
            lines.push((name, format!("{line}  {} to {}", show(least), show(most))));
        }
    }
    Ok(lines)
}

/// Values as a line of blocks: from nothing to the most.
fn spark(values: &[Option<u64>]) -> String {
    let most = values.iter().flatten().copied().max().unwrap_or(0).max(1);
    let level = |value: u64| {
        let at = (u128::from(value) * (LEVELS.len() as u128 - 1)).div_ceil(u128::from(most));
        LEVELS.get(at as usize).copied().unwrap_or('█')
    };
    values.iter().map(|value| value.map_or(' ', level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_drawn_to_its_highest() {
        assert_eq!(spark(&[None, Some(0), Some(1), Some(50), Some(100)]), " ▁▂▅█");
        assert_eq!(spark(&[Some(0), Some(0)]), "▁▁");
        assert_eq!(spark(&[Some(u64::MAX)]), "█");
    }
}
