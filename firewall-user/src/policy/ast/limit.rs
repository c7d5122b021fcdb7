//! Limits of rules.

use super::super::units;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitUnit {
    /// Packets.
    Packets,
    /// Bits from the IP header on.
    Bits,
    /// Packets that would begin a flow.
    New,
    /// Live flows that a source has begun.
    Connections,
}

impl LimitUnit {
    /// As policies say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bits => "bits",
            Self::New => "new",
            Self::Connections => "connections",
        }
    }
}

/// `limit 100 new/s burst 20 per source`, `over ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// `over`: the rule is met by what exceeds it, not by what keeps it.
    pub over: bool,
    /// So many, a time.
    pub count: u64,
    /// What.
    pub unit: LimitUnit,
    /// The time, milliseconds; of connections without meaning.
    pub per_ms: u64,
    /// How many at once, if the policy says so.
    pub burst: Option<u64>,
    /// Each source by itself.
    pub per_source: bool,
}

impl Limit {
    /// How many at once: as the policy says, else what comes in a twentieth of a second, and no less than a few packets.
    pub fn burst(&self) -> u64 {
        let some = self.count.saturating_mul(1000) / self.per_ms.max(1) / 20;
        let least = if self.unit == LimitUnit::Bits { 8 * 65_536 } else { 5 };
        self.burst.unwrap_or(some.max(least))
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.over { "over" } else { "limit" };
        write!(f, "{word} {} {}", self.count, self.unit.name())?;
        match (self.unit, self.per_ms) {
            (LimitUnit::Connections, _) => {}
            (_, 1000) => f.write_str("/s")?,
            (_, 60_000) => f.write_str("/m")?,
            (_, 3_600_000) => f.write_str("/h")?,
            (_, ms) => write!(f, "/{}", units::show_ms(ms))?,
        }
        if let Some(burst) = self.burst {
            write!(f, " burst {burst}")?;
        }
        if self.per_source { f.write_str(" per source") } else { Ok(()) }
    }
}
