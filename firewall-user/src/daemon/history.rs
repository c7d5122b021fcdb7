//! The history's place in the daemon: opened from the configuration, fed with what the monitor sees.

use super::config::Config;
use crate::store::{Binding, History, Limits, Origin, Totals};
use std::io;

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
