//! What sets hold now, and what they would hold under another policy: for whoever says what a packet would meet.

use super::{Inner, Sets, kept};
use crate::{
    daemon::control::ControlError,
    policy::Compiled,
    sets::{Declared, Entry, Live, Timed},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// The sets that there were when somebody looked. What they hold goes on changing.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    inner: Option<Arc<Inner>>,
    sets: BTreeMap<String, (Declared, Live)>,
}

impl Contents {
    /// Of a core's sets; empty where it has none.
    pub async fn of(sets: Option<&Sets>) -> Self {
        let Some(sets) = sets else { return Self::default() };
        let desk = sets.0.desk.lock().await;
        let known = desk.0.iter();
        let known =
            known.map(|(name, known)| (name.clone(), (known.declared.clone(), known.live.clone())));
        Self { inner: Some(sets.0.clone()), sets: known.collect() }
    }

    /// Whether a set holds an end of a packet.
    pub fn holds(&self, name: &str, end: Entry) -> bool {
        let found = self.sets.get(name).and_then(|(_, live)| live.test(end).ok());
        found.is_some_and(|entries| !entries.is_empty())
    }

    /// The same, once a policy is live.
    pub fn under<'c>(&'c self, policy: &'c Compiled) -> Outlook<'c> {
        Outlook { contents: self, policy, lists: Mutex::default() }
    }

    /// Reads the lists that a policy would have read.
    ///
    /// # Errors
    /// A file can't be read or understood.
    pub fn read_lists(&self, policy: &Compiled) -> Result<(), ControlError> {
        let Some(inner) = &self.inner else { return Ok(()) };
        let wanted = policy.sets.iter().map(|(_, declared)| declared);
        for declared in wanted.filter(|declared| self.would_read(declared)) {
            inner.file(declared)?;
        }
        Ok(())
    }

    /// Whether a set's file would be read: a new one's, or another one than before.
    fn would_read(&self, declared: &Declared) -> bool {
        let before = self.sets.get(&declared.name);
        declared.file.is_some() && before.is_none_or(|(was, _)| was.file != declared.file)
    }

    /// What a set gets beside what its text says and what it holds by now.
    fn list(&self, declared: &Declared) -> Vec<Timed> {
        let Some(inner) = &self.inner else { return Vec::new() };
        // Who can't read it is told so when it is to get live.
        let mut list = if self.would_read(declared) {
            inner.file(declared).unwrap_or_default()
        } else {
            Vec::new()
        };
        if !self.sets.contains_key(&declared.name) {
            list.extend(kept::read(&inner.kept, declared));
        }
        list
    }
}

/// What sets would hold under a policy.
pub struct Outlook<'c> {
    contents: &'c Contents,
    policy: &'c Compiled,
    /// What was read, by the sets' indices.
    lists: Mutex<HashMap<u8, Vec<Timed>>>,
}

impl Outlook<'_> {
    /// Whether the set at an index would hold an end of a packet.
    pub fn holds(&self, index: u8, end: Entry) -> bool {
        let Some((_, declared)) = self.policy.sets.iter().find(|(at, _)| *at == index) else {
            return false;
        };
        let says = |of: &Declared, entry: Entry| of.entries.iter().any(|(said, _)| *said == entry);
        if declared.entries.iter().any(|(entry, _)| end.within(*entry)) {
            return true;
        }
        if let Some((before, live)) = self.contents.sets.get(&declared.name) {
            // What only the text before has goes with it.
            let stays = |entry: Entry| !says(before, entry) || says(declared, entry);
            let found = live.test(end).unwrap_or_default();
            if found.into_iter().any(|(entry, _)| stays(entry)) {
                return true;
            }
        }
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let list = lists.entry(index).or_insert_with(|| self.contents.list(declared));
        list.iter().any(|(entry, _)| end.within(*entry))
    }
}
