//! With real files.

mod past;
mod questions;
mod retention;
mod trouble;

use super::{
    Binding, BindingFilter, BindingKind, BlockAssignment, Endpoint, History, Limits, Origin,
    Totals, WhoQuery, measure::measure, now_ms,
};
use crate::daemon::testing::{TestDir, directory};
use std::{net::IpAddr, path::PathBuf, time::Duration};

const SOON: Duration = Duration::from_secs(20);

/// A directory that goes with the test.
struct Dir(TestDir);

impl Dir {
    fn new() -> Self {
        Self(directory())
    }
    fn file(&self) -> PathBuf {
        self.0.join("history.db")
    }
    fn open(&self, limits: Limits) -> History {
        History::open(&self.file(), limits).expect("a thread")
    }
}

/// Nothing is too old: most of these tests count time from zero.
fn ageless() -> Limits {
    Limits { max_age_ms: u64::MAX, ..Limits::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn end(text: &str) -> Endpoint {
    let socket: std::net::SocketAddr = text.parse().expect("an endpoint");
    Endpoint::new(socket.ip(), socket.port())
}

/// `host` goes out as `public`.
fn masquerade(id: u64, host: &str, public: &str, start_ms: i64) -> Binding {
    let dst = end(if host.starts_with('[') { "[2001:db8::53]:443" } else { "198.51.100.7:443" });
    Binding {
        id,
        origin: Origin::Sluice,
        kind: BindingKind::Masquerade,
        proto: 6,
        src: end(host),
        dst,
        to_src: end(public),
        to_dst: dst,
        rule: "lan".into(),
        start_ms,
    }
}

const TOTALS: Totals = Totals { packets: 10, bytes: 1000, reply_packets: 8, reply_bytes: 90_000 };

/// Ids of who had `public` at `at_ms`, the latest first.
fn who(history: &History, public: &str, at_ms: i64) -> Vec<u64> {
    let public = end(public);
    let query = WhoQuery {
        address: public.address,
        port: Some(public.port),
        proto: None,
        at_ms,
        limit: 100,
    };
    let answer = history.who(&query).expect("an answer");
    answer.bindings.iter().map(|row| row.binding.id).collect()
}

fn count(history: &History) -> usize {
    let filter = BindingFilter { limit: usize::MAX >> 1, ..BindingFilter::default() };
    history.bindings(&filter).expect("an answer").len()
}

#[test]
fn measuring_works() {
    let dir = Dir::new();
    let measured = measure(&dir.file(), 3_000, 64 << 20).expect("measured");
    assert_eq!((measured.rows, measured.lost, measured.deleted), (3_000, 0, 0));
    assert!(measured.rows_per_second > 0.0 && measured.who_p95_us >= measured.who_p50_us);
}
