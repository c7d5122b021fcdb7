//! Rows of `sluice set`.

use serde::{Deserialize, Serialize};

/// A live set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetView {
    /// Its name.
    pub name: String,
    /// `addresses`, `pairs` or `ports`.
    pub kind: String,
    /// Entries; of `ports`, how many ports.
    pub entries: u64,
    /// Most entries, as the policy says; `null` where it doesn't.
    pub size: Option<u32>,
    /// Most entries that there can be: `size`, what rules may add up to, or what a table holds (of IPv4).
    pub room: u64,
    /// Bytes of the kernel's memory that it takes now.
    pub bytes: u64,
    /// How long an entry stays that comes without a time of its own; `null`: until it is deleted.
    pub timeout_ms: Option<u64>,
    /// File that the policy names, below the daemon's folder for sets.
    pub file: Option<String>,
    /// Whether rules add to it.
    pub grows: bool,
    /// Entries that rules added.
    pub added: u64,
    /// Entries that rules gave more time.
    pub renewed: u64,
    /// Entries that rules found no room for.
    pub refused: u64,
    /// Entries that rules didn't add because somebody else was changing the set; the next packet adds them.
    pub busy: u64,
}

/// An entry of a live set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetEntryView {
    /// As it is written.
    pub entry: String,
    /// How long it stays; `null`: until it is deleted.
    pub left_ms: Option<u64>,
}

/// A part of a live set's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPageView {
    /// The set.
    pub name: String,
    /// What it holds, as in `SetView`.
    pub kind: String,
    /// Entries that match, shown or not.
    pub total: u64,
    /// `SetEntryView`: those that are shown, in the order of addresses, IPv4 first.
    pub rows: Vec<SetEntryView>,
}

/// What became of a change to a live set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChangeView {
    /// The set.
    pub name: String,
    /// Entries that are new.
    pub added: u64,
    /// Entries that were there, and have their time anew.
    pub renewed: u64,
    /// Entries that were taken out.
    pub deleted: u64,
    /// Entries that it has now.
    pub entries: u64,
}

/// Whether a live set holds something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTestView {
    /// The set.
    pub name: String,
    /// What was asked for.
    pub entry: String,
    /// Whether it is in it.
    pub found: bool,
    /// `SetEntryView`: the entries that hold it, the narrowest first.
    pub rows: Vec<SetEntryView>,
}
