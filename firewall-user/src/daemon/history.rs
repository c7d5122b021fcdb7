//! The history's place in the daemon: opened from the configuration, fed with what the monitor sees.

use super::config::Config;
use crate::{
    monitor::{Clock, FlowRecord, NatWords, text},
    store::{Binding, BindingKind, BlockAssignment, Endpoint, History, Limits, Origin, Totals},
};
use firewall_common::abi::{event::Event, flow::bits};
use std::{io, net::Ipv4Addr};

/// Something that happened to a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatChange {
    /// It came to be.
    Began(Binding),
    /// It ended.
    Ended {
        /// Who translated.
        origin: Origin,
        /// The flow's id.
        id: u64,
        /// What it has carried.
        totals: Totals,
        /// Why it ended, as in `FlowView.ended`.
        reason: &'static str,
        /// When, ms since 1970.
        at_ms: i64,
    },
    /// These are all that live.
    OnlyLive {
        /// Who translates.
        origin: Origin,
        /// Their ids.
        ids: Vec<u64>,
        /// When that was found out, ms since 1970.
        at_ms: i64,
    },
    /// These port blocks are in force, and no others.
    Blocks {
        /// Which.
        blocks: Vec<BlockAssignment>,
        /// From when on, ms since 1970.
        at_ms: i64,
    },
}

/// Opens the history that the configuration asks for.
///
/// # Errors
/// No thread can be started. Trouble with the file is no error: it is logged, counted, and sat out.
pub fn open(config: &Config) -> io::Result<Option<History>> {
    if !config.history.enabled {
        log::info!("no history is kept");
        return Ok(None);
    }
    let limits = Limits {
        max_bytes: config.history.max_bytes,
        max_age_ms: config.history.max_age_ms,
        queue: config.history.queue,
        ..Limits::default()
    };
    History::open(&config.history_path(), limits).map(Some)
}

/// Hands changes over to the history, in order. Never waits; what doesn't fit is counted there.
pub fn record(history: Option<&History>, changes: impl IntoIterator<Item = NatChange>) {
    let Some(history) = history else { return };
    for change in changes {
        match change {
            NatChange::Began(binding) => history.binding_began(binding),
            NatChange::Ended { origin, id, totals, reason, at_ms } => {
                history.binding_ended(origin, id, totals, reason, at_ms);
            }
            NatChange::OnlyLive { origin, ids, at_ms } => history.only_live(origin, ids, at_ms),
            NatChange::Blocks { blocks, at_ms } => history.blocks_in_force(blocks, at_ms),
        }
    }
}

/// What a mapping's kind is called, by the rule's.
fn kind(rule: &NatWords, source: bool) -> BindingKind {
    match rule.kind {
        Some("masquerade") => BindingKind::Masquerade,
        Some("redirect") => BindingKind::Redirect,
        Some("static") => BindingKind::Static,
        Some("destination") => BindingKind::Destination,
        Some("source") if rule.has_blocks => BindingKind::Block,
        Some(_) | None if source => BindingKind::Source,
        Some(_) | None => BindingKind::Destination,
    }
}

/// A mapping that the kernel told of (`Class::NatNew`: the translated ends stand behind the original ones).
pub fn began(event: &Event, rule: &NatWords, at_ms: i64) -> NatChange {
    let end = |wide: &[u8; 16], port: [u8; 2]| {
        let address = |at: usize| Ipv4Addr::new(wide[at], wide[at + 1], wide[at + 2], wide[at + 3]);
        let original = Endpoint { address: address(0).into(), port: u16::from_be_bytes(port) };
        let to_port = u16::from_be_bytes([wide[8], wide[9]]);
        (original, Endpoint { address: address(4).into(), port: to_port })
    };
    // A query's identifier stands at both ends; the event has its type and code in place of the second.
    let dport = if event.proto == text::ICMP { event.sport } else { event.dport };
    let (src, to_src) = end(&event.src, event.sport);
    let (dst, to_dst) = end(&event.dst, dport);
    NatChange::Began(Binding {
        id: event.flow_id,
        origin: Origin::Sluice,
        kind: kind(rule, src != to_src),
        proto: event.proto,
        src,
        dst,
        to_src,
        to_dst,
        rule: rule.name.as_str().into(),
        start_ms: at_ms,
    })
}

/// A mapping that a look at the tables found: as [`began`] would have told of it.
pub fn found(record: &FlowRecord, rule: &NatWords, clock: &Clock) -> Option<NatChange> {
    let nat = record.nat?;
    let end = |address: [u8; 4], port| Endpoint { address: Ipv4Addr::from(address).into(), port };
    let narrow = |wide: &[u8; 16]| [wide[0], wide[1], wide[2], wide[3]];
    // A query's identifier stands at both ends.
    let (dport, to_dport) = match record.proto {
        text::ICMP => (record.sport, nat.sport),
        _ => (record.dport, nat.dport),
    };
    let began = clock.tick_to_unix(record.flow.first_tick()).unwrap_or(clock.unix_ns);
    Some(NatChange::Began(Binding {
        id: record.flow.id,
        origin: Origin::Sluice,
        kind: kind(rule, record.flow.bits & bits::NAT_SOURCE != 0),
        proto: record.proto,
        src: end(narrow(&record.src), record.sport),
        dst: end(narrow(&record.dst), dport),
        to_src: end(nat.src, nat.sport),
        to_dst: end(nat.dst, to_dport),
        rule: rule.name.as_str().into(),
        start_ms: began / 1_000_000,
    }))
}

/// The end of a translated flow that was taken out of the table: its totals are final.
pub fn ended(record: &FlowRecord, reason: &'static str, at_ms: i64) -> NatChange {
    let totals = super::bindings::totals(record);
    NatChange::Ended { origin: Origin::Sluice, id: record.flow.id, totals, reason, at_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_its_identifier_at_both_ends() {
        let mut event = Event { proto: text::ICMP, ..bytemuck::Zeroable::zeroed() };
        (event.sport, event.dport) = (7u16.to_be_bytes(), [8, 0]);
        event.src[..10].copy_from_slice(&[10, 0, 0, 5, 203, 0, 113, 5, 0x40, 1]);
        event.dst[..10].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 1, 0x40, 1]);
        let rule = NatWords { name: "out".into(), kind: Some("masquerade"), has_blocks: false };
        let NatChange::Began(binding) = began(&event, &rule, 0) else { panic!("began") };
        assert_eq!((binding.src.port, binding.dst.port), (7, 7));
        assert_eq!((binding.to_src.port, binding.to_dst.port), (0x4001, 0x4001));
    }
}
