//! Following netfilter: a thread of its own, and a handle on what it knows.
//!
//! The thread never holds up anything: it reads what the kernel has ready, and who wants fresh rows
//! waits for the next dump no longer than [`REFRESH`].

use super::{
    binding::BindingEvent,
    entry::NetfilterEntry,
    error::FollowError,
    rows::{self, Shown},
    socket::{ANSWER, DumpSocket, EventSocket, Heard},
    sysctl::Settings,
    table::{DumpStep, NetfilterTable},
};
use crate::{
    filter::Filter,
    view::{NetfilterAccountView, NetfilterFlowView, NetfilterStatsView},
};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};

/// Who asks for fresh rows waits so long at most.
const REFRESH: Duration = Duration::from_secs(2);
/// After what can't be followed, the next attempt.
const RETRY: Duration = Duration::from_secs(10);
/// From one dump to the next if nobody asks and nothing is lost.
const PERIOD: Duration = Duration::from_secs(60);
/// From one dump to the next where events were lost, or entries may be gone.
const SOON: Duration = Duration::from_secs(1);
/// A dump that took long isn't repeated before this many times its length has passed.
const BREATH: u32 = 10;
/// Parts of events read before questions are looked at again.
const BATCH: usize = 512;

/// Whether to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// Where connection tracking is there and can be read.
    #[default]
    Auto,
    /// Yes: what stands in the way is a warning.
    Always,
    /// No.
    Never,
}

/// What is told of translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "handed over by value, and nearly always the large one"
)]
pub enum Told {
    /// One began or ended.
    Binding(BindingEvent),
    /// The whole table has been read: those that were told of are all that live.
    Whole,
}

/// Where translations that begin and end go. Called on the thread that follows, with nothing locked:
/// what takes long there makes the socket overrun.
pub type BindingSink = Box<dyn FnMut(Told) + Send>;

#[derive(Debug, Default)]
struct State {
    /// Why it isn't followed, if it isn't.
    trouble: Option<String>,
    settings: Settings,
    dump_time: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<NetfilterTable>,
    state: Mutex<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Ask = oneshot::Sender<()>;

/// A handle on what is known of netfilter's entries; cheap to clone. The thread ends with the last one.
#[derive(Clone, Debug)]
pub struct Netfilter {
    shared: Arc<Shared>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Netfilter {
    /// Begins to follow; `None` if it isn't wanted.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(follow: Follow, sink: BindingSink) -> io::Result<Option<Self>> {
        if follow == Follow::Never {
            return Ok(None);
        }
        let shared = Arc::new(Shared::default());
        let (asks, questions) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let follower = Follower { shared: shared.clone(), sink, follow, questions };
        thread::Builder::new()
            .name("sluice-netfilter".into())
            .spawn(move || runtime.block_on(follower.run()))?;
        Ok(Some(Self { shared, asks }))
    }

    /// Returns when the model is as fresh as the kernel's table is now, or after a while.
    pub async fn refresh(&self) {
        let (ask, answer) = oneshot::channel();
        if self.asks.send(ask).is_ok() {
            let _ = timeout(REFRESH, answer).await;
        }
    }

    /// What can't be seen, in plain words.
    pub fn limits(&self) -> Vec<String> {
        let state = lock(&self.shared.state);
        if let Some(trouble) = &state.trouble {
            return vec![format!("netfilter's connection tracking isn't followed: {trouble}")];
        }
        let mut limits = state.settings.limits();
        drop(state);
        let overruns = lock(&self.shared.table).counters().overruns;
        if overruns > 0 {
            limits.push(format!(
                "netfilter's events came faster than they could be read, {overruns} times: \
                 the table was read again each time, but short flows in between may be missing"
            ));
        }
        limits
    }

    /// Figures of following.
    pub fn stats(&self) -> NetfilterStatsView {
        let (following, dump_time) = {
            let state = lock(&self.shared.state);
            (state.trouble.is_none(), state.dump_time)
        };
        let table = lock(&self.shared.table);
        let counters = table.counters();
        NetfilterStatsView {
            following: following && counters.dumps > 0,
            flows: table.live_count(),
            nat_flows: table.translated(),
            began: counters.began,
            updated: counters.updated,
            ended: counters.ended,
            gone: counters.gone,
            overruns: counters.overruns,
            dumps: counters.dumps,
            dump_ms: u64::try_from(dump_time.as_millis()).unwrap_or(u64::MAX),
            malformed: counters.malformed,
        }
    }

    /// How many live entries match, and the first `limit` of them: those with the most bytes, then those
    /// whose source comes first.
    pub fn flows(&self, filter: Option<&Filter>, limit: usize) -> (usize, Vec<NetfilterFlowView>) {
        let now_ns = now_ns();
        let mut rows: Vec<Shown> = lock(&self.shared.table)
            .live()
            .map(|live| Shown::new(live, now_ns))
            .filter(|row| filter.is_none_or(|filter| filter.matches(row)))
            .collect();
        let total = rows.len();
        let order = |row: &Shown| {
            let entry = row.entry();
            let counters = entry.facts.counters.unwrap_or_default();
            let bytes = counters.orig.bytes.saturating_add(counters.reply.bytes);
            let orig = entry.key.orig;
            (std::cmp::Reverse(bytes), orig.src, orig.sport, orig.dst, orig.dport, entry.key.id)
        };
        if limit < rows.len() {
            rows.select_nth_unstable_by_key(limit, order);
            rows.truncate(limit);
        }
        rows.sort_unstable_by_key(order);
        (total, rows.iter().map(Shown::view).collect())
    }

    /// Hands over every live entry that is translated.
    pub fn translated(&self, mut each: impl FnMut(&NetfilterEntry)) {
        let table = lock(&self.shared.table);
        table.live().filter(|live| live.entry.nat().is_some()).for_each(|live| each(&live.entry));
    }

    /// Accounts of translated flows that have ended.
    pub fn accounts(&self) -> Vec<NetfilterAccountView> {
        let rows = lock(&self.shared.table).accounts().rows();
        rows.iter().map(rows::account).collect()
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

struct Follower {
    shared: Arc<Shared>,
    sink: BindingSink,
    follow: Follow,
    questions: mpsc::UnboundedReceiver<Ask>,
}

/// Why the loop over a pair of sockets ended.
enum End {
    /// Nobody holds a handle any more.
    Over,
    Broken(FollowError),
}

impl Follower {
    async fn run(mut self) {
        loop {
            let error = match self.session().await {
                End::Over => return,
                End::Broken(error) => error,
            };
            self.complain(&error);
            // Questions are answered with what there is.
            let retry = tokio::time::Instant::now() + RETRY;
            loop {
                tokio::select! {
                    question = self.questions.recv() => match question {
                        None => return,
                        Some(ask) => drop(ask.send(())),
                    },
                    () = sleep_until(retry) => break,
                }
            }
        }
    }

    /// Says once what is wrong.
    fn complain(&self, error: &FollowError) {
        let said = error.to_string();
        let mut state = lock(&self.shared.state);
        if state.trouble.as_ref() != Some(&said) {
            let level = match (self.follow, error) {
                (Follow::Always, _) => log::Level::Warn,
                (_, FollowError::Absent) => log::Level::Debug,
                _ => log::Level::Info,
            };
            log::log!(level, "netfilter's connection tracking isn't followed: {said}");
        }
        state.trouble = Some(said);
    }

    async fn session(&mut self) -> End {
        match self.follow_sockets().await {
            Ok(()) => End::Over,
            Err(error) => End::Broken(error),
        }
    }

    async fn follow_sockets(&mut self) -> Result<(), FollowError> {
        // Asking would load the module: not unless somebody wants that.
        if self.follow == Follow::Auto && Settings::read().count.is_none() {
            return Err(FollowError::Absent);
        }
        // Listening comes before the first dump: what begins in between is in both, not in neither.
        let socket = EventSocket::open()?;
        // SAFETY: the socket owns its descriptor and never changes it; `AsyncFd` owns the socket, and
        // takes the descriptor out of the poller before it drops it.
        let events = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| FollowError::waiting(error.into()))?;
        let mut dumps = DumpSocket::open()?;
        let mut buffer = vec![0; ANSWER];
        let mut next = self.dump(&mut dumps, &events, &mut buffer)?;
        lock(&self.shared.state).trouble = None;
        log::info!(
            "following netfilter's connection tracking: {} entries",
            lock(&self.shared.table).live_count()
        );
        let mut waiting: Vec<Ask> = Vec::new();
        loop {
            tokio::select! {
                question = self.questions.recv() => {
                    let Some(ask) = question else { return Ok(()) };
                    let due = self.earliest(next.last, Duration::ZERO);
                    if due > Instant::now() + REFRESH {
                        // Not in time: what there is has to do.
                        let _ = ask.send(());
                    } else {
                        waiting.push(ask);
                        next.at = next.at.min(due);
                    }
                }
                ready = events.readable() => {
                    let mut ready = ready.map_err(FollowError::waiting)?;
                    let (drained, overrun) = self.listen(&events, &mut buffer)?;
                    if drained {
                        ready.clear_ready();
                    }
                    if overrun {
                        next.at = next.at.min(self.earliest(next.last, SOON));
                    }
                }
                () = sleep_until(next.at.into()) => {
                    // Who asks while this dump is read waits for the next.
                    while let Ok(ask) = self.questions.try_recv() {
                        waiting.push(ask);
                    }
                    next = self.dump(&mut dumps, &events, &mut buffer)?;
                    for ask in waiting.drain(..) {
                        let _ = ask.send(());
                    }
                }
            }
        }
    }

    /// When the next dump may be made: one that takes long isn't repeated over and over.
    fn earliest(&self, last: Instant, at_least: Duration) -> Instant {
        last + at_least.max(lock(&self.shared.state).dump_time * BREATH)
    }

    /// Reads the whole table, then the events that came meanwhile.
    fn dump(
        &mut self,
        dumps: &mut DumpSocket,
        events: &AsyncFd<EventSocket>,
        buffer: &mut [u8],
    ) -> Result<Next, FollowError> {
        let began = Instant::now();
        dumps.ask()?;
        lock(&self.shared.table).begin_dump();
        loop {
            let length = dumps.receive(buffer)?;
            let step = lock(&self.shared.table).dumped(&buffer[..length], now_ns());
            match step {
                DumpStep::More => {}
                DumpStep::Done => break,
                DumpStep::Failed(errno) => {
                    return Err(FollowError::Refused(io::Error::from_raw_os_error(errno)));
                }
            }
        }
        let last = Instant::now();
        {
            let mut state = lock(&self.shared.state);
            state.dump_time = last - began;
            state.settings = Settings::read();
        }
        self.tell();
        (self.sink)(Told::Whole);
        let (mut overrun, mut drained) = (false, false);
        while !drained {
            let (nothing_left, lost) = self.listen(events, buffer)?;
            (drained, overrun) = (nothing_left || last.elapsed() > SOON, overrun || lost);
        }
        let soon = overrun || lock(&self.shared.table).in_doubt();
        let at = self.earliest(last, if soon { SOON } else { PERIOD });
        Ok(Next { at, last })
    }

    /// Takes what the event socket has, up to a batch: whether that was all, and whether events were
    /// lost.
    fn listen(
        &mut self,
        events: &AsyncFd<EventSocket>,
        buffer: &mut [u8],
    ) -> Result<(bool, bool), FollowError> {
        let mut overrun = false;
        for _ in 0..BATCH {
            match events.get_ref().receive(buffer)? {
                Heard::Bytes(length) => {
                    lock(&self.shared.table).events(&buffer[..length], now_ns());
                }
                Heard::Overrun => {
                    overrun = true;
                    lock(&self.shared.table).overrun();
                }
                Heard::Nothing => {
                    self.tell();
                    return Ok((true, overrun));
                }
            }
        }
        self.tell();
        Ok((false, overrun))
    }

    /// Hands translations on.
    fn tell(&mut self) {
        let bindings = lock(&self.shared.table).take_bindings();
        bindings.into_iter().map(Told::Binding).for_each(&mut self.sink);
    }
}

/// Dumps: the next and the last.
struct Next {
    at: Instant,
    last: Instant,
}
