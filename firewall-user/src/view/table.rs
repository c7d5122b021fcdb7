//! How full the flow tables are, and what is wrong.

use serde::{Deserialize, Serialize};

/// The flow tables in the statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatsView {
    /// Entries in use, of both families; some may have ended and wait for their time-out.
    pub flows: u64,
    /// Flows that each family's table is planned for.
    pub capacity: u64,
    /// How full the fuller family's table is, percent of `capacity`.
    pub used_percent: f64,
    /// Of `flows`, those that nobody has answered yet.
    pub half_open: u64,
    /// Unanswered flows that made room for newer ones.
    pub evicted: u64,
    /// Packets of those.
    pub evicted_packets: u64,
    /// Bytes of those.
    pub evicted_bytes: u64,
    /// Packets that found a lock held for too long: judged, not tracked.
    pub busy: u64,
    /// First packets refused because their source had its share.
    pub source_limited: u64,
    /// First packets that found no room.
    pub refused: u64,
    /// Flows that ended and were listed for less than their time, as too many ended at once.
    #[serde(default)]
    pub ended_unlisted: u64,
    /// `ok`; `high`: above 80 %; `full`: flows are refused or evicted.
    pub pressure: String,
}

/// What became of calls and packets that rules by owner judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerStatsView {
    /// Calls and first packets that were judged.
    pub judged: u64,
    /// Packets of sockets whose maker isn't known (the kernel's own have none): not judged.
    pub unknown: u64,
    /// Cgroups that found no room among those that are known: looked at again at each call.
    pub places_full: u64,
    /// Packets whose cgroup wasn't among those that are known: judged as of no unit and no cgroup.
    pub places_missed: u64,
}

/// Something that is wrong right now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    /// What: `flow-table-pressure`, `nat-ports-exhausted`.
    pub code: String,
    /// `warning` or `error`.
    pub severity: String,
    /// Since when.
    pub since: String,
    /// In words.
    pub text: String,
}
