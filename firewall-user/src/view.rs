//! What people and programs get to see: the rows of the API, the WebSocket and `--json`.
//!
//! One shape for all three. Times are RFC 3339 UTC with milliseconds, or `null`; durations are
//! `*_ms`; addresses are text; `bytes` count from the IP header on. `docs/protocol.md` describes each
//! field; the console's `types.ts` mirrors this file.

mod attributes;
mod explain;
mod history;
mod learn;
mod names;
mod nat;
mod paths;
mod plan;
mod rules;
mod sets;
mod sockets;
mod summary;
mod table;

pub use attributes::{SocketAttributeRowView, SocketAttributeView, SocketDetailsView};
pub use explain::{
    ExplainView, ExplainedRuleView, FateView, MissView, MovedCounterView, ReplayRowView, ReplayView,
};
pub use history::{DeedView, HISTORY_KINDS, HistorySumView, RuleMinuteView, VerdictMinuteView};
pub use learn::{LearnHistoryView, LearnView, LearntRuleView};
pub use names::{NAME_SOURCES, NameStatsView, NameView, ObservedStatsView};
pub use nat::{
    MAPPING_KINDS, NatAccountView, NatBindingView, NatBlockView, NatHostView, NatMappingView,
    NatPoolView, NatRuleView, NatStatsView, NatWhoView,
};
pub use paths::{
    PathCountsView, PathOwnerView, PathProgramView, PathUnreadView, PathView, PathsSummaryView,
    PathsView,
};
pub use plan::{PlanPartView, PlanView};
pub use rules::{LimitStatsView, RuleView};
pub use sets::{SetChangeView, SetEntryView, SetPageView, SetTestView, SetView};
pub use sockets::{
    FailedKillView, KilledSocketsView, SOCKET_ENDS, SOCKET_STATES, SOCKET_TCP_STATES,
    SocketDropView, SocketDropsView, SocketEventStatsView, SocketHolderView, SocketSampleView,
    SocketSamplesView, SocketStatsView, SocketView,
};
pub use summary::{SummaryRowView, SummaryStatView, SummaryTableView, SummaryView};
pub use table::{AlarmView, OwnerStatsView, TableStatsView};

use serde::{Deserialize, Serialize};

/// A flow, live or just ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowView {
    /// Unique id, hexadecimal.
    pub id: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the protocol's number.
    pub proto: String,
    /// 4 or 6.
    pub family: u8,
    /// Who began it.
    pub src: String,
    /// Source port; ICMP: query identifier; else 0.
    pub sport: u16,
    /// Whom it was meant for.
    pub dst: String,
    /// Destination port; ICMP: 0.
    pub dport: u16,
    /// TCP: `syn-sent`, `syn-received`, `established`, `fin-wait`, `closing`, `closed`; else `new`, `established`.
    pub state: String,
    /// `in`, `out` or `forward`: which hooks the original direction met.
    pub direction: String,
    /// Interface it came in at, if it did.
    pub in_iface: Option<String>,
    /// Interface it went out at, if it did.
    pub out_iface: Option<String>,
    /// Outer VLAN id of the first packet, 0 if untagged.
    pub vlan: u16,
    /// `allow`; `drop` or `reject` for a flow that was cut.
    pub verdict: String,
    /// Name of the rule that let it in (`default in` / `default out` where none did).
    pub rule: String,
    /// Policy generation that judged it last.
    pub generation: u32,
    /// Packets, original direction.
    pub packets: u64,
    /// Bytes, original direction.
    pub bytes: u64,
    /// Packets, reply direction.
    pub reply_packets: u64,
    /// Bytes, reply direction.
    pub reply_bytes: u64,
    /// First packet.
    pub first: Option<String>,
    /// Last packet.
    pub last: Option<String>,
    /// Since the first packet.
    pub age_ms: u64,
    /// Since the last packet.
    pub idle_ms: u64,
    /// Until the flow is forgotten if nothing more comes.
    pub timeout_ms: u64,
    /// Why it ended (`closed`, `reset`, `timed-out`, `policy-changed`, `killed`, ...); `null` while it lives.
    pub ended: Option<String>,
    /// How it is translated; `null` if it isn't.
    pub nat: Option<FlowNatView>,
}

/// Under which tuple a translated flow goes out: its original direction behind the translation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowNatView {
    /// Source address.
    pub src: String,
    /// Source port; ICMP: query identifier.
    pub sport: u16,
    /// Destination address.
    pub dst: String,
    /// Destination port; ICMP: 0.
    pub dport: u16,
    /// Name of the rule that translates.
    pub rule: String,
    /// What is translated: `source`, `destination` or `both`.
    pub kind: String,
}

/// `sluice flow kill`: what was taken out of the flow table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KilledView {
    /// Nothing was done.
    pub dry_run: bool,
    /// How many flows were (or would be) taken out.
    pub total: u64,
    /// The first of them, with their last totals.
    pub rows: Vec<FlowView>,
}

/// An event: one line of `sluice watch`, one element of the `events` stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// `new`, `established`, `closed`, `verdict`, `log`, `nat`, `call`.
    pub class: String,
    /// Sequence number within the class, from the kernel (user space's own time-outs: `null`).
    pub seq: Option<u64>,
    /// When.
    pub time: String,
    /// Flow id, hexadecimal, if there is a flow.
    pub flow: Option<String>,
    /// As in [`FlowView`]; `arp` or `0x88cc`-like for what isn't IP.
    pub proto: String,
    /// 4, 6, or 0.
    pub family: u8,
    /// Source address, empty if not IP.
    pub src: String,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: String,
    /// Destination port.
    pub dport: u16,
    /// Interface.
    pub iface: String,
    /// `in` or `out`.
    pub direction: String,
    /// VLAN id.
    pub vlan: u16,
    /// `allow`, `drop`, `reject`, `count`.
    pub verdict: String,
    /// [`firewall_common::abi::reason::Reason`] by name.
    pub reason: String,
    /// Rule's name, or `default in` / `default out`, or empty. Where a flow was answered or closed: that
    /// which let it in.
    pub rule: String,
    /// TCP flags, e.g. `syn,ack`; empty if not TCP.
    pub tcp_flags: String,
    /// Frame length, bytes.
    pub frame_len: u32,
    /// Packets (flow totals for `closed`).
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets of the reply direction.
    pub reply_packets: u64,
    /// Bytes of the reply direction.
    pub reply_bytes: u64,
    /// How its flow is translated; `null` if it isn't (or if nothing was known of that).
    #[serde(default)]
    pub nat: Option<FlowNatView>,
    /// `call`: the process that called for the network; else `null`.
    #[serde(default)]
    pub caller: Option<CallerView>,
}

/// Whose call a rule by owner judged; of what comes in: who made the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerView {
    /// Process.
    pub pid: u32,
    /// What the kernel calls it.
    pub comm: String,
    /// Its user.
    pub uid: u32,
    /// The socket's cookie, hexadecimal: `id` of `sluice sockets`.
    pub socket: String,
}

/// A counter by reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReasonView {
    /// Reason's name.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

/// An event class's account: `produced = delivered + lost`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventCountView {
    /// Class.
    pub class: String,
    /// Numbered by the kernel.
    pub produced: u64,
    /// Drained by the daemons since the maps were made.
    pub delivered: u64,
    /// Not written because the ring was full, or overwritten while no daemon ran.
    pub lost: u64,
    /// Held back by sampling.
    pub suppressed: u64,
}

/// `sluice stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsView {
    /// When.
    pub time: String,
    /// Live flows.
    pub flows: u64,
    /// Table's capacity (per family).
    pub flows_max: u64,
    /// Packets that met a hook.
    pub packets: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Packets that passed.
    pub passed_packets: u64,
    /// Packets that were dropped or rejected.
    pub dropped_packets: u64,
    /// Bytes of the frames that passed.
    pub passed_bytes: u64,
    /// Bytes of the frames that were dropped or rejected.
    pub dropped_bytes: u64,
    /// By reason; only those that ever counted.
    pub reasons: Vec<ReasonView>,
    /// By event class.
    pub events: Vec<EventCountView>,
    /// How full the flow tables are, and what befell their entries.
    #[serde(default)]
    pub table: TableStatsView,
    /// What went wrong with limits of rules.
    #[serde(default)]
    pub limits: LimitStatsView,
    /// Of rules by owner; `null` where the policy has none.
    #[serde(default)]
    pub owners: Option<OwnerStatsView>,
    /// Translation.
    #[serde(default)]
    pub nat: NatStatsView,
    /// Of the kernel's own connection tracking; `null` where it isn't to be followed.
    #[serde(default)]
    pub netfilter: Option<NetfilterStatsView>,
}

/// How a flow is translated: its original direction as it leaves the translation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetfilterNatView {
    /// Source address.
    pub src: String,
    /// Source port or ICMP identifier.
    pub sport: u16,
    /// Destination address.
    pub dst: String,
    /// Destination port.
    pub dport: u16,
}

/// What `state` of a [`NetfilterFlowView`] says of TCP: netfilter's states by their number.
pub const NETFILTER_TCP_STATES: [&str; 10] = [
    "none",
    "syn-sent",
    "syn-recv",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "close",
    "syn-sent2",
];

/// What it says of SCTP.
pub const NETFILTER_SCTP_STATES: [&str; 10] = [
    "none",
    "closed",
    "cookie-wait",
    "cookie-echoed",
    "established",
    "shutdown-sent",
    "shutdown-recd",
    "shutdown-ack-sent",
    "heartbeat-sent",
    "heartbeat-acked",
];

/// An entry of the kernel's own connection tracking.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetfilterFlowView {
    /// The kernel's id, decimal, as `conntrack -L -o id` shows it; entries may share one.
    pub id: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the protocol's number.
    pub proto: String,
    /// 4 or 6.
    pub family: u8,
    /// Who began it.
    pub src: String,
    /// Source port; ICMP: query identifier; else 0.
    pub sport: u16,
    /// Whom it was meant for.
    pub dst: String,
    /// Destination port; ICMP: 0.
    pub dport: u16,
    /// Netfilter's state of TCP and SCTP (`syn-sent`, `syn-recv`, `established`, `time-wait`, ...); else `new`, `established`.
    pub state: String,
    /// Netfilter's status bits by name: `seen-reply`, `assured`, `confirmed`, `src-nat`, `dst-nat`, ...
    pub status: Vec<String>,
    /// The translation, `null` where there is none.
    pub nat: Option<NetfilterNatView>,
    /// Packets, original direction; `null` where netfilter doesn't count.
    pub packets: Option<u64>,
    /// Bytes, original direction.
    pub bytes: Option<u64>,
    /// Packets, reply direction.
    pub reply_packets: Option<u64>,
    /// Bytes, reply direction.
    pub reply_bytes: Option<u64>,
    /// When it began; `null` where netfilter takes no time.
    pub first: Option<String>,
    /// Since it began; `null` likewise.
    pub age_ms: Option<u64>,
    /// Until the entry is forgotten if nothing more comes.
    pub timeout_ms: Option<u64>,
    /// Connection mark.
    pub mark: u32,
    /// Connection tracking zone.
    pub zone: u16,
    /// Always `netfilter`.
    pub tracked_by: String,
}

/// What netfilter's translations of one address carried, flows that have ended alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetfilterAccountView {
    /// `snat` or `dnat`; a flow with both is in the accounts of both.
    pub translation: String,
    /// `host`: the inside host's own address; `public`: the one others see.
    pub side: String,
    /// The address; `null`: all that came after 65,536 accounts.
    pub address: Option<String>,
    /// Flows that have ended since the daemon began.
    pub flows: u64,
    /// Of these, those that netfilter didn't count packets and bytes of.
    pub uncounted: u64,
    /// Of these, those whose end wasn't told: the last known figures are in the totals, and may be too low.
    pub at_least: u64,
    /// Packets, original direction.
    pub packets: u64,
    /// Bytes, original direction.
    pub bytes: u64,
    /// Packets, reply direction.
    pub reply_packets: u64,
    /// Bytes, reply direction.
    pub reply_bytes: u64,
    /// Always `netfilter`.
    pub tracked_by: String,
}

/// How well netfilter's connection tracking is followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetfilterStatsView {
    /// Whether it is followed at this moment.
    pub following: bool,
    /// Entries that live.
    pub flows: u64,
    /// Entries with a translation.
    pub nat_flows: u64,
    /// Entries that began, by event.
    pub began: u64,
    /// Changes, by event.
    pub updated: u64,
    /// Entries that ended, by event.
    pub ended: u64,
    /// Entries that were gone without an event.
    pub gone: u64,
    /// Times that events were lost because the socket overran; each is followed by a dump.
    pub overruns: u64,
    /// Dumps of the whole table.
    pub dumps: u64,
    /// How long the last dump took.
    pub dump_ms: u64,
    /// Messages that couldn't be understood.
    pub malformed: u64,
}

/// One interface of `sluice status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IfaceView {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// `auto`, `xdp`, `xdp-generic`, `tc`.
    pub mode_asked: String,
    /// `xdp`, `xdp-generic`, `tcx`, `clsact`, or `none` where attaching failed.
    pub ingress: String,
    /// `tcx`, `clsact`, or `none`.
    pub egress: String,
    /// Why this and not another.
    pub why: String,
    /// Whether established flows may skip the stack from here and to here, and why not.
    #[serde(default)]
    pub fast_path: String,
    /// Place in map `XSKS` of the AF_XDP socket of its first queue; `null` where the ingress hook isn't XDP.
    #[serde(default)]
    pub xsk_first: Option<u32>,
}

/// `sluice status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the daemon.
    pub version: String,
    /// ABI version of the maps.
    pub abi_version: u32,
    /// Process id.
    pub pid: u32,
    /// Changes whenever the daemon restarts; sequence numbers are valid within it.
    pub epoch: String,
    /// When the daemon started.
    pub started: String,
    /// Whether it found a running filter and took it over.
    pub adopted: bool,
    /// Live policy's generation.
    pub generation: u32,
    /// Where the live policy was read from.
    pub policy_file: String,
    /// Rules in it.
    pub rules: u32,
    /// Live flows.
    pub flows: u64,
    /// Interfaces.
    pub interfaces: Vec<IfaceView>,
    /// What Sluice can't see or do here, in plain words.
    pub limits: Vec<String>,
    /// What is wrong right now, the oldest first.
    #[serde(default)]
    pub alarms: Vec<AlarmView>,
    /// Address of the console.
    pub console: String,
    /// The history; `null` where none is kept.
    #[serde(default)]
    pub history: Option<HistoryStatsView>,
    /// How packets enter and leave this machine, counted; `null` where it wasn't read in time.
    #[serde(default)]
    pub paths: Option<PathsSummaryView>,
}

/// How the history goes: the database of what has been.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryStatsView {
    /// The file.
    pub path: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that it may have.
    pub max_bytes: u64,
    /// Bytes of the write-ahead log beside it.
    pub wal_bytes: u64,
    /// How long ago a record may have ended before it is forgotten.
    pub max_age_ms: u64,
    /// Records written since the daemon started.
    pub written: u64,
    /// Records that were completed: what they are about has ended.
    pub completed: u64,
    /// Records deleted, because of age or size.
    pub deleted: u64,
    /// Records never written: the queue was full, or the database refused them.
    pub lost: u64,
    /// Ends of records that aren't there: lost, or deleted since.
    pub unmatched: u64,
    /// Errors of the database, retries included.
    pub errors: u64,
    /// Records waiting to be written.
    pub queued: u64,
    /// What is in the way right now.
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows' fields, as the serialiser names them.
    fn fields(row: &impl Serialize) -> Vec<String> {
        let value = serde_json::to_value(row).expect("rows are JSON");
        value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    #[test]
    fn the_protocol_lists_every_field_of_every_row() {
        let doc = include_str!("../../docs/protocol.md");
        for (row, fields) in [
            ("FlowView", fields(&FlowView::default())),
            ("FlowNatView", fields(&FlowNatView::default())),
            ("KilledView", fields(&KilledView::default())),
            ("EventView", fields(&EventView::default())),
            ("OwnerStatsView", fields(&OwnerStatsView::default())),
            ("LimitStatsView", fields(&LimitStatsView::default())),
            ("LearnView", fields(&LearnView::default())),
            ("LearntRuleView", fields(&LearntRuleView::default())),
            ("SocketAttributeRowView", fields(&SocketAttributeRowView::default())),
            ("SocketDropsView", fields(&SocketDropsView::default())),
            ("SocketDropView", fields(&SocketDropView::default())),
            ("CallerView", fields(&CallerView::default())),
            ("RuleView", fields(&RuleView::default())),
            ("ReasonView", fields(&ReasonView::default())),
            ("EventCountView", fields(&EventCountView::default())),
            ("StatsView", fields(&StatsView::default())),
            ("NetfilterFlowView", fields(&NetfilterFlowView::default())),
            ("NetfilterNatView", fields(&NetfilterNatView::default())),
            ("NetfilterAccountView", fields(&NetfilterAccountView::default())),
            ("NetfilterStatsView", fields(&NetfilterStatsView::default())),
            ("IfaceView", fields(&IfaceView::default())),
            ("StatusView", fields(&StatusView::default())),
            ("HistoryStatsView", fields(&HistoryStatsView::default())),
            ("HistorySumView", fields(&HistorySumView::default())),
            ("VerdictMinuteView", fields(&VerdictMinuteView::default())),
            ("RuleMinuteView", fields(&RuleMinuteView::default())),
            ("DeedView", fields(&DeedView::default())),
            ("TableStatsView", fields(&TableStatsView::default())),
            ("AlarmView", fields(&AlarmView::default())),
            ("NatStatsView", fields(&NatStatsView::default())),
            ("NatMappingView", fields(&NatMappingView::default())),
            ("NatRuleView", fields(&NatRuleView::default())),
            ("NatHostView", fields(&NatHostView::default())),
            ("NatPoolView", fields(&NatPoolView::default())),
            ("NatWhoView", fields(&NatWhoView::default())),
            ("NatBindingView", fields(&NatBindingView::default())),
            ("NatBlockView", fields(&NatBlockView::default())),
            ("PathsView", fields(&PathsView::default())),
            ("PathView", fields(&PathView::default())),
            ("PathProgramView", fields(&PathProgramView::default())),
            ("PathOwnerView", fields(&PathOwnerView::default())),
            ("PathUnreadView", fields(&PathUnreadView::default())),
            ("PathsSummaryView", fields(&PathsSummaryView::default())),
            ("PathCountsView", fields(&PathCountsView::default())),
            ("SetView", fields(&SetView::default())),
            ("SetEntryView", fields(&SetEntryView::default())),
            ("SetPageView", fields(&SetPageView::default())),
            ("SetChangeView", fields(&SetChangeView::default())),
            ("SetTestView", fields(&SetTestView::default())),
        ] {
            let heading = format!("### {row}\n");
            let (_, section) =
                doc.split_once(&heading).unwrap_or_else(|| panic!("no section {row}"));
            let section = section.split("\n### ").next().unwrap_or("");
            for field in fields {
                assert!(
                    section.contains(&format!("| `{field}` |")),
                    "{row}.{field} isn't in docs/protocol.md"
                );
            }
        }
    }
}
