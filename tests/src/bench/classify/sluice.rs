//! Sluice with a rule set: the daemon, its program at XDP.

use super::super::ours::{HOT_TRIES, MACS, Ours, Station};
use super::super::train::{HEADER, Train, WIDE_HEADER, header_of};
use super::{HEADERS, Load, Round, Subject};
use crate::ruleset::{Key, policy};

/// Runs of each hot packet.
const REPEAT: usize = 5_000;
/// Flows that the tables have room for: none is ever made.
const MAX_FLOWS: u32 = 1 << 16;

/// Daemon and packets.
pub(super) struct Sluice {
    ours: Ours,
    station: Station,
    hot: Vec<Vec<u8>>,
    many: Vec<Vec<u8>>,
}

impl Sluice {
    /// Starts a daemon and applies the rules.
    ///
    /// # Errors
    /// In words: the daemon's own where it refuses them.
    pub fn new(load: &Load) -> Result<Self, String> {
        Self::with_policy(&policy::policy(&load.rules, "drop"), load.is_v6(), &load.hot, &load.many)
    }

    /// The same with a policy's text.
    ///
    /// # Errors
    /// In words.
    pub fn with_policy(text: &str, v6: bool, hot: &[Key], many: &[Key]) -> Result<Self, String> {
        let ours = Ours::start("xdp", "default in allow\n", MAX_FLOWS)?;
        ours.gate.apply(text)?;
        let width = if v6 { WIDE_HEADER } else { HEADER };
        let train = Train::of_width(width, HEADERS)?;
        let station = ours.station_behind("in-xdp", "in0", train)?;
        let frame = |key: &Key| key.frame(MACS.0, MACS.1);
        Ok(Self {
            ours,
            station,
            hot: hot.iter().map(frame).collect(),
            many: many.iter().map(|key| header_of(&frame(key), width)).collect(),
        })
    }

    /// Loads a list into a live set.
    ///
    /// # Errors
    /// The daemon's, in words.
    pub fn load(&self, set: &str, list: &str) -> Result<(), String> {
        let daemon = &self.ours.gate.daemon;
        let file = daemon.dir.join(format!("{set}.txt"));
        let lines: Vec<&str> = list.lines().collect();
        // A list may have 32 MiB.
        for some in lines.chunks(500_000) {
            std::fs::write(&file, some.join("\n"))
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let output = daemon.cli(&["set", "load", set, &file.display().to_string(), "--add"]);
            if output.code != 0 {
                return Err(output.stderr);
            }
        }
        Ok(())
    }

    /// Bytes that the kernel accounts for the policies' tables, for live sets, and for the map that holds the live one's
    /// rows.
    pub fn memory(&self) -> u64 {
        let plan = self.ours.gate.daemon.json(&["rules", "--plan"]);
        let maps = self.ours.gate.memory_of(|name| name == "TABLES" || name.starts_with("ARENA_"));
        maps + plan["room"].as_u64().unwrap_or(0)
    }

    /// One round; every packet has to be dropped for this reason.
    ///
    /// # Errors
    /// In words.
    pub fn round_for(&self, reason: &str) -> Result<Round, String> {
        let before = self.ours.gate.daemon.reason(reason);
        let hot = self.station.hot_over_empty(&self.hot, REPEAT)?;
        // The least of some tries, as of the hot ones.
        let mut many = f64::INFINITY;
        for _ in 0..HOT_TRIES {
            many = many.min(self.station.over_empty(&self.many)?);
        }
        let seen = self.ours.gate.daemon.reason(reason) - before;
        match (HOT_TRIES * (self.hot.len() * REPEAT + self.many.len())) as u64 {
            wanted if wanted == seen => Ok(Round { hot, many }),
            wanted => Err(format!("{seen} of {wanted} packets were counted under `{reason}`")),
        }
    }
}

impl Subject for Sluice {
    fn round(&mut self) -> Result<Round, String> {
        self.round_for("rule")
    }
}
