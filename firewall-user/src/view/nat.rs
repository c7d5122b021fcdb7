//! Rows of address translation: what is live, what is counted, what the history says.

#[cfg(doc)]
use super::FlowView;
use serde::{Deserialize, Serialize};

/// What `kind` of a [`NatMappingView`] may be.
pub const MAPPING_KINDS: [&str; 6] =
    ["masquerade", "source", "destination", "redirect", "static-out", "static-in"];

/// A mapping that is in force: a translated flow, seen from the host inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatMappingView {
    /// The flow's id: hexadecimal as in [`FlowView`]; of netfilter's: decimal, its own.
    pub id: String,
    /// As in [`FlowView`].
    pub proto: String,
    /// The host inside: the client whose source is translated, else the server behind the public destination.
    pub inside: String,
    /// Its port; ICMP: query identifier.
    pub inside_port: u16,
    /// The address that the far end sees in its place.
    pub public: String,
    /// The port that the far end sees.
    pub public_port: u16,
    /// The far end, as the inside host wrote it.
    pub remote: String,
    /// Its port; ICMP: 0.
    pub remote_port: u16,
    /// The destination after translation; `null` if it isn't translated.
    pub remote_inside: Option<String>,
    /// Its port; `null` likewise.
    pub remote_inside_port: Option<u16>,
    /// `masquerade`, `source`, `destination`, `redirect`, `static-out`, `static-in`.
    pub kind: String,
    /// The rule's name; `null` for netfilter's, and where the rule isn't known any more.
    pub rule: Option<String>,
    /// First packet.
    pub began: Option<String>,
    /// Last packet; `null` for netfilter's.
    pub last: Option<String>,
    /// Packets, original direction; `null` where netfilter doesn't count.
    pub packets: Option<u64>,
    /// Bytes, original direction.
    pub bytes: Option<u64>,
    /// Packets, reply direction.
    pub reply_packets: Option<u64>,
    /// Bytes, reply direction.
    pub reply_bytes: Option<u64>,
    /// Who translates: `sluice`, or `netfilter` on the same machine.
    pub origin: String,
}

/// What translations have carried: ended and live ones together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatAccountView {
    /// Flows that are translated now.
    pub live: u64,
    /// Mappings begun.
    pub mappings: u64,
    /// Mappings ended.
    pub ended: u64,
    /// Mappings refused for want of a port.
    pub failures: u64,
    /// Packets, original direction.
    pub packets: u64,
    /// Bytes, original direction.
    pub bytes: u64,
    /// Packets, reply direction.
    pub reply_packets: u64,
    /// Bytes, reply direction.
    pub reply_bytes: u64,
}

/// What a translation rule has done: flows that have ended and those that live together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatRuleView {
    /// Stable id: the slot of its counters.
    pub slot: u32,
    /// Name.
    pub name: String,
    /// `masquerade`, `source`, `destination`, `redirect`, `static`, `prefix`; empty where the rule isn't known any more.
    pub kind: String,
    /// The rule as written, one line; `null` where it doesn't stand in the live policy.
    pub text: Option<String>,
    /// What it has carried.
    #[serde(flatten)]
    pub account: NatAccountView,
}

/// What the translations of a host inside have carried: ended and live ones together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatHostView {
    /// The host; `other`: all those that found no row of their own.
    pub host: String,
    /// What it has carried.
    #[serde(flatten)]
    pub account: NatAccountView,
}

/// Ports of one public address and protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatPoolView {
    /// The address; empty where it isn't known any more.
    pub address: String,
    /// Of a masquerade: the interface whose address it is; else `null`.
    pub interface: Option<String>,
    /// The rules of the live policy that use it.
    pub rules: Vec<String>,
    /// `tcp`, `udp` (and UDP-Lite), `icmp` (identifiers).
    pub proto: String,
    /// Ports that may be used.
    pub ports: u64,
    /// Ports in use.
    pub in_use: u64,
    /// Most that were in use at once.
    pub peak: u64,
    /// Mappings made.
    pub made: u64,
    /// Mappings refused for want of a port.
    pub failures: u64,
    /// `in_use` of `ports`, percent.
    pub used_percent: f64,
}

/// Translation in the statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatStatsView {
    /// Translated flows.
    pub mappings_live: u64,
    /// Mappings refused for want of a port.
    pub failures: u64,
    /// Public addresses (each protocol by itself) that have no port left right now.
    pub exhausted_pools: u64,
}

/// A mapping of a translated flow, as the history has it. `src` ... `dport` are the tuple as the flow's first
/// packet came in, `to_*` as it went out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatBindingView {
    /// The flow's id, hexadecimal.
    pub id: String,
    /// Who translated: `sluice`, or `netfilter` on the same machine.
    pub origin: String,
    /// `masquerade`, `source`, `destination`, `redirect`, `static`, `block`.
    pub kind: String,
    /// 4 or 6.
    pub family: u8,
    /// As in [`FlowView`].
    pub proto: String,
    /// The host inside: the client whose source is translated, else the server behind the public destination.
    pub host: String,
    /// Source.
    pub src: String,
    /// Its port; ICMP: query identifier.
    pub sport: u16,
    /// Destination.
    pub dst: String,
    /// Its port; ICMP: query identifier.
    pub dport: u16,
    /// Source after translation; the same if it isn't translated.
    pub to_src: String,
    /// Its port.
    pub to_sport: u16,
    /// Destination after translation; the same if it isn't translated.
    pub to_dst: String,
    /// Its port.
    pub to_dport: u16,
    /// The rule's name.
    pub rule: String,
    /// First packet.
    pub start: String,
    /// When it ended; `null` while it lives.
    pub end: Option<String>,
    /// Packets, original direction.
    pub packets: u64,
    /// Bytes, original direction.
    pub bytes: u64,
    /// Packets, reply direction.
    pub reply_packets: u64,
    /// Bytes, reply direction.
    pub reply_bytes: u64,
    /// Why it ended (`unseen`: while no daemon ran); `null` while it lives.
    pub ended: Option<String>,
}

/// A host that had a port in its block, told by arithmetic (RFC 7422).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatBlockView {
    /// The host inside.
    pub host: String,
    /// The rule's name.
    pub rule: String,
    /// The inside prefix that the rule shares the ports out to.
    pub prefix: String,
    /// The host's public address.
    pub address: String,
    /// First port of its block.
    pub port_first: u16,
    /// Last port of its block.
    pub port_last: u16,
    /// Since when that is in force.
    pub start: String,
    /// Until when it was; `null` while it is.
    pub end: Option<String>,
}

/// `sluice nat who`: who was behind a public endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NatWhoView {
    /// The public address that was asked for.
    pub address: String,
    /// The port; `null`: any.
    pub port: Option<u16>,
    /// The protocol; `null`: any.
    pub proto: Option<String>,
    /// The time that was asked for.
    pub at: String,
    /// Mappings that were live then, the latest begun first.
    pub bindings: Vec<NatBindingView>,
    /// Whether there are more than `limit` let through.
    pub more: bool,
    /// Hosts that had the port in their block then.
    pub blocks: Vec<NatBlockView>,
    /// From then on nothing has been forgotten.
    pub since: String,
}
