//! Live sets: sets whose entries change while the policy stays.

use super::super::span::Spanned;
use super::super::units;
use crate::sets::{Declared, Entry, SetKind};

/// `set NAME live ...`.
#[derive(Clone, Debug)]
pub struct LiveSet {
    /// Its name, without `@`.
    pub name: Spanned<String>,
    /// What it holds.
    pub kind: SetKind,
    /// `size`: most entries.
    pub size: Option<u32>,
    /// `timeout`: how long an entry stays that comes without a time of its own, milliseconds.
    pub timeout: Option<u64>,
    /// `file`: where the entries are that it begins with, below the daemon's folder for sets.
    pub file: Option<String>,
    /// What else it begins with, and for how long, milliseconds.
    pub entries: Vec<(Entry, Option<u64>)>,
}

impl LiveSet {
    /// What it is, piece by piece, as a policy would have it.
    pub fn written(&self) -> Vec<String> {
        let mut all = vec!["live".to_owned(), self.kind.name().to_owned()];
        all.extend(self.size.map(|size| format!("size {size}")));
        all.extend(self.timeout.map(|ms| format!("timeout {}", units::show_ms(ms))));
        all.extend(self.file.as_ref().map(|file| format!("file \"{file}\"")));
        all.extend(self.entries.iter().map(|(entry, timeout)| match timeout {
            Some(ms) => format!("{entry} timeout {}", units::show_ms(*ms)),
            None => entry.to_string(),
        }));
        all
    }

    /// As the daemon has it; `grows`: rules add to it.
    pub fn declared(&self, grows: bool) -> Declared {
        Declared {
            name: self.name.value.clone(),
            kind: self.kind,
            size: self.size,
            timeout: self.timeout,
            file: self.file.clone(),
            entries: self.entries.clone(),
            grows,
        }
    }
}

/// What a rule asks of a live set, at one of a packet's ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSet {
    /// The set, without `@`.
    pub name: Spanned<String>,
    /// `not` stands before it.
    pub negated: bool,
    /// The set holds pairs: the end's address and port are asked together.
    pub pair: bool,
}

/// `add source to @NAME`, `update source to @NAME`: what a rule enters into a live set where it is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adds {
    /// The set, without `@`.
    pub name: Spanned<String>,
    /// The packet's destination, not its source.
    pub destination: bool,
    /// With the port of that end, as the set holds pairs.
    pub pair: bool,
    /// `update`: an entry that is there gets its time anew.
    pub renew: bool,
    /// For so long, milliseconds; `None`: as the set says.
    pub timeout: Option<u32>,
}
