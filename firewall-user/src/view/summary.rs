//! Rows of `sluice summary`.

use serde::{Deserialize, Serialize};

/// Sockets by one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryView {
    /// `process`, `exe`, `user`, `host`, `account`, `unit`, `container`, `protocol`, `rule`, `instance`.
    pub by: String,
    /// How many rows there are (that match).
    pub total: u64,
    /// Rows that were folded into `other` to make room, since the last reset.
    pub folded: u64,
    /// Sockets that were counted in `other` at once, as every row had sockets that lived.
    pub lost: u64,
    /// The rows.
    pub rows: Vec<SummaryRowView>,
}

/// What the sockets of a row did since the last reset, those that live and those that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryRowView {
    /// What they have in common; `?`: not known.
    pub key: String,
    /// `host`: what it is called in the daemon's network namespace now, as it was observed.
    #[serde(default)]
    pub name: Option<String>,
    /// What tells rows of the same key apart, hexadecimal: start of a process (nanoseconds since boot), id of a socket.
    pub id: Option<String>,
    /// Those whose row was folded, or that never had one.
    pub other: bool,
    /// Sockets that live.
    pub live: u64,
    /// Those, and those that have ended.
    pub total: u64,
    /// Of those that live: TCP with a handshake that was done, others with a remote end.
    pub connected: u64,
    /// The same of all.
    pub connections: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// TCP: segments out; else calls that sent.
    pub sent_packets: u64,
    /// TCP: segments in; else calls that received.
    pub received_packets: u64,
    /// TCP: from the SYN to the end of the handshake, microseconds, of connections that they began.
    pub connect_us: SummaryStatView,
    /// The same of those that others began.
    pub accept_us: SummaryStatView,
    /// Bytes of a call that received.
    pub read_bytes: SummaryStatView,
    /// Bytes of a call that sent.
    pub write_bytes: SummaryStatView,
    /// TCP: segments sent again, of connections that had to.
    pub retransmits: SummaryStatView,
    /// How long those lived that have ended, microseconds.
    pub life_us: SummaryStatView,
}

/// How often, how much in all, least, mean, most, and what half, 95 and 99 of a hundred are not above (at most
/// twice too much: values are kept in classes of powers of two).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryStatView {
    /// How often.
    pub count: u64,
    /// How much in all.
    pub sum: u64,
    /// Least.
    pub min: u64,
    /// Mean.
    pub avg: u64,
    /// Most.
    pub max: u64,
    /// Half of them are not above.
    pub p50: u64,
    /// 95 of a hundred.
    pub p95: u64,
    /// 99 of a hundred.
    pub p99: u64,
}

/// How full a table of summaries is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryTableView {
    /// By what.
    pub by: String,
    /// Rows of sockets that have ended.
    pub rows: u64,
    /// Most that there can be.
    pub capacity: u64,
    /// Rows that were folded into `other`, since the last reset.
    pub folded: u64,
    /// Sockets that never had a row.
    pub lost: u64,
}
