//! Another policy declares other sets: what is new is there before the policy is live, what is gone stays until then. If
//! the policy doesn't get live, all is as it was.

use super::{Desk, Inner, Known, Sets, declared_in, kept, limits, timed};
use crate::{
    daemon::control::{Control, ControlError, Job, actor::Install, in_background},
    policy::Compiled,
    sets::{Declared, Entry, Live, SetKind, Timed, memory},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use tokio::sync::OwnedMutexGuard;

/// Sets on their way to what a policy declares. Dropped, it takes back what was done.
pub(super) struct Step {
    desk: OwnedMutexGuard<Desk>,
    inner: Arc<Inner>,
    next: Vec<(u8, Declared)>,
    /// Those that are new, by name.
    begun: BTreeMap<String, Known>,
    /// What those that stay have got, and may have.
    got: Vec<(String, Vec<Entry>)>,
    done: bool,
}

impl Control {
    /// Makes a policy live, and its sets.
    ///
    /// # Errors
    /// What stands in the way; then policy and sets are as they were.
    pub(in super::super) async fn install(&self, install: Install) -> Result<u32, ControlError> {
        let control = self.clone();
        // Whoever asked may hang up: what is begun is ended all the same.
        let work = tokio::spawn(async move {
            let step = match control.0.sets.get() {
                Some(sets) => Some(sets.prepare(declared_in(&install.compiled)).await?),
                None => None,
            };
            let generation =
                control.ask(|answer| Job::Install(Box::new(install), answer)).await??;
            if let Some(step) = step {
                step.commit().await;
            }
            Ok(generation)
        });
        work.await.unwrap_or(Err(ControlError::Stopping))
    }

    /// Makes the sets of the policy that is live already.
    ///
    /// # Errors
    /// What stands in the way.
    pub(in super::super) async fn settle_sets(
        &self,
        compiled: &Compiled,
    ) -> Result<(), ControlError> {
        if let Some(sets) = self.0.sets.get() {
            sets.prepare(declared_in(compiled)).await?.commit().await;
        }
        Ok(())
    }
}

impl Sets {
    /// Takes up the sets that are there; `before`: what the live policy declares of them.
    pub(super) async fn resume(&self, before: Vec<(u8, Declared)>) {
        let mut desk = self.0.desk.lock().await;
        for (index, name) in self.0.ground.names() {
            let live = Live::at(self.0.ground.clone(), index);
            if live.arena().is_err() {
                // A daemon died before it had made it.
                self.0.ground.set_name(index, "");
                continue;
            }
            let unknown = || Declared {
                name: name.clone(),
                kind: live.kind(),
                size: None,
                timeout: None,
                file: None,
                entries: Vec::new(),
                grows: false,
            };
            let known = before.iter().find(|(at, declared)| *at == index && declared.name == name);
            let declared = known.map_or_else(unknown, |(_, declared)| declared.clone());
            desk.0.insert(name, Known::new(declared, live));
        }
    }

    /// Makes what is new: of sets that the policy declares and that there aren't, all; of others, what they get.
    pub(super) async fn prepare(&self, next: Vec<(u8, Declared)>) -> Result<Step, ControlError> {
        let desk = self.0.desk.clone().lock_owned().await;
        let (begun, got) = (BTreeMap::new(), Vec::new());
        let mut step = Step { desk, inner: self.0.clone(), next, begun, got, done: false };
        in_background(move || {
            for (index, declared) in step.next.clone() {
                step.prepare(index, declared)?;
            }
            Ok(step)
        })
        .await
    }
}

/// Entries of `a` that aren't in `b`, or not with that time.
fn less(a: &Declared, b: &Declared) -> Vec<Timed> {
    let there: HashSet<Timed> = timed(b, b.entries.iter().copied()).into_iter().collect();
    let mut more = timed(a, a.entries.iter().copied());
    more.retain(|entry| !there.contains(entry));
    more
}

impl Step {
    fn prepare(&mut self, index: u8, declared: Declared) -> Result<(), ControlError> {
        match self.desk.0.get(&declared.name) {
            Some(known) if known.live.index() == index => self.extend(&declared),
            Some(_) => Err(ControlError::Unusable(format!(
                "set `{}` can't move within map SETS: take it out of the policy first",
                declared.name
            ))),
            None => self.begin(index, declared),
        }
    }

    /// A set that stays: it gets what the new text has more than the old one.
    fn extend(&mut self, declared: &Declared) -> Result<(), ControlError> {
        let Some(known) = self.desk.0.get(&declared.name) else { return Ok(()) };
        let (was, is) = (known.live.kind(), declared.kind);
        if was != is {
            return Err(ControlError::Unusable(format!(
                "live set `{}` holds {}, and can't hold {} while it is live: give it another name, or take it out of \
                 the policy first",
                declared.name,
                was.name(),
                is.name()
            )));
        }
        let mut more = less(declared, &known.declared);
        if declared.file != known.declared.file && declared.file.is_some() {
            more.extend(self.inner.file(declared)?);
        }
        let arena = known.live.arena()?;
        let (memory, now) = (memory(&arena), known.live.now());
        let there = |entry: &Entry| match entry {
            Entry::Ports(..) => !memory.holding(*entry, now).is_empty(),
            entry => memory.ends(*entry, now).is_some(),
        };
        let new = more.iter().map(|(entry, _)| *entry).filter(|entry| !there(entry)).collect();
        known.live.limit(&limits(declared));
        // Told before it is done: it is taken back, too, where it was half done.
        self.got.push((declared.name.clone(), new));
        known.live.add(&limits(declared), &more)?;
        Ok(())
    }

    /// A set that is new to the kernel: it holds what the text says, its file, and what it held before a reboot.
    fn begin(&mut self, index: u8, declared: Declared) -> Result<(), ControlError> {
        let taken = |known: &Known| known.live.index() == index;
        if self.desk.0.values().any(taken) {
            return Err(ControlError::Unusable(format!(
                "no room for live set `{}` beside those that are to go: take them out of the policy first",
                declared.name
            )));
        }
        let mut entries = timed(&declared, declared.entries.iter().copied());
        if declared.file.is_some() {
            entries.extend(self.inner.file(&declared)?);
        }
        entries.extend(kept::read(&self.inner.kept, &declared));
        let live = Live::at(self.inner.ground.clone(), index);
        self.inner.ground.set_name(index, &declared.name);
        let begun = live.begin(&limits(&declared), declared.kind, &entries);
        self.begun.insert(declared.name.clone(), Known::new(declared, live));
        Ok(begun?)
    }

    /// The policy is live: takes away what it doesn't declare any more.
    pub(super) async fn commit(mut self) {
        let done = in_background(move || {
            self.settle();
            Ok(())
        });
        // Nothing of it fails.
        let _ = done.await;
    }

    fn settle(&mut self) {
        self.done = true;
        let said = |name: &str, error: &dyn std::fmt::Display| log::error!("set `{name}`: {error}");
        let next = std::mem::take(&mut self.next);
        let changed = !self.got.iter().all(|(_, got)| got.is_empty());
        let gone: Vec<String> = {
            let stays = |name: &String| next.iter().any(|(_, declared)| declared.name == *name);
            self.desk.0.keys().filter(|name| !stays(name)).cloned().collect()
        };
        for name in gone {
            if let Some(known) = self.desk.0.remove(&name)
                && let Err(error) = known.live.end()
            {
                said(&name, &error);
            }
            kept::forget(&self.inner.kept, &name);
        }
        let mut lost = false;
        for (_, declared) in next {
            let Some(known) = self.desk.0.get_mut(&declared.name) else { continue };
            let is: HashSet<Entry> = declared.entries.iter().map(|(entry, _)| *entry).collect();
            let was = known.declared.entries.iter().map(|(entry, _)| *entry);
            let old: Vec<Entry> = was.filter(|entry| !is.contains(entry)).collect();
            lost |= !old.is_empty();
            if let Err(error) = known.live.delete(&old) {
                said(&declared.name, &error);
            }
            // Ports are bits: what went with an old run of them may be a part of one that stays.
            if declared.kind == SetKind::Ports && !old.is_empty() {
                let stays: Vec<Timed> = declared.entries.clone();
                if let Err(error) = known.live.add(&limits(&declared), &stays) {
                    said(&declared.name, &error);
                }
            }
            known.dirty = true;
            known.timed = true;
            known.declared = declared;
        }
        self.desk.0.append(&mut self.begun);
        if changed || lost {
            self.inner.judge_anew();
        }
    }

    fn undo(&mut self) {
        for (name, known) in std::mem::take(&mut self.begun) {
            if let Err(error) = known.live.end() {
                log::error!("set `{name}`: {error}");
            }
        }
        for (name, got) in std::mem::take(&mut self.got) {
            let Some(known) = self.desk.0.get(&name) else { continue };
            known.live.limit(&known.limits());
            if let Err(error) = known.live.delete(&got) {
                log::error!("set `{name}`: {error}");
            }
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.done {
            self.undo();
        }
    }
}
