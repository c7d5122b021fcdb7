//! Rules with their counters, and what went wrong with their limits.

use serde::{Deserialize, Serialize};

/// A rule of the live policy with its counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// 1-based place; 0 for the two defaults.
    pub position: u32,
    /// Name.
    pub name: String,
    /// Stable id: the slot of its counters.
    pub id: u32,
    /// `allow`, `drop`, `reject`, `count`.
    pub action: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// Whether it logs.
    pub log: bool,
    /// The rule as written, one line, comments stripped.
    pub text: String,
    /// Packets that were judged by it.
    pub hits: u64,
    /// All packets it decided, of established flows too.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Last hit.
    pub last_hit: Option<String>,
    /// Packets that were over its limit.
    #[serde(default)]
    pub over: u64,
}

/// What went wrong with limits of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatsView {
    /// Sources that were forgotten while they owed something, for want of room.
    pub evicted: u64,
    /// Packets that passed unmeasured, as several CPUs changed one limit at once.
    pub contended: u64,
}
