//! Summaries of sockets, as MySQL's performance_schema has them of its objects: by process, executable, user,
//! remote host, unit or container, protocol. What has ended is kept in tables of a fixed number of rows; what
//! lives is added when somebody asks. No I/O, no clock.
//!
//! When a table is full, the row that was touched least lately folds into `other`: its numbers go on there, and
//! the table says how many did. So the sum over all rows is always what was put in.

mod stat;

pub use stat::Stat;

use crate::view::{SummaryRowView, SummaryView};
use firewall_common::abi::socket::{SIZES, Sizes, SocketRow, Usage, class_limit};
use std::collections::{BTreeMap, HashMap};

/// Rows of a table.
const ROWS: usize = 1_024;
/// The row of what has no other.
pub const OTHER: &str = "other";
/// IPPROTO_TCP.
const TCP: u16 = 6;

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
    /// Unit of systemd's, or container.
    Unit,
    /// Protocol.
    Protocol,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Process, Self::Exe, Self::User, Self::Host, Self::Unit, Self::Protocol];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Exe => "exe",
            Self::User => "user",
            Self::Host => "host",
            Self::Unit => "unit",
            Self::Protocol => "protocol",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }
}

/// Under which key a socket counts in each table, in the order of [`By::ALL`].
pub type Keys = [String; 6];

/// What the sockets of a row did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// That live.
    live: u64,
    /// That live or have ended.
    total: u64,
    sent_bytes: u64,
    received_bytes: u64,
    /// Nanoseconds from the SYN to the end of the handshake, of those that began it.
    connect: Stat,
    /// The same of those that were asked.
    accept: Stat,
    /// Bytes of a call.
    read: Stat,
    write: Stat,
    /// Segments sent again, of a connection that had some.
    retransmit: Stat,
    /// Nanoseconds that a socket lived.
    close: Stat,
}

impl Account {
    /// Adds a socket, less what it had done at the last reset. `ended_ns`: when it ended (CLOCK_MONOTONIC).
    pub fn add(&mut self, row: &SocketRow, before: &Before, asked: bool, ended_ns: Option<u64>) {
        let usage = &row.usage;
        self.total += 1;
        self.live += u64::from(ended_ns.is_none());
        let (sent, received) = if row.protocol == TCP {
            (row.bytes_acked, row.bytes_received)
        } else {
            (usage.sent_bytes, usage.received_bytes)
        };
        self.sent_bytes += sent.saturating_sub(before.sent);
        self.received_bytes += received.saturating_sub(before.received);
        let handshake = row.protocol == TCP && usage.established_ns > usage.asked_ns;
        if handshake && usage.asked_ns != 0 && usage.established_ns > before.at_ns {
            let took = usage.established_ns - usage.asked_ns;
            if asked { self.accept.add(took) } else { self.connect.add(took) }
        }
        let calls = |now: &Usage, then: &Usage| (less(now, then, false), less(now, then, true));
        let (read, write) = calls(usage, &before.usage);
        self.read
            .add_calls(&read, usage.received_bytes.saturating_sub(before.usage.received_bytes));
        self.write.add_calls(&write, usage.sent_bytes.saturating_sub(before.usage.sent_bytes));
        let again = u64::from(row.retransmits.saturating_sub(before.retransmits));
        if again > 0 {
            self.retransmit.add(again);
        }
        if let Some(ended) = ended_ns
            && usage.created_ns != 0
        {
            self.close.add(ended.saturating_sub(usage.created_ns));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.live += other.live;
        self.total += other.total;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        for (mine, theirs) in [
            (&mut self.connect, &other.connect),
            (&mut self.accept, &other.accept),
            (&mut self.read, &other.read),
            (&mut self.write, &other.write),
            (&mut self.retransmit, &other.retransmit),
            (&mut self.close, &other.close),
        ] {
            mine.merge(theirs);
        }
    }

    fn view(&self, key: &str) -> SummaryRowView {
        SummaryRowView {
            key: key.to_owned(),
            live: self.live,
            total: self.total,
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            connect_us: self.connect.view(1_000),
            accept_us: self.accept.view(1_000),
            read_bytes: self.read.view(1),
            write_bytes: self.write.view(1),
            retransmits: self.retransmit.view(1),
            life_us: self.close.view(1_000),
        }
    }
}

/// Calls by size since then.
fn less(now: &Usage, then: &Usage, sent: bool) -> Sizes {
    let (mut sizes, before) =
        if sent { (now.sent, &then.sent) } else { (now.received, &then.received) };
    let earlier = before.calls.iter().any(|calls| *calls > 0);
    for (now, then) in sizes.calls.iter_mut().zip(before.calls) {
        *now = now.saturating_sub(then);
    }
    if earlier {
        // Fewest and most may have been before: what their classes say is left.
        let class = |calls: &u32| *calls > 0;
        if let (Some(first), Some(last)) =
            (sizes.calls.iter().position(class), sizes.calls.iter().rposition(class))
        {
            sizes.least = if first == 0 { 1 } else { class_limit(first - 1) + 1 }.max(sizes.least);
            sizes.most =
                if last == SIZES - 1 { sizes.most } else { class_limit(last).min(sizes.most) };
        }
    }
    sizes
}

/// What a socket had done at the last reset.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// When that was, CLOCK_MONOTONIC ns.
    pub at_ns: u64,
    /// TCP's bytes, or those of calls.
    pub sent: u64,
    /// As `sent`.
    pub received: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// Calls.
    pub usage: Usage,
}

impl Before {
    /// Of a socket as it is.
    pub fn of(row: &SocketRow, at_ns: u64) -> Self {
        let tcp = row.protocol == TCP;
        Self {
            at_ns,
            sent: if tcp { row.bytes_acked } else { row.usage.sent_bytes },
            received: if tcp { row.bytes_received } else { row.usage.received_bytes },
            retransmits: row.retransmits,
            usage: row.usage,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    rows: HashMap<String, (Account, u64)>,
    other: Account,
    folded: u64,
}

impl Table {
    /// The row of a key, which is the latest from now on.
    fn row(&mut self, key: &str, now: u64) -> &mut Account {
        if key == OTHER {
            return &mut self.other;
        }
        if !self.rows.contains_key(key) && self.rows.len() >= ROWS {
            self.fold();
        }
        let (account, touched) = self.rows.entry(key.to_owned()).or_default();
        *touched = now;
        account
    }

    /// Folds an eighth of the rows, those that were touched least lately: one by one each would be looked for
    /// among all.
    fn fold(&mut self) {
        let mut ages: Vec<u64> = self.rows.values().map(|(_, touched)| *touched).collect();
        ages.sort_unstable();
        let limit = ages.get(ages.len() / 8).copied().unwrap_or(0);
        let (other, folded) = (&mut self.other, &mut self.folded);
        self.rows.retain(|_, (account, touched)| {
            let stays = *touched > limit;
            if !stays {
                other.merge(account);
                *folded += 1;
            }
            stays
        });
    }
}

/// What has ended, in one table for each [`By`].
#[derive(Debug, Default)]
pub struct Summary {
    tables: [Table; By::ALL.len()],
    moment: u64,
}

impl Summary {
    /// Adds a socket that has ended.
    pub fn ended(
        &mut self,
        keys: &Keys,
        row: &SocketRow,
        before: &Before,
        asked: bool,
        at_ns: u64,
    ) {
        self.moment += 1;
        for (table, key) in self.tables.iter_mut().zip(keys) {
            table.row(key, self.moment).add(row, before, asked, Some(at_ns));
        }
    }

    /// Rows by one thing, with live sockets among them; those that moved most bytes first.
    pub fn rows(&self, by: By, live: impl Iterator<Item = (String, Account)>) -> SummaryView {
        let Some(table) = self.tables.get(by as usize) else { return SummaryView::default() };
        let mut rows: BTreeMap<&str, Account> =
            table.rows.iter().map(|(key, (account, _))| (key.as_str(), account.clone())).collect();
        rows.insert(OTHER, table.other.clone());
        let live: Vec<(String, Account)> = live.collect();
        for (key, account) in &live {
            rows.entry(key).or_default().merge(account);
        }
        let mut rows: Vec<SummaryRowView> = rows
            .into_iter()
            .filter(|(_, account)| *account != Account::default())
            .map(|(key, account)| account.view(key))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.sent_bytes + row.received_bytes));
        SummaryView {
            by: by.name().to_owned(),
            total: rows.len() as u64,
            folded: table.folded,
            rows,
        }
    }

    /// Zeroes what has ended. (Live sockets: see [`Before`].)
    pub fn reset(&mut self) {
        for table in &mut self.tables {
            table.other = Account::default();
            for (account, _) in table.rows.values_mut() {
                *account = Account::default();
            }
        }
    }
}

#[cfg(test)]
mod tests;
