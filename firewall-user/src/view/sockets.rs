//! Rows of `sluice sockets`.

use super::{FlowNatView, NameStatsView, SummaryTableView};
use serde::{Deserialize, Serialize};

/// Words for TCP's states, as numbered in include/net/tcp_states.h.
pub const SOCKET_TCP_STATES: [&str; 13] = [
    "none",
    "established",
    "syn-sent",
    "syn-received",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "closed",
    "close-wait",
    "last-ack",
    "listen",
    "closing",
    "new-syn-received",
];

/// Words for the states of sockets without connections.
pub const SOCKET_STATES: [&str; 3] = ["connected", "unconnected", "open"];

/// Every word that the end of a socket may be.
pub const SOCKET_ENDS: [&str; 11] = [
    "closed",
    "refused",
    "dropped",
    "denied",
    "timed-out",
    "no-route",
    "reset",
    "killed",
    "abandoned",
    "failed",
    "aborted",
];

/// A socket of the machine, in any network namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketView {
    /// The kernel's cookie for it, hexadecimal: unique while the machine runs.
    pub id: String,
    /// `tcp`, `udp`, `icmp`, `raw` and a protocol's number, `packet`, `xdp`, ...
    pub proto: String,
    /// 4 or 6; 0 where it has no addresses.
    pub family: u8,
    /// TCP: `listen`, `syn-sent`, `syn-received`, `established`, `fin-wait-1`, ...; else `connected`, `unconnected`, `open`.
    pub state: String,
    /// Local address.
    pub local: String,
    /// Local port.
    pub local_port: u16,
    /// Remote address; unspecified where it has none.
    pub remote: String,
    /// Remote port.
    pub remote_port: u16,
    /// What the other end was called when the socket began, as it was observed; `null` where nothing was seen.
    #[serde(default)]
    pub name: Option<String>,
    /// How that is known: `dns` (an answer gave the name this address), `sni` (the connection's ClientHello asked for it),
    /// `sni-outer` (so it did, with another hello inside that can't be read: it may be but a front).
    #[serde(default)]
    pub name_source: Option<String>,
    /// `dns`: other names that the address had then; the one that was asked for last is taken.
    #[serde(default)]
    pub other_names: u32,
    /// Network namespace: its inode.
    pub netns: u32,
    /// Whether that is the daemon's own, whose packets the filter sees.
    pub own_netns: bool,
    /// User of the socket.
    pub uid: u32,
    /// Process that made it (an accepted one: that made its listener; one older than the monitor: that holds it).
    pub pid: Option<u32>,
    /// What the kernel calls that process.
    pub comm: Option<String>,
    /// Its executable; `null` if it was gone before anybody looked, or the daemon may not look.
    pub exe: Option<String>,
    /// Its arguments.
    pub cmdline: Option<String>,
    /// Name of its user.
    pub user: Option<String>,
    /// Unit of systemd's that it is in.
    pub unit: Option<String>,
    /// Container that it is in: its id, or its name.
    pub container: Option<String>,
    /// How the owner is known: `stamped` (when it was made), `held` (found holding it), `unknown`.
    pub confidence: String,
    /// When that process ended, if the socket lives on (or did, of one that has ended); `null`: it lives.
    #[serde(default)]
    pub owner_exited: Option<String>,
    /// Process that sent or received last, where it is another.
    pub user_pid: Option<u32>,
    /// What the kernel calls that one.
    pub user_comm: Option<String>,
    /// Who holds a descriptor of it.
    pub holders: Vec<SocketHolderView>,
    /// When it was made; `null` if it was there before the monitor.
    pub created: Option<String>,
    /// Since then.
    pub age_ms: Option<u64>,
    /// Since data was sent or received last.
    pub idle_ms: Option<u64>,
    /// TCP: from the SYN to the end of the handshake, microseconds.
    pub connect_us: Option<u64>,
    /// Bytes sent: TCP, acknowledged by the other end (SYN and FIN count one each); else what calls sent since the monitor runs.
    pub sent_bytes: u64,
    /// Bytes received; as `sent_bytes`.
    pub received_bytes: u64,
    /// Calls that sent, since the monitor runs.
    pub sends: u64,
    /// Calls that received.
    pub receives: u64,
    /// Bytes sent a second, between the last two looks.
    pub sent_rate: u64,
    /// Bytes received a second.
    pub received_rate: u64,
    /// TCP: segments out.
    pub segments_out: u64,
    /// TCP: segments in.
    pub segments_in: u64,
    /// TCP: smoothed round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// TCP: segments sent again.
    pub retransmits: u64,
    /// Packets of it that the stack dropped, since the monitor runs.
    #[serde(default)]
    pub drops: u64,
    /// Why it dropped the last of them: the kernel's reason.
    #[serde(default)]
    pub drop_reason: Option<String>,
    /// Flow that its packets met, hexadecimal, as far as the filter saw them.
    pub flow: Option<String>,
    /// Rule that let that flow in.
    pub rule: Option<String>,
    /// How that flow is translated.
    pub nat: Option<FlowNatView>,
    /// When it ended.
    pub closed: Option<String>,
    /// Why: `closed`, `refused`, `dropped` (by `rule`), `denied` (the call, by `rule`), `timed-out`, `no-route`, `reset`, `killed`, `abandoned`, `aborted` (broken off at this end: data was left unread, or SO_LINGER was 0), or the system's error; `null` while it lives.
    pub ended: Option<String>,
    /// What is to be known of it: that it sees packets which the filter doesn't.
    pub note: Option<String>,
}

/// A socket over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSamplesView {
    /// Its id, hexadecimal.
    pub id: String,
    /// It has ended: nothing comes after these.
    pub ended: bool,
    /// What looks at it found, oldest first: a minute apart, or as often as somebody asked, but no more than one a second.
    pub rows: Vec<SocketSampleView>,
}

/// A socket at one time, and what it had done since the one before; `null` in the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSampleView {
    /// When.
    pub time: String,
    /// TCP: smoothed round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// TCP: congestion window, segments.
    pub cwnd: Option<u64>,
    /// TCP: segments sent again since the one before.
    pub retransmits: Option<u64>,
    /// Bytes sent a second since then.
    pub sent_rate: Option<u64>,
    /// Bytes received a second since then.
    pub received_rate: Option<u64>,
}

/// Who holds a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketHolderView {
    /// Process.
    pub pid: u32,
    /// What the kernel calls it.
    pub comm: String,
    /// Its descriptor.
    pub descriptor: u32,
}

/// What the monitor of sockets has told and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketStatsView {
    /// Sockets that are known to live.
    pub live: u64,
    /// Ended ones that are kept.
    pub ended: u64,
    /// Ended ones that made room for later ones.
    pub ended_dropped: u64,
    /// Events by class.
    pub events: Vec<SocketEventStatsView>,
    /// How long the last look at all descriptors took, microseconds.
    pub snapshot_us: u64,
    /// How many descriptors it found.
    pub descriptors: u64,
    /// Processes that were to be looked at in /proc: new ones, and those that have become another program or changed
    /// their name. met = seen + unseen + waiting + overflowed.
    #[serde(default)]
    pub owners_met: u64,
    /// They were there, and were read.
    #[serde(default)]
    pub owners_seen: u64,
    /// They were gone, or had become another program, before it was their turn.
    #[serde(default)]
    pub owners_unseen: u64,
    /// They wait for their turn.
    #[serde(default)]
    pub owners_waiting: u64,
    /// There was no room for them to wait, and they weren't looked at since.
    #[serde(default)]
    pub owners_overflowed: u64,
    /// How often the end of a process that owns sockets couldn't be watched for: it is found at the next look at all
    /// descriptors.
    #[serde(default)]
    pub exits_unwatched: u64,
    /// Ends of owners that found no room: their sockets don't say so until the next look.
    #[serde(default)]
    pub exits_forgotten: u64,
    /// Processes that were forgotten to make room: those that are still about are looked at again.
    pub owners_forgotten: u64,
    /// Judgements of the filter that nobody kept: rules of sockets may be missing.
    pub rules_lost: u64,
    /// Ended sockets that made room before their rule was looked for.
    pub rules_unsettled: u64,
    /// How full the tables of summaries are.
    pub tables: Vec<SummaryTableView>,
    /// Sockets that carried something at the last look and had no room for samples.
    #[serde(default)]
    pub samples_without: u64,
    /// Sockets whose samples made room for others'.
    #[serde(default)]
    pub samples_forgotten: u64,
    /// What names are read from; `null`: they aren't (`[sockets] names`).
    #[serde(default)]
    pub names: Option<NameStatsView>,
}

/// `sluice sockets --drops`: what the stack dropped, in all network namespaces, since the monitor runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketDropsView {
    /// By reason, most packets first. `tc-ingress` and `tc-egress` are what filters at TC dropped, Sluice's own among them.
    pub rows: Vec<SocketDropView>,
    /// TCP segments that were sent again.
    pub retransmits: u64,
    /// Resets that were sent, also those that answer what belongs to no socket.
    pub resets_sent: u64,
    /// Resets received that ended a connection.
    pub resets_received: u64,
}

/// IP packets that the stack dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketDropView {
    /// The kernel's reason (`enum skb_drop_reason`), in small letters: `no-socket`, `tcp-csum`, ...
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Those of a socket that is known: its row counts them, too.
    pub known: u64,
}

/// Events of sockets of one class: produced = delivered + lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketEventStatsView {
    /// `listening`, `connecting`, `established`, `closed`; `exited`: of processes that own sockets.
    pub class: String,
    /// Numbered by the kernel.
    pub produced: u64,
    /// Read here.
    pub delivered: u64,
    /// Not written: the ring was full.
    pub lost: u64,
}

/// `sluice socket kill`: which sockets were ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KilledSocketsView {
    /// Nothing was done.
    pub dry_run: bool,
    /// How many were (or would be) ended.
    pub total: u64,
    /// Matched, and were left: the daemon's own, and the one that the caller came by.
    pub spared: u64,
    /// Those that couldn't be ended.
    pub failed: Vec<FailedKillView>,
    /// Rules that refuse their remote addresses from now on, as they were asked for; deleting them undoes it.
    pub blocked: Vec<String>,
    /// The first of those that were ended, as they were.
    pub rows: Vec<SocketView>,
}

/// A socket that lives on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedKillView {
    /// Its id, hexadecimal.
    pub id: String,
    /// Why.
    pub why: String,
}
