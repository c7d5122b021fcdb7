//! What filters are applied to.

use super::field::Field;
use crate::view::{
    CallerView, DeedView, EventView, FlowNatView, FlowView, NameView, NatMappingView,
    RuleMinuteView, RuleView, SocketView, VerdictMinuteView,
};
use std::borrow::Cow;

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// There is none.
    None,
    /// A text; addresses and protocols too, as the rows show them.
    Text(Cow<'a, str>),
    /// A number; durations in milliseconds.
    Number(u64),
    /// Yes or no.
    Bool(bool),
}

/// Which kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// [`FlowView`].
    Flow,
    /// [`EventView`].
    Event,
    /// [`RuleView`].
    Rule,
    /// An entry of netfilter's connection tracking.
    Netfilter,
    /// [`NatMappingView`].
    Mapping,
    /// [`SocketView`].
    Socket,
    /// [`DeedView`].
    Deed,
    /// A row of a summary of sockets.
    Summary,
    /// [`NameView`].
    Name,
}

impl SubjectKind {
    /// In the plural.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flow => "flows",
            Self::Event => "events",
            Self::Rule => "rules",
            Self::Netfilter => "netfilter's flows",
            Self::Mapping => "mappings",
            Self::Socket => "sockets",
            Self::Deed => "deeds",
            Self::Summary => "summaries",
            Self::Name => "names",
        }
    }
}

/// A row that can be filtered.
pub trait Subject {
    /// Which kind it is.
    const KIND: SubjectKind;
    /// The value of one of its fields; [`Value::None`] for a field it doesn't have. `addr` and `port`
    /// are never asked for: both ends are.
    fn field(&self, field: Field) -> Value<'_>;
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

fn maybe(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::None, |t| Value::Text(Cow::Borrowed(t)))
}

fn port(port: Option<u16>) -> Value<'static> {
    port.map_or(Value::None, |port| Value::Number(port.into()))
}

/// The fields of a flow's translation.
fn of_translation(nat: Option<&FlowNatView>, field: Field) -> Value<'_> {
    match field {
        Field::Nat => Value::Bool(nat.is_some()),
        Field::NatSrc => maybe(nat.map(|nat| nat.src.as_str())),
        Field::NatDst => maybe(nat.map(|nat| nat.dst.as_str())),
        Field::NatRule => maybe(nat.map(|nat| nat.rule.as_str())),
        Field::NatSport => port(nat.map(|nat| nat.sport)),
        Field::NatDport => port(nat.map(|nat| nat.dport)),
        _ => Value::None,
    }
}

impl Subject for FlowView {
    const KIND: SubjectKind = SubjectKind::Flow;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Proto => text(&self.proto),
            Field::Family => Value::Number(self.family.into()),
            Field::Src => text(&self.src),
            Field::Dst => text(&self.dst),
            Field::Sport => Value::Number(self.sport.into()),
            Field::Dport => Value::Number(self.dport.into()),
            Field::State => text(&self.state),
            Field::Direction => text(&self.direction),
            Field::InIface => maybe(self.in_iface.as_deref()),
            Field::OutIface => maybe(self.out_iface.as_deref()),
            Field::Vlan => Value::Number(self.vlan.into()),
            Field::Verdict => text(&self.verdict),
            Field::Ended => maybe(self.ended.as_deref()),
            Field::Rule => text(&self.rule),
            Field::Generation => Value::Number(self.generation.into()),
            Field::Id => text(&self.id),
            Field::Packets => Value::Number(self.packets),
            Field::Bytes => Value::Number(self.bytes),
            Field::ReplyPackets => Value::Number(self.reply_packets),
            Field::ReplyBytes => Value::Number(self.reply_bytes),
            Field::Age => Value::Number(self.age_ms),
            Field::Idle => Value::Number(self.idle_ms),
            Field::Timeout => Value::Number(self.timeout_ms),
            _ => of_translation(self.nat.as_ref(), field),
        }
    }
}

/// A field of who called.
fn of_caller(event: &EventView, field: impl FnOnce(&CallerView) -> Value<'_>) -> Value<'_> {
    event.caller.as_ref().map_or(Value::None, field)
}

impl Subject for EventView {
    const KIND: SubjectKind = SubjectKind::Event;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Proto => text(&self.proto),
            Field::Family => Value::Number(self.family.into()),
            Field::Src => text(&self.src),
            Field::Dst => text(&self.dst),
            Field::Sport => Value::Number(self.sport.into()),
            Field::Dport => Value::Number(self.dport.into()),
            Field::Class => text(&self.class),
            Field::Direction => text(&self.direction),
            Field::Iface => text(&self.iface),
            Field::Vlan => Value::Number(self.vlan.into()),
            Field::Verdict => text(&self.verdict),
            Field::Reason => text(&self.reason),
            Field::Rule => text(&self.rule),
            Field::Flow => maybe(self.flow.as_deref()),
            Field::Seq => self.seq.map_or(Value::None, Value::Number),
            Field::TcpFlags => text(&self.tcp_flags),
            Field::FrameLen => Value::Number(self.frame_len.into()),
            Field::Pid => of_caller(self, |caller| Value::Number(caller.pid.into())),
            Field::Comm => of_caller(self, |caller| text(&caller.comm)),
            Field::Uid => of_caller(self, |caller| Value::Number(caller.uid.into())),
            Field::Packets => Value::Number(self.packets),
            Field::Bytes => Value::Number(self.bytes),
            Field::ReplyPackets => Value::Number(self.reply_packets),
            Field::ReplyBytes => Value::Number(self.reply_bytes),
            _ => of_translation(self.nat.as_ref(), field),
        }
    }
}

impl Subject for RuleView {
    const KIND: SubjectKind = SubjectKind::Rule;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Name | Field::Rule => text(&self.name),
            Field::Action | Field::Verdict => text(&self.action),
            Field::Text => text(&self.text),
            Field::Enabled => Value::Bool(self.enabled),
            Field::Log => Value::Bool(self.log),
            Field::Position => Value::Number(self.position.into()),
            Field::Id => Value::Text(Cow::Owned(self.id.to_string())),
            Field::Hits => Value::Number(self.hits),
            Field::Packets => Value::Number(self.packets),
            Field::Bytes => Value::Number(self.bytes),
            _ => Value::None,
        }
    }
}

impl Subject for VerdictMinuteView {
    // What was counted of events: it has some of their fields.
    const KIND: SubjectKind = SubjectKind::Event;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Verdict => text(&self.verdict),
            Field::Reason => text(&self.reason),
            Field::Packets => Value::Number(self.packets),
            Field::Bytes => Value::Number(self.bytes),
            _ => Value::None,
        }
    }
}

impl Subject for RuleMinuteView {
    const KIND: SubjectKind = SubjectKind::Rule;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Name | Field::Rule => text(&self.rule),
            Field::Action | Field::Verdict => text(&self.action),
            Field::Hits => Value::Number(self.hits),
            Field::Packets => Value::Number(self.packets),
            Field::Bytes => Value::Number(self.bytes),
            _ => Value::None,
        }
    }
}

impl Subject for DeedView {
    const KIND: SubjectKind = SubjectKind::Deed;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Who => text(&self.who),
            Field::Verb => text(&self.verb),
            Field::Detail => text(&self.detail),
            Field::Outcome => text(&self.outcome),
            _ => Value::None,
        }
    }
}

fn count(count: Option<u64>) -> Value<'static> {
    count.map_or(Value::None, Value::Number)
}

impl Subject for NatMappingView {
    const KIND: SubjectKind = SubjectKind::Mapping;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Id => text(&self.id),
            Field::Proto => text(&self.proto),
            Field::Inside => text(&self.inside),
            Field::InsidePort => Value::Number(self.inside_port.into()),
            Field::Public => text(&self.public),
            Field::PublicPort => Value::Number(self.public_port.into()),
            Field::Remote => text(&self.remote),
            Field::RemotePort => Value::Number(self.remote_port.into()),
            Field::RemoteInside => maybe(self.remote_inside.as_deref()),
            Field::RemoteInsidePort => port(self.remote_inside_port),
            Field::Kind => text(&self.kind),
            Field::Origin => text(&self.origin),
            Field::Rule => maybe(self.rule.as_deref()),
            Field::Packets => count(self.packets),
            Field::Bytes => count(self.bytes),
            Field::ReplyPackets => count(self.reply_packets),
            Field::ReplyBytes => count(self.reply_bytes),
            _ => Value::None,
        }
    }
}

impl Subject for SocketView {
    const KIND: SubjectKind = SubjectKind::Socket;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Id => text(&self.id),
            Field::Proto => text(&self.proto),
            Field::Family => Value::Number(self.family.into()),
            Field::State => text(&self.state),
            Field::Local => text(&self.local),
            Field::LocalPort => Value::Number(self.local_port.into()),
            Field::Remote => text(&self.remote),
            Field::RemotePort => Value::Number(self.remote_port.into()),
            Field::Netns => Value::Number(self.netns.into()),
            Field::OwnNetns => Value::Bool(self.own_netns),
            Field::Uid => Value::Number(self.uid.into()),
            Field::Pid => count(self.pid.map(u64::from)),
            Field::Comm => maybe(self.comm.as_deref()),
            Field::Exe => maybe(self.exe.as_deref()),
            Field::Cmdline => maybe(self.cmdline.as_deref()),
            Field::User => maybe(self.user.as_deref()),
            Field::Unit => maybe(self.unit.as_deref()),
            Field::Container => maybe(self.container.as_deref()),
            Field::Confidence => text(&self.confidence),
            Field::OwnerExited => Value::Bool(self.owner_exited.is_some()),
            Field::Flow => maybe(self.flow.as_deref()),
            Field::Rule => maybe(self.rule.as_deref()),
            Field::Ended => maybe(self.ended.as_deref()),
            Field::Age => count(self.age_ms),
            Field::Idle => count(self.idle_ms),
            Field::SentBytes => Value::Number(self.sent_bytes),
            Field::ReceivedBytes => Value::Number(self.received_bytes),
            Field::SentRate => Value::Number(self.sent_rate),
            Field::ReceivedRate => Value::Number(self.received_rate),
            Field::Rtt => count(self.rtt_us),
            Field::Retransmits => Value::Number(self.retransmits),
            Field::Name => maybe(self.name.as_deref()),
            Field::NameSource => maybe(self.name_source.as_deref()),
            Field::Drops => Value::Number(self.drops),
            Field::DropReason => maybe(self.drop_reason.as_deref()),
            _ => of_translation(self.nat.as_ref(), field),
        }
    }
}

impl Subject for NameView {
    const KIND: SubjectKind = SubjectKind::Name;

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Name => text(&self.name),
            Field::Address => text(&self.address),
            Field::Netns => Value::Number(self.netns.into()),
            Field::Server => text(&self.server),
            Field::Answers => Value::Number(self.answers),
            Field::Expired => Value::Bool(self.expired),
            _ => Value::None,
        }
    }
}
