//! What a row says of a flow: worked out of its record, the policy's time-outs and the clock.

use super::{FlowRecord, NatTuple, clock::Clock, names::Names, text};
use crate::view::FlowNatView;
use firewall_common::{
    abi::{
        flow::{Judgement, bits},
        iface::IFACE_SLOTS,
        table::{TIMEOUTS, Verdict},
    },
    flow::{tcp::TcpState, timeout},
};
use std::net::Ipv4Addr;

/// How a flow is translated, as its row says it.
pub(super) fn translated(nat: &NatTuple, flow_bits: u64, names: &Names) -> FlowNatView {
    FlowNatView {
        src: Ipv4Addr::from(nat.src).to_string(),
        sport: nat.sport,
        dst: Ipv4Addr::from(nat.dst).to_string(),
        dport: nat.dport,
        rule: names.rule(nat.rule),
        kind: translated_ends(flow_bits).to_owned(),
    }
}

/// An interface that a flow met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Nowhere,
    Slot(u8),
    Index(u32),
}

impl Met {
    /// Its name.
    pub(super) fn name(self, names: &Names) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::Slot(slot) => names.iface_slot(slot),
            Self::Index(index) => Some(names.iface_index(index)),
        }
    }
}

/// What a row says of a flow, not in words yet.
pub(super) struct Shown {
    pub state: &'static str,
    pub direction: &'static str,
    pub in_iface: Met,
    pub out_iface: Met,
    pub verdict: &'static str,
    /// Slot of the rule that let it in, or cut it.
    pub rule: u32,
    pub generation: u32,
    /// Ticks.
    pub first: u64,
    pub last: u64,
    pub idle_ms: u64,
    pub timeout_ms: u64,
}

/// The judgement that let a flow in: at ingress, where there was one.
pub(super) const fn judged_by(record: &FlowRecord) -> Judgement {
    let flow = &record.flow;
    if flow.judged_in.is_set() { flow.judged_in } else { flow.judged_out }
}

/// Works that out; `cut` is the judgement that cut the flow.
pub(super) fn shown(
    record: &FlowRecord,
    cut: Option<Judgement>,
    timeouts: &[u32; TIMEOUTS],
    clock: &Clock,
) -> Shown {
    let flow = &record.flow;
    let (judged_in, judged_out) = (flow.judged_in, flow.judged_out);
    let judged = cut.unwrap_or(judged_by(record));
    let seen_at = |slot: u8, judged: Judgement| {
        if slot != 0 && usize::from(slot) < IFACE_SLOTS {
            Met::Slot(slot)
        } else if judged.is_set() && flow.if_in == 0 && flow.if_out == 0 {
            Met::Index(record.ifindex)
        } else {
            Met::Nowhere
        }
    };
    let in_iface = seen_at(flow.if_in, judged_in);
    let out_iface = seen_at(flow.if_out, judged_out);
    let timeout = timeouts[usize::from(timeout::of(record.proto, flow.tcp_state, flow.bits).raw())];
    let last = flow.last_tick(clock.ticks);
    let idle_ms = clock.ms_since_tick(last);
    Shown {
        state: match record.proto {
            text::TCP => TcpState::from_raw(flow.tcp_state).name(),
            _ if flow.bits & bits::SEEN_REPLY != 0 => "established",
            _ => "new",
        },
        direction: match (in_iface, out_iface) {
            (_, Met::Nowhere) => "in",
            (Met::Nowhere, _) => "out",
            _ => "forward",
        },
        in_iface,
        out_iface,
        verdict: Verdict::try_from(judged.verdict()).unwrap_or(Verdict::Allow).name(),
        rule: judged.slot(),
        generation: judged.generation().max(judged_in.generation()).max(judged_out.generation()),
        first: flow.first_tick(),
        last,
        idle_ms,
        timeout_ms: u64::from(timeout).saturating_sub(idle_ms),
    }
}

/// Which ends are translated, in a word.
pub(super) fn translated_ends(flow_bits: u64) -> &'static str {
    match flow_bits & (bits::NAT_SOURCE | bits::NAT_DESTINATION) {
        bits::NAT_SOURCE => "source",
        bits::NAT_DESTINATION => "destination",
        _ => "both",
    }
}
