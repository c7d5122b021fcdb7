//! Whether a live set holds something, for those who judge packets in their heads: explanations, and the check that a
//! policy cuts nobody off.

use super::{Control, Desk, list};
use crate::{
    policy::{Compiled, Policy, ast::LiveSet, classify, meet},
    sets::{Entry, Live, Timed},
};
use std::{collections::HashMap, path::PathBuf};

/// The live sets, as whoever asks finds them. The empty one knows what policies say, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    live: HashMap<String, Live>,
    folder: PathBuf,
    /// What stands in files of sets that are to come.
    files: HashMap<String, Vec<Timed>>,
}

impl Control {
    /// The live sets as they are now, and as they go on to be.
    pub(in super::super) async fn witness(&self) -> Witness {
        let Some(sets) = self.0.sets.get() else { return Witness::default() };
        let desk = sets.0.desk.lock().await;
        Witness { live: handles(&desk), folder: sets.0.files.clone(), files: HashMap::new() }
    }
}

fn handles(desk: &Desk) -> HashMap<String, Live> {
    desk.0.iter().map(|(name, known)| (name.clone(), known.live.clone())).collect()
}

impl Witness {
    /// Reads the files of sets that a policy would begin with. One that can't be read is told of where it is applied.
    pub fn read_files(&mut self, policy: &Policy) {
        for set in policy.live.iter().filter(|set| !self.live.contains_key(&set.name.value)) {
            let Some(file) = &set.file else { continue };
            let read = std::fs::read(self.folder.join(file)).ok();
            if let Some(Ok(entries)) = read.map(|text| list(&set.declared(false), file, &text)) {
                self.files.insert(set.name.value.clone(), entries);
            }
        }
    }

    fn holds(&self, set: &LiveSet, end: Entry) -> bool {
        let within = |entries: &[Timed]| entries.iter().any(|(entry, _)| end.within(*entry));
        let name = &set.name.value;
        let there = self.live.get(name).and_then(|live| live.test(end).ok());
        there.is_some_and(|found| !found.is_empty())
            || self.files.get(name).is_some_and(|entries| within(entries))
            // What the text has more than before joins as it is applied.
            || within(&set.entries)
    }

    /// What a set would begin with.
    pub fn beginning(&self, set: &LiveSet) -> Vec<Timed> {
        let read = || {
            let file = set.file.as_ref()?;
            let text = std::fs::read(self.folder.join(file)).ok()?;
            list(&set.declared(false), file, &text).ok()
        };
        let kept = self.files.get(&set.name.value).cloned();
        let mut entries = kept.or_else(read).unwrap_or_default();
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
