//! How fast the history of sockets is written, and how fast it answers when it is large.
//!
//! - `history write`: ended sockets a second, handed over as the daemon does, and bytes of the file for each.
//! - `history query`: ten million of them, evenly over a week; the 95th percentile of questions about 24 hours of it,
//!   each about another day and another process, host or rule; and of sums.
//!
//! Sockets are those of 200 processes, 20,000 remote hosts and 20 rules, the first of each far busier than the last.

use super::Figures;
use firewall_user::server::history::{HistoryQuery, ask};
use firewall_user::store::{History, Limits, PastSocket, now_ms, when};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SLUICE: &str = "sluice";
const WRITE: &str = "history write";
const QUERY: &str = "history query";
/// Sockets.
const ROWS: u64 = 10_000_000;
/// Over so long, ms.
const WEEK: i64 = 7 * 86_400_000;
const DAY: i64 = 86_400_000;
/// Sockets that are handed over at once.
const BATCH: u64 = 512;
/// Questions of each sort.
const QUESTIONS: u64 = 40;
const PROCESSES: u64 = 200;
const HOSTS: u64 = 20_000;
const RULES: u64 = 20;

/// The file, and that it goes.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// As if drawn by lot.
fn mixed(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One of `n`, the first far more often than the last: the square of an even draw.
fn skewed(draw: u64, n: u64) -> u64 {
    let even = (draw % 65_536) as f64 / 65_536.0;
    ((even * even * n as f64) as u64).min(n - 1)
}

fn host(n: u64) -> IpAddr {
    Ipv4Addr::from(0xc633_0000 + n as u32).into()
}

fn socket(n: u64, begin_ms: i64) -> PastSocket {
    let draw = mixed(n);
    let process = skewed(draw, PROCESSES);
    let end_ms = begin_ms + (n as i128 * i128::from(WEEK) / i128::from(ROWS)) as i64;
    PastSocket {
        end_ms,
        cookie: n,
        netns: 4_026_531_840,
        own_netns: true,
        family: 4,
        proto: if draw.is_multiple_of(5) { "udp" } else { "tcp" }.to_owned(),
        state: "closed".to_owned(),
        local: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
        local_port: 32_768 + (n % 28_000) as u16,
        remote: Some(host(skewed(draw >> 16, HOSTS))),
        remote_port: if draw & 7 == 0 { 8_443 } else { 443 },
        uid: 1_000,
        pid: Some(1_000 + process as u32),
        comm: Some(format!("process-{process}")),
        exe: Some(format!("/usr/bin/process-{process}")),
        user: Some(format!("user-{}", process % 12)),
        unit: Some(format!("unit-{}.service", process % 60)),
        container: None,
        name: None,
        name_source: None,
        confidence: "stamped".to_owned(),
        created_ms: Some(end_ms - (draw >> 40) as i64 % 60_000),
        connect_us: Some(draw % 90_000),
        sent_bytes: draw % 20_000,
        received_bytes: draw % 900_000,
        sends: draw % 30,
        receives: draw % 90,
        segments_out: draw % 40,
        segments_in: draw % 70,
        rtt_us: Some(draw % 70_000),
        retransmits: u64::from(draw.is_multiple_of(50)),
        ended: if draw.is_multiple_of(40) { "reset" } else { "closed" }.to_owned(),
        flow: Some(draw),
        rule: Some(format!("rule-{}", skewed(draw >> 32, RULES))),
    }
}

/// Measures.
pub(super) fn measure(figures: &mut Figures) -> Result<(), String> {
    if !figures.wants(&[WRITE, QUERY]) {
        return Ok(());
    }
    let place = Place(std::env::temp_dir().join(format!("sluice-bench-{}", std::process::id())));
    // The times are of the past.
    let limits = Limits { max_bytes: 64 << 30, max_age_ms: u64::MAX >> 1, ..Limits::default() };
    let file = place.0.join("history.db");
    let history = History::open(&file, limits).map_err(|error| error.to_string())?;
    let begin_ms = now_ms() - WEEK;
    eprintln!("bench: {WRITE}, {ROWS} sockets");
    write(figures, &history, begin_ms)?;
    eprintln!("bench: {QUERY}");
    query(figures, &history, begin_ms)
}

fn write(figures: &mut Figures, history: &History, begin_ms: i64) -> Result<(), String> {
    let room = Limits::default().queue as u64 / 2;
    let (begun, mut waited) = (Instant::now(), Duration::ZERO);
    for batch in 0..ROWS.div_ceil(BATCH) {
        let numbers = batch * BATCH..((batch + 1) * BATCH).min(ROWS);
        history.sockets_ended(numbers.map(|n| socket(n, begin_ms)).collect());
        // Whoever measures how fast it is written mustn't lose anything.
        let full = Instant::now();
        while history.stats().queued > room {
            std::thread::sleep(Duration::from_micros(200));
        }
        waited += full.elapsed();
    }
    while !history.settle(Duration::from_secs(60)) {}
    let stats = history.stats();
    figures.add(SLUICE, WRITE, "rows/s", ROWS as f64 / begun.elapsed().as_secs_f64());
    figures.add(SLUICE, WRITE, "bytes a row", stats.bytes as f64 / ROWS as f64);
    figures.add(SLUICE, WRITE, "lost", stats.lost as f64);
    figures.add(
        SLUICE,
        WRITE,
        "% waited for",
        100.0 * waited.as_secs_f64() / begun.elapsed().as_secs_f64(),
    );
    if stats.written + stats.lost != ROWS {
        return Err(format!("{} rows of {ROWS} were written: {stats:?}", stats.written));
    }
    Ok(())
}

/// The 95th percentile, ms.
fn p95(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 95 / 100).copied().unwrap_or(f64::NAN)
}

fn query(figures: &mut Figures, history: &History, begin_ms: i64) -> Result<(), String> {
    let process = |n| format!("comm=process-{}", skewed(mixed(n), PROCESSES));
    let remote = |n| format!("remote={}", host(skewed(mixed(n) >> 16, HOSTS)));
    let rule = |n| format!("rule=rule-{}", skewed(mixed(n) >> 32, RULES));
    type Question<'a> = (&'a str, &'a dyn Fn(u64) -> String, Option<&'a str>);
    let questions: [Question<'_>; 8] = [
        ("ms p95, rows of a process", &process, None),
        ("ms p95, rows of a host", &remote, None),
        ("ms p95, rows of a rule", &rule, None),
        (
            "ms p95, rows of a process to a port, and more than 10 kB",
            &|n| format!("{} and remote_port=8443 and sent_bytes>10k", process(n)),
            None,
        ),
        ("ms p95, by process", &|_| String::new(), Some("process")),
        ("ms p95, by host", &|_| String::new(), Some("host")),
        ("ms p95, by minute", &|_| String::new(), Some("minute")),
        ("ms p95, a host by process", &remote, Some("process")),
    ];
    let mut all = Vec::new();
    for (what, filter, by) in questions {
        let mut times = Vec::new();
        for n in 0..QUESTIONS {
            let since = begin_ms + (mixed(n ^ 0x5151) % (WEEK - DAY) as u64) as i64;
            let query: HistoryQuery = serde_json::from_value(json!({
                "filter": filter(n),
                "since": when::show(since),
                "until": when::show(since + DAY),
                "by": by,
                "limit": 1_000,
            }))
            .map_err(|error| error.to_string())?;
            let asked = Instant::now();
            let answer = ask(history, &query).map_err(|error| error.body.message)?;
            times.push(asked.elapsed().as_secs_f64() * 1e3);
            if answer["rows"].as_array().is_none_or(Vec::is_empty) && what.ends_with("process") {
                return Err(format!("{what}: nothing was found by {query:?}"));
            }
        }
        figures.add(SLUICE, QUERY, what, p95(&mut times));
        all.extend(times);
    }
    figures.add(SLUICE, QUERY, "ms p95, all of these", p95(&mut all));
    Ok(())
}
