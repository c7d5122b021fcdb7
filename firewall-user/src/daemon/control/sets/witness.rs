//! Whether a live set holds something, for those who judge packets in their heads: explanations, and the check that a
//! policy cuts nobody off.

use super::{Control, ControlError, Inner, Sets, kept};
use crate::{
    policy::{Compiled, Policy, ast::LiveSet, classify, meet},
    sets::{Declared, Entry, Live, Timed},
};
use std::{collections::HashMap, sync::Arc};

/// The live sets, as whoever asks finds them. The empty one knows what policies say, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    inner: Option<Arc<Inner>>,
    known: HashMap<String, (Declared, Live)>,
    /// What sets get from their files, or from before a reboot, when a policy is applied.
    files: HashMap<String, Vec<Timed>>,
}

impl Control {
    /// The live sets as they are now, and as they go on to be.
    pub(in super::super) async fn witness(&self) -> Witness {
        match self.0.sets.get() {
            Some(sets) => sets.witness().await,
            None => Witness::default(),
        }
    }
}

impl Sets {
    pub(super) async fn witness(&self) -> Witness {
        let desk = self.0.desk.lock().await;
        let known = desk.0.iter();
        let known = known
            .map(|(name, known)| (name.clone(), (known.declared.clone(), known.live.clone())))
            .collect();
        Witness { inner: Some(self.0.clone()), known, files: HashMap::new() }
    }
}

impl Witness {
    /// Reads the files that would be read if a policy was applied: of new sets, and of those that get another one.
    ///
    /// # Errors
    /// One can't be read or understood.
    pub fn read_files(&mut self, policy: &Policy) -> Result<(), ControlError> {
        for set in &policy.live {
            let list = self.list(set)?;
            if !list.is_empty() {
                self.files.insert(set.name.value.clone(), list);
            }
        }
        Ok(())
    }

    /// What a set gets beside what its text says and what it holds by now.
    fn list(&self, set: &LiveSet) -> Result<Vec<Timed>, ControlError> {
        let Some(inner) = &self.inner else { return Ok(Vec::new()) };
        let declared = set.declared(false);
        let before = self.known.get(&declared.name);
        let mut list = Vec::new();
        if declared.file.is_some() && before.is_none_or(|(was, _)| was.file != declared.file) {
            list.extend(inner.file(&declared)?);
        }
        if before.is_none() {
            list.extend(kept::read(&inner.kept, &declared));
        }
        Ok(list)
    }

    fn holds(&self, set: &LiveSet, end: Entry) -> bool {
        let within = |entries: &[Timed]| entries.iter().any(|(entry, _)| end.within(*entry));
        let name = &set.name.value;
        let says = |of: &[Timed], entry: Entry| of.iter().any(|(said, _)| *said == entry);
        let there = self.known.get(name).and_then(|(was, live)| Some((was, live.test(end).ok()?)));
        // What only the text before has goes with it.
        there.is_some_and(|(was, found)| {
            let stays = |entry| !says(&was.entries, entry) || says(&set.entries, entry);
            found.into_iter().any(|(entry, _)| stays(entry))
        }) || self.files.get(name).is_some_and(|entries| within(entries))
            // What the text has more than before joins as it is applied.
            || within(&set.entries)
    }

    /// What a set would begin with.
    pub fn beginning(&self, set: &LiveSet) -> Vec<Timed> {
        let known = self.files.get(&set.name.value).cloned();
        // Whoever applies it is told what is wrong with its file.
        let mut entries = known.unwrap_or_else(|| self.list(set).unwrap_or_default());
        entries.extend(set.entries.iter().copied());
        entries
    }

    /// For [`classify::classify_with`].
    pub fn by_index<'w>(
        &'w self,
        policy: &'w Policy,
        compiled: &'w Compiled,
    ) -> Box<classify::Holds<'w>> {
        Box::new(move |index, end| {
            let named = compiled.sets.iter().find(|(at, _)| *at == index);
            let set = named.and_then(|(_, declared)| policy.live_set(&declared.name));
            set.is_some_and(|set| self.holds(set, end))
        })
    }

    /// For [`meet::Meeting::with_sets`].
    pub fn by_name<'w>(&'w self, policy: &'w Policy) -> meet::Holds<'w> {
        Box::new(move |name, end| policy.live_set(name).is_some_and(|set| self.holds(set, end)))
    }
}
