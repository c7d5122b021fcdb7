//! `sluice replay`.

use super::{
    explain::read,
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{
    explain::{capture::Captured, hex_text},
    server::client::Client,
    view::{FateView, ReplayRowView, ReplayView},
};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

/// Packets of a part.
const PART: usize = 1000;
/// Bytes of a part.
const PART_BYTES: usize = 1 << 20;
/// What is sent of a packet, bytes: headers, and of ICMP errors those that they quote. The rest doesn't matter to the
/// filter; its length does.
const SNAP: usize = 512;

const AFTER: &str = "A packet whose source is the interface's hardware address goes out, the others come in; say --local, or
--direction, where the capture was taken elsewhere.";

/// `sluice replay`.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng, of Ethernet frames or bare IP
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The interface that the packets pass, or a group that stands for one
    #[arg(long, value_name = "NAME")]
    on: String,
    /// Which way all of them go
    #[arg(long, value_name = "WAY", value_parser = ["in", "out"])]
    direction: Option<String>,
    /// Addresses of this side, such as `10.0.0.0/8`: what comes from them goes out
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', conflicts_with = "direction")]
    local: Vec<String>,
    /// Another policy file: show the packets whose verdict it would change
    #[arg(long, value_name = "POLICY")]
    against: Option<PathBuf>,
    /// No line for each packet, only the totals; with --against only the packets that change
    #[arg(long, short)]
    quiet: bool,
}

/// A packet's line.
#[derive(Serialize)]
struct Line<'r> {
    /// Its number in the file.
    number: u64,
    #[serde(flatten)]
    row: &'r ReplayRowView,
}

/// What is summed up.
#[derive(Debug, Default, Serialize)]
struct Totals {
    /// Packets of the file.
    packets: u64,
    /// Packets that the kernel didn't run.
    failed: u64,
    /// Packets whose verdict the other policy changes.
    changed: u64,
    /// Flows that made room for newer ones in the twin.
    evicted: u64,
    /// Packets by verdict, reason and rule.
    by: Vec<Total>,
    /// The same by the other policy.
    against: Vec<Total>,
}

/// A sum.
#[derive(Debug, Default, Serialize)]
struct Total {
    verdict: String,
    reason: String,
    rule: Option<String>,
    packets: u64,
    bytes: u64,
}

type Sums = BTreeMap<(String, String, Option<String>), (u64, u64)>;

struct Replay<'a> {
    out: &'a Out,
    client: &'a Client,
    args: &'a ReplayArgs,
    against: Option<String>,
    session: Option<String>,
    totals: Totals,
    sums: [Sums; 2],
    generation: u32,
}

/// Sends the file's packets to the daemon, and shows what would become of them.
///
/// # Errors
/// A file can't be read, the other policy has errors, or the daemon said no.
pub async fn replay(out: &Out, client: &Client, args: ReplayArgs) -> Result<ExitCode, CliError> {
    let against = args.against.as_ref().map(std::fs::read_to_string).transpose();
    let against = against.map_err(|error| {
        let name = args.against.as_ref().map(|file| file.display().to_string());
        CliError::Failed(format!("{}: {error}", name.unwrap_or_default()))
    })?;
    let mut replay = Replay {
        out,
        client,
        args: &args,
        against,
        session: None,
        totals: Totals::default(),
        sums: Default::default(),
        generation: 0,
    };
    let (give, mut take) = tokio::sync::mpsc::channel::<Vec<Captured>>(2);
    let file = args.file.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut part = Vec::new();
        let mut bytes = 0;
        let gone = |_| CliError::Failed("the replay ended before the file".to_owned());
        read(&file, |mut packet| {
            packet.bytes.truncate(SNAP);
            bytes += packet.bytes.len();
            part.push(packet);
            if part.len() == PART || bytes > PART_BYTES {
                give.blocking_send(std::mem::take(&mut part)).map_err(gone)?;
                bytes = 0;
            }
            Ok(true)
        })?;
        give.blocking_send(part).map_err(gone)
    });
    let mut failed = None;
    while let Some(part) = take.recv().await {
        if let Err(error) = replay.part(part).await {
            failed = Some(error);
            break;
        }
    }
    drop(take);
    if let Some(error) = failed {
        return Err(error);
    }
    let read = reader.await.map_err(|error| CliError::Failed(error.to_string()))?;
    replay.end().await?;
    if replay.totals.packets > 0 || read.is_ok() {
        replay.show()?;
    }
    // What could be read has been shown; the file was broken all the same.
    read.map(|()| ExitCode::SUCCESS)
}

impl Replay<'_> {
    fn body(&self, frames: Vec<Value>, last: bool) -> Value {
        json!({
            "session": self.session,
            "interface": self.args.on,
            "direction": self.args.direction,
            "local": self.args.local,
            "against": if self.session.is_none() { self.against.as_deref() } else { None },
            "frames": frames,
            "last": last,
        })
    }

    async fn part(&mut self, packets: Vec<Captured>) -> Result<(), CliError> {
        let frames = packets
            .iter()
            .map(|packet| json!({"frame": hex_text(&packet.bytes), "length": packet.length}));
        let body = self.body(frames.collect(), false);
        let view: ReplayView = self.client.post("/api/v1/replay", &body).await?;
        self.session.clone_from(&view.session);
        self.generation = view.generation;
        self.totals.evicted = view.evicted;
        for (packet, row) in packets.iter().zip(&view.rows) {
            self.count(row);
            let line = Line { number: packet.number, row };
            if !self.args.quiet || (self.against.is_some() && row.changed) {
                self.print(&line)?;
            }
        }
        Ok(())
    }

    /// Lets the twin go.
    async fn end(&mut self) -> Result<(), CliError> {
        if self.session.is_some() {
            let body = self.body(Vec::new(), true);
            let _: ReplayView = self.client.post("/api/v1/replay", &body).await?;
        }
        Ok(())
    }

    fn count(&mut self, row: &ReplayRowView) {
        self.totals.packets += 1;
        self.totals.failed += u64::from(row.error.is_some());
        self.totals.changed += u64::from(row.changed);
        for (sums, fate) in self.sums.iter_mut().zip([&row.fate, &row.against]) {
            if let Some(FateView { verdict, reason, rule }) = fate {
                let key = (verdict.clone(), reason.clone(), rule.clone());
                let sum = sums.entry(key).or_default();
                sum.0 += 1;
                sum.1 += u64::from(row.length);
            }
        }
    }

    fn print(&self, line: &Line<'_>) -> Result<(), CliError> {
        if self.out.json {
            return self.out.object(line);
        }
        let Line { number, row } = line;
        let fate = |fate: &FateView| {
            let word = self.out.paint(&fate.verdict, Tone::of_verdict(&fate.verdict));
            match &fate.rule {
                Some(rule) => format!("{word} {} by {}", fate.reason, format::clean(rule)),
                None => format!("{word} {}", fate.reason),
            }
        };
        let said = match (&row.fate, &row.against, &row.error) {
            (_, _, Some(error)) => self.out.paint(&format!("not run: {error}"), Tone::Odd),
            (Some(now), Some(then), _) if row.changed => {
                format!("{} -> {}", fate(now), fate(then))
            }
            (Some(now), ..) => fate(now),
            (None, ..) => String::new(),
        };
        let packet = format::clean(&row.packet);
        self.out.line(format!("{number:>6} {:<3} {packet}: {said}", row.direction))
    }

    fn show(mut self) -> Result<(), CliError> {
        let [now, then] = self.sums.map(|sums| {
            let total = |((verdict, reason, rule), (packets, bytes))| Total {
                verdict,
                reason,
                rule,
                packets,
                bytes,
            };
            let mut all: Vec<Total> = sums.into_iter().map(total).collect();
            all.sort_by_key(|total| std::cmp::Reverse(total.packets));
            all
        });
        (self.totals.by, self.totals.against) = (now, then);
        let (out, totals) = (self.out, &self.totals);
        if out.json {
            return out.object(&json!({"totals": totals, "generation": self.generation}));
        }
        let heads = [
            Head::text("VERDICT"),
            Head::text("REASON"),
            Head::text("RULE"),
            Head::number("PACKETS"),
            Head::number("BYTES"),
        ];
        let cells = |total: &Total| {
            vec![
                (total.verdict.clone(), Tone::of_verdict(&total.verdict)),
                (total.reason.clone(), Tone::Plain),
                (total.rule.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain),
                (total.packets.to_string(), Tone::Plain),
                (total.bytes.to_string(), Tone::Plain),
            ]
        };
        out.line(format!(
            "{} packets by generation {}; nothing was changed",
            totals.packets, self.generation
        ))?;
        out.rows(&totals.by, &heads, cells)?;
        if let Some(against) = &self.args.against {
            out.line(format!("by {}", against.display()))?;
            out.rows(&totals.against, &heads, cells)?;
            out.line(format!("{} packets get another verdict", totals.changed))?;
        }
        if totals.failed > 0 {
            let text = format!("{} packets weren't run: see their lines", totals.failed);
            out.line(out.paint(&text, Tone::Odd))?;
        }
        if totals.evicted > 0 {
            let text = format!(
                "{} flows made room for newer ones: the twin's table has room for 32,768",
                totals.evicted
            );
            out.line(out.paint(&text, Tone::Odd))?;
        }
        Ok(())
    }
}
