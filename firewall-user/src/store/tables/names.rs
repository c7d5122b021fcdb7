//! Words that come back often (names of rules, reasons), stored once.

use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Words kept in memory; more are looked up again.
const KEPT: usize = 4096;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The numbers of words, as far as they were asked for today. Each says on which day it was last written: so that it
/// can be forgotten when all rows of that time have gone.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<Box<str>, i64>,
    /// Days since 1970.
    today: i64,
}

impl Names {
    /// The number of `name`; it gets one if it has none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn number(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(number) = self.known.get(name) {
            return Ok(*number);
        }
        let known: Option<(i64, i64)> = connection
            .prepare_cached("SELECT id, used FROM names WHERE name = ?1")?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let number = match known {
            Some((number, used)) => {
                if used != self.today {
                    connection
                        .prepare_cached("UPDATE names SET used = ?2 WHERE id = ?1")?
                        .execute([number, self.today])?;
                }
                number
            }
            None => connection
                .prepare_cached("INSERT INTO names (name, used) VALUES (?1, ?2)")?
                .insert(params![name, self.today])?,
        };
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        self.known.insert(name.into(), number);
        Ok(number)
    }

    /// A transaction begins at `now_ms`.
    pub fn begin(&mut self, now_ms: i64) {
        let today = now_ms.div_euclid(DAY_MS);
        if self.today != today {
            self.today = today;
            self.known.clear();
        }
    }

    /// What a transaction that failed had added isn't there.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}
