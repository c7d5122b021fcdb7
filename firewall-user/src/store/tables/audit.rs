//! What people and programs had the daemon do.

use super::{
    names::Names,
    past::{Numbers, first_row, time_of},
};
use rusqlite::{Connection, params};

/// Something that somebody asked for and that changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// When it was done, ms since 1970.
    pub at_ms: i64,
    /// Who asked: `user NAME`, or by which token and from where.
    pub who: String,
    /// The verb, as in the protocol.
    pub verb: String,
    /// What of it, in words.
    pub detail: String,
    /// `done`, or the code of the error.
    pub outcome: String,
}

/// Writes one.
pub(in crate::store) fn insert(
    connection: &Connection,
    names: &mut Names,
    numbers: &mut Numbers,
    deed: &Deed,
) -> rusqlite::Result<()> {
    let who = names.number(connection, &deed.who)?;
    let verb = names.number(connection, &deed.verb)?;
    let outcome = names.number(connection, &deed.outcome)?;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO audit (row, who, verb, outcome, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    numbers.place(deed.at_ms, |row| insert.execute(params![row, who, verb, outcome, deed.detail]))
}

/// Deeds between two times, latest first; `each` says whether it wants more.
pub(in crate::store) fn list(
    connection: &Connection,
    (from_ms, to_ms): (i64, i64),
    each: &mut dyn FnMut(Deed) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT row, w.name, v.name, o.name, detail FROM audit JOIN names w ON w.id = who \
         JOIN names v ON v.id = verb JOIN names o ON o.id = outcome \
         WHERE row >= ?1 AND row < ?2 ORDER BY row DESC",
    )?;
    let mut rows =
        statement.query(params![first_row(from_ms), first_row(to_ms.saturating_add(1))])?;
    while let Some(row) = rows.next()? {
        let deed = Deed {
            at_ms: time_of(row.get(0)?),
            who: row.get(1)?,
            verb: row.get(2)?,
            outcome: row.get(3)?,
            detail: row.get(4)?,
        };
        if !each(deed) {
            break;
        }
    }
    Ok(())
}
