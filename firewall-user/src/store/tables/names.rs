//! Words that come back often (names of rules, reasons), stored once.

use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;

/// Words kept in memory; more are looked up again.
const KEPT: usize = 4096;

/// The numbers of words, as far as they were asked for.
#[derive(Debug, Default)]
pub struct Names(HashMap<Box<str>, i64>);

impl Names {
    /// The number of `name`; it gets one if it has none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn number(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(number) = self.0.get(name) {
            return Ok(*number);
        }
        let known = connection
            .prepare_cached("SELECT id FROM names WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let number = match known {
            Some(number) => number,
            None => {
                connection.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.insert([name])?
            }
        };
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(name.into(), number);
        Ok(number)
    }

    /// What a transaction that failed had added isn't there.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
