//! Translations that began or ended: what a history is made of.

use super::entry::{Counters, EntryKey, Nat, Tuple};

/// A translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatBinding {
    /// Original direction, zone and id.
    pub key: EntryKey,
    /// Reply direction.
    pub reply: Tuple,
    /// What is translated, and to what.
    pub nat: Nat,
    /// When it began, nanoseconds since 1970, where netfilter takes the time; else `seen_ns` of its
    /// beginning is what there is.
    pub start_ns: Option<u64>,
}

/// How an end was learned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Netfilter said so, with the final totals.
    Told,
    /// The entry was gone: the event was lost, or there is none for entries that are older than our
    /// listening. The totals are the last ones known, and may be too low.
    Gone,
}

/// A translation began or ended. An end may come without a beginning, where that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingEvent {
    /// It began.
    Began {
        /// The translation.
        binding: NatBinding,
        /// When this was learned, nanoseconds since 1970.
        seen_ns: i64,
        /// Found in the table, and not told when it began: it may have been there long before.
        found: bool,
    },
    /// It ended.
    Ended {
        /// The translation.
        binding: NatBinding,
        /// When this was learned, nanoseconds since 1970.
        seen_ns: i64,
        /// When it ended, by netfilter's clock.
        stop_ns: Option<u64>,
        /// What it carried; `None` where netfilter doesn't count.
        totals: Option<Counters>,
        /// How this was learned.
        how: Ended,
    },
}
