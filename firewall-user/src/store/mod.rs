//! What has been: an embedded database (SQLite) of what user space saw end.
//!
//! [`History`] is the handle. Writers hand over records and go on: one thread batches them into
//! transactions, and what doesn't fit into its queue is counted as lost. The database is bounded by
//! size and age. No trouble with it stops the daemon: a full disk is waited for, a file that is
//! broken is moved aside. Questions are answered on a second, read-only connection.
//!
//! Each kind of record has a file in [`tables`].

mod database;
mod error;
pub mod measure;
mod question;
mod retention;
mod stats;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod when;
pub mod who;
mod writer;

pub use error::StoreError;
pub use question::{Column, Condition, Past, Span, Wanted};
pub use stats::StoreStats;
pub use tables::{
    audit::Deed,
    minutes::{Minutes, RuleMinute, VerdictMinute},
    nat_bindings::{Binding, BindingFilter, BindingKind, BindingRow, Endpoint, Origin, Totals},
    nat_blocks::{BlockAssignment, BlockRow},
    past::{Dim, Sums},
    past_flows::PastFlow,
    past_sockets::PastSocket,
};
pub use who::{Who, WhoQuery};

use rusqlite::{Connection, ErrorCode};
use stats::Counters;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};
use writer::{Message, Writer};

/// How large and how old the history may get, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the database file.
    pub max_bytes: u64,
    /// Records that ended longer ago than this are forgotten, ms.
    pub max_age_ms: u64,
    /// Records that may wait for the writer.
    pub queue: usize,
    /// Records of one transaction.
    pub batch: usize,
    /// How long the first record of a transaction waits for more.
    pub patience: Duration,
    /// How often old records are looked for.
    pub round: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_age_ms: 30 * 86_400_000,
            queue: 65_536,
            batch: 16_384,
            patience: Duration::from_millis(500),
            round: Duration::from_secs(10),
        }
    }
}

/// Now, in ms since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long a question may take: others wait for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Steps of SQLite's machine from one look at the clock to the next: some milliseconds.
const STEPS: i32 = 100_000;

/// A connection that only reads, and which of the files at `path` it belongs to.
#[derive(Debug, Default)]
struct Reader {
    connection: Option<Connection>,
    file: u64,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    limits: Limits,
    messages: SyncSender<Message>,
    counters: Arc<Counters>,
    reader: Mutex<Reader>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The handle; cheap to clone. The records of the last batch are written when the last one goes.
#[derive(Clone, Debug)]
pub struct History(Arc<Inner>);

impl History {
    /// Starts the history in the file `path`, which is made if it isn't there.
    ///
    /// The file is opened by the writer's thread, again and again if need be; [`Self::stats`] tells
    /// what is in the way.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let (messages, work) = sync_channel(limits.queue);
        let writer = Writer::new(path.to_owned(), limits, counters.clone());
        let thread = thread::Builder::new()
            .name("sluice-history".into())
            .spawn(move || writer.run(&work))?;
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            limits,
            messages,
            counters,
            reader: Mutex::default(),
            writer: Mutex::new(Some(thread)),
        })))
    }

    /// A mapping came to be. Never waits. One that the history has as live already (told again by a
    /// new daemon) stays as it is.
    pub fn binding_began(&self, binding: Binding) {
        self.0.send(Message::Began(Box::new(binding)));
    }

    /// The mapping of flow `id` ended at `at_ms`. Never waits.
    pub fn binding_ended(
        &self,
        origin: Origin,
        id: u64,
        totals: Totals,
        reason: &'static str,
        at_ms: i64,
    ) {
        self.0.send(Message::Ended { origin, id, totals, reason, at_ms });
    }

    /// These, and no others, are the live mappings of `origin`: those that ended while nobody looked
    /// are ended now, with reason `unseen`. For a daemon that has just started.
    pub fn only_live(&self, origin: Origin, ids: Vec<u64>, at_ms: i64) {
        self.0.send(Message::OnlyLive { origin, ids, at_ms });
    }

    /// These, and no others, are the port blocks in force from `at_ms` on. Those that were in force
    /// before stay so, with their own beginning.
    pub fn blocks_in_force(&self, blocks: Vec<BlockAssignment>, at_ms: i64) {
        self.0.send(Message::Blocks { blocks, at_ms });
    }

    /// Sockets ended. Never waits: those that don't fit are counted as lost.
    pub fn sockets_ended(&self, sockets: Vec<PastSocket>) {
        for part in parts(sockets) {
            self.0.send(Message::Sockets(part));
        }
    }

    /// Flows ended. Never waits.
    pub fn flows_ended(&self, flows: Vec<PastFlow>) {
        for part in parts(flows) {
            self.0.send(Message::Flows(part));
        }
    }

    /// What was counted in a minute, or a part of it: added to what is there. Never waits.
    pub fn counted(&self, minutes: Minutes) {
        if minutes != Minutes::default() {
            self.0.send(Message::Minutes(Box::new(minutes)));
        }
    }

    /// Somebody had something done. Never waits.
    pub fn done(&self, deed: Deed) {
        self.0.send(Message::Deed(Box::new(deed)));
    }

    /// Counts records that were lost before they could be handed over.
    pub fn lost(&self, records: u64) {
        self.0.counters.lost.fetch_add(records, Ordering::Relaxed);
    }

    /// Waits until everything that was handed over before is written, for at most `patience`; whether
    /// it is.
    pub fn settle(&self, patience: Duration) -> bool {
        let (answer, answered) = sync_channel(1);
        self.0.messages.try_send(Message::Flush(answer)).is_ok()
            && answered.recv_timeout(patience).is_ok()
    }

    /// Who was behind a public endpoint.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn who(&self, query: &WhoQuery) -> Result<Who, StoreError> {
        self.0.read(|connection| who::who(connection, query))
    }

    /// Mappings, latest first.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn bindings(&self, filter: &BindingFilter) -> Result<Vec<BindingRow>, StoreError> {
        self.0.read(|connection| tables::nat_bindings::list(connection, filter))
    }

    /// Mappings in the time that the filter says, latest first; `each` says whether it wants more.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn each_binding(
        &self,
        filter: &BindingFilter,
        each: &mut dyn FnMut(BindingRow) -> bool,
    ) -> Result<(), StoreError> {
        self.0.read(|connection| tables::nat_bindings::each(connection, filter, each))
    }

    /// Sockets that ended in a span, latest first, that meet the condition; `each` says whether it wants more.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn sockets(
        &self,
        span: Span,
        condition: Option<&Condition>,
        each: &mut dyn FnMut(PastSocket) -> bool,
    ) -> Result<(), StoreError> {
        self.0.read(|connection| question::sockets(connection, span, condition, each))
    }

    /// Flows likewise.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn flows(
        &self,
        span: Span,
        condition: Option<&Condition>,
        each: &mut dyn FnMut(PastFlow) -> bool,
    ) -> Result<(), StoreError> {
        self.0.read(|connection| question::flows(connection, span, condition, each))
    }

    /// Rows of a span summed up by one thing, each with its key in words, in no order.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn sums(
        &self,
        table: Past,
        span: Span,
        condition: Option<&Condition>,
        by: Dim,
    ) -> Result<Vec<(String, Sums)>, StoreError> {
        self.0.read(|connection| question::sums(connection, table, span, condition, by))
    }

    /// Minutes of verdicts, latest first; `each` says whether it wants more.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn verdict_minutes(
        &self,
        span: Span,
        each: &mut dyn FnMut(VerdictMinute) -> bool,
    ) -> Result<(), StoreError> {
        self.0.read(|connection| tables::minutes::verdicts(connection, minutes(span), each))
    }

    /// Minutes of rules, latest first; `each` says whether it wants more.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn rule_minutes(
        &self,
        span: Span,
        each: &mut dyn FnMut(RuleMinute) -> bool,
    ) -> Result<(), StoreError> {
        self.0.read(|connection| tables::minutes::rules(connection, minutes(span), each))
    }

    /// What people had done, latest first; `each` says whether it wants more.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn deeds(&self, span: Span, each: &mut dyn FnMut(Deed) -> bool) -> Result<(), StoreError> {
        let span = (span.since_ms, span.until_ms);
        self.0.read(|connection| tables::audit::list(connection, span, each))
    }

    /// From when on nothing has been forgotten, ms since 1970.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn since(&self) -> Result<i64, StoreError> {
        self.0.read(|connection| Ok(tables::since(connection)?.unwrap_or_default()))
    }

    /// How it goes.
    pub fn stats(&self) -> StoreStats {
        self.0.counters.snapshot(&self.0.path, &self.0.limits)
    }

    /// Writes what is left and stops, for at most `patience`; whether it has stopped. What comes
    /// later is counted as lost.
    pub fn close(&self, patience: Duration) -> bool {
        let settled = self.settle(patience);
        self.0.stop();
        if settled {
            self.0.join();
        }
        settled
    }
}

/// Records of one message: all of them are lost, or none.
const PART: usize = 256;

/// Many records as messages' worth of them.
fn parts<T>(all: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<T> = all.by_ref().take(PART).collect();
        (!part.is_empty()).then_some(part)
    })
}

/// The minutes that a span touches.
fn minutes(span: Span) -> (i64, i64) {
    let minute = |ms: i64| ms.div_euclid(tables::minutes::MINUTE_MS);
    (minute(span.since_ms), minute(span.until_ms))
}

impl Inner {
    fn send(&self, message: Message) {
        let records = message.records();
        // First, as the writer may take it out before we come to count it.
        let before = self.counters.queued.fetch_add(records, Ordering::Relaxed);
        // One message may hold many records.
        let fits = before.saturating_add(records) <= self.limits.queue as u64;
        if !fits || self.messages.try_send(message).is_err() {
            self.counters.queued.fetch_sub(records, Ordering::Relaxed);
            self.counters.lost.fetch_add(records, Ordering::Relaxed);
        }
    }

    fn read<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.counters.file.load(Ordering::Acquire);
        if file == 0 {
            let trouble = self.counters.trouble();
            return Err(StoreError::NotOpen(
                trouble.unwrap_or_else(|| "it is being opened, ask again".into()),
            ));
        }
        if reader.file != file {
            *reader = Reader::default();
        }
        let mut connection = match reader.connection.take() {
            Some(connection) => connection,
            None => database::open_to_read(&self.path)?,
        };
        let begun = Instant::now();
        connection.progress_handler(STEPS, Some(move || begun.elapsed() > PATIENCE))?;
        let answer = question(&connection).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => StoreError::Slow(PATIENCE),
            _ => error.into(),
        })?;
        // After an error it is opened anew.
        *reader = Reader { connection: Some(connection), file };
        Ok(answer)
    }

    /// Tells the writer to stop. Its connection must be the last one to go: then the log is carried
    /// over to the file and removed.
    fn stop(&self) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Reader::default();
        self.counters.stopping.store(true, Ordering::Relaxed);
        // Where the queue is full the flag alone tells.
        let _ = self.messages.try_send(Message::Stop);
    }

    fn join(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            log::error!("history: its thread has panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}
