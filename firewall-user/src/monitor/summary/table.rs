//! One table: a fixed number of rows, out of which the one that was touched least lately folds into `other`.

use super::{Account, Key};
use hashlink::LinkedHashMap;

/// Rows of a table.
pub const ROWS: usize = 1_024;
/// From so many on it is asked which rows have sockets that live: they don't fold.
const NEARLY_FULL: usize = ROWS / 8 * 7;

#[derive(Debug, Default)]
struct Row {
    account: Account,
    /// Sockets of it lived when that was asked last.
    lives: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Table {
    /// Those that were touched least lately come first.
    rows: LinkedHashMap<Key, Row>,
    other: Account,
    folded: u64,
    lost: u64,
    /// All rows have sockets that live, as far as is known.
    stuck: bool,
    /// Rows that are new since that was asked.
    fresh: usize,
}

impl Table {
    /// Adds what sockets did that have ended.
    pub fn add(&mut self, key: Key, account: &Account) {
        if let Some(row) = self.rows.to_back(&key) {
            row.account.merge(account);
        } else if self.rows.len() < ROWS || self.fold() {
            self.rows.insert(key, Row { account: account.clone(), lives: false });
            self.fresh += 1;
        } else {
            self.lost += account.total();
            self.other.merge(account);
        }
    }

    /// Folds the oldest row without sockets that live; false: there is none.
    fn fold(&mut self) -> bool {
        if self.stuck {
            return false;
        }
        // Those that live go to the back: each is passed once from one asking to the next.
        for _ in 0..self.rows.len() {
            let Some((key, row)) = self.rows.pop_front() else { return false };
            if row.lives {
                self.rows.insert(key, row);
                continue;
            }
            self.other.merge(&row.account);
            self.folded += 1;
            return true;
        }
        self.stuck = true;
        false
    }

    /// Whether it has to know which rows have sockets that live.
    pub fn is_nearly_full(&self) -> bool {
        self.rows.len() >= NEARLY_FULL
    }

    /// Whether it has to know soon: many rows are new since it was told.
    pub fn is_uncertain(&self) -> bool {
        self.is_nearly_full() && self.fresh >= ROWS / 16
    }

    /// Notes which rows have sockets that live.
    pub fn mark(&mut self, live: impl Iterator<Item = Key>) {
        (self.stuck, self.fresh) = (false, 0);
        for row in self.rows.values_mut() {
            row.lives = false;
        }
        for key in live {
            if let Some(row) = self.rows.get_mut(&key) {
                row.lives = true;
            }
        }
    }

    /// Zeroes it. Rows stay, as performance_schema's do.
    pub fn reset(&mut self) {
        self.other = Account::default();
        for row in self.rows.values_mut() {
            row.account = Account::default();
        }
        (self.folded, self.lost) = (0, 0);
    }

    /// Its rows, without `other`.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Account)> {
        self.rows.iter().map(|(key, row)| (key, &row.account))
    }

    /// What has no row of its own any more, or never had.
    pub const fn other(&self) -> &Account {
        &self.other
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Rows that were folded into `other` since the last reset.
    pub const fn folded(&self) -> u64 {
        self.folded
    }

    /// Sockets that never had a row, since the last reset: all rows had some that live.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}
