//! The fields there are.

use super::subject::SubjectKind;
use crate::policy::suggest;
use crate::view::{
    MAPPING_KINDS, NAME_SOURCES, NETFILTER_SCTP_STATES, NETFILTER_TCP_STATES, SOCKET_ENDS,
    SOCKET_STATES, SOCKET_TCP_STATES,
};
use firewall_common::abi::event::Class;
use firewall_common::abi::reason::Reason;
use firewall_common::flow::tcp::TcpState;

/// What values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of a few words.
    Word,
    /// Any text.
    Text,
    /// A protocol, by name or number.
    Proto,
    /// A number.
    Number,
    /// A duration.
    Duration,
    /// An address.
    Addr,
    /// Yes or no.
    Bool,
}

macro_rules! fields {
    ($($(#[$m:meta])* $variant:ident = $name:literal, $kind:ident, $($subject:ident)+;)*) => {
        /// A field. Names are those of the rows in [`crate::view`], plus `addr`, `port` and `iface`
        /// for either end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$m])* $variant),* }
        impl Field {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// As it is written.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }
            /// What values it has.
            pub const fn kind(self) -> Kind { match self { $(Self::$variant => Kind::$kind),* } }
            /// Whether this kind of subject has it.
            pub const fn of(self, kind: SubjectKind) -> bool {
                match self { $(Self::$variant => matches!(kind, $(SubjectKind::$subject)|+)),* }
            }
        }
    };
}

fields! {
    /// Protocol.
    Proto = "proto", Proto, Flow Netfilter Event Mapping Socket Summary;
    /// 4 or 6.
    Family = "family", Number, Flow Netfilter Event Socket;
    /// Source address.
    Src = "src", Addr, Flow Netfilter Event;
    /// Destination address.
    Dst = "dst", Addr, Flow Netfilter Event;
    /// Either address.
    Addr = "addr", Addr, Flow Netfilter Event Socket;
    /// Source port.
    Sport = "sport", Number, Flow Netfilter Event;
    /// Destination port.
    Dport = "dport", Number, Flow Netfilter Event;
    /// Either port.
    Port = "port", Number, Flow Netfilter Event Socket;
    /// State of a flow.
    State = "state", Word, Flow Netfilter Socket;
    /// Class of an event.
    Class = "class", Word, Event;
    /// Which way.
    Direction = "direction", Word, Flow Event;
    /// Any interface.
    Iface = "iface", Text, Flow Event;
    /// Interface it came in at.
    InIface = "in_iface", Text, Flow;
    /// Interface it went out at.
    OutIface = "out_iface", Text, Flow;
    /// VLAN id.
    Vlan = "vlan", Number, Flow Event;
    /// Verdict; of a rule: its action.
    Verdict = "verdict", Word, Flow Event Rule;
    /// Action of a rule.
    Action = "action", Word, Rule;
    /// Why.
    Reason = "reason", Word, Event;
    /// Why a flow ended.
    Ended = "ended", Word, Flow Socket;
    /// Name of the rule.
    Rule = "rule", Text, Flow Event Rule Mapping Socket Summary;
    /// Name of the rule; of what a socket reached.
    Name = "name", Text, Rule Socket Summary Name;
    /// How the latter is known.
    NameSource = "name_source", Word, Socket;
    /// The rule as written.
    Text = "text", Text, Rule;
    /// Whether the rule takes part.
    Enabled = "enabled", Bool, Rule;
    /// Whether the rule logs.
    Log = "log", Bool, Rule;
    /// Place of the rule.
    Position = "position", Number, Rule;
    /// Packets judged by the rule.
    Hits = "hits", Number, Rule;
    /// Policy generation.
    Generation = "generation", Number, Flow;
    /// Id: of a flow (hexadecimal), of a rule (its slot).
    Id = "id", Text, Flow Netfilter Rule Mapping Socket Summary;
    /// Flow id of an event.
    Flow = "flow", Text, Event Socket;
    /// Sequence number.
    Seq = "seq", Number, Event;
    /// TCP flags.
    TcpFlags = "tcp_flags", Text, Event;
    /// Frame length.
    FrameLen = "frame_len", Number, Event;
    /// Packets, original direction.
    Packets = "packets", Number, Flow Netfilter Event Rule Mapping;
    /// Bytes, original direction.
    Bytes = "bytes", Number, Flow Netfilter Event Rule Mapping;
    /// Packets, reply direction.
    ReplyPackets = "reply_packets", Number, Flow Netfilter Event Mapping;
    /// Bytes, reply direction.
    ReplyBytes = "reply_bytes", Number, Flow Netfilter Event Mapping;
    /// Since the first packet.
    Age = "age", Duration, Flow Netfilter Socket;
    /// Since the last packet.
    Idle = "idle", Duration, Flow Socket;
    /// Until it is forgotten.
    Timeout = "timeout", Duration, Flow Netfilter;
    /// Whether it is translated.
    Nat = "nat", Bool, Flow Event Netfilter Socket;
    /// Source address behind the translation.
    NatSrc = "nat_src", Addr, Flow Event Netfilter Socket;
    /// Source port behind the translation.
    NatSport = "nat_sport", Number, Flow Event Netfilter Socket;
    /// Destination address behind the translation.
    NatDst = "nat_dst", Addr, Flow Event Netfilter Socket;
    /// Destination port behind the translation.
    NatDport = "nat_dport", Number, Flow Event Netfilter Socket;
    /// Name of the rule that translates.
    NatRule = "nat_rule", Text, Flow Event Socket;
    /// Host inside, of a mapping.
    Inside = "inside", Addr, Mapping;
    /// Its port.
    InsidePort = "inside_port", Number, Mapping;
    /// Address that the far end sees.
    Public = "public", Addr, Mapping;
    /// Port that the far end sees.
    PublicPort = "public_port", Number, Mapping;
    /// Far end of a mapping.
    Remote = "remote", Addr, Mapping Socket Summary;
    /// Its port.
    RemotePort = "remote_port", Number, Mapping Socket;
    /// Destination after translation.
    RemoteInside = "remote_inside", Addr, Mapping;
    /// Its port.
    RemoteInsidePort = "remote_inside_port", Number, Mapping;
    /// Kind of a translation.
    Kind = "kind", Word, Mapping;
    /// Who translates.
    Origin = "origin", Word, Mapping;
    /// Status bits in words.
    Status = "status", Text, Netfilter;
    /// Connection mark.
    Mark = "mark", Number, Netfilter;
    /// Connection tracking zone.
    Zone = "zone", Number, Netfilter;
    /// Local address of a socket.
    Local = "local", Addr, Socket;
    /// Its port.
    LocalPort = "local_port", Number, Socket;
    /// Network namespace: its inode.
    Netns = "netns", Number, Socket Name;
    /// Whether that is the daemon's own.
    OwnNetns = "own_netns", Bool, Socket;
    /// User.
    Uid = "uid", Number, Event Socket;
    /// Process that owns a socket; of an event: that called.
    Pid = "pid", Number, Event Socket Summary;
    /// What the kernel calls that process.
    Comm = "comm", Text, Event Socket Summary;
    /// Executable of that process.
    Exe = "exe", Text, Socket Summary;
    /// Its arguments.
    Cmdline = "cmdline", Text, Socket;
    /// Name of its user.
    User = "user", Text, Socket Summary;
    /// Unit of systemd's.
    Unit = "unit", Text, Socket Summary;
    /// Container.
    Container = "container", Text, Socket Summary;
    /// Address that has a name.
    Address = "address", Addr, Name;
    /// Who said so.
    Server = "server", Addr, Name;
    /// How often.
    Answers = "answers", Number, Name;
    /// It doesn't hold any more.
    Expired = "expired", Bool, Name;
    /// How an owner is known.
    Confidence = "confidence", Word, Socket;
    /// Whether that process has ended, and the socket lives on.
    OwnerExited = "owner_exited", Bool, Socket;
    /// Bytes sent.
    SentBytes = "sent_bytes", Number, Socket Summary;
    /// Bytes received.
    ReceivedBytes = "received_bytes", Number, Socket Summary;
    /// Bytes sent a second.
    SentRate = "sent_rate", Number, Socket;
    /// Bytes received a second.
    ReceivedRate = "received_rate", Number, Socket;
    /// Round trip, microseconds.
    Rtt = "rtt", Number, Socket;
    /// Packets of a socket that the stack dropped.
    Drops = "drops", Number, Socket;
    /// Why the stack dropped the last of its packets.
    DropReason = "drop_reason", Text, Socket;
    /// Segments sent again.
    Retransmits = "retransmits", Number, Socket Summary;
    /// What sockets are summed up by.
    Key = "key", Text, Summary;
    /// Sockets that live.
    Live = "live", Number, Summary;
    /// Those, and those that have ended.
    Total = "total", Number, Summary;
    /// Connections that live.
    Connected = "connected", Number, Summary;
    /// Those, and those that have ended.
    Connections = "connections", Number, Summary;
    /// Packets sent.
    SentPackets = "sent_packets", Number, Summary;
    /// Packets received.
    ReceivedPackets = "received_packets", Number, Summary;
    /// Handshakes that were begun.
    Connects = "connects", Number, Summary;
    /// Handshakes that others began.
    Accepts = "accepts", Number, Summary;
    /// Calls that received.
    Reads = "reads", Number, Summary;
    /// Calls that sent.
    Writes = "writes", Number, Summary;
    /// Who had something done.
    Who = "who", Text, Deed;
    /// What: the verb.
    Verb = "verb", Text, Deed;
    /// The same, in words.
    Detail = "detail", Text, Deed;
    /// What came of it.
    Outcome = "outcome", Text, Deed;
}

impl Field {
    /// The field of this name; `-` may stand for `_`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.replace('-', "_");
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// The nearest name, for a hint.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        suggest::nearest(name, Self::ALL.iter().map(|f| f.name()))
    }

    /// The words a [`Kind::Word`] field of this kind of subject can be.
    pub fn vocabulary(self, of: Option<SubjectKind>) -> Vec<&'static str> {
        match self {
            Self::Verdict | Self::Action => vec!["allow", "drop", "reject", "count"],
            Self::Direction => vec!["in", "out", "forward"],
            Self::Kind => MAPPING_KINDS.to_vec(),
            Self::Origin => vec!["sluice", "netfilter"],
            Self::Class => Class::ALL.iter().map(|c| c.name()).collect(),
            Self::Ended if of == Some(SubjectKind::Socket) => SOCKET_ENDS.to_vec(),
            Self::NameSource => NAME_SOURCES.to_vec(),
            Self::Confidence => vec!["stamped", "held", "unknown"],
            Self::State if of == Some(SubjectKind::Socket) => {
                SOCKET_TCP_STATES.into_iter().chain(SOCKET_STATES).collect()
            }
            Self::Reason | Self::Ended => Reason::ALL.iter().map(|r| r.name()).collect(),
            Self::State => {
                let ours = (1..=7).map(|raw| TcpState::from_raw(raw).name());
                let mut names: Vec<_> = match of {
                    Some(SubjectKind::Netfilter) => Vec::new(),
                    _ => ours.collect(),
                };
                if matches!(of, None | Some(SubjectKind::Netfilter)) {
                    names.extend(NETFILTER_TCP_STATES);
                    names.extend(NETFILTER_SCTP_STATES);
                }
                names.extend(["new", "established"]);
                names.sort_unstable();
                names.dedup();
                names
            }
            _ => Vec::new(),
        }
    }

    /// The fields that a subject is asked for in its stead: both ends where either is meant.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        let parts = match self {
            Self::Addr => [Some(Self::Src), Some(Self::Dst), Some(Self::Local), Some(Self::Remote)],
            Self::Port => [
                Some(Self::Sport),
                Some(Self::Dport),
                Some(Self::LocalPort),
                Some(Self::RemotePort),
            ],
            Self::Iface => [Some(Self::Iface), Some(Self::InIface), Some(Self::OutIface), None],
            _ => [Some(self), None, None, None],
        };
        parts.into_iter().flatten()
    }
}
