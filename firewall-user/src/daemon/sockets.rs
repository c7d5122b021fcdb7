//! Following the machine's sockets: a thread of its own, and a handle on what it knows.
//!
//! The ring is drained on the thread's own clock: a wake-up by the kernel costs twenty times the event that it
//! is for.

mod attributes;
mod keys;
mod names;
mod rules;

use super::{
    destroy::{self, DestroyError},
    memory,
};
use crate::{
    datapath::{
        DatapathError,
        sockets::{SocketMonitor, drops::DropReading},
    },
    monitor::{By, Clock, Monitor, Place, SocketTable},
    owners::Owners,
    view::{SocketDropView, SocketDropsView, SocketStatsView, SocketView, SummaryView},
};
pub use attributes::AttributeTable;
use firewall_common::abi::{
    counter::EventCounter,
    socket::{Process, SOCKET_CLASSES, SocketClass, SocketRow},
};
use keys::key;
use names::NameReader;
use rules::Rules;
use std::{
    io,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::oneshot, time::timeout};

/// From one look into the ring to the next: it has room for four times what 100,000 events a second leave in
/// that time, and processes that live for less are few.
const DRAIN: Duration = Duration::from_millis(20);
/// After a look that took long, so many times its length passes before the next: whoever asks gets what is
/// there then, and never what was there before they asked.
const BREATH: u32 = 4;
/// From one look at all descriptors to the next if nobody asks.
const PERIOD: Duration = Duration::from_secs(60);
/// After events were lost.
const SOON: Duration = Duration::from_millis(500);
/// From a look at all descriptors (or the start) to when what it took for a moment is given back: by then who asked
/// has the answer, too.
const TIDY: Duration = Duration::from_secs(10);
/// The same where somebody asks all the time.
const TIDY_AT_LAST: Duration = Duration::from_secs(60);
/// Who asks waits so long at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// New processes that are looked at from one drain to the next: a reading takes some 50 microseconds. The others wait
/// for the next.
const LOOKS: usize = 200;
/// Looks into an empty ring from one reading of the counters to the next.
const COUNTERS: u32 = 25;
/// Events that are taken without a pause.
const BATCH: usize = 16_384;

#[derive(Debug, Default)]
struct State {
    table: SocketTable,
    owners: Owners,
    counters: [EventCounter; SOCKET_CLASSES],
    netns: u32,
    /// Judgements of the filter that nobody kept.
    judged_lost: u64,
    /// What can't be told, and why.
    limits: Vec<String>,
    /// What the stack dropped, as of the last look.
    drops: DropReading,
    /// The kernel's words for its reasons.
    reasons: Vec<String>,
    /// Why there are no rows at all.
    trouble: Option<String>,
}

/// A handle on what is known of the machine's sockets.
#[derive(Clone, Debug)]
pub struct Sockets {
    state: Arc<Mutex<State>>,
    asks: Sender<oneshot::Sender<()>>,
}

impl Sockets {
    /// Starts to follow; `model` knows what the filter judged; `names`: what sockets reach is named. Where the kernel
    /// doesn't let us, the handle says why.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(model: Arc<Mutex<Monitor>>, names: bool) -> io::Result<Self> {
        let (asks, asked) = channel();
        let netns = std::fs::metadata("/proc/self/ns/net").map_or(0, |meta| meta.ino() as u32);
        let state = Arc::new(Mutex::new(State { netns, ..State::default() }));
        let shared = state.clone();
        thread::Builder::new().name("sluice-sockets".to_owned()).spawn(move || {
            let mut rules = Rules::new(model);
            let outcome = SocketMonitor::start()
                .and_then(|monitor| follow(monitor, &shared, &asked, &mut rules, names));
            if let Err(error) = outcome {
                log::warn!("sockets aren't followed: {error}");
                lock(&shared).trouble = Some(error.to_string());
                // Who asks is answered: nothing is known.
                for answer in asked {
                    let _: Result<(), ()> = answer.send(());
                }
            }
        })?;
        Ok(Self { state, asks })
    }

    /// Waits until what is known is fresh.
    pub async fn refresh(&self) {
        let (answer, done) = oneshot::channel();
        if self.asks.send(answer).is_ok() {
            let _ = timeout(PATIENCE, done).await;
        }
    }

    /// The daemon's own network namespace: its inode.
    pub fn netns(&self) -> u32 {
        lock(&self.state).netns
    }

    /// Why there is nothing to show, if there isn't.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.state).trouble.clone()
    }

    /// What can't be told on this machine, in words.
    pub fn limits(&self) -> Vec<String> {
        let state = lock(&self.state);
        let trouble = state.trouble.iter().map(|why| format!("sockets aren't followed: {why}"));
        trouble
            .chain(state.limits.iter().map(|what| format!("sockets: not seen: {what}")))
            .collect()
    }

    /// Rows that `wanted` wants; of `ended` sockets, latest first, or of live ones.
    pub fn rows(&self, ended: bool, wanted: impl Fn(&SocketView) -> bool) -> Vec<SocketView> {
        let state = lock(&self.state);
        let place = Place { netns: state.netns, clock: now() };
        let named = |row| named(&state, row);
        if ended {
            state.table.ended(&place).map(named).filter(|row| wanted(row)).collect()
        } else {
            state.table.live(&place).map(named).filter(|row| wanted(row)).collect()
        }
    }

    /// Those that ended since `seen` of them had, and how many of them are lost: nobody looked for so long that
    /// they made room for later ones. `seen` is brought up to date.
    pub fn ended_since(&self, seen: &mut u64) -> (u64, Vec<SocketView>) {
        let state = lock(&self.state);
        let place = Place { netns: state.netns, clock: now() };
        let (lost, rows) = state.table.ended_since(seen, &place);
        (lost, rows.map(|row| named(&state, row)).collect())
    }

    /// Ends live sockets by their ids; those that couldn't be, with the reason. Waits for the kernel: not on a
    /// thread that serves.
    pub fn kill(&self, ids: &[u64]) -> Vec<(u64, String)> {
        let (rows, own) = {
            let state = lock(&self.state);
            let rows: Vec<(SocketRow, Vec<(u32, u32)>)> =
                ids.iter().filter_map(|id| state.table.held(*id)).collect();
            (rows, state.netns)
        };
        let mut outcomes = destroy::destroy(&rows, own);
        for id in ids {
            // Not in the table any more.
            outcomes.entry(*id).or_insert(Err(DestroyError::Gone));
        }
        let failed = |(id, outcome): (u64, Result<(), DestroyError>)| {
            outcome.err().map(|error| (id, error.to_string()))
        };
        outcomes.into_iter().filter_map(failed).collect()
    }

    /// Sockets by one thing, in no order.
    pub fn summary(&self, by: By) -> SummaryView {
        let state = lock(&self.state);
        let now = now().monotonic_ns;
        let mut view = state.table.summary(by, now, &|by, row| key(&state.owners, by, row));
        if by == By::Host {
            names::name_hosts(&state, &mut view, now);
        }
        view
    }

    /// Begins summaries anew: all, or one.
    pub fn reset_summary(&self, by: Option<By>) {
        lock(&self.state).table.reset_summary(by, now().monotonic_ns);
    }

    /// What the stack dropped, and what TCP sent again and reset.
    pub fn drops(&self) -> SocketDropsView {
        let state = lock(&self.state);
        let DropReading { counts, tcp } = &state.drops;
        let mut rows: Vec<SocketDropView> = counts
            .iter()
            .map(|(reason, count)| SocketDropView {
                reason: reason_name(&state.reasons, *reason),
                packets: count.packets,
                known: count.known,
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.packets));
        SocketDropsView {
            rows,
            retransmits: tcp.retransmits,
            resets_sent: tcp.resets_sent,
            resets_received: tcp.resets_received,
        }
    }

    /// What was told and lost.
    pub fn stats(&self) -> SocketStatsView {
        let state = lock(&self.state);
        let looks = state.owners.looks();
        SocketStatsView {
            owners_met: looks.met,
            owners_seen: looks.seen,
            owners_unseen: looks.unseen,
            owners_waiting: looks.waiting,
            owners_overflowed: looks.overflowed,
            owners_forgotten: state.owners.forgotten(),
            rules_lost: state.judged_lost,
            ..state.table.stats(&state.counters)
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(
    mut monitor: SocketMonitor,
    state: &Mutex<State>,
    asked: &Receiver<oneshot::Sender<()>>,
    rules: &mut Rules,
    names: bool,
) -> Result<(), DatapathError> {
    let mut names = NameReader::start(names, &mut lock(state));
    {
        let mut state = lock(state);
        state.limits.extend_from_slice(monitor.missing());
        state.reasons = monitor.drops().names().to_vec();
    }
    for what in monitor.missing() {
        log::warn!("sockets: not seen: {what}");
    }
    let mut lost = 0;
    let mut gap = false;
    let mut last: Option<(Instant, Duration)> = None;
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    // Since when, and when last, there was something to give back.
    let mut untidy = Some((Instant::now(), Instant::now()));
    let mut quiet = 0u32;
    loop {
        match asked.recv_timeout(if waiting.is_empty() { DRAIN } else { DRAIN / 4 }) {
            Ok(first) => waiting.extend(std::iter::once(first).chain(asked.try_iter())),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody can ask any more: the daemon ends.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let mut now_known = lock(state);
        let State { table, owners, .. } = &mut *now_known;
        let mut looks = LOOKS;
        owners.catch_up(&mut looks);
        let drained = monitor.drain(BATCH, |event| {
            // At once: a process may be gone when somebody asks.
            if event.class != SocketClass::Exited.raw() {
                owners.meet(&event.row.usage.owner, &mut looks);
            }
            table.event(event, &|by, row| key(owners, by, row));
        });
        // Behind the events: what was said before them is known by now.
        names.drain(table)?;
        // What is lost while the ring is empty is nothing: the kernel needn't be asked each time.
        quiet = if drained > 0 || !waiting.is_empty() { 0 } else { quiet + 1 };
        let counters =
            if quiet.is_multiple_of(COUNTERS) { monitor.counters()? } else { now_known.counters };
        now_known.counters = counters;
        rules.look(&mut now_known, false);
        drop(now_known);
        let lost_now: u64 = counters.iter().map(|counter| counter.lost).sum();
        gap |= lost_now != lost;
        lost = lost_now;
        let is_over = |(since, last): (Instant, Instant)| {
            last.elapsed() >= TIDY || since.elapsed() >= TIDY_AT_LAST
        };
        if untidy.is_some_and(is_over) {
            memory::give_back();
            untidy = None;
        }
        let due = |limit: Duration| last.is_none_or(|(ended, _)| ended.elapsed() >= limit);
        let breath = last.map_or(Duration::ZERO, |(_, took)| took * BREATH);
        if due(PERIOD) || (gap && due(SOON)) || (!waiting.is_empty() && due(breath)) {
            let start = Instant::now();
            // What is told from now on is newer than what is read.
            let since = now().monotonic_ns;
            let held = monitor.snapshot()?;
            let drops = monitor.drops().read()?;
            let took = start.elapsed();
            let mut now_known = lock(state);
            let State { table, owners, .. } = &mut *now_known;
            let keys = &|by, row: &SocketRow| key(owners, by, row);
            table.snapshot(&held, since, took.as_micros() as u64, gap, keys);
            names.drain(table)?;
            table.name_all();
            table.sample(since);
            // Whose end nobody told of: events were lost, or there was no room to watch for it.
            let absent = table.absent();
            absent
                .iter()
                .filter(|owner| Owners::is_gone(owner))
                .for_each(|o| table.exited(o, since));
            owners.catch_up_all();
            table.owners().for_each(|owner| owners.learn(owner));
            now_known.drops = drops;
            rules.look(&mut now_known, true);
            drop(now_known);
            last = Some((Instant::now(), took));
            let now = Instant::now();
            untidy = Some((untidy.map_or(now, |(since, _)| since), now));
            gap = false;
            for answer in waiting.drain(..) {
                let _: Result<(), ()> = answer.send(());
            }
        }
    }
}

/// A row with what is known of its owner, and the kernel's words.
fn named(state: &State, (mut row, owner): (SocketView, Process)) -> SocketView {
    if let Some(reason) = row.drop_reason.as_ref().and_then(|reason| reason.parse().ok()) {
        row.drop_reason = Some(reason_name(&state.reasons, reason));
    }
    if owner.tgid == 0 {
        return row;
    }
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    if let Some(owner) = state.owners.peek(&owner) {
        (row.exe, row.cmdline) = (text(&owner.exe), text(&owner.cmdline));
    }
    row.user = state.owners.user(&owner).map(|user| user.to_string());
    if let Some(place) = state.owners.place(&owner) {
        (row.unit, row.container) = (text(&place.unit), text(&place.container));
    }
    row
}

/// The kernel's word for a reason, or its number.
fn reason_name(names: &[String], reason: u32) -> String {
    let name = names.get(reason as usize).filter(|name| !name.is_empty());
    name.cloned().unwrap_or_else(|| format!("reason-{reason}"))
}

/// Now, on both clocks.
fn now() -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Clock {
        unix_ns: unix.as_nanos() as i64,
        monotonic_ns: monotonic.tv_sec as u64 * 1_000_000_000 + monotonic.tv_nsec as u64,
        ..Clock::default()
    }
}
