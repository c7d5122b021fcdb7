//! What sets need once a second: entries that have ended are taken out, tables get room before they are full, what has
//! changed is written down, and flows that were let in before are judged anew.

use super::{Desk, Inner, Known, Sets};
use crate::{daemon::control::Control, sets::Counts};
use firewall_common::abi::set::SetHead;
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

const TURN: Duration = Duration::from_secs(1);
/// Turns in which a large table is gone through.
const PARTS: u32 = 8;

/// What was seen of a set the last time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    turn: u32,
    added: u64,
    renewed: u64,
    refused: u64,
    /// Entries that were counted in the parts of a large table up to now.
    counted: Counts,
    /// Turns for which dead slots may be about.
    stirred: u32,
}

impl Watch {
    pub(super) fn of(head: &SetHead) -> Self {
        Self {
            added: head.added,
            renewed: head.renewed,
            refused: head.refused,
            stirred: 2 * PARTS,
            ..Self::default()
        }
    }

    /// Something was taken out.
    pub(super) fn stir(&mut self) {
        self.stirred = 2 * PARTS;
    }
}

/// Works until there is no core any more.
pub(super) async fn each_second(core: impl Fn() -> Option<Control>) {
    let mut interval = tokio::time::interval(TURN);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let Some(sets) = core().and_then(|control| control.0.sets.get().cloned()) else { return };
    let mut judged: Option<Instant> = None;
    loop {
        let asked = tokio::select! {
            _ = interval.tick() => false,
            () = sets.0.asked.notified() => true,
        };
        let Some(control) = core() else { return };
        if !asked {
            sets.look_after().await;
        }
        // Judging costs each flow's next packet: once a turn, however much changes.
        let rested = !asked || judged.is_none_or(|judged| judged.elapsed() >= TURN);
        if rested && sets.0.changed.swap(false, Relaxed) {
            judged = Some(Instant::now());
            if let Err(error) = control.rejudge().await {
                log::error!("flows aren't judged anew: {error}");
            }
        }
        drop(control);
        if !asked {
            sets.keep(false).await;
        }
    }
}

impl Sets {
    pub(super) async fn look_after(&self) {
        let done = self.with(|desk: &mut Desk, inner: &Inner| {
            for (name, known) in &mut desk.0 {
                look_after(name, known, inner);
            }
            Ok(())
        });
        // The core has stopped.
        let _ = done.await;
    }
}

fn look_after(name: &str, known: &mut Known, inner: &Inner) {
    let head = known.live.head();
    let of = known.limits();
    let watch = &mut known.watch;
    let added = head.added != watch.added;
    let renewed = head.renewed != watch.renewed;
    let refused = head.refused != watch.refused;
    (watch.added, watch.renewed, watch.refused) = (head.added, head.renewed, head.refused);
    if added || renewed {
        known.dirty = true;
        known.timed = true;
    }
    if added {
        inner.changed.store(true, Relaxed);
    }
    let mut counts = None;
    if known.timed || of.grows || watch.stirred > 0 {
        watch.stirred = watch.stirred.saturating_sub(1);
        match known.live.reap(watch.turn) {
            Ok((reaped, whole)) => {
                if reaped.ended > 0 {
                    watch.stir();
                    known.dirty = true;
                    inner.changed.store(true, Relaxed);
                }
                watch.turn = watch.turn.wrapping_add(1);
                watch.counted.four += reaped.live.four;
                watch.counted.six += reaped.live.six;
                if whole || watch.turn.is_multiple_of(PARTS) {
                    counts = Some(std::mem::take(&mut watch.counted));
                }
            }
            Err(error) => log::error!("set `{name}`: {error}"),
        }
    }
    if refused || counts.is_some() {
        match known.live.grow(&of, counts, refused) {
            Ok(true) => {
                let now = known.live.head();
                log::info!("set `{name}` has more room now: class {}", now.class);
            }
            Ok(false) => {}
            Err(error) => log::error!("set `{name}` gets no more room: {error}"),
        }
    }
}
