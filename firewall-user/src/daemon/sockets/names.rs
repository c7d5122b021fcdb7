//! Reading names off the wire, where that is wanted.

use super::{COUNTERS, Sockets, State, lock, now};
use crate::{
    datapath::{DatapathError, observed::Observer},
    monitor::SocketTable,
    view::{NameView, SummaryView},
};

/// Messages that are taken without a pause.
const BATCH: usize = 4_096;

/// Batches of one look, at most: others wait for the lock.
const BATCHES: usize = 8;

/// What reads them; nothing, where names aren't wanted or can't be had.
#[derive(Default)]
pub(super) struct NameReader {
    observer: Option<Observer>,
    /// Looks that found nothing, since the last that did.
    quiet: u32,
}

impl NameReader {
    /// Begins, if it is `wanted`. Where that fails, sockets have no names, and the limits say why.
    pub fn start(wanted: bool, state: &mut State) -> Self {
        if !wanted {
            return Self::default();
        }
        match Observer::start() {
            Ok(observer) => {
                state.table.with_names();
                Self { observer: Some(observer), quiet: 0 }
            }
            Err(error) => {
                state.limits.push(format!("names of remote hosts: {error}"));
                Self::default()
            }
        }
    }

    /// Takes what was seen, and names the sockets that events told of.
    pub fn drain(&mut self, table: &mut SocketTable) -> Result<(), DatapathError> {
        let Some(observer) = &mut self.observer else { return Ok(()) };
        let mut drained = 0;
        // A socket is named once, so what was said before it began has to be read first, floods included.
        for _ in 0..BATCHES {
            let taken = observer.drain(BATCH, |seen, message| table.observe(seen, message));
            drained += taken;
            if taken < BATCH {
                break;
            }
        }
        self.quiet = if drained > 0 { 0 } else { self.quiet + 1 };
        if self.quiet.is_multiple_of(COUNTERS) {
            let counters = observer.counters()?;
            if let Some(names) = table.names_mut() {
                names.count(counters);
            }
        }
        table.name();
        Ok(())
    }
}

impl Sockets {
    /// Every name that an answer of DNS gave, in no order; `None`: they aren't read.
    pub fn names(&self) -> Option<Vec<NameView>> {
        let state = lock(&self.state);
        let clock = now();
        let time = |ns| crate::monitor::text::time(clock.monotonic_to_unix(ns));
        state.table.names().map(|names| names.rows(clock.monotonic_ns, time))
    }
}

/// Gives hosts of a summary the names that they have in the daemon's own network namespace now.
pub(super) fn name_hosts(state: &State, view: &mut SummaryView, now_ns: u64) {
    let Some(names) = state.table.names() else { return };
    for row in &mut view.rows {
        let name = row.key.parse().ok().and_then(|host| names.now(state.netns, host, now_ns));
        row.name = name.map(|name| name.to_string());
    }
}
