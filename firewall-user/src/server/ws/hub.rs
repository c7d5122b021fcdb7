//! From the model's ticks to everybody who subscribed.
//!
//! Subscriptions with the same stream and filter form a *class*: its filter runs once a tick and its
//! message is encoded once. A client whose outbox is full misses the message; what that means is the
//! stream's matter: events are counted and told as `lost`, state is caught up in one `delta` as soon
//! as the outbox has drained, from the versions the model keeps.

use super::{
    frames::{self, Body, Row},
    message::{Id, Reply, Resume, Stream},
    outbox::Outbox,
};
use crate::{
    filter::Filter,
    monitor::{Monitor, Tick},
    server::{error::ApiError, query},
    view::{EventView, FlowView, RuleView, StatsView},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Events in the snapshot of a new subscription.
const SNAPSHOT_EVENTS: usize = 100;
/// Flows in a snapshot: the most recently used ones.
const SNAPSHOT_FLOWS: usize = 20_000;
/// Subscriptions a session may have.
pub const MAX_SUBSCRIPTIONS: usize = 32;

/// Numbers missed by one subscriber.
#[derive(Clone, Copy, Debug)]
struct Missed {
    from: u64,
    to: u64,
    n: u64,
}

impl Missed {
    fn add(slot: &mut Option<Self>, from: u64, to: u64, n: u64) {
        match slot {
            Some(missed) => {
                missed.to = to;
                missed.n += n;
            }
            None => *slot = Some(Self { from, to, n }),
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    session: u64,
    id: Id,
    outbox: Arc<Outbox>,
    /// The stream's sequence number up to which this client has (or was told it misses) everything.
    seq: u64,
    /// State streams: a message didn't fit.
    behind: bool,
    /// Events that didn't fit.
    missed: Option<Missed>,
    /// Kernel losses not told yet, by class.
    kernel: [Option<Missed>; firewall_common::abi::event::CLASSES],
}

impl Subscriber {
    fn unsaid(&self) -> bool {
        self.missed.is_some() || self.kernel.iter().any(Option::is_some)
    }

    /// What was lost, as messages.
    fn losses(&self) -> Vec<Utf8Bytes> {
        let lost = |missed: &Missed, class| {
            Reply::Lost { id: &self.id, from: missed.from, to: missed.to, n: missed.n, class }
                .encode()
        };
        let classes = firewall_common::abi::event::Class::ALL;
        let own = self.missed.iter().map(|missed| lost(missed, None));
        own.chain(
            self.kernel
                .iter()
                .zip(classes)
                .filter_map(|(missed, class)| Some(lost(missed.as_ref()?, Some(class.name())))),
        )
        .collect()
    }

    fn said(&mut self) {
        self.missed = None;
        self.kernel = Default::default();
    }
}

#[derive(Debug, Default)]
struct Class {
    filter: Option<Filter>,
    /// Flows: ids that match now.
    known: HashSet<String>,
    subscribers: Vec<Subscriber>,
}

impl Class {
    fn matches<T: crate::filter::Subject>(&self, row: &T) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(row))
    }
}

type Classes = HashMap<(Stream, String), Class>;

/// The switchboard. See the module.
#[derive(Debug)]
pub struct Hub {
    monitor: Arc<Mutex<Monitor>>,
    epoch: String,
    classes: Mutex<Classes>,
}

impl Hub {
    /// A hub over `monitor`; `epoch` names this life of the daemon.
    pub fn new(monitor: Arc<Mutex<Monitor>>, epoch: String) -> Self {
        lock(&monitor).set_watched(false);
        Self { monitor, epoch, classes: Mutex::default() }
    }

    /// This life of the daemon.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Begins a subscription: the snapshot (or what was missed since `resume`) goes to the outbox, and
    /// every later tick after it.
    ///
    /// # Errors
    /// The filter can't be used, the id is taken, or the session has too many.
    pub fn subscribe(
        &self,
        session: u64,
        outbox: &Arc<Outbox>,
        id: &Id,
        stream: Stream,
        filter: Option<&str>,
        resume: Option<&Resume>,
    ) -> Result<(), ApiError> {
        let text = filter.unwrap_or("").trim();
        let filter = match stream {
            Stream::Flows => query::filter::<FlowView>(text)?,
            Stream::Events => query::filter::<EventView>(text)?,
            Stream::Rules => query::filter::<RuleView>(text)?,
            Stream::Stats if text.is_empty() => None,
            Stream::Stats => return Err(ApiError::bad_request("the stats stream takes no filter")),
        };
        let mut classes = self.lock();
        let mine = || {
            classes
                .values()
                .flat_map(|class| &class.subscribers)
                .filter(|other| other.session == session)
        };
        if mine().any(|other| other.id == *id) {
            return Err(ApiError::bad_request(
                "this id is taken by another subscription: unsubscribe it first",
            ));
        }
        if mine().count() >= MAX_SUBSCRIPTIONS {
            return Err(ApiError::bad_request(format!(
                "a connection may have {MAX_SUBSCRIPTIONS} subscriptions"
            )));
        }
        let key = (stream, text.to_owned());
        let fresh = !classes.contains_key(&key);
        let class = classes.entry(key).or_insert_with(|| Class { filter, ..Class::default() });
        let mut monitor = lock(&self.monitor);
        if matches!(stream, Stream::Flows | Stream::Events) {
            monitor.set_watched(true);
        }
        if fresh && stream == Stream::Flows {
            class.known =
                monitor.flows().filter(|flow| class.matches(flow)).map(|flow| flow.id).collect();
        }
        let mut subscriber = Subscriber {
            session,
            id: id.clone(),
            outbox: outbox.clone(),
            seq: 0,
            behind: false,
            missed: None,
            kernel: Default::default(),
        };
        let resumed = match resume {
            None => None,
            Some(resume) if resume.epoch != self.epoch => {
                outbox.insist(Reply::Reset { id, reason: "epoch" }.encode());
                None
            }
            Some(resume) => {
                let since = since(&monitor, class, stream, resume.seq);
                if since.is_none() && stream != Stream::Stats {
                    outbox.insist(Reply::Reset { id, reason: "too-old" }.encode());
                }
                since
            }
        };
        let message = match resumed {
            Some((seq, body)) => {
                subscriber.seq = seq;
                frames::delta(id, &body)
            }
            None => {
                let (seq, body) = snapshot(&monitor, class, stream);
                subscriber.seq = seq;
                frames::snapshot(id, stream, &self.epoch, &body)
            }
        };
        outbox.insist(message);
        class.subscribers.push(subscriber);
        Ok(())
    }

    /// Ends a subscription; whether there was one.
    pub fn unsubscribe(&self, session: u64, id: &Id) -> bool {
        let mut found = false;
        let mut classes = self.lock();
        classes.retain(|_, class| {
            let before = class.subscribers.len();
            class.subscribers.retain(|other| other.session != session || other.id != *id);
            found |= class.subscribers.len() != before;
            !class.subscribers.is_empty()
        });
        self.look_away(&classes);
        found
    }

    /// Ends all of a session's subscriptions.
    pub fn leave(&self, session: u64) {
        let mut classes = self.lock();
        classes.retain(|_, class| {
            class.subscribers.retain(|other| other.session != session);
            !class.subscribers.is_empty()
        });
        self.look_away(&classes);
    }

    /// Spares the model the rows that nobody follows any more.
    fn look_away(&self, classes: &Classes) {
        if !classes.keys().any(|(stream, _)| matches!(stream, Stream::Flows | Stream::Events)) {
            lock(&self.monitor).set_watched(false);
        }
    }

    /// Tells everybody what changed. Called for empty ticks as well, so that whoever was behind is
    /// caught up.
    pub fn publish(&self, tick: &Tick) {
        let mut classes = self.lock();
        if classes.is_empty() {
            return;
        }
        let events: Vec<Row<EventView>> = tick.events.iter().cloned().map(Row::new).collect();
        let flows: Vec<Row<FlowView>> =
            tick.flows.iter().flat_map(|flows| &flows.upsert).cloned().map(Row::new).collect();
        let rules: Vec<Row<RuleView>> =
            tick.rules.iter().flat_map(|(_, rules)| rules).cloned().map(Row::new).collect();
        let stats: Option<Row<StatsView>> =
            tick.stats.as_ref().map(|(_, stats)| Row::new(stats.clone()));
        for ((stream, _), class) in classes.iter_mut() {
            match stream {
                Stream::Events => publish_events(tick, &events, class),
                Stream::Flows => {
                    let body = tick.flows.as_ref().and_then(|changes| {
                        let mut upsert = Vec::new();
                        let mut remove: Vec<String> = Vec::new();
                        for row in &flows {
                            if class.matches(&*row.value) {
                                class.known.insert(row.value.id.clone());
                                upsert.push(row.json());
                            } else if class.known.remove(&row.value.id) {
                                remove.push(frames::json(&row.value.id));
                            }
                        }
                        remove.extend(
                            changes
                                .remove
                                .iter()
                                .filter(|id| class.known.remove(*id))
                                .map(frames::json),
                        );
                        let empty = upsert.is_empty() && remove.is_empty();
                        let remove = remove.iter().map(String::as_str).collect();
                        (!empty).then(|| {
                            (
                                changes.version,
                                Body::new(
                                    changes.version,
                                    [("upsert", upsert), ("remove", remove)],
                                ),
                            )
                        })
                    });
                    self.publish_state(*stream, class, body);
                }
                Stream::Rules => {
                    let body = tick
                        .rules
                        .as_ref()
                        .filter(|_| tick.rules_replaced.is_none())
                        .and_then(|(version, _)| {
                            let upsert: Vec<&str> = rules
                                .iter()
                                .filter(|row| class.matches(&*row.value))
                                .map(Row::json)
                                .collect();
                            (!upsert.is_empty()).then(|| {
                                (
                                    *version,
                                    Body::new(*version, [("upsert", upsert), ("remove", vec![])]),
                                )
                            })
                        });
                    if let Some(version) = tick.rules_replaced {
                        for subscriber in &mut class.subscribers {
                            subscriber.behind |= subscriber.seq < version;
                        }
                    }
                    self.publish_state(*stream, class, body);
                }
                Stream::Stats => {
                    let body =
                        tick.stats.as_ref().zip(stats.as_ref()).map(|((version, _), row)| {
                            (
                                *version,
                                Body::new(
                                    *version,
                                    [("upsert", vec![row.json()]), ("remove", vec![])],
                                ),
                            )
                        });
                    self.publish_state(*stream, class, body);
                }
            }
        }
    }

    fn publish_state(&self, stream: Stream, class: &mut Class, body: Option<(u64, Body)>) {
        let mut subscribers = std::mem::take(&mut class.subscribers);
        for subscriber in &mut subscribers {
            if subscriber.behind {
                self.catch_up(stream, class, subscriber);
                continue;
            }
            let Some((seq, body)) = &body else { continue };
            if *seq <= subscriber.seq {
                continue;
            }
            match subscriber.outbox.offer(vec![frames::delta(&subscriber.id, body)]) {
                Ok(()) => subscriber.seq = *seq,
                Err(_) => subscriber.behind = true,
            }
        }
        class.subscribers = subscribers;
    }

    /// Brings one subscriber up to date once its outbox has drained.
    fn catch_up(&self, stream: Stream, class: &Class, subscriber: &mut Subscriber) {
        if !subscriber.outbox.is_empty() {
            return;
        }
        let monitor = lock(&self.monitor);
        let (seq, messages) = match since(&monitor, class, stream, subscriber.seq) {
            Some((seq, body)) => (seq, vec![frames::delta(&subscriber.id, &body)]),
            None => {
                let (seq, body) = snapshot(&monitor, class, stream);
                let whole = frames::snapshot(&subscriber.id, stream, &self.epoch, &body);
                // Rules are replaced whole with every policy, and statistics every second: nothing
                // the client holds is wrong.
                match stream {
                    Stream::Flows => (
                        seq,
                        vec![Reply::Reset { id: &subscriber.id, reason: "slow" }.encode(), whole],
                    ),
                    Stream::Rules | Stream::Stats | Stream::Events => (seq, vec![whole]),
                }
            }
        };
        if subscriber.outbox.offer(messages).is_ok() {
            subscriber.seq = seq;
            subscriber.behind = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Classes> {
        lock(&self.classes)
    }
}

fn publish_events(tick: &Tick, events: &[Row<EventView>], class: &mut Class) {
    let matching: Vec<(u64, &Row<EventView>)> = events
        .iter()
        .enumerate()
        .map(|(at, row)| (tick.first_seq + at as u64, row))
        .filter(|(_, row)| class.matches(&*row.value))
        .collect();
    let last = tick.first_seq + (events.len() as u64).saturating_sub(1);
    let body = (!matching.is_empty()).then(|| {
        Body::new(last, [("events", matching.iter().map(|(_, row)| row.json()).collect())])
    });
    for subscriber in &mut class.subscribers {
        for loss in &tick.losses {
            let slot = &mut subscriber.kernel[usize::from(loss.class.raw())];
            Missed::add(slot, loss.from, loss.to, loss.to - loss.from + 1);
        }
        let body = body.as_ref().filter(|_| last > subscriber.seq);
        if body.is_none() && !subscriber.unsaid() {
            continue;
        }
        let mut messages = subscriber.losses();
        messages.extend(body.map(|body| frames::delta(&subscriber.id, body)));
        match subscriber.outbox.offer(messages) {
            Ok(()) => {
                subscriber.said();
                if body.is_some() {
                    subscriber.seq = last;
                }
            }
            Err(_) if body.is_some() => {
                let (from, to) = (matching[0].0, matching[matching.len() - 1].0);
                Missed::add(&mut subscriber.missed, from, to, matching.len() as u64);
                subscriber.seq = last;
            }
            Err(_) => {}
        }
    }
}

/// Everything a class's subscriber needs after sequence number `seq`; `None` where that isn't known.
fn since(monitor: &Monitor, class: &Class, stream: Stream, seq: u64) -> Option<(u64, Body)> {
    match stream {
        Stream::Events => {
            let rows: Vec<Row<EventView>> = monitor
                .events()
                .after(seq)?
                .filter(|(_, event)| class.matches(&**event))
                .map(|(_, event)| Row::new(event))
                .collect();
            let last = monitor.events().last_seq();
            Some((last, Body::new(last, [("events", rows.iter().map(Row::json).collect())])))
        }
        Stream::Flows => {
            let changes = monitor.flows_since(seq)?;
            let (upsert, other): (Vec<_>, Vec<_>) = changes
                .upsert
                .into_iter()
                .map(Row::new)
                .partition(|row| class.matches(&*row.value));
            let remove: Vec<String> = other
                .iter()
                .map(|row| &row.value.id)
                .chain(&changes.remove)
                .map(frames::json)
                .collect();
            let lists = [
                ("upsert", upsert.iter().map(Row::json).collect()),
                ("remove", remove.iter().map(String::as_str).collect()),
            ];
            Some((changes.version, Body::new(changes.version, lists)))
        }
        Stream::Rules => {
            let rows: Vec<Row<RuleView>> = monitor
                .rules_since(seq)?
                .into_iter()
                .map(Row::new)
                .filter(|row| class.matches(&*row.value))
                .collect();
            let version = monitor.counters_version();
            Some((
                version,
                Body::new(
                    version,
                    [("upsert", rows.iter().map(Row::json).collect()), ("remove", vec![])],
                ),
            ))
        }
        Stream::Stats => None,
    }
}

/// Everything a class's new subscriber sees, and the sequence number it stands for.
fn snapshot(monitor: &Monitor, class: &Class, stream: Stream) -> (u64, Body) {
    match stream {
        Stream::Events => {
            let mut rows: Vec<Row<EventView>> = monitor
                .events()
                .all()
                .rev()
                .filter(|(_, event)| class.matches(&**event))
                .take(SNAPSHOT_EVENTS)
                .map(|(_, event)| Row::new(event))
                .collect();
            rows.reverse();
            let last = monitor.events().last_seq();
            (last, Body::new(last, [("rows", rows.iter().map(Row::json).collect())]))
        }
        Stream::Flows => {
            let mut rows: Vec<FlowView> =
                monitor.flows().filter(|flow| class.matches(flow)).collect();
            let total = rows.len() as u64;
            if rows.len() > SNAPSHOT_FLOWS {
                rows.sort_by_key(|flow| flow.idle_ms);
                rows.truncate(SNAPSHOT_FLOWS);
            }
            let rows: Vec<Row<FlowView>> =
                rows.into_iter().map(|row| Row::new(Arc::new(row))).collect();
            let version = monitor.flows_version();
            (
                version,
                Body::new(version, [("rows", rows.iter().map(Row::json).collect())])
                    .number("total", total),
            )
        }
        Stream::Rules => {
            let rows: Vec<Row<RuleView>> = monitor
                .rules()
                .into_iter()
                .map(Row::new)
                .filter(|row| class.matches(&*row.value))
                .collect();
            let version = monitor.counters_version();
            let body = Body::new(version, [("rows", rows.iter().map(Row::json).collect())]);
            (version, body.number("generation", u64::from(monitor.generation())))
        }
        Stream::Stats => {
            let row = Row::new(monitor.stats());
            let version = monitor.counters_version();
            (version, Body::new(version, [("rows", vec![row.json()])]))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
