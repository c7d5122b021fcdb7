//! Summaries of sockets: which rows, in which order, and beginning anew.

use super::{
    error::ApiError,
    query::{self, Query},
    sockets::fresh,
};
use crate::{
    daemon::sockets::Sockets,
    filter::{Field, Subject, SubjectKind, Value},
    monitor::By,
    view::{SummaryRowView, SummaryStatView, SummaryView},
};
use serde::Deserialize;
use std::borrow::Cow;

/// `?by=&filter=&sort=&limit=`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryQuery {
    by: String,
    /// Filter expression.
    #[serde(default)]
    filter: Option<String>,
    /// Field to sort by.
    #[serde(default)]
    sort: Option<String>,
    /// Rows at most.
    #[serde(default)]
    limit: Option<usize>,
}

/// `{"by"?}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryReset {
    #[serde(default)]
    by: Option<String>,
}

fn by(name: &str) -> Result<By, ApiError> {
    By::from_name(name).ok_or_else(|| {
        let all: Vec<&str> = By::ALL.iter().map(|by| by.name()).collect();
        ApiError::bad_request(format!("can't sum up by `{name}`; there are: {}", all.join(", ")))
    })
}

/// Sockets by one thing.
///
/// # Errors
/// Sockets aren't followed; there is no such thing to sum up by; filter or order make no sense.
pub async fn summary(sockets: &Sockets, asked: &SummaryQuery) -> Result<SummaryView, ApiError> {
    let by = by(&asked.by)?;
    let filter = query::filter::<Shown<'_>>(asked.filter.as_deref().unwrap_or(""))?;
    let order = order(asked.sort.as_deref())?;
    fresh(sockets).await?;
    let mut view = sockets.summary(by);
    if let Some(filter) = filter {
        view.rows.retain(|row| filter.matches(&Shown { by, row }));
    }
    sort(&mut view.rows, order);
    view.total = view.rows.len() as u64;
    view.rows.truncate(Query { limit: asked.limit, ..Query::default() }.limit());
    Ok(view)
}

/// Begins anew: all tables, or one.
///
/// # Errors
/// Sockets aren't followed; there is no such table.
pub async fn reset(sockets: &Sockets, asked: &SummaryReset) -> Result<(), ApiError> {
    let one = asked.by.as_deref().map(by).transpose()?;
    fresh(sockets).await?;
    sockets.reset_summary(one);
    log::info!("summaries reset: {}", one.map_or("all", By::name));
    Ok(())
}

/// A row of a table, for filters.
struct Shown<'a> {
    by: By,
    row: &'a SummaryRowView,
}

impl Subject for Shown<'_> {
    const KIND: SubjectKind = SubjectKind::Summary;

    fn field(&self, field: Field) -> Value<'_> {
        let row = self.row;
        let text = |text| Value::Text(Cow::Borrowed(text));
        match field {
            Field::Key => text(&row.key),
            Field::Id => row.id.as_deref().map_or(Value::None, text),
            Field::Name => row.name.as_deref().map_or(Value::None, text),
            Field::Live => Value::Number(row.live),
            Field::Total => Value::Number(row.total),
            Field::Connected => Value::Number(row.connected),
            Field::Connections => Value::Number(row.connections),
            Field::SentBytes => Value::Number(row.sent_bytes),
            Field::ReceivedBytes => Value::Number(row.received_bytes),
            Field::SentPackets => Value::Number(row.sent_packets),
            Field::ReceivedPackets => Value::Number(row.received_packets),
            Field::Connects => Value::Number(row.connect_us.count),
            Field::Accepts => Value::Number(row.accept_us.count),
            Field::Reads => Value::Number(row.read_bytes.count),
            Field::Writes => Value::Number(row.write_bytes.count),
            Field::Retransmits => Value::Number(row.retransmits.sum),
            _ if row.other => Value::None,
            _ => self.part(field),
        }
    }
}

impl Shown<'_> {
    /// What the key says: the same names as a socket's.
    fn part(&self, field: Field) -> Value<'_> {
        let key = self.row.key.as_str();
        let text = |text| Value::Text(Cow::Borrowed(text));
        let process = || key.rsplit_once('/');
        let account = || key.rsplit_once('@');
        let part = match (self.by, field) {
            (By::Process, Field::Pid) => {
                let pid = process().and_then(|(_, pid)| pid.parse().ok());
                return pid.map_or(Value::None, Value::Number);
            }
            (By::Process, Field::Comm) => process().map(|(comm, _)| comm),
            (By::Account, Field::User) => account().map(|(user, _)| user),
            (By::Account, Field::Remote) => account().map(|(_, host)| host),
            (By::Exe, Field::Exe)
            | (By::User, Field::User)
            | (By::Host, Field::Remote)
            | (By::Unit, Field::Unit)
            | (By::Container, Field::Container)
            | (By::Protocol, Field::Proto)
            | (By::Rule, Field::Rule) => Some(key),
            _ => None,
        };
        part.map_or(Value::None, text)
    }
}

type Number = fn(&SummaryRowView) -> Option<u64>;

/// Fields to sort by, largest first; of a spread what 99 of a hundred are not above.
const SORTS: [(&str, Number); 18] = [
    ("bytes", |row| Some(row.sent_bytes + row.received_bytes)),
    ("sent_bytes", |row| Some(row.sent_bytes)),
    ("received_bytes", |row| Some(row.received_bytes)),
    ("sent_packets", |row| Some(row.sent_packets)),
    ("received_packets", |row| Some(row.received_packets)),
    ("live", |row| Some(row.live)),
    ("total", |row| Some(row.total)),
    ("connected", |row| Some(row.connected)),
    ("connections", |row| Some(row.connections)),
    ("connects", |row| Some(row.connect_us.count)),
    ("accepts", |row| Some(row.accept_us.count)),
    ("reads", |row| Some(row.read_bytes.count)),
    ("writes", |row| Some(row.write_bytes.count)),
    ("retransmits", |row| Some(row.retransmits.sum)),
    ("connect_us", |row| slowest(&row.connect_us)),
    ("accept_us", |row| slowest(&row.accept_us)),
    ("life_us", |row| slowest(&row.life_us)),
    ("key", |_| None),
];

fn slowest(stat: &SummaryStatView) -> Option<u64> {
    (stat.count > 0).then_some(stat.p99)
}

/// By what, and whether it is turned round.
#[derive(Clone, Copy)]
struct Order {
    number: Option<Number>,
    turned: bool,
}

fn order(by: Option<&str>) -> Result<Order, ApiError> {
    let by = by.unwrap_or("bytes");
    let (name, turned) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    let Some((_, number)) = SORTS.iter().find(|(field, _)| *field == name) else {
        return Err(query::unsortable(name, SORTS.iter().map(|(field, _)| *field)));
    };
    Ok(Order { number: (name != "key").then_some(*number), turned })
}

/// Numbers from the largest, keys from A; what isn't known comes last either way.
fn sort(rows: &mut [SummaryRowView], order: Order) {
    let Order { number, turned } = order;
    rows.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    let Some(number) = number else {
        if turned {
            rows.reverse();
        }
        return;
    };
    rows.sort_by(|a, b| match (number(a), number(b)) {
        (Some(a), Some(b)) if turned => a.cmp(&b),
        (a, b) => b.cmp(&a),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, sent: u64, connects: u64) -> SummaryRowView {
        let connect_us = SummaryStatView { count: connects, p99: connects, ..Default::default() };
        SummaryRowView { key: key.into(), sent_bytes: sent, connect_us, ..Default::default() }
    }

    fn keys(rows: &[SummaryRowView]) -> String {
        rows.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn rows_come_in_the_order_that_is_asked_for() {
        let mut rows = vec![row("b", 5, 0), row("a", 9, 3), row("c", 5, 7)];
        for (by, expected) in [
            (None, "abc"),
            (Some("-bytes"), "bca"),
            (Some("key"), "abc"),
            (Some("-key"), "cba"),
            (Some("connect_us"), "cab"),
            (Some("-connect_us"), "acb"),
        ] {
            sort(&mut rows, order(by).expect("a field"));
            assert_eq!(keys(&rows), expected, "{by:?}");
        }
        let error = order(Some("colour")).err().expect("no such field");
        assert!(error.body.message.contains("received_packets, live"), "{}", error.body.message);
    }

    #[test]
    fn a_filter_reads_the_key_and_the_numbers() {
        let rows = [row("nginx/7", 5, 0), row("curl/8", 900, 2)];
        let shown = |by, filter: &str, row| {
            let filter = query::filter::<Shown<'_>>(filter).expect("valid").expect("not empty");
            filter.matches(&Shown { by, row })
        };
        assert!(shown(By::Process, "comm=curl and sent_bytes>100 and connects=2", &rows[1]));
        assert!(!shown(By::Process, "comm=curl and sent_bytes>100", &rows[0]));
        assert!(shown(By::Process, "pid=7 or key~nothing", &rows[0]));
        assert!(!shown(By::Exe, "pid=7", &rows[0]), "an executable has no number");
        let host = row("10.0.0.7", 1, 0);
        assert!(shown(By::Host, "remote=10.0.0.0/24", &host));
        let account = row("www@10.0.0.7", 1, 0);
        assert!(shown(By::Account, "remote=10.0.0.0/24 and user=www", &account));
        let other = SummaryRowView { other: true, ..row("other", 1, 0) };
        assert!(!shown(By::Rule, "rule=other", &other));
        let error = query::filter::<Shown<'_>>("src=1.2.3.4").unwrap_err();
        assert!(error.body.message.contains("connections"), "{}", error.body.message);
    }
}
