//! The history's place in the daemon: opened from the configuration, fed with what the monitor sees.

use super::config::Config;
use crate::{
    monitor::FlowRecord,
    store::{Binding, BindingKind, Endpoint, History, Limits, Origin, Totals},
};
use firewall_common::abi::{event::Event, flow::Flow};
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
        }
    }
}

/// A mapping that the kernel told of (`Class::NatNew`: the translated ends stand behind the original ones).
/// `rule` is the rule's name.
pub fn began(event: &Event, rule: &str, at_ms: i64) -> NatChange {
    let end = |wide: &[u8; 16], port: [u8; 2]| {
        let address = |at: usize| Ipv4Addr::new(wide[at], wide[at + 1], wide[at + 2], wide[at + 3]);
        let original = Endpoint { address: address(0).into(), port: u16::from_be_bytes(port) };
        let to_port = u16::from_be_bytes([wide[8], wide[9]]);
        (original, Endpoint { address: address(4).into(), port: to_port })
    };
    let (src, to_src) = end(&event.src, event.sport);
    let (dst, to_dst) = end(&event.dst, event.dport);
    let kind = if src == to_src { BindingKind::Destination } else { BindingKind::Source };
    NatChange::Began(Binding {
        id: event.flow_id,
        origin: Origin::Sluice,
        kind,
        proto: event.proto,
        src,
        dst,
        to_src,
        to_dst,
        rule: rule.into(),
        start_ms: at_ms,
    })
}

/// The end of a translated flow that was taken out of the table: its totals are final.
pub fn ended(record: &FlowRecord, reason: &'static str, at_ms: i64) -> NatChange {
    let Flow { id, packets, bytes, reply_packets, reply_bytes, .. } = record.flow;
    let totals = Totals { packets, bytes, reply_packets, reply_bytes };
    NatChange::Ended { origin: Origin::Sluice, id, totals, reason, at_ms }
}
