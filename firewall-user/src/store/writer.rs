//! The thread that writes: collects records into transactions, keeps the file within its limits, and
//! sits out trouble.

use super::{
    Binding, BlockAssignment, Deed, Limits, Minutes, Origin, PastFlow, PastSocket, Totals,
    database,
    error::{OpenError, Remedy, remedy},
    now_ms,
    retention::{Keeper, file_bytes},
    stats::Counters,
    tables::{
        audit, minutes,
        names::Names,
        nat_bindings, nat_blocks,
        past::{Hours, Numbers},
        past_flows, past_sockets,
    },
};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// How long the writer sleeps where there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// First wait after an error; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait after an error.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How soon the writer sees that it is to stop.
const BLINK: Duration = Duration::from_millis(20);

/// What comes over the queue.
#[derive(Debug)]
pub(super) enum Message {
    /// A mapping began.
    Began(Box<Binding>),
    /// A mapping ended.
    Ended { origin: Origin, id: u64, totals: Totals, reason: &'static str, at_ms: i64 },
    /// Which mappings live.
    OnlyLive { origin: Origin, ids: Vec<u64>, at_ms: i64 },
    /// Which port blocks are in force.
    Blocks { blocks: Vec<BlockAssignment>, at_ms: i64 },
    /// Sockets ended.
    Sockets(Vec<PastSocket>),
    /// Flows ended.
    Flows(Vec<PastFlow>),
    /// What was counted in a minute, or a part of one.
    Minutes(Box<Minutes>),
    /// Somebody had something done.
    Deed(Box<Deed>),
    /// Write now, then answer.
    Flush(SyncSender<()>),
    /// Write what is left and end.
    Stop,
}

impl Message {
    /// How many records it holds.
    pub(super) fn records(&self) -> u64 {
        match self {
            Self::Sockets(all) => all.len() as u64,
            Self::Flows(all) => all.len() as u64,
            Self::Minutes(minutes) => (minutes.verdicts.len() + minutes.rules.len()) as u64,
            Self::Began(_)
            | Self::Ended { .. }
            | Self::OnlyLive { .. }
            | Self::Blocks { .. }
            | Self::Deed(_) => 1,
            Self::Flush(_) | Self::Stop => 0,
        }
    }
}

/// What a transaction did.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    completed: u64,
    unmatched: u64,
}

/// The file while it is open.
#[derive(Debug)]
struct Open {
    connection: Connection,
    /// Device and inode: somebody may put another file in its place.
    identity: (u64, u64),
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    limits: Limits,
    counters: Arc<Counters>,
    open: Option<Open>,
    names: Names,
    numbers: Numbers,
    keeper: Keeper,
    batch: Vec<Message>,
    /// Records in it.
    held: usize,
    waiting: Vec<SyncSender<()>>,
    files: u64,
}

impl Writer {
    pub(super) fn new(path: PathBuf, mut limits: Limits, counters: Arc<Counters>) -> Self {
        // A transaction must fit into the room that is kept for it, at some 200 bytes a row.
        let fitting = usize::try_from(limits.max_bytes >> 13).unwrap_or(usize::MAX);
        limits.batch = limits.batch.min(fitting).max(1);
        Self {
            path,
            limits,
            counters,
            open: None,
            names: Names::default(),
            numbers: Numbers::default(),
            keeper: Keeper::new(limits),
            batch: Vec::new(),
            held: 0,
            waiting: Vec::new(),
            files: 0,
        }
    }

    pub(super) fn run(mut self, work: &Receiver<Message>) {
        // Empty: opens the file, so that questions can be answered.
        self.write();
        loop {
            let go_on = self.collect(work);
            if !self.batch.is_empty() || self.open.is_none() {
                self.write();
            }
            for waiting in self.waiting.drain(..) {
                // Whoever has waited long enough is gone.
                let _ = waiting.try_send(());
            }
            if !go_on {
                // What was sent while we stopped.
                let late = work.try_iter().map(|message| message.records()).sum();
                self.counters.lost.fetch_add(late, Ordering::Relaxed);
                return;
            }
            self.look_round();
        }
    }

    /// Collects a batch; `false` at the end.
    fn collect(&mut self, work: &Receiver<Message>) -> bool {
        let due = self.open.is_some() && self.keeper.is_due();
        let mut until = Instant::now() + if due { Duration::ZERO } else { IDLE };
        while self.held < self.limits.batch {
            match work.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Flush(waiting)) => {
                    self.waiting.push(waiting);
                    return true;
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(message) => {
                    let records = message.records();
                    self.counters.queued.fetch_sub(records, Ordering::Relaxed);
                    if self.batch.is_empty() {
                        until = Instant::now() + self.limits.patience;
                    }
                    self.held += usize::try_from(records).unwrap_or(usize::MAX);
                    self.batch.push(message);
                }
                // Told to stop through a full queue: that is empty now.
                Err(RecvTimeoutError::Timeout) => return !self.stopping(),
            }
        }
        true
    }

    fn stopping(&self) -> bool {
        self.counters.stopping.load(Ordering::Relaxed)
    }

    /// Writes the batch, however long it takes, unless the daemon stops.
    fn write(&mut self) {
        let mut wait = FIRST_WAIT;
        let mut moved = false;
        loop {
            let error = match self.attempt() {
                Ok(tally) => {
                    self.count(&tally);
                    break;
                }
                Err(error) => error,
            };
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            self.names.forget();
            if !moved && self.moved_aside(&error) {
                moved = true;
                continue;
            }
            if self.open.is_some()
                && matches!(&error, OpenError::Sql(sql) if remedy(sql) == Remedy::GiveUp)
            {
                log::error!("history: {} records can't be written: {error}", self.held);
                self.lose_batch();
                break;
            }
            self.in_trouble(&error);
            if self.stopping() {
                self.lose_batch();
                break;
            }
            if self.batch.is_empty() {
                // Nothing hangs on it; `run` comes back.
                break;
            }
            let until = Instant::now() + wait;
            while Instant::now() < until && !self.stopping() {
                thread::sleep(BLINK);
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One transaction.
    fn attempt(&mut self) -> Result<Tally, OpenError> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let connection = database::open(&self.path)?;
                let identity = identity(&self.path)?;
                self.files += 1;
                self.counters.file.store(self.files, Ordering::Release);
                self.open.insert(Open { connection, identity })
            }
        };
        self.names.begin(now_ms());
        let gone = self.keeper.make_room(&mut open.connection)?;
        self.counters.deleted.fetch_add(gone as u64, Ordering::Relaxed);
        let mut tally = Tally::default();
        if !self.batch.is_empty() {
            let transaction =
                open.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut hours = Hours::default();
            let mut pen =
                Pen { names: &mut self.names, numbers: &mut self.numbers, hours: &mut hours };
            for message in &self.batch {
                apply(&transaction, &mut pen, message, &mut tally)?;
            }
            hours.write(&transaction)?;
            transaction.commit()?;
        }
        self.counters.bytes.store(file_bytes(&open.connection)?, Ordering::Relaxed);
        Ok(tally)
    }

    fn count(&mut self, tally: &Tally) {
        (self.batch, self.held) = (Vec::new(), 0);
        self.counters.written.fetch_add(tally.written, Ordering::Relaxed);
        self.counters.completed.fetch_add(tally.completed, Ordering::Relaxed);
        self.counters.unmatched.fetch_add(tally.unmatched, Ordering::Relaxed);
        if self.counters.set_trouble(None) {
            let lost = self.counters.lost.load(Ordering::Relaxed);
            log::info!(
                "history: {} is written again; {lost} records lost so far",
                self.path.display()
            );
        }
    }

    fn lose_batch(&mut self) {
        self.counters.lost.fetch_add(self.held as u64, Ordering::Relaxed);
        (self.batch, self.held) = (Vec::new(), 0);
    }

    /// Says once what is in the way.
    fn in_trouble(&mut self, error: &OpenError) {
        let trouble = format!("{}: {error}", self.path.display());
        if self.counters.set_trouble(Some(trouble.clone())) {
            log::error!(
                "history: {trouble}; tried again until it works, what doesn't fit into memory meanwhile is lost"
            );
        }
    }

    /// Moves a file aside that can't be used; whether that was done.
    fn moved_aside(&mut self, error: &OpenError) -> bool {
        let to = match (&self.open, error) {
            (None, error) => database::verdict(&self.path, error),
            (Some(_), OpenError::Sql(sql)) if remedy(sql) == Remedy::MoveAside => {
                Some((database::beside(&self.path, ".corrupt"), error.to_string()))
            }
            _ => None,
        };
        let Some((to, why)) = to else { return false };
        self.shut();
        match database::move_aside(&self.path, &to) {
            Ok(()) => {
                log::error!(
                    "history: {} can't be used ({why}); it was moved to {}, and a new history begins",
                    self.path.display(),
                    to.display()
                );
                true
            }
            Err(error) => {
                log::error!("history: can't move {} aside: {error}", self.path.display());
                false
            }
        }
    }

    fn shut(&mut self) {
        self.open = None;
        self.names.forget();
        self.counters.file.store(0, Ordering::Release);
    }

    /// Forgets what is too old, and sees whether the file is still there.
    fn look_round(&mut self) {
        let Some(open) = &mut self.open else { return };
        match self.keeper.look_round(&mut open.connection) {
            Ok(None) => {}
            Ok(Some(gone)) => {
                self.counters.deleted.fetch_add(gone as u64, Ordering::Relaxed);
                if let Ok(bytes) = file_bytes(&open.connection) {
                    self.counters.bytes.store(bytes, Ordering::Relaxed);
                }
                let identity = open.identity;
                if self::identity(&self.path).ok() != Some(identity) {
                    log::warn!(
                        "history: {} was moved away or replaced; begun anew",
                        self.path.display()
                    );
                    self.shut();
                }
            }
            Err(error) => {
                let error = OpenError::Sql(error);
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                if !self.moved_aside(&error) {
                    self.in_trouble(&error);
                    self.keeper.later();
                }
            }
        }
    }
}

/// What rows are written with.
struct Pen<'a> {
    names: &'a mut Names,
    numbers: &'a mut Numbers,
    hours: &'a mut Hours,
}

fn apply(
    connection: &Connection,
    Pen { names, numbers, hours }: &mut Pen<'_>,
    message: &Message,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    match message {
        Message::Began(binding) => {
            tally.written += u64::from(nat_bindings::begin(connection, names, binding)?);
        }
        Message::Ended { origin, id, totals, reason, at_ms } => {
            let found = nat_bindings::end(connection, names, *origin, *id, totals, reason, *at_ms)?;
            *(if found { &mut tally.completed } else { &mut tally.unmatched }) += 1;
        }
        Message::OnlyLive { origin, ids, at_ms } => {
            tally.completed +=
                nat_bindings::only_live(connection, names, *origin, ids, *at_ms)? as u64;
        }
        Message::Blocks { blocks, at_ms } => {
            let (begun, ended) = nat_blocks::replace(connection, names, blocks, *at_ms)?;
            tally.written += begun as u64;
            tally.completed += ended as u64;
        }
        Message::Sockets(all) => {
            for socket in all {
                past_sockets::insert(connection, names, numbers, hours, socket)?;
            }
            tally.written += all.len() as u64;
        }
        Message::Flows(all) => {
            for flow in all {
                past_flows::insert(connection, names, numbers, hours, flow)?;
            }
            tally.written += all.len() as u64;
        }
        Message::Minutes(both) => {
            for counted in &both.verdicts {
                minutes::add_verdict(connection, names, counted)?;
            }
            for counted in &both.rules {
                minutes::add_rule(connection, names, counted)?;
            }
            tally.written += message.records();
        }
        Message::Deed(deed) => {
            audit::insert(connection, names, numbers, deed)?;
            tally.written += 1;
        }
        // Never part of a batch.
        Message::Flush(_) | Message::Stop => {}
    }
    Ok(())
}
