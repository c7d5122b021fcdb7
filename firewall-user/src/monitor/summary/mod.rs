//! Summaries of sockets, as MySQL's performance_schema has them of its objects: by process, executable, user,
//! remote host, account, unit, container, protocol, rule, and of each socket by itself. What has ended is kept in
//! tables of a fixed number of rows; what lives is added when somebody asks. No I/O, no clock.
//!
//! When a table is full, the row without living sockets that was touched least lately folds into `other`: its
//! numbers go on there, and the table says how many did. Where every row has sockets that live, what has none goes
//! to `other` at once, counted as `lost`. So the sum over all rows is always what was put in.

mod account;
mod stat;
mod table;

pub use account::{Account, Before, Befores};
pub use stat::Stat;

use crate::view::{SummaryRowView, SummaryTableView, SummaryView};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, LazyLock},
};
use table::{ROWS, Table};

/// The key of the row that others fold into. It isn't reserved: the row says of itself that it is the one.
pub const OTHER: &str = "other";
/// The key of what isn't known.
pub const UNKNOWN: &str = "?";

/// What rows are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// Process: number, start and name.
    Process,
    /// Executable.
    Exe,
    /// User.
    User,
    /// Remote address.
    Host,
    /// User and remote address.
    Account,
    /// Unit of systemd's; container where there is none.
    Unit,
    /// Container.
    Container,
    /// Protocol.
    Protocol,
    /// Rule that let the socket's packets in, or refused them.
    Rule,
    /// Each socket by itself: while it lives, and a moment longer. Nothing of it is kept.
    Instance,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Process,
        Self::Exe,
        Self::User,
        Self::Host,
        Self::Account,
        Self::Unit,
        Self::Container,
        Self::Protocol,
        Self::Rule,
        Self::Instance,
    ];

    /// Those that have a table, of which the last, the rule's, is known some time after the socket's end only.
    pub const KEPT: [Self; 9] = {
        let [a, b, c, d, e, f, g, h, rule, _] = Self::ALL;
        [a, b, c, d, e, f, g, h, rule]
    };

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Exe => "exe",
            Self::User => "user",
            Self::Host => "host",
            Self::Account => "account",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Protocol => "protocol",
            Self::Rule => "rule",
            Self::Instance => "instance",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }

    /// Its bit in a set of tables.
    pub const fn mask(self) -> u16 {
        1 << self as u16
    }
}

/// Every table.
pub const EVERY: u16 = u16::MAX;

/// What the sockets of a row have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// As it is shown.
    pub text: Arc<str>,
    /// What tells two of the same text apart: start of a process, cookie of a socket; 0: nothing does.
    pub id: u64,
}

impl Key {
    /// One that its text says all of.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), id: 0 }
    }

    /// What isn't known.
    pub fn unknown() -> Self {
        // Of many sockets something isn't.
        static TEXT: LazyLock<Arc<str>> = LazyLock::new(|| UNKNOWN.into());
        Self::new(TEXT.clone())
    }
}

/// What has ended, in one table for each of [`By::KEPT`].
#[derive(Debug, Default)]
pub struct Summary {
    tables: [Table; By::KEPT.len()],
}

impl Summary {
    /// Adds a socket that has ended to the tables of `mask`.
    pub fn ended<'a>(
        &mut self,
        mask: u16,
        key: impl Fn(By) -> Key,
        account: impl Fn(By) -> Cow<'a, Account>,
    ) {
        for (by, table) in By::KEPT.into_iter().zip(&mut self.tables) {
            if by.mask() & mask != 0 {
                table.add(key(by), &account(by));
            }
        }
    }

    /// Tables that have to know which of their rows have sockets that live.
    pub fn nearly_full(&self) -> impl Iterator<Item = By> {
        By::KEPT
            .into_iter()
            .zip(&self.tables)
            .filter(|(_, table)| table.is_nearly_full())
            .map(first)
    }

    /// Whether one of them has to know soon.
    pub fn is_uncertain(&self) -> bool {
        self.tables.iter().any(Table::is_uncertain)
    }

    /// Notes which rows of a table have sockets that live.
    pub fn mark(&mut self, by: By, live: impl Iterator<Item = Key>) {
        if let Some(table) = self.tables.get_mut(by as usize) {
            table.mark(live);
        }
    }

    /// Rows by one thing, those that `more` adds among them: it is given a place for what it has, by key. In no
    /// order.
    pub fn rows(&self, by: By, more: impl FnOnce(&mut HashMap<Key, Account>)) -> SummaryView {
        let mut rows: HashMap<Key, Account> = HashMap::new();
        let none = Table::default();
        let table = self.tables.get(by as usize).unwrap_or(&none);
        rows.extend(table.rows().map(|(key, account)| (key.clone(), account.clone())));
        more(&mut rows);
        let view = |key: &Key, account: &Account| SummaryRowView {
            key: key.text.to_string(),
            id: (key.id != 0).then(|| format!("{:x}", key.id)),
            ..account.view()
        };
        // Since a reset there may be nothing to be told of a row.
        let told = |(_, account): &(&Key, &Account)| **account != Account::default();
        let mut views: Vec<SummaryRowView> =
            rows.iter().filter(told).map(|(key, account)| view(key, account)).collect();
        if *table.other() != Account::default() {
            views.push(SummaryRowView { other: true, ..view(&Key::new(OTHER), table.other()) });
        }
        SummaryView {
            by: by.name().to_owned(),
            total: views.len() as u64,
            folded: table.folded(),
            lost: table.lost(),
            rows: views,
        }
    }

    /// How full the tables are, and what didn't fit.
    pub fn tables(&self) -> Vec<SummaryTableView> {
        let view = |(by, table): (By, &Table)| SummaryTableView {
            by: by.name().to_owned(),
            rows: table.len() as u64,
            capacity: ROWS as u64,
            folded: table.folded(),
            lost: table.lost(),
        };
        By::KEPT.into_iter().zip(&self.tables).map(view).collect()
    }

    /// Zeroes what has ended, in the tables of `mask`. (Live sockets: see [`Befores`].)
    pub fn reset(&mut self, mask: u16) {
        for (by, table) in By::KEPT.into_iter().zip(&mut self.tables) {
            if by.mask() & mask != 0 {
                table.reset();
            }
        }
    }
}

fn first<A, B>((a, _): (A, B)) -> A {
    a
}

#[cfg(test)]
mod tests;
