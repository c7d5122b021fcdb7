//! Questions about what has ended: conditions to SQL, and rows or sums out of it.

use super::tables::{
    past::{self, Dim, HOUR_MS, Key, Sums, first_row, time_of},
    past_flows::{self, PastFlow},
    past_sockets::{self, PastSocket},
};
use rusqlite::{Connection, OptionalExtension, Row, types::Value};
use std::{cell::RefCell, collections::HashMap, net::IpAddr};

/// Words that one question remembers.
const WORDS: usize = 65_536;

/// From one time to another, both included, ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From.
    pub since_ms: i64,
    /// To.
    pub until_ms: i64,
}

/// A column that a condition may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    name: &'static str,
    /// Whether it holds numbers of words.
    words: bool,
    /// Whether its index is by hour first.
    hourly: bool,
}

impl Column {
    /// A column of numbers, or of addresses.
    pub const fn plain(name: &'static str) -> Self {
        Self { name, words: false, hourly: false }
    }
    /// A column of words.
    pub const fn words(name: &'static str) -> Self {
        Self { name, words: true, hourly: false }
    }
    /// The same, with an index by hour.
    #[must_use]
    pub const fn hourly(self) -> Self {
        Self { hourly: true, ..self }
    }
    /// Whether it holds words.
    pub const fn is_words(self) -> bool {
        self.words
    }
}

/// What a column may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This word.
    Word(String),
    /// A number from the first to the second.
    Numbers(u64, u64),
    /// An address from the first to the second, of one family.
    Addresses(IpAddr, IpAddr),
}

/// What is asked of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them.
    All(Vec<Condition>),
    /// One of them.
    Any(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// A column holds one of these.
    Is(Column, Vec<Wanted>),
}

impl Condition {
    /// Whether every row that meets it is found by an index that is by hour first.
    fn is_hourly(&self) -> bool {
        match self {
            Self::All(all) => all.iter().any(Self::is_hourly),
            Self::Any(any) => !any.is_empty() && any.iter().all(Self::is_hourly),
            Self::Not(_) => false,
            Self::Is(column, wanted) => {
                column.hourly
                    && wanted.iter().all(|one| match one {
                        Wanted::Word(_) => false,
                        Wanted::Numbers(from, to) => to.saturating_sub(*from) < FEW as u64,
                        Wanted::Addresses(from, to) => few(*from, *to),
                    })
            }
        }
    }
}

/// A condition as SQL, with its values.
#[derive(Debug, Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

/// Addresses between which an index is worth its while: past these it would be read more or less whole, and
/// what it finds be put in order.
const FEW: u128 = 1 << 12;

impl Sql {
    fn value(&mut self, value: Value) {
        self.values.push(value);
        self.text.push('?');
        self.text.push_str(&self.values.len().to_string());
    }

    fn condition(&mut self, connection: &Connection, what: &Condition) -> rusqlite::Result<()> {
        match what {
            Condition::All(all) => self.joined(connection, all, " AND ", "1"),
            Condition::Any(any) => self.joined(connection, any, " OR ", "0"),
            Condition::Not(not) => {
                self.text.push('(');
                self.condition(connection, not)?;
                // What isn't known isn't so.
                self.text.push_str(") IS NOT TRUE");
                Ok(())
            }
            Condition::Is(column, wanted) => self.is(connection, *column, wanted),
        }
    }

    fn joined(
        &mut self,
        connection: &Connection,
        parts: &[Condition],
        sign: &str,
        none: &str,
    ) -> rusqlite::Result<()> {
        self.text.push('(');
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                self.text.push_str(sign);
            }
            self.condition(connection, part)?;
        }
        self.text.push_str(if parts.is_empty() { none } else { "" });
        self.text.push(')');
        Ok(())
    }

    fn is(
        &mut self,
        connection: &Connection,
        column: Column,
        wanted: &[Wanted],
    ) -> rusqlite::Result<()> {
        let mut equal = Vec::new();
        let mut between = Vec::new();
        for one in wanted {
            match one {
                Wanted::Word(word) => equal.extend(number(connection, word)?.map(Value::Integer)),
                Wanted::Numbers(from, to) => {
                    let [from, to] = [from, to].map(|n| i64::try_from(*n).unwrap_or(i64::MAX));
                    if from == to {
                        equal.push(Value::Integer(from));
                    } else {
                        between.push((Value::Integer(from), Value::Integer(to), true));
                    }
                }
                Wanted::Addresses(from, to) => {
                    let [low, high] = [from, to].map(|a| Value::Blob(super::tables::bytes(*a)));
                    if from == to {
                        equal.push(low);
                    } else {
                        between.push((low, high, few(*from, *to)));
                    }
                }
            }
        }
        // A word that was never written has no number.
        debug_assert!(column.words || !wanted.iter().any(|one| matches!(one, Wanted::Word(_))));
        self.text.push('(');
        self.text.push_str(column.name);
        self.text.push_str(" IN (");
        for (n, value) in equal.into_iter().enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            self.value(value);
        }
        self.text.push(')');
        for (low, high, indexed) in between {
            // With a `+` no index is looked for: the rows are walked in order of time.
            let plus = if indexed { "" } else { "+" };
            self.text.push_str(&format!(" OR ({plus}{} BETWEEN ", column.name));
            let length = match &low {
                Value::Blob(bytes) => Some(bytes.len()),
                _ => None,
            };
            self.value(low);
            self.text.push_str(" AND ");
            self.value(high);
            if let Some(length) = length {
                self.text.push_str(&format!(" AND length({}) = {length}", column.name));
            }
            self.text.push(')');
        }
        self.text.push(')');
        Ok(())
    }
}

fn few(from: IpAddr, to: IpAddr) -> bool {
    let number = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    number(to).saturating_sub(number(from)) < FEW
}

fn number(connection: &Connection, word: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM names WHERE name = ?1")?
        .query_row([word], |row| row.get(0))
        .optional()
}

/// One of the tables of what has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Sockets.
    Sockets,
    /// Flows.
    Flows,
}

impl Past {
    const fn table(self) -> &'static str {
        match self {
            Self::Sockets => "past_sockets",
            Self::Flows => "past_flows",
        }
    }
    const fn sums(self) -> &'static str {
        match self {
            Self::Sockets => past_sockets::SUMS,
            Self::Flows => past_flows::SUMS,
        }
    }
}

/// The hour that a row is of, as the indexes have it.
const HOUR_OF_ROW: &str = "row / 3774873600000";

/// The hours of a span that the table has rows of, latest first; `None` stands for all at once, where no index is by
/// hour.
fn hours_of(
    connection: &Connection,
    table: &str,
    span: Span,
    condition: Option<&Condition>,
) -> rusqlite::Result<Vec<Option<i64>>> {
    if !condition.is_some_and(Condition::is_hourly) {
        return Ok(vec![None]);
    }
    let ends: (Option<i64>, Option<i64>) = connection
        .prepare_cached(&format!(
            "SELECT (SELECT min(row) FROM {table}), (SELECT max(row) FROM {table})"
        ))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = ends else { return Ok(Vec::new()) };
    let hour = |ms: i64| ms.div_euclid(HOUR_MS);
    let first = hour(time_of(first)).max(hour(span.since_ms));
    let last = hour(time_of(last)).min(hour(span.until_ms));
    Ok((first..=last).rev().map(Some).collect())
}

/// `SELECT what FROM table WHERE` the rows are of the span, and of the hour that stands for `?3` where there is
/// one, and meet the condition.
fn select(
    connection: &Connection,
    table: &str,
    what: &str,
    span: Span,
    condition: Option<&Condition>,
    hourly: bool,
) -> rusqlite::Result<Sql> {
    let mut sql = Sql {
        text: format!("SELECT {what} FROM {table} WHERE row >= ?1 AND row < ?2"),
        values: vec![
            Value::Integer(first_row(span.since_ms)),
            Value::Integer(first_row(span.until_ms.saturating_add(1))),
            Value::Null,
        ],
    };
    // In both cases `?3` is there.
    sql.text.push_str(&if hourly {
        format!(" AND {HOUR_OF_ROW} = ?3")
    } else {
        " AND ?3 IS NULL".to_owned()
    });
    if let Some(condition) = condition {
        sql.text.push_str(" AND ");
        sql.condition(connection, condition)?;
    }
    Ok(sql)
}

/// Words by their numbers, looked up once.
struct Words<'c> {
    connection: &'c Connection,
    known: RefCell<HashMap<i64, String>>,
}

impl<'c> Words<'c> {
    fn new(connection: &'c Connection) -> Self {
        Self { connection, known: RefCell::default() }
    }

    fn get(&self, number: i64) -> rusqlite::Result<String> {
        if let Some(word) = self.known.borrow().get(&number) {
            return Ok(word.clone());
        }
        let word: Option<String> = self
            .connection
            .prepare_cached("SELECT name FROM names WHERE id = ?1")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        // Forgotten, though a row has it: the clock was more than a day off.
        let word = word.unwrap_or_else(|| "?".to_owned());
        let mut known = self.known.borrow_mut();
        if known.len() < WORDS {
            known.insert(number, word.clone());
        }
        Ok(word)
    }
}

/// Reads rows of a table, latest first, as long as they are wanted.
fn rows(
    connection: &Connection,
    (table, what): (&str, &str),
    span: Span,
    condition: Option<&Condition>,
    order: &str,
    each: &mut dyn FnMut(&Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let hours = hours_of(connection, table, span, condition)?;
    let hourly = hours.first().is_none_or(Option::is_some);
    let mut sql = select(connection, table, what, span, condition, hourly)?;
    sql.text.push_str(order);
    let mut statement = connection.prepare(&sql.text)?;
    for (n, value) in sql.values.iter().enumerate() {
        statement.raw_bind_parameter(n + 1, value)?;
    }
    for hour in hours {
        statement.raw_bind_parameter(3, hour)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            if !each(row)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Latest first.
const LATEST: &str = " ORDER BY row DESC";

/// Sockets that ended in a span and meet the condition, latest first; `each` says whether it wants more.
pub(super) fn sockets(
    connection: &Connection,
    span: Span,
    condition: Option<&Condition>,
    each: &mut dyn FnMut(PastSocket) -> bool,
) -> rusqlite::Result<()> {
    let words = Words::new(connection);
    let from = ("past_sockets", past_sockets::COLUMNS);
    rows(connection, from, span, condition, LATEST, &mut |row| {
        Ok(each(past_sockets::read(row, &|number| words.get(number))?))
    })
}

/// Flows likewise.
pub(super) fn flows(
    connection: &Connection,
    span: Span,
    condition: Option<&Condition>,
    each: &mut dyn FnMut(PastFlow) -> bool,
) -> rusqlite::Result<()> {
    let words = Words::new(connection);
    let from = ("past_flows", past_flows::COLUMNS);
    rows(connection, from, span, condition, LATEST, &mut |row| {
        Ok(each(past_flows::read(row, &|number| words.get(number))?))
    })
}

/// Rows of a span summed up by one thing, each with its key in words.
pub(super) fn sums(
    connection: &Connection,
    table: Past,
    span: Span,
    condition: Option<&Condition>,
    by: Dim,
) -> rusqlite::Result<Vec<(String, Sums)>> {
    let mut all: HashMap<Key, Sums> = HashMap::new();
    let mut add = |key, sums: Sums| all.entry(key).or_default().add(&sums);
    // Whole hours are summed up already; what is before and behind them is read row by row.
    let first =
        span.since_ms.div_euclid(HOUR_MS) + i64::from(span.since_ms.rem_euclid(HOUR_MS) != 0);
    let last = span.until_ms.saturating_add(1).div_euclid(HOUR_MS) - 1;
    if condition.is_some() || !by.is_kept() || first > last {
        raw(connection, table, span, condition, by, &mut add)?;
    } else {
        let before = Span { since_ms: span.since_ms, until_ms: first * HOUR_MS - 1 };
        let behind = Span { since_ms: (last + 1) * HOUR_MS, until_ms: span.until_ms };
        for edge in [before, behind] {
            if edge.since_ms <= edge.until_ms {
                raw(connection, table, edge, None, by, &mut add)?;
            }
        }
        past::hours(connection, by, (first, last), &mut add)?;
    }
    all.into_iter().map(|(key, sums)| Ok((key.word(connection, by.keys())?, sums))).collect()
}

fn raw(
    connection: &Connection,
    table: Past,
    span: Span,
    condition: Option<&Condition>,
    by: Dim,
    add: &mut dyn FnMut(Key, Sums),
) -> rusqlite::Result<()> {
    let what = format!("{}, {}", by.sql(), table.sums());
    rows(connection, (table.table(), &what), span, condition, " GROUP BY 1", &mut |row| {
        add(Key::of(row, 0)?, past::read_sums(row)?);
        Ok(true)
    })
}
