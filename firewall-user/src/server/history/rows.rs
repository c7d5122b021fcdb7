//! Rows of the history as people see them.

use crate::{
    monitor::text,
    store::{
        BindingRow, Deed, Endpoint, PastFlow, PastSocket, RuleMinute, Sums, VerdictMinute, when,
    },
    view::{
        DeedView, FlowView, HistorySumView, NatMappingView, RuleMinuteView, SocketView,
        VerdictMinuteView,
    },
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From one time to another, ms.
fn length(from_ms: Option<i64>, to_ms: i64) -> Option<u64> {
    from_ms.map(|from| u64::try_from(to_ms.saturating_sub(from)).unwrap_or_default())
}

/// A socket that has ended, as `sluice sockets --ended` shows it; `age_ms` is how long it lived.
pub(super) fn socket(row: PastSocket) -> SocketView {
    let address = |address: Option<IpAddr>| match (address, row.family) {
        (Some(address), _) => address.to_string(),
        (None, 4) => Ipv4Addr::UNSPECIFIED.to_string(),
        (None, 6) => Ipv6Addr::UNSPECIFIED.to_string(),
        (None, _) => String::new(),
    };
    SocketView {
        id: format!("{:x}", row.cookie),
        proto: row.proto,
        family: row.family,
        state: row.state,
        local: address(row.local),
        local_port: row.local_port,
        remote: address(row.remote),
        remote_port: row.remote_port,
        netns: row.netns,
        own_netns: row.own_netns,
        uid: row.uid,
        pid: row.pid,
        comm: row.comm,
        exe: row.exe,
        user: row.user,
        unit: row.unit,
        container: row.container,
        confidence: row.confidence,
        created: row.created_ms.map(when::show),
        age_ms: length(row.created_ms, row.end_ms),
        connect_us: row.connect_us,
        sent_bytes: row.sent_bytes,
        received_bytes: row.received_bytes,
        sends: row.sends,
        receives: row.receives,
        segments_out: row.segments_out,
        segments_in: row.segments_in,
        rtt_us: row.rtt_us,
        retransmits: row.retransmits,
        flow: row.flow.map(text::flow_id),
        rule: row.rule,
        name: row.name,
        name_source: row.name_source,
        closed: Some(when::show(row.end_ms)),
        ended: Some(row.ended),
        ..SocketView::default()
    }
}

/// A flow that has ended; `age_ms` is how long it lived, `idle_ms` how long nothing came before its end.
pub(super) fn flow(row: PastFlow) -> FlowView {
    let address =
        |address: Option<IpAddr>| address.map_or_else(String::new, |address| address.to_string());
    FlowView {
        id: text::flow_id(row.id),
        proto: text::proto(row.proto),
        family: row.family,
        src: address(row.src),
        sport: row.sport,
        dst: address(row.dst),
        dport: row.dport,
        state: row.state,
        direction: row.direction,
        in_iface: row.in_iface,
        out_iface: row.out_iface,
        vlan: row.vlan,
        verdict: row.verdict,
        rule: row.rule,
        generation: row.generation,
        packets: row.packets,
        bytes: row.bytes,
        reply_packets: row.reply_packets,
        reply_bytes: row.reply_bytes,
        first: row.first_ms.map(when::show),
        last: row.last_ms.map(when::show),
        age_ms: length(row.first_ms, row.end_ms).unwrap_or_default(),
        idle_ms: length(row.last_ms, row.end_ms).unwrap_or_default(),
        ended: Some(row.ended),
        ..FlowView::default()
    }
}

/// A minute of a verdict.
pub(super) fn verdict(row: VerdictMinute) -> VerdictMinuteView {
    VerdictMinuteView {
        minute: when::show(row.minute * 60_000),
        verdict: row.verdict.to_string(),
        reason: row.reason.to_string(),
        packets: row.packets,
        bytes: row.bytes,
    }
}

/// A minute of a rule.
pub(super) fn rule(row: RuleMinute) -> RuleMinuteView {
    RuleMinuteView {
        minute: when::show(row.minute * 60_000),
        rule: row.rule.to_string(),
        action: row.action.to_string(),
        hits: row.hits,
        packets: row.packets,
        bytes: row.bytes,
    }
}

/// A mapping as live ones are shown: so that one filter means the same of both.
pub(super) fn mapping(row: &BindingRow) -> NatMappingView {
    let binding = &row.binding;
    let end = |end: Endpoint| (end.address.to_string(), end.port);
    let source = binding.to_src != binding.src;
    let (inside, public, remote) = if source {
        (binding.src, binding.to_src, binding.dst)
    } else {
        (binding.to_dst, binding.dst, binding.src)
    };
    let (inside, public, remote) = (end(inside), end(public), end(remote));
    let remote_inside = (source && binding.to_dst != binding.dst).then(|| end(binding.to_dst));
    NatMappingView {
        id: text::flow_id(binding.id),
        proto: text::proto(binding.proto),
        inside: inside.0,
        inside_port: inside.1,
        public: public.0,
        public_port: public.1,
        remote: remote.0,
        remote_port: remote.1,
        remote_inside: remote_inside.as_ref().map(|(address, _)| address.clone()),
        remote_inside_port: remote_inside.map(|(_, port)| port),
        kind: match (binding.kind.name(), source) {
            ("static", true) => "static-out",
            ("static", false) => "static-in",
            // A port of the host's own block is a source all the same.
            ("block", _) => "source",
            (kind, _) => kind,
        }
        .to_owned(),
        rule: Some(binding.rule.to_string()),
        began: Some(when::show(binding.start_ms)),
        last: row.end_ms.map(when::show),
        packets: Some(row.totals.packets),
        bytes: Some(row.totals.bytes),
        reply_packets: Some(row.totals.reply_packets),
        reply_bytes: Some(row.totals.reply_bytes),
        origin: binding.origin.name().to_owned(),
    }
}

/// A deed.
pub(super) fn deed(row: Deed) -> DeedView {
    DeedView {
        time: when::show(row.at_ms),
        who: row.who,
        verb: row.verb,
        detail: row.detail,
        outcome: row.outcome,
    }
}

/// Sums under a key.
pub(super) fn sums((key, sums): (String, Sums)) -> HistorySumView {
    HistorySumView {
        key,
        count: sums.count,
        packets: sums.packets,
        bytes: sums.bytes,
        reply_packets: sums.reply_packets,
        reply_bytes: sums.reply_bytes,
        first: when::show(sums.first_ms),
        last: when::show(sums.last_ms),
    }
}

/// One row's part of a sum; its times are the caller's business.
fn one(packets: u64, bytes: u64, reply_packets: u64, reply_bytes: u64) -> Sums {
    Sums { count: 1, packets, bytes, reply_packets, reply_bytes, ..Sums::default() }
}

fn known(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "?".to_owned())
}

/// What a socket is summed up under.
pub(super) fn socket_sum(row: &SocketView, by: &str) -> (String, Sums) {
    let key = match by {
        "process" => known(row.comm.as_ref()),
        "exe" => known(row.exe.as_ref()),
        "user" => known(row.user.as_ref()),
        "host" if row.remote_port == 0 => "*".to_owned(),
        "host" => row.remote.clone(),
        "unit" => known(row.container.as_ref().or(row.unit.as_ref())),
        "rule" => known(row.rule.as_ref()),
        "protocol" => row.proto.clone(),
        "port" => row.remote_port.to_string(),
        "name" => known(row.name.as_ref()),
        _ => known(row.ended.as_ref()),
    };
    let (sent, received) = match row.proto.as_str() {
        "tcp" => (row.segments_out, row.segments_in),
        _ => (row.sends, row.receives),
    };
    (key, one(sent, row.sent_bytes, received, row.received_bytes))
}

/// What a flow is summed up under.
pub(super) fn flow_sum(row: &FlowView, by: &str) -> (String, Sums) {
    let key = match by {
        "source" => row.src.clone(),
        "host" => row.dst.clone(),
        "port" => row.dport.to_string(),
        "rule" => row.rule.clone(),
        "protocol" => row.proto.clone(),
        _ => known(row.ended.as_ref()),
    };
    (key, one(row.packets, row.bytes, row.reply_packets, row.reply_bytes))
}

/// What a verdict's minute is summed up under.
pub(super) fn verdict_sum(row: &VerdictMinuteView, by: &str) -> (String, Sums) {
    let key = if by == "verdict" { &row.verdict } else { &row.reason };
    (key.clone(), one(row.packets, row.bytes, 0, 0))
}

/// What a rule's minute is summed up under.
pub(super) fn rule_sum(row: &RuleMinuteView, by: &str) -> (String, Sums) {
    let key = if by == "rule" { &row.rule } else { &row.action };
    (key.clone(), one(row.packets, row.bytes, 0, 0))
}

/// What a mapping is summed up under.
pub(super) fn mapping_sum(row: &NatMappingView, by: &str) -> (String, Sums) {
    let key = match by {
        "host" => row.inside.clone(),
        "public" => row.public.clone(),
        "remote" => row.remote.clone(),
        "rule" => known(row.rule.as_ref()),
        "kind" => row.kind.clone(),
        "protocol" => row.proto.clone(),
        _ => row.origin.clone(),
    };
    let count = Option::unwrap_or_default;
    (
        key,
        one(count(row.packets), count(row.bytes), count(row.reply_packets), count(row.reply_bytes)),
    )
}

/// What a deed is summed up under.
pub(super) fn deed_sum(row: &DeedView, by: &str) -> (String, Sums) {
    let key = match by {
        "who" => &row.who,
        "verb" => &row.verb,
        _ => &row.outcome,
    };
    (key.clone(), one(0, 0, 0, 0))
}
