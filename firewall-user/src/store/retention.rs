//! Forgetting: what is too old, and the oldest where there is no room.
//!
//! Deleting leaves free pages in the file, which the next rows take. So a file at its limit stays
//! there; it is only made smaller where more is free than rows will soon need.

use super::{
    Limits, now_ms,
    tables::{AGED, Removed, Which, forgotten},
};
use rusqlite::{Connection, TransactionBehavior};
use std::time::Instant;

/// Rows deleted in one transaction.
const CHUNK: usize = 2_000;
/// Transactions before the writer goes on with its own work.
const CHUNKS: usize = 16;
/// Percent of the limit that may be in use: the rest is for the next transaction.
const FULL: u64 = 95;
/// Parts of the time that the history holds: what made room is of the first of them.
const PARTS: i64 = 64;
/// A part is at least this long, ms.
const LEAST_MS: i64 = 60_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Pages given back to the file system in one step.
const STEP: u64 = 2_048;

/// Pages of the file.
#[derive(Clone, Copy, Debug)]
struct Pages {
    all: u64,
    free: u64,
    size: u64,
}

impl Pages {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let ask = |name| -> rusqlite::Result<u64> {
            let count: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
            Ok(count.unsigned_abs())
        };
        Ok(Self {
            all: ask("page_count")?,
            free: ask("freelist_count")?,
            size: ask("page_size")?.max(1),
        })
    }
}

/// Keeps the file within its limits.
#[derive(Debug)]
pub(super) struct Keeper {
    limits: Limits,
    next_round: Instant,
    /// The day on which words were last forgotten.
    words: i64,
}

impl Keeper {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, next_round: Instant::now(), words: 0 }
    }

    /// Makes room for a batch; how many rows had to go.
    pub(super) fn make_room(&self, connection: &mut Connection) -> rusqlite::Result<usize> {
        let mut gone = 0;
        for _ in 0..CHUNKS {
            let pages = Pages::of(connection)?;
            let most = self.limits.max_bytes / pages.size * FULL / 100;
            if pages.all - pages.free <= most {
                break;
            }
            let now = remove_oldest(connection)?;
            if now == 0 {
                break;
            }
            gone += now;
        }
        self.give_back(connection)?;
        Ok(gone)
    }

    /// What is to be done from time to time; how many rows were too old, or `None` if it wasn't yet
    /// time to look.
    pub(super) fn look_round(
        &mut self,
        connection: &mut Connection,
    ) -> rusqlite::Result<Option<usize>> {
        if Instant::now() < self.next_round {
            return Ok(None);
        }
        let age = i64::try_from(self.limits.max_age_ms).unwrap_or(i64::MAX);
        let before = now_ms().saturating_sub(age);
        let (mut gone, mut more) = (0, false);
        for table in AGED {
            let removed = within(connection, |inside| {
                table.remove(inside, Which::EndedBefore(before), CHUNK)
            })?;
            gone += removed.rows;
            more |= removed.rows >= CHUNK;
        }
        if !more {
            self.later();
        }
        let today = now_ms().div_euclid(DAY_MS);
        if std::mem::replace(&mut self.words, today) != today {
            forget_words(connection, today)?;
        }
        self.give_back(connection)?;
        Ok(Some(gone))
    }

    /// Not now: something is in the way.
    pub(super) fn later(&mut self) {
        self.next_round = Instant::now() + self.limits.round;
    }

    /// Whether there is something to do at once.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next_round
    }

    /// Makes the file smaller, where it is over the limit or a quarter of it is free.
    fn give_back(&self, connection: &Connection) -> rusqlite::Result<()> {
        let pages = Pages::of(connection)?;
        let over = pages.all.saturating_sub(self.limits.max_bytes / pages.size);
        let spare = if pages.free > STEP { pages.free.saturating_sub(pages.all / 4) } else { 0 };
        let give = over.max(spare).min(pages.free).min(STEP);
        if give > 0 {
            // A row comes out for each page: all have to be asked for.
            let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({give})"))?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
            // The file itself is cut when the log is carried over to it; as far as readers let it.
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }
}

/// Forgets words that no row has any more: those that were last written before the oldest row was.
fn forget_words(connection: &Connection, today: i64) -> rusqlite::Result<()> {
    let mut oldest = today;
    for table in AGED {
        if let Some(time) = table.oldest(connection)? {
            oldest = oldest.min(time.div_euclid(DAY_MS));
        }
    }
    // A clock may have been a day off. Port blocks stay for as long as they are in force.
    let gone = connection.execute(
        "DELETE FROM names WHERE used < ?1 AND id NOT IN (SELECT rule FROM nat_blocks)",
        [oldest - 1],
    )?;
    if gone > 0 {
        log::debug!("history: {gone} words that nothing has any more are forgotten");
    }
    Ok(())
}

/// Bytes of the file.
pub(super) fn file_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pages = Pages::of(connection)?;
    Ok(pages.all * pages.size)
}

/// Removes a chunk of what is the oldest, in step in all tables: of what ended in the first part of the time that the
/// history holds, or of a longer one where nothing did. So a small table keeps what it has for as long as a large one.
fn remove_oldest(connection: &mut Connection) -> rusqlite::Result<usize> {
    let mut tables = Vec::new();
    for table in AGED {
        if let Some(oldest) = table.oldest(connection)? {
            tables.push((oldest, table));
        }
    }
    tables.sort_by_key(|(oldest, _)| *oldest);
    let Some((first, _)) = tables.first() else { return Ok(0) };
    let part = (now_ms().saturating_sub(*first) / PARTS).max(LEAST_MS);
    let cuts = (0..=PARTS.ilog2()).map(|n| first.saturating_add(part << n));
    for which in cuts.map(Which::EndedBefore).chain([Which::Ended, Which::Any]) {
        let mut gone = 0;
        for (_, table) in &tables {
            let removed = within(connection, |inside| table.remove(inside, which, CHUNK))?;
            if removed.rows > 0 {
                log::debug!("history: {} rows of {} made room", removed.rows, table.name());
            }
            gone += removed.rows;
            // Without a time to cut at, one table is enough.
            if gone > 0 && !matches!(which, Which::EndedBefore(_)) {
                break;
            }
        }
        if gone > 0 {
            return Ok(gone);
        }
    }
    Ok(0)
}

fn within(
    connection: &mut Connection,
    remove: impl FnOnce(&Connection) -> rusqlite::Result<Removed>,
) -> rusqlite::Result<Removed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let removed = remove(&transaction)?;
    if let Some(latest) = removed.latest {
        forgotten(&transaction, latest)?;
    }
    transaction.commit()?;
    Ok(removed)
}
