//! What the kernel counted, by minute: by verdict and reason, and by rule. Tables whose time is a number of
//! minutes or hours are forgotten here too.

use super::{Aged, Removed, Which, names::Names};
use crate::store::now_ms;
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;

/// Milliseconds of a minute.
pub(in crate::store) const MINUTE_MS: i64 = 60_000;

/// What was counted of one verdict and reason in a minute, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictMinute {
    /// Minutes since 1970.
    pub minute: i64,
    /// Verdict.
    pub verdict: Arc<str>,
    /// Reason.
    pub reason: Arc<str>,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What was counted of one rule in a minute, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMinute {
    /// Minutes since 1970.
    pub minute: i64,
    /// The rule's name.
    pub rule: Arc<str>,
    /// What it does.
    pub action: Arc<str>,
    /// Packets that met it first.
    pub hits: u64,
    /// Packets that it decided, those of its flows included.
    pub packets: u64,
    /// Bytes of those, from the IP header on.
    pub bytes: u64,
}

/// Both books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minutes {
    /// By verdict and reason.
    pub verdicts: Vec<VerdictMinute>,
    /// By rule.
    pub rules: Vec<RuleMinute>,
}

/// Adds to a minute.
pub(in crate::store) fn add_verdict(
    connection: &Connection,
    names: &mut Names,
    counted: &VerdictMinute,
) -> rusqlite::Result<()> {
    let verdict = names.number(connection, &counted.verdict)?;
    let reason = names.number(connection, &counted.reason)?;
    connection
        .prepare_cached(
            "INSERT INTO verdict_minutes (minute, verdict, reason, packets, bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET packets = packets + ?4, bytes = bytes + ?5",
        )?
        .execute(params![
            counted.minute,
            verdict,
            reason,
            counted.packets as i64,
            counted.bytes as i64
        ])?;
    Ok(())
}

/// Adds to a minute.
pub(in crate::store) fn add_rule(
    connection: &Connection,
    names: &mut Names,
    counted: &RuleMinute,
) -> rusqlite::Result<()> {
    let rule = names.number(connection, &counted.rule)?;
    let action = names.number(connection, &counted.action)?;
    connection
        .prepare_cached(
            "INSERT INTO rule_minutes (minute, rule, action, hits, packets, bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET hits = hits + ?4, \
             packets = packets + ?5, bytes = bytes + ?6",
        )?
        .execute(params![
            counted.minute,
            rule,
            action,
            counted.hits as i64,
            counted.packets as i64,
            counted.bytes as i64
        ])?;
    Ok(())
}

/// Minutes of verdicts from `from` to `to`, latest first; `each` says whether it wants more.
pub(in crate::store) fn verdicts(
    connection: &Connection,
    (from, to): (i64, i64),
    each: &mut dyn FnMut(VerdictMinute) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT minute, v.name, r.name, packets, bytes FROM verdict_minutes \
         JOIN names v ON v.id = verdict JOIN names r ON r.id = reason \
         WHERE minute BETWEEN ?1 AND ?2 ORDER BY minute DESC, verdict, reason",
    )?;
    let mut rows = statement.query([from, to])?;
    while let Some(row) = rows.next()? {
        let count = |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)?.unsigned_abs()) };
        let counted = VerdictMinute {
            minute: row.get(0)?,
            verdict: row.get(1)?,
            reason: row.get(2)?,
            packets: count(3)?,
            bytes: count(4)?,
        };
        if !each(counted) {
            break;
        }
    }
    Ok(())
}

/// Minutes of rules from `from` to `to`, latest first; `each` says whether it wants more.
pub(in crate::store) fn rules(
    connection: &Connection,
    (from, to): (i64, i64),
    each: &mut dyn FnMut(RuleMinute) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT minute, r.name, a.name, hits, packets, bytes FROM rule_minutes \
         JOIN names r ON r.id = rule JOIN names a ON a.id = action \
         WHERE minute BETWEEN ?1 AND ?2 ORDER BY minute DESC, rule, action",
    )?;
    let mut rows = statement.query([from, to])?;
    while let Some(row) = rows.next()? {
        let count = |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)?.unsigned_abs()) };
        let counted = RuleMinute {
            minute: row.get(0)?,
            rule: row.get(1)?,
            action: row.get(2)?,
            hits: count(3)?,
            packets: count(4)?,
            bytes: count(5)?,
        };
        if !each(counted) {
            break;
        }
    }
    Ok(())
}

/// A table whose rows are of a whole minute, or a whole hour, for those who forget: all of one go together.
#[derive(Debug)]
pub(in crate::store) struct Periods {
    pub(in crate::store) table: &'static str,
    /// The column that numbers them.
    pub(in crate::store) column: &'static str,
    /// How long one is, ms.
    pub(in crate::store) length: i64,
}

impl Aged for Periods {
    fn name(&self) -> &'static str {
        self.table
    }

    fn oldest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        // By its end: rows of a table that this one is made of go first.
        let Self { table, column, length } = self;
        connection
            .prepare_cached(&format!("SELECT {column} FROM {table} ORDER BY {column} LIMIT 1"))?
            .query_row([], |row| row.get::<_, i64>(0))
            .optional()
            .map(|period| period.map(|period| (period + 1) * length))
    }

    fn remove(
        &self,
        connection: &Connection,
        which: Which,
        most: usize,
    ) -> rusqlite::Result<Removed> {
        let Self { table, column, length } = self;
        let before = match which {
            Which::EndedBefore(time) => time.div_euclid(*length),
            Which::Ended | Which::Any => i64::MAX,
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        // Whole ones, though that may be more than `most`: half of one would be wrong.
        let last: Option<i64> = connection
            .prepare_cached(&format!(
                "SELECT max({column}) FROM \
                 (SELECT {column} FROM {table} WHERE {column} < ?1 ORDER BY {column} LIMIT ?2)"
            ))?
            .query_row([before, most], |row| row.get(0))?;
        let Some(last) = last else { return Ok(Removed::default()) };
        let rows = connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE {column} <= ?1"))?
            .execute([last])?;
        Ok(Removed { rows, latest: Some(((last + 1) * length).min(now_ms())) })
    }
}
