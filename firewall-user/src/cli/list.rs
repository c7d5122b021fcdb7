//! Commands that only look: rules, events, status, stats. And `counters reset`.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{
    server::client::{Client, escape},
    view::{EventView, NetfilterStatsView, RuleView, StatsView, StatusView},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io::Write, process::ExitCode};

#[derive(Debug, Deserialize)]
struct Rows<T> {
    rows: Vec<T>,
}

pub fn today() -> String {
    format!("{:.3}", jiff::Timestamp::now()).chars().take(10).collect()
}

pub async fn rules(out: &Out, client: &Client, filter: &str) -> Result<ExitCode, CliError> {
    let answer: Rows<RuleView> =
        client.get(&format!("/api/v1/rules?filter={}", escape(filter))).await?;
    const HEADS: [Head; 8] = [
        Head::number("#"),
        Head::text("NAME"),
        Head::text("ACTION"),
        Head::number("HITS"),
        Head::number("PACKETS"),
        Head::number("BYTES"),
        Head::text("LAST HIT"),
        Head::text("WHAT"),
    ];
    let today = today();
    out.rows(&answer.rows, &HEADS, |rule| {
        let tone = if rule.enabled { Tone::Plain } else { Tone::Dim };
        let action = if rule.log { format!("{} log", rule.action) } else { rule.action.clone() };
        let position = if rule.position == 0 { String::new() } else { rule.position.to_string() };
        vec![
            (position, tone),
            (rule.name.clone(), tone),
            if rule.enabled {
                (action, Tone::of_verdict(&rule.action))
            } else {
                (format!("({action})"), Tone::Dim)
            },
            (format::count(rule.hits), tone),
            (format::count(rule.packets), tone),
            (format::bytes(rule.bytes), tone),
            (
                rule.last_hit
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |time| format::time(time, &today)),
                tone,
            ),
            (conditions(rule), tone),
        ]
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What a rule asks for: its text without name and action, which have columns of their own.
fn conditions(rule: &RuleView) -> String {
    let mut words = rule.text.split_whitespace().peekable();
    for known in ["disabled", "rule", rule.name.as_str(), rule.action.as_str()] {
        words.next_if(|word| *word == known);
    }
    let rest: Vec<&str> = words.collect();
    match (rule.position, rule.over) {
        (0, _) => String::new(),
        (_, 0) => rest.join(" "),
        (_, over) => format!("{} ({} over)", rest.join(" "), format::count(over)),
    }
}

pub async fn events(
    out: &Out,
    client: &Client,
    filter: &str,
    limit: usize,
) -> Result<ExitCode, CliError> {
    let path = format!("/api/v1/events?filter={}&limit={limit}", escape(filter));
    let answer: Rows<EventView> = client.get(&path).await?;
    print_events(out, &answer.rows)?;
    Ok(ExitCode::SUCCESS)
}

/// One line an event, all written at once: a line a system call would be slower than the events come.
pub fn print_events(out: &Out, events: &[EventView]) -> Result<(), CliError> {
    let today = today();
    let mut text = String::new();
    for event in events {
        if out.json {
            let row = serde_json::to_string(event);
            text.push_str(&row.map_err(|error| CliError::Failed(error.to_string()))?);
        } else {
            text.push_str(&event_line(out, event, &today));
        }
        text.push('\n');
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

fn event_line(out: &Out, event: &EventView, today: &str) -> String {
    let verdict = out.paint(&format!("{:6}", event.verdict), Tone::of_verdict(&event.verdict));
    let mut line = format!(
        "{} {:11} {verdict} {:3} {:8} {} {} -> {}",
        out.paint(&format::time(&event.time, today), Tone::Dim),
        event.class,
        event.direction,
        event.iface,
        event.proto,
        if let Some(caller) = event.caller.as_ref().filter(|_| event.direction == "out") {
            // Where a call comes from isn't known yet, but who calls is.
            format!("{} (pid {})", format::clean(&caller.comm), caller.pid)
        } else if event.src.is_empty() {
            "?".to_owned()
        } else {
            format::endpoint(&event.src, event.sport)
        },
        if event.dst.is_empty() {
            "?".to_owned()
        } else {
            format::endpoint(&event.dst, event.dport)
        },
    );
    if let Some(caller) = event.caller.as_ref().filter(|_| event.direction == "in") {
        line.push_str(&format!(" {} (pid {})", format::clean(&caller.comm), caller.pid));
    }
    if !event.tcp_flags.is_empty() && event.class != "closed" {
        line.push_str(&format!(" [{}]", event.tcp_flags));
    }
    if let Some(nat) = &event.nat {
        let text = format::translation(
            [(&event.src, event.sport), (&event.dst, event.dport)],
            [(&nat.src, nat.sport), (&nat.dst, nat.dport)],
        );
        line.push_str(&format!(" nat {text}"));
    }
    if event.vlan != 0 {
        line.push_str(&format!(" vlan {}", event.vlan));
    }
    line.push_str(&if event.class == "closed" {
        let all = event.packets + event.reply_packets;
        format!(
            " {all} packets, {} there, {} back",
            format::bytes(event.bytes),
            format::bytes(event.reply_bytes)
        )
    } else if event.caller.is_some() {
        String::new()
    } else {
        format!(" {}", format::bytes(event.frame_len.into()))
    });
    let why = if event.rule.is_empty() || event.reason != "rule" && event.reason != "default" {
        event.reason.clone()
    } else {
        event.rule.clone()
    };
    line.push_str(&format!("  {}", out.paint(&format::clean(&why), Tone::Dim)));
    line
}

pub async fn status(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    if out.json {
        // As it came: a newer daemon may say more than this binary knows.
        let answer: Value = client.get("/api/v1/status").await?;
        out.object(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status: StatusView = client.get("/api/v1/status").await?;
    let line = |name: &str, value: String| {
        out.line(format!("{} {value}", out.paint(&format!("{name:12}"), Tone::Dim)))
    };
    line(
        "daemon",
        format!(
            "sluice {}, process {}, since {}",
            status.version,
            status.pid,
            format::time(&status.started, &today())
        ),
    )?;
    line(
        "filter",
        format!(
            "{}, ABI {}",
            if status.adopted {
                "taken over from an earlier daemon"
            } else {
                "loaded by this daemon"
            },
            status.abi_version
        ),
    )?;
    line(
        "policy",
        format!("generation {}, {} rules, {}", status.generation, status.rules, status.policy_file),
    )?;
    line("flows", format::count(status.flows))?;
    line("console", format!("http://{}", status.console.trim_start_matches("http://")))?;
    if status.interfaces.is_empty() {
        line(
            "interfaces",
            out.paint(
                "none: nothing is filtered; name some in sluice.toml, or with --iface",
                Tone::Odd,
            ),
        )?;
    }
    for iface in &status.interfaces {
        let off = iface.ingress == "none" || iface.egress == "none";
        let hooks = format!("in {}, out {}", iface.ingress, iface.egress);
        let hooks = out.paint(&hooks, if off { Tone::Bad } else { Tone::Good });
        line(
            "interface",
            format!(
                "{} (#{}): {hooks}; asked: {}; {}",
                iface.name, iface.ifindex, iface.mode_asked, iface.why
            ),
        )?;
        if !iface.fast_path.is_empty() {
            line("", format!("fast path {}", iface.fast_path))?;
        }
        if let Some(first) = iface.xsk_first {
            line("", format!("AF_XDP sockets of its queues: XSKS from {first} on"))?;
        }
    }
    if let Some(paths) = &status.paths {
        let tone = if paths.todo > 0 { Tone::Odd } else { Tone::Plain };
        let text = format!("{} (`sluice paths`)", super::paths::summary(paths));
        line("paths", out.paint(&text, tone))?;
    }
    if let Some(history) = &status.history {
        let tone =
            if history.trouble.is_some() || history.lost > 0 { Tone::Bad } else { Tone::Plain };
        let mut text = format!(
            "{} of {} in {}",
            format::bytes(history.bytes),
            format::bytes(history.max_bytes),
            history.path
        );
        if history.lost > 0 {
            text.push_str(&format!("; {} records lost", format::count(history.lost)));
        }
        if let Some(trouble) = &history.trouble {
            text.push_str(&format!("; {trouble}"));
        }
        line("history", out.paint(&format::clean(&text), tone))?;
    }
    for alarm in &status.alarms {
        let tone = if alarm.severity == "error" { Tone::Bad } else { Tone::Odd };
        let text = format!("{} (since {})", alarm.text, format::time(&alarm.since, &today()));
        line("alarm", out.paint(&format::clean(&text), tone))?;
    }
    for limit in &status.limits {
        line("note", out.paint(limit, Tone::Odd))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn stats(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    if out.json {
        let answer: Value = client.get("/api/v1/stats").await?;
        out.object(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let stats: StatsView = client.get("/api/v1/stats").await?;
    let plain = Out { json: false, ..*out };
    let total = [
        ("packets", format::count(stats.packets), format::bytes(stats.bytes)),
        ("passed", format::count(stats.passed_packets), format::bytes(stats.passed_bytes)),
        ("refused", format::count(stats.dropped_packets), format::bytes(stats.dropped_bytes)),
        (
            "flows",
            format::count(stats.flows),
            format!("of {} per family", format::count(stats.flows_max)),
        ),
    ];
    plain.rows(
        &total,
        &[Head::text("TOTAL"), Head::number(""), Head::number("")],
        |(name, value, more)| {
            vec![
                ((*name).to_owned(), Tone::Plain),
                (value.clone(), Tone::Plain),
                (more.clone(), Tone::Dim),
            ]
        },
    )?;
    out.line("")?;
    table_stats(&plain, &stats)?;
    if !stats.reasons.is_empty() {
        out.line("")?;
        let heads = [Head::text("REASON"), Head::number("PACKETS"), Head::number("BYTES")];
        plain.rows(&stats.reasons, &heads, |row| {
            vec![
                (row.reason.clone(), Tone::Plain),
                (format::count(row.packets), Tone::Plain),
                (format::bytes(row.bytes), Tone::Plain),
            ]
        })?;
    }
    if let Some(netfilter) = &stats.netfilter {
        out.line("")?;
        netfilter_stats(&plain, netfilter)?;
    }
    out.line("")?;
    let heads = [
        Head::text("EVENTS"),
        Head::number("PRODUCED"),
        Head::number("DELIVERED"),
        Head::number("LOST"),
        Head::number("HELD BACK"),
    ];
    plain.rows(&stats.events, &heads, |row| {
        let lost = if row.lost == 0 { Tone::Plain } else { Tone::Bad };
        vec![
            (row.class.clone(), Tone::Plain),
            (format::count(row.produced), Tone::Plain),
            (format::count(row.delivered), Tone::Plain),
            (format::count(row.lost), lost),
            (format::count(row.suppressed), Tone::Plain),
        ]
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How full the flow tables are, and what befell their entries; translations.
fn table_stats(out: &Out, stats: &StatsView) -> Result<(), CliError> {
    let (table, nat) = (&stats.table, &stats.nat);
    let tone = match table.pressure.as_str() {
        "full" => Tone::Bad,
        "high" => Tone::Odd,
        _ => Tone::Dim,
    };
    let evicted = format!("with {} packets", format::count(table.evicted_packets));
    let pressure = format!("{} % full, pressure {}", table.used_percent, table.pressure);
    let rows = [
        ("entries", table.flows, pressure.as_str()),
        ("unanswered", table.half_open, ""),
        ("refused", table.refused, ""),
        ("evicted", table.evicted, evicted.as_str()),
        ("source had its share", table.source_limited, ""),
        ("locked for too long", table.busy, ""),
        ("ended, not listed", table.ended_unlisted, ""),
        ("translated", nat.mappings_live, ""),
        ("no port left", nat.failures, ""),
        ("limited sources forgotten", stats.limits.evicted, "no room for more that owe"),
        (
            "passed unmeasured",
            stats.limits.contended,
            "by limits that several CPUs changed at once",
        ),
    ];
    let owners = stats.owners.iter().flat_map(|owners| {
        [
            ("calls judged by owner", owners.judged, ""),
            ("owner unknown", owners.unknown, "not judged"),
            ("cgroups without room", owners.places_full, ""),
            ("cgroup unknown", owners.places_missed, "judged as of no unit"),
        ]
    });
    let rows: Vec<(&str, u64, &str)> = rows.into_iter().chain(owners).collect();
    let heads = [Head::text("TABLE"), Head::number(""), Head::text("")];
    out.rows(&rows, &heads, |(name, count, more)| {
        let bad = *count > 0 && matches!(*name, "refused" | "no port left");
        vec![
            ((*name).to_owned(), Tone::Plain),
            (format::count(*count), if bad { Tone::Bad } else { Tone::Plain }),
            ((*more).to_owned(), if *name == "entries" { tone } else { Tone::Dim }),
        ]
    })
}

/// What following netfilter's connection tracking came to.
fn netfilter_stats(out: &Out, stats: &NetfilterStatsView) -> Result<(), CliError> {
    let rows = [
        ("flows", stats.flows, false),
        ("translated", stats.nat_flows, false),
        ("began", stats.began, false),
        ("updated", stats.updated, false),
        ("ended", stats.ended, false),
        ("gone without a word", stats.gone, true),
        ("events overrun", stats.overruns, true),
        ("not understood", stats.malformed, true),
        ("dumps", stats.dumps, false),
    ];
    let head = if stats.following { "NETFILTER" } else { "NETFILTER (not followed)" };
    out.rows(&rows, &[Head::text(head), Head::number("")], |(name, count, loss)| {
        let tone = if *loss && *count > 0 { Tone::Bad } else { Tone::Plain };
        vec![((*name).to_owned(), Tone::Plain), (format::count(*count), tone)]
    })
}

pub async fn reset(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let answer: Value = client.post("/api/v1/counters/reset", &json!({})).await?;
    if out.json {
        out.object(&answer)?;
    } else {
        out.line("counters are at zero")?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_action_are_not_said_twice() {
        let rule = |text: &str| RuleView {
            position: 1,
            name: "web".into(),
            action: "allow".into(),
            text: text.into(),
            ..RuleView::default()
        };
        assert_eq!(conditions(&rule("rule web allow in tcp")), "in tcp");
        assert_eq!(conditions(&rule("disabled rule web allow in tcp")), "in tcp");
        assert_eq!(conditions(&rule("rule web allow")), "");
    }
}
