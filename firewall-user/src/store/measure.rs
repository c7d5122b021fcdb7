//! How fast the history is, on this machine: for benchmarks.

use super::{
    Binding, BindingKind, Endpoint, History, Limits, Origin, StoreError, Totals, WhoQuery,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Questions that are asked.
const QUESTIONS: u64 = 2_000;
/// Mappings that live at once.
const LIVE: u64 = 20_000;
/// When the first mapping begins, ms since 1970.
const BEGINNING: i64 = 1_700_000_000_000;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Mappings written: each is begun, and completed later.
    pub rows: u64,
    /// Mappings a second, begun and completed.
    pub rows_per_second: f64,
    /// Median of a question, microseconds.
    pub who_p50_us: f64,
    /// 95th percentile of a question, microseconds.
    pub who_p95_us: f64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Mappings deleted to stay within the limit.
    pub deleted: u64,
    /// Records lost: 0, as the measurement waits where the queue is full.
    pub lost: u64,
}

/// Why there is no measurement.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// The thread couldn't be started.
    #[error("{0}")]
    Start(#[from] std::io::Error),
    /// A question failed.
    #[error("{0}")]
    Ask(#[from] StoreError),
    /// A question had the wrong answer.
    #[error("mapping {0}: the history doesn't know who it was")]
    Wrong(u64),
}

/// Mapping `n`: 4,096 hosts, 16 public addresses, ports as if drawn by lot.
fn mapping(n: u64, rule: &Arc<str>) -> Binding {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let host = Ipv4Addr::from(0x0a00_0000 | (mixed as u32 & 0xfff));
    let public = Ipv4Addr::from(0xcb00_7100 | ((mixed >> 12) as u32 & 0xf));
    let port = 1024 + ((mixed >> 16) % 64_512) as u16;
    let src = Endpoint::new(IpAddr::V4(host), 32_768 + (n % 28_000) as u16);
    let dst =
        Endpoint::new(IpAddr::V4(Ipv4Addr::from(0x0808_0000 | (mixed >> 8) as u32 & 0xffff)), 443);
    Binding {
        id: n,
        origin: Origin::Sluice,
        kind: BindingKind::Masquerade,
        proto: 6,
        src,
        dst,
        to_src: Endpoint::new(IpAddr::V4(public), port),
        to_dst: dst,
        rule: rule.clone(),
        start_ms: BEGINNING + n as i64,
    }
}

/// Writes `rows` mappings into a new history in `file`, [`LIVE`] of them live at any time, and asks
/// who had a port.
///
/// # Errors
/// The history can't be started or asked, or answers wrongly.
pub fn measure(file: &Path, rows: u64, max_bytes: u64) -> Result<Measured, MeasureError> {
    // The times are long past.
    let limits = Limits { max_bytes, max_age_ms: u64::MAX >> 1, ..Limits::default() };
    let history = History::open(file, limits)?;
    let rule: Arc<str> = "lan".into();
    let wait_for_room = || {
        while history.stats().queued > limits.queue as u64 / 2 {
            thread::sleep(Duration::from_millis(1));
        }
    };
    let end = |n: u64| {
        let totals =
            Totals { packets: n % 90, bytes: n % 99_999, reply_packets: n % 80, reply_bytes: n };
        let at = BEGINNING + (n + LIVE) as i64;
        history.binding_ended(Origin::Sluice, n, totals, "closed", at);
    };
    let begun = Instant::now();
    for n in 0..rows {
        if n.is_multiple_of(1024) {
            wait_for_room();
        }
        history.binding_began(mapping(n, &rule));
        if n >= LIVE {
            end(n - LIVE);
        }
    }
    for n in rows.saturating_sub(LIVE)..rows {
        if n.is_multiple_of(1024) {
            wait_for_room();
        }
        end(n);
    }
    while !history.settle(Duration::from_secs(60)) {}
    let seconds = begun.elapsed().as_secs_f64();

    let mut times = Vec::new();
    let stats = history.stats();
    // What was deleted is the oldest.
    let (first, last) = (stats.deleted.min(rows.saturating_sub(1)), rows);
    for question in 0..QUESTIONS.min(last - first) {
        let n = first + question.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (last - first);
        let wanted = mapping(n, &rule);
        let query = WhoQuery {
            address: wanted.to_src.address,
            port: Some(wanted.to_src.port),
            proto: Some(wanted.proto),
            at_ms: wanted.start_ms + (LIVE / 2) as i64,
            limit: 100,
        };
        let asked = Instant::now();
        let answer = history.who(&query)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        if !answer.bindings.iter().any(|row| row.binding == wanted) {
            return Err(MeasureError::Wrong(n));
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    Ok(Measured {
        rows,
        rows_per_second: rows as f64 / seconds,
        who_p50_us: at(50),
        who_p95_us: at(95),
        bytes: stats.bytes,
        deleted: stats.deleted,
        lost: stats.lost,
    })
}
