//! What of the history can be filtered and summed up by what, and how much of a filter the database can do.

use crate::{
    filter::{Field, Filter, FilterError, Simple, SubjectKind, Wanted as Value},
    store::{Column, Condition, Dim, Past, Wanted},
};

/// A part of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HistoryKind {
    Sockets,
    Flows,
    Verdicts,
    Rules,
    Nat,
    Audit,
}

impl HistoryKind {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "sockets" => Self::Sockets,
            "flows" => Self::Flows,
            "verdicts" => Self::Verdicts,
            "rules" => Self::Rules,
            "nat" => Self::Nat,
            "audit" => Self::Audit,
            _ => return None,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Flows => "flows",
            Self::Verdicts => "verdicts",
            Self::Rules => "rules",
            Self::Nat => "nat",
            Self::Audit => "audit",
        }
    }

    /// What its rows can be summed up by.
    pub(super) const fn by(self) -> &'static [&'static str] {
        match self {
            Self::Sockets => &[
                "process", "exe", "user", "host", "name", "unit", "rule", "protocol", "port",
                "ended", "minute",
            ],
            Self::Flows => &["source", "host", "port", "rule", "protocol", "ended", "minute"],
            Self::Verdicts => &["verdict", "reason", "minute"],
            Self::Rules => &["rule", "action", "minute"],
            Self::Nat => {
                &["host", "public", "remote", "rule", "kind", "protocol", "origin", "minute"]
            }
            Self::Audit => &["who", "verb", "outcome", "minute"],
        }
    }

    /// Where the database sums it up.
    pub(super) fn dim(self, by: &str) -> Option<(Past, Dim)> {
        Some(match (self, by) {
            (Self::Sockets, "process") => (Past::Sockets, Dim::Process),
            (Self::Sockets, "exe") => (Past::Sockets, Dim::Exe),
            (Self::Sockets, "user") => (Past::Sockets, Dim::User),
            (Self::Sockets, "host") => (Past::Sockets, Dim::Host),
            (Self::Sockets, "unit") => (Past::Sockets, Dim::Unit),
            (Self::Sockets, "rule") => (Past::Sockets, Dim::SocketRule),
            (Self::Sockets, "protocol") => (Past::Sockets, Dim::SocketProtocol),
            (Self::Sockets, "name") => (Past::Sockets, Dim::Name),
            (Self::Sockets, "port") => (Past::Sockets, Dim::RemotePort),
            (Self::Sockets, "ended") => (Past::Sockets, Dim::SocketEnded),
            (Self::Sockets, "minute") => (Past::Sockets, Dim::SocketMinute),
            (Self::Flows, "source") => (Past::Flows, Dim::Source),
            (Self::Flows, "host") => (Past::Flows, Dim::Destination),
            (Self::Flows, "port") => (Past::Flows, Dim::Port),
            (Self::Flows, "rule") => (Past::Flows, Dim::FlowRule),
            (Self::Flows, "protocol") => (Past::Flows, Dim::FlowProtocol),
            (Self::Flows, "ended") => (Past::Flows, Dim::FlowEnded),
            (Self::Flows, "minute") => (Past::Flows, Dim::FlowMinute),
            _ => return None,
        })
    }

    /// Whether its rows hold a field, which their live likes have.
    const fn keeps(self, field: Field) -> bool {
        use Field::*;
        match self {
            Self::Sockets => !matches!(
                field,
                Cmdline
                    | Idle
                    | SentRate
                    | ReceivedRate
                    | Nat
                    | NatSrc
                    | NatDst
                    | NatSport
                    | NatDport
                    | NatRule
            ),
            Self::Flows => {
                !matches!(field, Timeout | Nat | NatSrc | NatDst | NatSport | NatDport | NatRule)
            }
            Self::Verdicts => matches!(field, Verdict | Reason | Packets | Bytes),
            Self::Rules => {
                matches!(field, Rule | Name | Action | Verdict | Hits | Packets | Bytes)
            }
            Self::Nat | Self::Audit => true,
        }
    }

    /// Whether the history has every field that a filter asks for.
    pub(super) fn check(self, filter: &Filter, of: SubjectKind) -> Result<(), FilterError> {
        for (field, span) in filter.fields() {
            if self.keeps(field) {
                continue;
            }
            let fields = Field::ALL.iter().filter(|field| field.of(of) && self.keeps(**field));
            let names: Vec<&str> = fields.map(|field| field.name()).collect();
            let expected =
                format!("a field that the history of {} has: {}", self.name(), names.join(", "));
            let seen = format!("`{}`", field.name());
            let error = FilterError::new(filter.text(), span, seen, expected);
            let translated = field.name().starts_with("nat");
            let hint = translated.then(|| "translations are rows of `--kind nat`".to_owned());
            return Err(error.hint(hint));
        }
        Ok(())
    }

    /// The column behind a field, where there is one that holds just that.
    pub(super) const fn column(self, field: Field) -> Option<Column> {
        use Field::*;
        Some(match (self, field) {
            (Self::Sockets, Family) => Column::plain("family"),
            (Self::Sockets, Proto) => Column::words("proto"),
            (Self::Sockets, State) => Column::words("state"),
            (Self::Sockets, Local) => Column::plain("local"),
            (Self::Sockets, LocalPort) => Column::plain("local_port"),
            (Self::Sockets, Remote) => Column::plain("remote").hourly(),
            (Self::Sockets, RemotePort) => Column::plain("remote_port"),
            (Self::Sockets, Netns) => Column::plain("netns"),
            (Self::Sockets, OwnNetns) => Column::plain("own_netns"),
            (Self::Sockets, Uid) => Column::plain("uid"),
            (Self::Sockets, Pid) => Column::plain("pid"),
            (Self::Sockets, Comm) => Column::words("comm"),
            (Self::Sockets, Exe) => Column::words("exe"),
            (Self::Sockets, User) => Column::words("user"),
            (Self::Sockets, Unit) => Column::words("unit"),
            (Self::Sockets, Container) => Column::words("container"),
            (Self::Sockets, Name) => Column::words("name"),
            (Self::Sockets, SentBytes) => Column::plain("sent_bytes"),
            (Self::Sockets, ReceivedBytes) => Column::plain("received_bytes"),
            (Self::Sockets, Rtt) => Column::plain("rtt_us"),
            (Self::Sockets, Retransmits) => Column::plain("retransmits"),
            (Self::Sockets, Ended) => Column::words("ended"),
            (Self::Sockets, Rule) => Column::words("rule"),
            (Self::Flows, Family) => Column::plain("family"),
            (Self::Flows, Proto) => Column::plain("proto"),
            (Self::Flows, Src) => Column::plain("src").hourly(),
            (Self::Flows, Dst) => Column::plain("dst").hourly(),
            (Self::Flows, Sport) => Column::plain("sport"),
            (Self::Flows, Dport) => Column::plain("dport").hourly(),
            (Self::Flows, State) => Column::words("state"),
            (Self::Flows, InIface) => Column::words("in_iface"),
            (Self::Flows, OutIface) => Column::words("out_iface"),
            (Self::Flows, Vlan) => Column::plain("vlan"),
            (Self::Flows, Verdict) => Column::words("verdict"),
            (Self::Flows, Rule) => Column::words("rule"),
            (Self::Flows, Generation) => Column::plain("generation"),
            (Self::Flows, Ended) => Column::words("ended"),
            (Self::Flows, Packets) => Column::plain("packets"),
            (Self::Flows, Bytes) => Column::plain("bytes"),
            (Self::Flows, ReplyPackets) => Column::plain("reply_packets"),
            (Self::Flows, ReplyBytes) => Column::plain("reply_bytes"),
            _ => return None,
        })
    }

    /// What the database can do of a filter: a condition that every row meets which the filter matches; and
    /// whether it is the whole of it.
    pub(super) fn condition(self, simple: &Simple, of: SubjectKind) -> (Option<Condition>, bool) {
        match simple {
            Simple::All(all) => {
                let parts = all.iter().map(|one| self.condition(one, of));
                let (some, exact): (Vec<_>, Vec<_>) = parts.unzip();
                let some: Vec<_> = some.into_iter().flatten().collect();
                let condition = (!some.is_empty()).then_some(Condition::All(some));
                (condition, exact.into_iter().all(|exact| exact))
            }
            Simple::Any(any) => {
                let parts = any.iter().map(|one| self.condition(one, of));
                let (some, exact): (Vec<_>, Vec<_>) = parts.unzip();
                let some = some.into_iter().collect::<Option<Vec<_>>>();
                (some.map(Condition::Any), exact.into_iter().all(|exact| exact))
            }
            Simple::Not(not) => match self.condition(not, of) {
                (Some(condition), true) => (Some(Condition::Not(Box::new(condition))), true),
                // The opposite of a part says nothing; `not` of everything is left to the filter.
                _ => (None, false),
            },
            Simple::Is(field, wanted) => {
                let parts = field.stands_for().filter(|part| part.of(of));
                let columns = parts.map(|part| self.column(part)).collect::<Option<Vec<_>>>();
                let Some(columns) = columns else { return (None, false) };
                let is = columns.into_iter().map(|column| {
                    Condition::Is(
                        column,
                        wanted.iter().flat_map(|one| values(column, one)).collect(),
                    )
                });
                let mut is: Vec<_> = is.collect();
                let one = if is.len() == 1 { is.pop() } else { None };
                (Some(one.unwrap_or(Condition::Any(is))), true)
            }
            Simple::Other => (None, false),
        }
    }
}

/// A value as the column holds it; none: it can't.
fn values(column: Column, value: &Value) -> Vec<Wanted> {
    match value {
        Value::Text(text) => vec![Wanted::Word(text.clone())],
        Value::Proto(names, _) if column.is_words() => {
            names.iter().cloned().map(Wanted::Word).collect()
        }
        Value::Proto(_, number) => {
            number.iter().map(|n| Wanted::Numbers((*n).into(), (*n).into())).collect()
        }
        Value::Numbers(from, to) => vec![Wanted::Numbers(*from, *to)],
        Value::Addresses(from, to) => vec![Wanted::Addresses(*from, *to)],
        Value::Bool(yes) => vec![Wanted::Numbers((*yes).into(), (*yes).into())],
    }
}
