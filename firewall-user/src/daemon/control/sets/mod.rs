//! Live sets: which there are, and what is asked of them.
//!
//! None of it is done by the thread that owns the gate: a set's memory is changed by whoever has the desk of sets, one at a
//! time, on threads that may wait. The gate is only asked to have flows judged anew.

mod apply;
mod chores;
mod kept;
#[cfg(test)]
mod tests;
mod witness;

pub use witness::Witness;

use super::{Control, ControlError, Job, LastGood, actor::GateFacts, in_background};
use crate::{
    policy::{self, Compiled, suggest},
    sets::{
        Declared, Entry, EntryError, Ground, Limits, Live, LiveError, Reader, SetKind, Timed,
        memory, parse,
    },
    view::{SetChangeView, SetEntryView, SetPageView, SetTestView, SetView},
};
use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::Notify;

/// A handle on the live sets; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ground: Arc<dyn Ground>,
    /// Where their files are looked for.
    files: PathBuf,
    /// Where their entries are kept.
    kept: PathBuf,
    desk: Arc<tokio::sync::Mutex<Desk>>,
    /// Something has changed since flows were last judged.
    changed: AtomicBool,
    /// Somebody asked for a change: whoever judges anew needn't wait for the next second, unless it did so just now.
    asked: Notify,
}

/// The sets that there are, by name.
#[derive(Debug, Default)]
struct Desk(BTreeMap<String, Known>);

/// A set.
#[derive(Debug)]
struct Known {
    declared: Declared,
    live: Live,
    /// It may hold entries that end.
    timed: bool,
    /// It has changed since it was last kept.
    dirty: bool,
    kept: Option<Instant>,
    watch: chores::Watch,
}

impl Known {
    fn new(declared: Declared, live: Live) -> Self {
        let watch = chores::Watch::of(&live.head());
        // What a daemon before this one put there is known to nobody: it may end.
        Self { declared, live, timed: true, dirty: true, kept: None, watch }
    }

    fn limits(&self) -> Limits {
        limits(&self.declared)
    }
}

fn limits(declared: &Declared) -> Limits {
    Limits { size: declared.size, grows: declared.grows }
}

/// Entries with the time that their set gives to those that come without one.
fn timed(declared: &Declared, entries: impl IntoIterator<Item = Timed>) -> Vec<Timed> {
    let default = declared.timeout.filter(|_| declared.kind != SetKind::Ports);
    entries.into_iter().map(|(entry, timeout)| (entry, timeout.or(default))).collect()
}

/// What a set is to be loaded from.
#[derive(Debug)]
pub enum Source {
    /// A list.
    Text {
        /// It.
        text: String,
        /// What it is called, in errors.
        called: String,
    },
    /// The file that the policy names.
    File,
}

/// Which entries are to be shown.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Only those that this one is a part of, or that are parts of it.
    pub filter: Option<String>,
    /// So many are passed over.
    pub after: usize,
    /// How many at most.
    pub limit: usize,
}

impl Desk {
    fn find(&self, name: &str) -> Result<&Known, ControlError> {
        self.0.get(name).ok_or_else(|| self.unknown(name))
    }

    fn find_mut(&mut self, name: &str) -> Result<&mut Known, ControlError> {
        if !self.0.contains_key(name) {
            return Err(self.unknown(name));
        }
        self.0.get_mut(name).ok_or(ControlError::Stopping)
    }

    fn unknown(&self, name: &str) -> ControlError {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let seen: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        let hint = suggest::hint(&seen, "live sets", &names, "")
            .unwrap_or_else(|| "the policy declares none: `set NAME live` does".to_owned());
        ControlError::NoSuchSet(format!("there is no live set `{seen}`; {hint}"))
    }
}

impl Inner {
    /// A change that somebody asked for: whoever was let in because of what a set held is judged anew.
    fn judge_anew(&self) {
        self.changed.store(true, Relaxed);
        self.asked.notify_one();
    }

    /// Reads a set's file.
    fn file(&self, declared: &Declared) -> Result<Vec<Timed>, ControlError> {
        let Some(file) = &declared.file else {
            return Err(ControlError::SetFile(format!(
                "the policy names no file for set `{}`: give one, or `-` for standard input",
                declared.name
            )));
        };
        let within = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if !within || file.is_empty() {
            return Err(ControlError::SetFile(format!(
                "set `{}`: file `{file}`; expected a name below {}, without `..`",
                declared.name,
                self.files.display()
            )));
        }
        let path = self.files.join(file);
        let text = std::fs::read(&path).map_err(|error| {
            ControlError::SetFile(format!("set `{}`: {}: {error}", declared.name, path.display()))
        })?;
        list(declared, &path.display().to_string(), &text)
    }
}

/// Reads a list of entries for a set.
fn list(declared: &Declared, name: &str, text: &[u8]) -> Result<Vec<Timed>, ControlError> {
    let duration = policy::units::duration_ms;
    let reader = Reader { file: name, kind: declared.kind, duration };
    // As many as there may be lines; most have some dozen letters.
    let mut entries = Vec::with_capacity(text.len() / 14);
    let default = declared.timeout.filter(|_| declared.kind != SetKind::Ports);
    reader.read(text, &mut |entry, timeout| entries.push((entry, timeout.or(default))))?;
    Ok(entries)
}

/// Entries as somebody typed them.
fn typed(kind: SetKind, texts: &[String]) -> Result<Vec<Entry>, ControlError> {
    let mut entries = Vec::new();
    for text in texts {
        parse(text.trim().as_bytes(), Some(kind), &mut |entry| entries.push(entry))?;
    }
    Ok(entries)
}

impl Sets {
    fn new(ground: Arc<dyn Ground>, files: PathBuf, kept: PathBuf) -> Self {
        let (desk, changed, asked) = (Arc::default(), AtomicBool::new(false), Notify::new());
        Self(Arc::new(Inner { ground, files, kept, desk, changed, asked }))
    }

    /// Does something with the sets, when nobody else does.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk, &Inner) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let mut desk = self.0.desk.clone().lock_owned().await;
        let inner = self.0.clone();
        in_background(move || work(&mut desk, &inner)).await
    }

    /// Changes a set: whoever was let in because of it is judged anew.
    async fn change<T: Send + 'static>(
        &self,
        name: String,
        work: impl FnOnce(&mut Known, &Inner) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.with(move |desk, inner| {
            let known = desk.find_mut(&name)?;
            let done = work(known, inner)?;
            known.dirty = true;
            known.watch.stir();
            inner.judge_anew();
            Ok(done)
        })
        .await
    }

    /// A set's own handle, to look into it while others change it.
    async fn look(&self, name: &str) -> Result<Live, ControlError> {
        self.0.desk.lock().await.find(name).map(|known| known.live.clone())
    }
}

fn row((entry, left_ms): Timed) -> SetEntryView {
    SetEntryView { entry: entry.to_string(), left_ms }
}

/// Whether an entry is to be shown.
fn meets(entry: Entry, filter: Entry) -> bool {
    match (entry, filter) {
        (Entry::Ports(a, b), Entry::Ports(c, d)) => a <= d && c <= b,
        _ => entry.within(filter) || filter.within(entry),
    }
}

fn view(known: &Known) -> SetView {
    let head = known.live.head();
    let arena = known.live.arena().ok();
    let (entries, bytes) =
        arena.map_or((0, 0), |arena| (memory(&arena).count(), arena.words().len() * 8));
    let Declared { name, kind, size, timeout, file, grows, .. } = known.declared.clone();
    SetView {
        name,
        kind: kind.name().to_owned(),
        entries,
        size,
        room: if kind == SetKind::Ports { 65_536 } else { limits(&known.declared).room() },
        bytes: bytes as u64,
        timeout_ms: timeout,
        file,
        grows,
        added: head.added,
        renewed: head.renewed,
        refused: head.refused,
        busy: head.busy,
    }
}

impl Control {
    fn sets(&self) -> Result<&Sets, ControlError> {
        self.0.sets.get().ok_or_else(|| {
            ControlError::NoSuchSet(
                "there are no live sets: the kernel program was built without them".to_owned(),
            )
        })
    }

    /// The live sets.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn list_sets(&self) -> Result<Vec<SetView>, ControlError> {
        self.sets()?.with(|desk, _| Ok(desk.0.values().map(view).collect())).await
    }

    /// Some of a set's entries, in the order of addresses.
    ///
    /// # Errors
    /// There is no such set, or the filter is no entry.
    pub async fn show_set(&self, name: String, shown: Shown) -> Result<SetPageView, ControlError> {
        let live = self.sets()?.look(&name).await?;
        in_background(move || {
            let filter = shown.filter.map(|text| text.trim().parse::<Entry>()).transpose()?;
            let mut entries = live.entries()?;
            if let Some(filter) = filter {
                entries.retain(|(entry, _)| meets(*entry, filter));
            }
            let total = entries.len() as u64;
            entries.sort_unstable();
            let rows = entries.into_iter().skip(shown.after).take(shown.limit).map(row);
            Ok(SetPageView {
                name,
                kind: live.kind().name().to_owned(),
                total,
                rows: rows.collect(),
            })
        })
        .await
    }

    /// Enters entries, all or none; those that are there get their time anew.
    ///
    /// # Errors
    /// There is no such set, an entry can't be in it, or there is no room.
    pub async fn add_to_set(
        &self,
        name: String,
        entries: Vec<String>,
        timeout_ms: Option<u64>,
    ) -> Result<SetChangeView, ControlError> {
        let said = name.clone();
        let change = move |known: &mut Known, _: &Inner| {
            let entries = typed(known.declared.kind, &entries)?;
            let entries = entries.into_iter().map(|entry| (entry, timeout_ms));
            let entries = timed(&known.declared, entries);
            let added = known.live.add(&known.limits(), &entries)?;
            known.timed |= entries.iter().any(|(_, timeout)| timeout.is_some());
            Ok(SetChangeView {
                name,
                added: added.new,
                renewed: added.renewed,
                deleted: 0,
                entries: count(&known.live)?,
            })
        };
        self.sets()?.change(said, change).await
    }

    /// Takes entries out; those that aren't there are passed over.
    ///
    /// # Errors
    /// There is no such set, or an entry can't be in it.
    pub async fn delete_from_set(
        &self,
        name: String,
        entries: Vec<String>,
    ) -> Result<SetChangeView, ControlError> {
        let said = name.clone();
        let change = move |known: &mut Known, _: &Inner| {
            let entries = typed(known.declared.kind, &entries)?;
            let deleted = known.live.delete(&entries)?;
            let entries = count(&known.live)?;
            Ok(SetChangeView { name, added: 0, renewed: 0, deleted, entries })
        };
        self.sets()?.change(said, change).await
    }

    /// Takes all entries out, at one moment.
    ///
    /// # Errors
    /// There is no such set, or the kernel refused.
    pub async fn flush_set(&self, name: String) -> Result<SetChangeView, ControlError> {
        let said = name.clone();
        let change = move |known: &mut Known, _: &Inner| {
            let deleted = count(&known.live)?;
            known.live.replace(&known.limits(), &[])?;
            Ok(SetChangeView { name, added: 0, renewed: 0, deleted, entries: 0 })
        };
        self.sets()?.change(said, change).await
    }

    /// Makes a list its entries, at one moment; with `add`, beside those that are there.
    ///
    /// # Errors
    /// There is no such set, the list can't be understood, or there is no room: then it is as it was.
    pub async fn load_set(
        &self,
        name: String,
        source: Source,
        add: bool,
    ) -> Result<SetChangeView, ControlError> {
        let sets = self.sets()?;
        // Reading takes a while: others may change sets meanwhile.
        let declared = sets.0.desk.lock().await.find(&name)?.declared.clone();
        let inner = sets.0.clone();
        let entries = in_background(move || match source {
            Source::Text { text, called } => list(&declared, &called, text.as_bytes()),
            Source::File => inner.file(&declared),
        })
        .await?;
        let said = name.clone();
        let change = move |known: &mut Known, _: &Inner| {
            let before = count(&known.live)?;
            let of = known.limits();
            known.timed |= entries.iter().any(|(_, timeout)| timeout.is_some());
            let (added, renewed, deleted) = if add {
                let added = known.live.add(&of, &entries)?;
                (added.new, added.renewed, 0)
            } else {
                known.live.replace(&of, &entries)?;
                (count(&known.live)?, 0, before)
            };
            Ok(SetChangeView { name, added, renewed, deleted, entries: count(&known.live)? })
        };
        sets.change(said, change).await
    }

    /// Whether a set holds an address, a prefix, a pair or ports, and by which entries.
    ///
    /// # Errors
    /// There is no such set, or it is nothing that it could hold.
    pub async fn test_set(&self, name: String, entry: String) -> Result<SetTestView, ControlError> {
        let live = self.sets()?.look(&name).await?;
        let asked = typed(live.kind(), std::slice::from_ref(&entry))?;
        let &[asked] = &*asked else {
            let count = asked.len();
            return Err(EntryError::Several { seen: entry.trim().to_owned(), count }.into());
        };
        let rows: Vec<SetEntryView> = live.test(asked)?.into_iter().map(row).collect();
        Ok(SetTestView { name, entry: asked.to_string(), found: !rows.is_empty(), rows })
    }

    /// Takes sets up where a daemon before this one left them.
    pub(super) async fn begin_sets(&self, gate: &GateFacts, last: Option<&LastGood>) {
        let Some(ground) = gate.sets.clone() else { return };
        let facts = &self.0.facts;
        let sets = Sets::new(ground, facts.set_files.clone(), facts.kept_sets.clone());
        // What the text before declared isn't what somebody added.
        let before = last.filter(|last| last.generation == gate.installed && gate.adopted);
        let declared = before.and_then(|last| {
            let policy = policy::parse(&last.text, &last.file).ok()?;
            let mut slots = gate.slots.clone();
            policy::compile(&policy, &mut slots, gate.generation).ok()
        });
        sets.resume(declared.as_ref().map(declared_in).unwrap_or_default()).await;
        let weak = Arc::downgrade(&self.0);
        if self.0.sets.set(sets).is_ok() {
            tokio::spawn(chores::each_second(move || weak.upgrade().map(Control)));
        }
    }

    /// Writes down what sets hold and isn't written down.
    pub async fn keep_sets(&self) {
        if let Ok(sets) = self.sets() {
            sets.keep(true).await;
        }
    }

    /// Lets flows that were let in be judged anew.
    pub(super) async fn rejudge(&self) -> Result<(), ControlError> {
        // Not while a policy is on its way: it is made for the generation that it found.
        let _desk = self.0.desk.lock().await;
        Ok(self.ask(Job::Rejudge).await??)
    }
}

fn count(live: &Live) -> Result<u64, LiveError> {
    Ok(memory(&live.arena()?).count())
}

/// The live sets of a compiled policy.
fn declared_in(compiled: &Compiled) -> Vec<(u8, Declared)> {
    compiled.sets.clone()
}
