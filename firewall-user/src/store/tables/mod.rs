//! The tables, one file each, and the steps that lead to today's schema.
//!
//! A table that grows implements [`Aged`] and stands in [`AGED`]: then it is bounded like the others.

pub mod audit;
pub mod minutes;
pub mod names;
pub mod nat_bindings;
pub mod nat_blocks;
pub mod past;
pub mod past_flows;
pub mod past_sockets;

use minutes::{MINUTE_MS, Periods};
use rusqlite::{
    Connection, OptionalExtension,
    types::{Type, ValueRef},
};

/// Step `n` leads from version `n` to `n + 1`. Steps that were released never change.
pub(super) const SCHEMA: &[&str] =
    &[include_str!("schema-1.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];

/// Tables that grow.
pub(super) const AGED: &[&dyn Aged] = &[
    &nat_bindings::NatBindings,
    &nat_blocks::NatBlocks,
    &past::Timed("past_sockets"),
    &past::Timed("past_flows"),
    &past::Timed("audit"),
    &Periods { table: "past_hours", column: "hour", length: past::HOUR_MS },
    &Periods { table: "verdict_minutes", column: "minute", length: MINUTE_MS },
    &Periods { table: "rule_minutes", column: "minute", length: MINUTE_MS },
];

/// Which rows are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that ended before this time.
    EndedBefore(i64),
    /// Those that ended, oldest first.
    Ended,
    /// The oldest, live or not.
    Any,
}

/// Rows that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// How many.
    pub(super) rows: usize,
    /// The latest time at which one of them was live: from then on nothing is missing.
    pub(super) latest: Option<i64>,
}

/// A table whose old rows are forgotten.
pub(super) trait Aged: Sync {
    /// Its name in messages.
    fn name(&self) -> &'static str;
    /// The time of its oldest row.
    fn oldest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>>;
    /// Deletes up to `most` rows, the oldest first.
    fn remove(
        &self,
        connection: &Connection,
        which: Which,
        most: usize,
    ) -> rusqlite::Result<Removed>;
}

/// From when on nothing has been forgotten.
pub(super) fn since(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM facts WHERE name = 'since'")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Something was forgotten that was live up to `time`.
pub(super) fn forgotten(connection: &Connection, time: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE facts SET value = max(value, ?1) WHERE name = 'since'")?
        .execute([time])?;
    Ok(())
}

/// A number in column `at` that stands for nothing we know.
fn unknown(at: usize, value: i64) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        at,
        Type::Integer,
        format!("{value} is no known value").into(),
    )
}

/// Column `at`: an address of 4 or 16 bytes.
fn address(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<std::net::IpAddr> {
    let bytes = row.get_ref(at)?.as_blob()?;
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(four), _) => Ok(four.into()),
        (_, Ok(sixteen)) => Ok(sixteen.into()),
        _ => Err(rusqlite::Error::FromSqlConversionFailure(
            at,
            Type::Blob,
            format!("an address of {} bytes", bytes.len()).into(),
        )),
    }
}

/// Column `at`: the same, or nothing.
fn maybe_address(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<std::net::IpAddr>> {
    if row.get_ref(at)? == ValueRef::Null { Ok(None) } else { address(row, at).map(Some) }
}

/// An address as it is stored.
pub(super) fn bytes(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}
