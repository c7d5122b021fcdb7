//! Rows of `sluice summary`.

use serde::{Deserialize, Serialize};

/// Sockets by one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryView {
    /// `process`, `exe`, `user`, `host`, `unit`, `protocol`.
    pub by: String,
    /// How many rows there are.
    pub total: u64,
    /// Rows that were folded into `other` to make room.
    pub folded: u64,
    /// The rows, those that moved most bytes first.
    pub rows: Vec<SummaryRowView>,
}

/// What the sockets of a row did since the last reset, those that live and those that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryRowView {
    /// What they have in common; `other`: those whose row was folded; `?`: not known.
    pub key: String,
    /// Sockets that live.
    pub live: u64,
    /// Those, and those that have ended.
    pub total: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
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
