//! What rows of the past have in common: their numbers are times, and sums of them by the hour.

use super::{Aged, Removed, Which, names::Names};
use rusqlite::{Connection, OptionalExtension, params, types::Value};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Numbers that the rows of one millisecond share, in bits.
const SPREAD: u32 = 20;
/// Milliseconds of an hour.
pub(in crate::store) const HOUR_MS: i64 = 3_600_000;
/// Hours that are summed up once more: most addresses of one come in the next, too.
const WATCH: i64 = 6;
/// Added to the number of a [`Dim`] for the sums of so many hours, which stand at the last of them: so that they go
/// when all of them have gone.
const OF_WATCH: u8 = 128;

/// The last hour of the six that an hour is of.
const fn watch(hour: i64) -> i64 {
    hour - hour.rem_euclid(WATCH) + WATCH - 1
}
/// The last time that has a number: far beyond any clock.
const LAST_MS: i64 = (1 << (62 - SPREAD)) - 1;

/// The first number of a millisecond.
pub(in crate::store) fn first_row(ms: i64) -> i64 {
    ms.clamp(0, LAST_MS) << SPREAD
}

/// The time that a number stands for.
pub(in crate::store) const fn time_of(row: i64) -> i64 {
    row >> SPREAD
}

/// Gives numbers out.
#[derive(Debug, Default)]
pub(in crate::store) struct Numbers(i64);

impl Numbers {
    /// Writes a row that ended at `end_ms` by `insert`, which is given its number, under the first that is free.
    pub(in crate::store) fn place(
        &mut self,
        end_ms: i64,
        mut insert: impl FnMut(i64) -> rusqlite::Result<usize>,
    ) -> rusqlite::Result<()> {
        const TRIES: usize = 1 << SPREAD;
        for _ in 0..TRIES {
            self.0 = (self.0 + 1) % (1 << SPREAD);
            if insert(first_row(end_ms) | self.0)? == 1 {
                return Ok(());
            }
        }
        Err(rusqlite::Error::StatementChangedRows(0))
    }
}

/// What is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows.
    pub count: u64,
    /// Packets, original direction; of sockets: segments or datagrams sent.
    pub packets: u64,
    /// Bytes, original direction; of sockets: sent.
    pub bytes: u64,
    /// Packets, reply direction; of sockets: received.
    pub reply_packets: u64,
    /// Bytes, reply direction; of sockets: received.
    pub reply_bytes: u64,
    /// The earliest end, ms since 1970.
    pub first_ms: i64,
    /// The latest end, ms since 1970.
    pub last_ms: i64,
}

impl Sums {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        if self.count == 0 {
            *self = *other;
            return;
        }
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.count, other.count);
        sum(&mut self.packets, other.packets);
        sum(&mut self.bytes, other.bytes);
        sum(&mut self.reply_packets, other.reply_packets);
        sum(&mut self.reply_bytes, other.reply_bytes);
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// What rows are summed up by. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Dim {
    /// Sockets: name of the process.
    Process = 1,
    /// Sockets: its executable.
    Exe = 2,
    /// Sockets: its user.
    User = 3,
    /// Sockets: remote address.
    Host = 4,
    /// Sockets: container, or unit.
    Unit = 5,
    /// Sockets: rule.
    SocketRule = 6,
    /// Sockets: protocol.
    SocketProtocol = 7,
    /// Sockets: why they ended.
    SocketEnded = 8,
    /// Sockets: minute of the end.
    SocketMinute = 9,
    /// Sockets: remote port.
    RemotePort = 10,
    /// Sockets: what the other end was called.
    Name = 11,
    /// Flows: source address.
    Source = 33,
    /// Flows: destination address.
    Destination = 34,
    /// Flows: destination port.
    Port = 35,
    /// Flows: rule.
    FlowRule = 36,
    /// Flows: protocol, by number.
    FlowProtocol = 37,
    /// Flows: why they ended.
    FlowEnded = 38,
    /// Flows: minute of the end.
    FlowMinute = 39,
}

/// What the keys of a [`Dim`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Keys {
    Words,
    Addresses,
    Numbers,
    Minutes,
}

impl Dim {
    pub(in crate::store) const fn keys(self) -> Keys {
        match self {
            Self::Process | Self::Exe | Self::User | Self::Unit | Self::Name => Keys::Words,
            Self::SocketRule | Self::SocketProtocol | Self::SocketEnded => Keys::Words,
            Self::FlowRule | Self::FlowEnded => Keys::Words,
            Self::Host | Self::Source | Self::Destination => Keys::Addresses,
            Self::SocketMinute | Self::FlowMinute => Keys::Minutes,
            Self::RemotePort | Self::Port | Self::FlowProtocol => Keys::Numbers,
        }
    }

    /// Whether sums by the hour are kept of it. Ports of clients come by the ten thousand: they aren't; and
    /// names, which rows of older files don't have.
    pub(in crate::store) const fn is_kept(self) -> bool {
        !matches!(self, Self::RemotePort | Self::Name)
    }

    /// The same of a row of its table, as SQL.
    pub(in crate::store) const fn sql(self) -> &'static str {
        match self {
            Self::Process => "coalesce(comm, 0)",
            Self::Exe => "coalesce(exe, 0)",
            Self::User => "coalesce(user, 0)",
            Self::Host => "CASE WHEN remote_port = 0 THEN x'' ELSE coalesce(remote, x'') END",
            Self::Unit => "coalesce(container, unit, 0)",
            Self::SocketRule => "coalesce(rule, 0)",
            Self::SocketProtocol => "proto",
            Self::SocketEnded | Self::FlowEnded => "ended",
            // Of a millisecond's number.
            Self::SocketMinute | Self::FlowMinute => "(row >> 20) / 60000",
            Self::RemotePort => "remote_port",
            Self::Name => "coalesce(name, 0)",
            Self::Source => "coalesce(src, x'')",
            Self::Destination => "coalesce(dst, x'')",
            Self::Port => "dport",
            Self::FlowRule => "rule",
            Self::FlowProtocol => "proto",
        }
    }
}

/// What rows are summed up under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) enum Key {
    Number(i64),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Nobody,
}

impl From<i64> for Key {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<IpAddr>> for Key {
    fn from(address: Option<IpAddr>) -> Self {
        match address {
            Some(IpAddr::V4(address)) => Self::V4(address),
            Some(IpAddr::V6(address)) => Self::V6(address),
            None => Self::Nobody,
        }
    }
}

impl Key {
    /// As it is stored.
    fn value(self) -> Value {
        match self {
            Self::Number(number) => Value::Integer(number),
            Self::V4(address) => Value::Blob(address.octets().to_vec()),
            Self::V6(address) => Value::Blob(address.octets().to_vec()),
            Self::Nobody => Value::Blob(Vec::new()),
        }
    }

    /// What was stored.
    pub(in crate::store) fn of(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Self> {
        use rusqlite::types::ValueRef;
        match row.get_ref(at)? {
            ValueRef::Integer(number) => Ok(Self::Number(number)),
            ValueRef::Blob([]) => Ok(Self::Nobody),
            _ => super::address(row, at).map(|address| Some(address).into()),
        }
    }

    /// In words.
    pub(in crate::store) fn word(
        self,
        connection: &Connection,
        keys: Keys,
    ) -> rusqlite::Result<String> {
        Ok(match (self, keys) {
            (Self::Number(0), Keys::Words) => "?".to_owned(),
            (Self::Number(number), Keys::Words) => connection
                .prepare_cached("SELECT name FROM names WHERE id = ?1")?
                .query_row([number], |row| row.get(0))
                .optional()?
                .unwrap_or_else(|| "?".to_owned()),
            (Self::Number(minute), Keys::Minutes) => crate::store::when::show(minute * 60_000),
            (Self::Number(number), _) => number.to_string(),
            (Self::V4(address), _) => address.to_string(),
            (Self::V6(address), _) => address.to_string(),
            (Self::Nobody, _) => "*".to_owned(),
        })
    }
}

/// Sums of the rows of one transaction, by hour.
#[derive(Debug, Default)]
pub(in crate::store) struct Hours(HashMap<(i64, Dim, Key), Sums>);

impl Hours {
    /// Adds what one row has.
    pub(in crate::store) fn add(&mut self, dim: Dim, key: impl Into<Key>, sums: &Sums) {
        let hour = sums.last_ms.div_euclid(HOUR_MS);
        self.0.entry((hour, dim, key.into())).or_default().add(sums);
    }

    /// Writes them.
    pub(in crate::store) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let mut upsert = connection.prepare_cached(
            "INSERT INTO past_hours (hour, dim, key, count, packets, bytes, reply_packets, \
             reply_bytes, first, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
             ON CONFLICT DO UPDATE SET count = count + ?4, packets = packets + ?5, \
             bytes = bytes + ?6, reply_packets = reply_packets + ?7, \
             reply_bytes = reply_bytes + ?8, first = min(first, ?9), last = max(last, ?10)",
        )?;
        let mut watches: HashMap<(i64, Dim, Key), Sums> = HashMap::with_capacity(self.0.len());
        for ((hour, dim, key), sums) in &self.0 {
            watches.entry((watch(*hour), *dim, *key)).or_default().add(sums);
        }
        // In the table's order, neighbours share a page.
        let of = |all: HashMap<(i64, Dim, Key), Sums>, level: u8| {
            all.into_iter()
                .map(move |((hour, dim, key), sums)| ((hour, dim as u8 + level, key), sums))
        };
        let mut all: Vec<_> = of(self.0, 0).chain(of(watches, OF_WATCH)).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        for ((hour, dim, key), sums) in all {
            upsert.execute(params![
                hour,
                dim,
                key.value(),
                sums.count as i64,
                sums.packets as i64,
                sums.bytes as i64,
                sums.reply_packets as i64,
                sums.reply_bytes as i64,
                sums.first_ms,
                sums.last_ms,
            ])?;
        }
        Ok(())
    }
}

/// The numbers of words that a row has.
pub(in crate::store) fn word(
    connection: &Connection,
    names: &mut Names,
    text: Option<&str>,
) -> rusqlite::Result<Option<i64>> {
    text.map(|text| names.number(connection, text)).transpose()
}

/// The sums of `hours` (both included) by one thing, hour by hour or six at once: a key comes as often as it is there.
pub(in crate::store) fn hours(
    connection: &Connection,
    dim: Dim,
    hours: (i64, i64),
    each: &mut dyn FnMut(Key, Sums),
) -> rusqlite::Result<()> {
    // Nothing is older than the first: years of empty hours aren't walked.
    let (first, last): (Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(hour) FROM past_hours), (SELECT max(hour) FROM past_hours)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    let (from, to) = (hours.0.max(first), hours.1.min(last));
    if from > to {
        return Ok(());
    }
    // Added up here: to group them SQLite would have to sort them first.
    let mut statement = connection.prepare_cached(
        "SELECT key, count, packets, bytes, reply_packets, reply_bytes, first, last \
         FROM past_hours WHERE hour = ?1 AND dim = ?2",
    )?;
    let mut hour = from;
    while hour <= to {
        let last = watch(hour);
        let whole = hour.rem_euclid(WATCH) == 0 && last <= to;
        let (at, dim) = if whole { (last, dim as u8 + OF_WATCH) } else { (hour, dim as u8) };
        let mut rows = statement.query(params![at, dim])?;
        while let Some(row) = rows.next()? {
            each(Key::of(row, 0)?, read_sums(row)?);
        }
        hour = at + 1;
    }
    Ok(())
}

/// Columns 1 to 7: as [`hours`] selects them.
pub(in crate::store) fn read_sums(row: &rusqlite::Row<'_>) -> rusqlite::Result<Sums> {
    let count = |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)?.unsigned_abs()) };
    Ok(Sums {
        count: count(1)?,
        packets: count(2)?,
        bytes: count(3)?,
        reply_packets: count(4)?,
        reply_bytes: count(5)?,
        first_ms: row.get(6)?,
        last_ms: row.get(7)?,
    })
}

/// A table whose rows are numbered by time, for those who forget.
#[derive(Debug)]
pub(in crate::store) struct Timed(pub(in crate::store) &'static str);

impl Aged for Timed {
    fn name(&self) -> &'static str {
        self.0
    }

    fn oldest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached(&format!("SELECT row FROM {} ORDER BY row LIMIT 1", self.0))?
            .query_row([], |row| row.get(0))
            .optional()
            .map(|row| row.map(time_of))
    }

    fn remove(
        &self,
        connection: &Connection,
        which: Which,
        most: usize,
    ) -> rusqlite::Result<Removed> {
        let before = match which {
            Which::EndedBefore(time) => first_row(time),
            Which::Ended | Which::Any => i64::MAX,
        };
        let table = self.0;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let last: Option<i64> = connection
            .prepare_cached(&format!(
                "SELECT max(row) FROM (SELECT row FROM {table} WHERE row < ?1 ORDER BY row LIMIT ?2)"
            ))?
            .query_row([before, most], |row| row.get(0))?;
        let Some(last) = last else { return Ok(Removed::default()) };
        let rows = connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE row <= ?1"))?
            .execute([last])?;
        Ok(Removed { rows, latest: Some(time_of(last)) })
    }
}
