//! Rows of `sluice history`, beside those of sockets, flows and mappings.

use serde::{Deserialize, Serialize};

/// What of the history there is to ask for.
pub const HISTORY_KINDS: [&str; 6] = ["sockets", "flows", "verdicts", "rules", "nat", "audit"];

/// Rows of the history summed up under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySumView {
    /// What they have in common; `?`: isn't known, `*`: nobody.
    pub key: String,
    /// Rows: sockets, flows, mappings; of `verdicts` and `rules` the minutes that have any.
    pub count: u64,
    /// Packets, original direction; of sockets: sent.
    pub packets: u64,
    /// Bytes, original direction; of sockets: sent.
    pub bytes: u64,
    /// Packets, reply direction; of sockets: received.
    pub reply_packets: u64,
    /// Bytes, reply direction; of sockets: received.
    pub reply_bytes: u64,
    /// The earliest of their ends (`verdicts`, `rules`: of their minutes).
    pub first: String,
    /// The latest of them.
    pub last: String,
}

/// What the kernel counted of a verdict and reason in a minute. These have every packet at a hook once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictMinuteView {
    /// When the minute began.
    pub minute: String,
    /// `allow`, `drop`, `reject`, ...
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What the kernel counted of a rule in a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMinuteView {
    /// When the minute began.
    pub minute: String,
    /// The rule's name.
    pub rule: String,
    /// What it does.
    pub action: String,
    /// Packets that met it first.
    pub hits: u64,
    /// Packets that it decided, those of its flows included.
    pub packets: u64,
    /// Bytes of those, from the IP header on.
    pub bytes: u64,
}

/// Something that somebody had the daemon do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeedView {
    /// When.
    pub time: String,
    /// Who asked: `user NAME` over the control socket, `token from ADDRESS`, `console at ADDRESS`, `signal`.
    pub who: String,
    /// What for: the verb, as in this protocol.
    pub verb: String,
    /// Its arguments, or what came of it.
    pub detail: String,
    /// `done`, or the code of the error.
    pub outcome: String,
}
