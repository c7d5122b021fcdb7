//! The one thread that owns the gate: drains the ring every 20 ms, sweeps a part of the flow table four
//! times a second, reads what changed in the tables every second, and does in between what others ask
//! for.

use super::{
    edit::{PatchJob, RuleEdit},
    gate::{Gate, GateError},
    whose::Whose,
};
use crate::{
    daemon::{
        bindings::Bindings,
        history::{self, NatChange},
        minutes::Books,
        past,
    },
    datapath::{programs::Ways, table::Kept},
    filter::Filter,
    monitor::{AlarmChange, FlowRecord, Monitor, NatInfo, NatReading, RuleInfo, Tick},
    policy::{Compiled, Slots},
    sets::Ground,
    store::{self, BlockAssignment, History, Minutes},
    view::{FlowView, IfaceView},
};
use firewall_common::{
    abi::{event::Event, flow::Flow, reason::Reason, table::TIMEOUTS},
    wire::Facts,
};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Between two looks at the ring. 8 MiB of ring hold some 60,000 events: 3 million a second.
const TURN: Duration = Duration::from_millis(20);
/// Between two looks at flows and counters.
const SCAN: Duration = Duration::from_secs(1);
/// Between two sweeps of a part of the table.
const SWEEP: Duration = Duration::from_millis(250);
/// How long at most the history's first look is waited for before flows are swept.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// Parts of the table: a flow past its time-out is seen within two seconds.
const SWEEP_PARTS: usize = 8;
/// Ticks that another CPU's clock may be behind ours.
const TICKS_APART: u64 = 2;
/// Between looks that somebody asked for there are so many times the length of a look: large tables
/// mustn't keep the thread from the ring.
const REST: u32 = 4;

/// A policy on its way to the kernel.
pub struct Install {
    /// Tables.
    pub compiled: Compiled,
    /// Names.
    pub slots: Slots,
    /// What it was compiled for.
    pub generation: u32,
    /// Who is meant by its rules by owner, if it has any.
    pub whose: Option<Whose>,
    /// The same for people.
    pub told: Told,
}

/// What people are told of a policy.
pub struct Told {
    /// Rules, the defaults last.
    pub rules: Vec<RuleInfo>,
    /// Translations.
    pub nats: Vec<NatInfo>,
    /// Port blocks by arithmetic, for the history.
    pub blocks: Vec<BlockAssignment>,
    /// Time-outs, milliseconds.
    pub timeouts: [u32; TIMEOUTS],
}

/// Flows to be taken out.
#[derive(Clone, Debug)]
pub struct Kill {
    /// Which.
    pub filter: Filter,
    /// Only look.
    pub dry_run: bool,
    /// Rows wanted.
    pub limit: usize,
}

/// A part of the flow table.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which, from 0.
    pub part: usize,
    /// Of how many.
    pub parts: usize,
    /// Only translated flows.
    pub translated: bool,
}

/// Flows that were taken out, or would be.
#[derive(Clone, Debug)]
pub struct Killed {
    /// How many.
    pub total: usize,
    /// The first of them.
    pub rows: Vec<FlowView>,
}

/// What is known of the gate at a moment.
#[derive(Clone, Debug)]
pub struct GateFacts {
    /// Whether a running filter was taken over.
    pub adopted: bool,
    /// Live generation: what judgements carry that are of today.
    pub generation: u32,
    /// The generation that the live policy was when it was installed.
    pub installed: u32,
    /// Names and their slots.
    pub slots: Slots,
    /// Interfaces that take part.
    pub interfaces: Vec<IfaceView>,
    /// Our programs, and the ways past the stack.
    pub ways: Ways,
    /// What can't be seen or done.
    pub limits: Vec<String>,
    /// Where the filter is pinned, if twins of it can be loaded.
    pub pinned: Option<PathBuf>,
    /// Where live sets stand.
    pub sets: Option<Arc<dyn Ground>>,
}

/// A live flow: its row, and what a twin needs of it.
pub struct Found {
    /// As people see it.
    pub row: FlowView,
    /// As the kernel has it.
    pub flow: Flow,
    /// To be entered into a twin.
    pub kept: Kept,
}

/// A request with the place for its answer.
pub enum Job {
    /// Make a policy live.
    Install(Box<Install>, oneshot::Sender<Result<u32, GateError>>),
    /// Change the live policy's tables where they stand.
    Patch(Box<PatchJob>, oneshot::Sender<Result<u32, GateError>>),
    /// A policy is live already: tell the model.
    Announce(Box<Told>, Option<Box<Whose>>),
    /// Filter one more interface.
    Attach(String, &'static str, oneshot::Sender<Result<(), GateError>>),
    /// Filter one less.
    Detach(String, oneshot::Sender<Result<(), GateError>>),
    /// Take flows out.
    Kill(Kill, oneshot::Sender<Result<Killed, GateError>>),
    /// Read a part of the flow table.
    Part(Part, oneshot::Sender<Vec<FlowRecord>>),
    /// Look for the flow that a packet belongs to.
    Find(Box<Facts>, oneshot::Sender<Option<Box<Found>>>),
    /// Read the accounts of translations.
    NatReading(oneshot::Sender<NatReading>),
    /// Set counters to zero.
    ResetCounters(oneshot::Sender<Result<(), GateError>>),
    /// Look at flows and counters now, and say when it's done.
    Refresh(oneshot::Sender<()>),
    /// Judge anew what was let in.
    Rejudge(oneshot::Sender<Result<(), GateError>>),
    /// Say how things are.
    Facts(oneshot::Sender<Result<GateFacts, GateError>>),
    /// End the thread; the filter stays.
    Stop,
}

/// The thread's state.
pub struct Actor {
    gate: Box<dyn Gate>,
    monitor: Arc<Mutex<Monitor>>,
    ticks: SyncSender<Tick>,
    beat: Arc<AtomicU64>,
    started: Instant,
    next_scan: Instant,
    next_sweep: Instant,
    /// Tick before the last look at flows.
    seen: u64,
    /// No look at flows and counters before this.
    rested: Instant,
    /// Who waits for one.
    waiting: Vec<oneshot::Sender<()>>,
    events: Vec<Event>,
    /// Who is meant by the live rules by owner.
    whose: Option<Whose>,
    /// Where mappings are written down.
    history: Option<History>,
    /// Those that are. Only once a policy is known: it says what kind a mapping is of.
    bindings: Bindings,
    /// Events of the time before.
    early: Option<Vec<Event>>,
    /// What is counted in each minute.
    books: Books,
    /// What went wrong at the last scan: said once, not every second.
    trouble: Option<String>,
}

impl Actor {
    /// An actor over `gate` that feeds `monitor`, sends ticks, and leaves the time of its last turn
    /// (milliseconds since `started`) in `beat`.
    pub fn new(
        gate: Box<dyn Gate>,
        monitor: Arc<Mutex<Monitor>>,
        ticks: SyncSender<Tick>,
        beat: Arc<AtomicU64>,
        started: Instant,
        history: Option<History>,
    ) -> Self {
        let mut books = Books::default();
        if !gate.adopted() {
            books.begins_at_zero();
        }
        if history.is_some() {
            lock(&monitor).keep_past();
        }
        let actor = Self {
            gate,
            monitor,
            ticks,
            beat,
            started,
            next_scan: started,
            next_sweep: started,
            seen: 0,
            rested: started,
            waiting: Vec::new(),
            events: Vec::new(),
            whose: None,
            history,
            bindings: Bindings::default(),
            early: Some(Vec::new()),
            books,
            trouble: None,
        };
        actor.tell_names();
        actor.meet_a_tick();
        actor
    }

    /// Reads the clocks until a tick changes: so the model knows from the start when ticks do.
    fn meet_a_tick(&self) {
        let (begun, first) = (Instant::now(), self.gate.clock());
        while begun.elapsed() < TURN {
            let clock = self.gate.clock();
            lock(&self.monitor).calibrate(clock);
            if clock.ticks != first.ticks {
                return;
            }
        }
    }

    /// Works until told to stop, or nobody is left to tell.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        self.follow(jobs);
        if let Some(history) = &self.history {
            if let Ok(counters) = self.gate.counters() {
                history.counted(self.books.read(&counters, self.gate.clock().unix_ns));
            }
            history.counted(self.books.close());
            let past = lock(&self.monitor).take_past(true);
            history.flows_ended(past.into_iter().map(past::flow).collect());
        }
    }

    fn follow(&mut self, jobs: &Receiver<Job>) {
        loop {
            let begun = Instant::now();
            if self.turn(begun).is_err() {
                return;
            }
            loop {
                let left = TURN.saturating_sub(begun.elapsed());
                match jobs.recv_timeout(left) {
                    Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(job) => self.work(job),
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
        }
    }

    /// One turn; an error if nobody takes ticks any more.
    fn turn(&mut self, now: Instant) -> Result<(), ()> {
        let beat = now.saturating_duration_since(self.started).as_millis();
        self.beat.store(u64::try_from(beat).unwrap_or(u64::MAX), Ordering::Relaxed);
        let events = &mut self.events;
        events.clear();
        self.gate.drain(&mut |event| events.push(*event));
        let scan = now >= self.next_scan;
        // Everything is read before the model is locked: whoever reads it doesn't wait for the kernel.
        let swept = (now >= self.next_sweep && self.may_sweep(now)).then(|| {
            self.next_sweep = now + SWEEP;
            self.gate.sweep(SWEEP_PARTS)
        });
        let whole = scan && (lock(&self.monitor).wants_whole() || self.wants_whole());
        if self.gate.interfaces_changed() || scan {
            self.gate.follow();
        }
        let mut trouble = None;
        if scan && let Some(whose) = &mut self.whose {
            let refreshed = self.gate.refresh_owners(&mut || whose.refresh());
            trouble = refreshed.err().map(|error| format!("rules by owner: {error}"));
        }
        let read = scan.then(|| {
            self.next_scan = now + SCAN;
            let since = (!whole).then_some(self.seen.saturating_sub(TICKS_APART));
            self.seen = self.gate.clock().ticks;
            (self.gate.flows(since), self.gate.counters())
        });
        if scan {
            // What was produced before the counters were read is in the ring: else it would seem lost until the
            // next turn.
            let events = &mut self.events;
            self.gate.drain(&mut |event| events.push(*event));
            self.rested = Instant::now() + now.elapsed() * REST;
        }
        let clock = self.gate.clock();
        let mut changes = Vec::new();
        let mut counted = Minutes::default();
        let mut monitor = lock(&self.monitor);
        monitor.begin(clock);
        let clock = monitor.now();
        for event in &self.events {
            match &mut self.early {
                _ if self.history.is_none() => {}
                Some(early) => early.push(*event),
                None => changes.extend(self.bindings.event(event, &monitor, &clock)),
            }
            monitor.event(event);
        }
        match swept {
            Some(Ok(expired)) => {
                monitor.swept(&expired);
                changes.extend(self.bindings.taken_out(&expired, Reason::TimedOut, &clock));
            }
            Some(Err(error)) => trouble = Some(error.to_string()),
            None => {}
        }
        if let Some((flows, counters)) = read {
            // An interface that went and came back has another index.
            for iface in self.gate.interfaces() {
                monitor.names_mut().set_iface_index(iface.ifindex, &iface.name);
            }
            match flows {
                Ok(flows) => {
                    if self.history.is_some() && self.early.is_none() {
                        changes.extend(self.bindings.seen(&flows, whole, &monitor, &clock));
                    }
                    if whole {
                        monitor.scan(&flows);
                    } else {
                        monitor.changed(&flows);
                    }
                }
                Err(error) => trouble = Some(error.to_string()),
            }
            match counters {
                Ok(counters) => {
                    monitor.counters(&counters);
                    counted = self.books.read(&counters, clock.unix_ns);
                }
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        let tick = monitor.finish();
        let past = monitor.take_past(false);
        drop(monitor);
        history::record(self.history.as_ref(), changes);
        if let Some(history) = &self.history {
            history.flows_ended(past.into_iter().map(past::flow).collect());
            history.counted(counted);
        }
        tick.alarms.iter().for_each(say);
        if scan {
            for answer in self.waiting.drain(..) {
                let _ = answer.send(());
            }
        }
        if scan && trouble != self.trouble {
            if let Some(trouble) = &trouble {
                log::error!("reading the kernel's tables: {trouble}");
            }
            self.trouble = trouble;
        }
        if tick.is_empty() && !scan { Ok(()) } else { self.ticks.send(tick).map_err(|_| ()) }
    }

    fn work(&mut self, job: Job) {
        // Whoever asked may have gone; the work is done all the same.
        match job {
            Job::Install(install, answer) => {
                let Install { compiled, slots, generation, mut whose, told } = *install;
                let owners = whose.as_mut().map(Whose::policy).transpose();
                let result =
                    owners.map_err(|error| GateError(error.to_string())).and_then(|owners| {
                        self.gate.install(&compiled, &slots, generation, owners.as_ref())
                    });
                if let Ok(generation) = &result {
                    self.whose = whose;
                    {
                        let mut monitor = lock(&self.monitor);
                        for (slot, owner) in slots.ifaces() {
                            monitor.names_mut().set_iface_slot(slot, &owner.name);
                        }
                    }
                    // Rules' names are told with them.
                    self.announce(*generation, told);
                }
                let _ = answer.send(result);
                if let Err(error) = self.gate.settle() {
                    log::error!("{error}");
                }
            }
            Job::Patch(job, answer) => {
                let PatchJob { patch, generation, edit } = *job;
                let joins = edit.as_ref().and_then(|edit| edit.joins.as_ref());
                let named = joins.map(|rule| (rule.slot, rule.name.as_str()));
                let result = self.gate.patch(&patch, generation, named);
                if let (Ok(generation), Some(RuleEdit { index, joins })) = (&result, edit) {
                    self.books.rules(joins.as_slice());
                    lock(&self.monitor).policy_edited(*generation, index, joins);
                }
                let _ = answer.send(result);
            }
            Job::Announce(told, whose) => {
                self.whose = whose.map(|whose| *whose);
                if let Some(Err(error)) = self.whose.as_mut().map(Whose::resume) {
                    log::error!("rules by owner: {error}");
                }
                self.announce(self.gate.installed(), *told);
            }
            Job::Part(Part { part, parts, translated }, answer) => {
                let _ = answer.send(self.gate.part(part, parts, translated));
            }
            Job::Find(facts, answer) => {
                let found = self.gate.find(&facts).map(|(record, kept)| {
                    let mut monitor = lock(&self.monitor);
                    monitor.calibrate(self.gate.clock());
                    let row = monitor.lens().row(&record, None);
                    Box::new(Found { row, flow: record.flow, kept })
                });
                let _ = answer.send(found);
            }
            Job::NatReading(answer) => {
                let _ = answer.send(self.gate.nat_reading());
            }
            Job::Attach(name, mode, answer) => {
                let result = self.gate.attach(&name, mode);
                self.tell_names();
                let _ = answer.send(result);
            }
            Job::Detach(name, answer) => {
                let _ = answer.send(self.gate.detach(&name));
            }
            Job::Kill(kill, answer) => {
                let _ = answer.send(self.kill(&kill));
            }
            Job::ResetCounters(answer) => {
                // What was counted up to now is of this minute.
                if let Ok(counters) = self.gate.counters() {
                    let counted = self.books.read(&counters, self.gate.clock().unix_ns);
                    self.history.iter().for_each(|history| history.counted(counted.clone()));
                }
                let result = self.gate.reset_counters();
                if result.is_ok() {
                    lock(&self.monitor).counters_reset();
                    self.next_scan = Instant::now();
                }
                let _ = answer.send(result);
            }
            Job::Refresh(answer) => {
                self.waiting.push(answer);
                self.next_scan = self.next_scan.min(self.rested.max(Instant::now()));
            }
            Job::Rejudge(answer) => {
                let _ = answer.send(self.gate.rejudge());
            }
            Job::Facts(answer) => {
                let _ = answer.send(self.gate.slots().map(|slots| {
                    GateFacts {
                        adopted: self.gate.adopted(),
                        generation: self.gate.generation(),
                        installed: self.gate.installed(),
                        slots,
                        interfaces: self.gate.interfaces(),
                        ways: self.gate.ways(),
                        limits: self
                            .gate
                            .limits()
                            .into_iter()
                            .chain(self.whose.iter().flat_map(Whose::unknown))
                            .collect(),
                        pinned: self.gate.pinned(),
                        sets: self.gate.sets(),
                    }
                }));
            }
            Job::Stop => {}
        }
    }

    fn kill(&mut self, kill: &Kill) -> Result<Killed, GateError> {
        // Seen through a copy of what rows are made with: whoever reads the model doesn't wait.
        let lens = {
            let mut monitor = lock(&self.monitor);
            monitor.calibrate(self.gate.clock());
            monitor.lens()
        };
        let mut matches = |record: &FlowRecord| kill.filter.matches(&lens.row(record, None));
        let (flows, ended) = if kill.dry_run {
            let mut flows = self.gate.flows(None)?;
            flows.retain(&mut matches);
            (flows, None)
        } else {
            let flows = self.gate.kill(&mut matches)?;
            lock(&self.monitor).killed(&flows);
            let clock = lock(&self.monitor).now();
            let ends = self.bindings.taken_out(&flows, Reason::Killed, &clock);
            history::record(self.history.as_ref(), ends);
            (flows, Some(Reason::Killed))
        };
        let rows = flows.iter().take(kill.limit).map(|flow| lens.row(flow, ended)).collect();
        Ok(Killed { total: flows.len(), rows })
    }

    /// Whether the history waits for a look at everything.
    fn wants_whole(&self) -> bool {
        self.history.is_some() && self.early.is_none() && self.bindings.in_doubt()
    }

    /// Whether flows may be taken out. Not before the history has looked at all of them: those that ended while no daemon
    /// ran would be gone without their totals.
    fn may_sweep(&self, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.started);
        self.history.is_none() || self.bindings.has_looked() || waited > LOOK_WITHIN
    }

    /// A policy is live: tells the model and the history.
    fn announce(&mut self, generation: u32, told: Told) {
        let Told { rules, nats, blocks, timeouts } = told;
        self.books.rules(&rules);
        let mut changes = vec![NatChange::Blocks { blocks, at_ms: store::now_ms() }];
        {
            let mut monitor = lock(&self.monitor);
            monitor.policy(generation, rules, nats, timeouts);
            let clock = monitor.now();
            for event in self.early.take().into_iter().flatten() {
                changes.extend(self.bindings.event(&event, &monitor, &clock));
            }
        }
        history::record(self.history.as_ref(), changes);
    }

    fn tell_names(&self) {
        let slots = match self.gate.slots() {
            Ok(slots) => slots,
            Err(error) => return log::error!("names of rules and interfaces: {error}"),
        };
        let mut monitor = lock(&self.monitor);
        let names = monitor.names_mut();
        for (slot, owner) in slots.rules() {
            names.set_rule(slot, &owner.name);
        }
        for (slot, owner) in slots.ifaces() {
            names.set_iface_slot(slot, &owner.name);
        }
        for iface in self.gate.interfaces() {
            names.set_iface_index(iface.ifindex, &iface.name);
        }
    }
}

/// Says in the log what began or ceased to be wrong.
fn say(change: &AlarmChange) {
    match change {
        AlarmChange::Raised(alarm) => log::warn!("{}", alarm.text),
        AlarmChange::Cleared(alarm) => log::info!("over: {}", alarm.text),
    }
}

fn lock(monitor: &Mutex<Monitor>) -> MutexGuard<'_, Monitor> {
    monitor.lock().unwrap_or_else(PoisonError::into_inner)
}
