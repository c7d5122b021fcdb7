//! Live sets: what they hold, how it is written, and how it stands in the kernel's memory ([`firewall_common::abi::set`]).
//!
//! From below: [`Entry`] and lists of them ([`Reader`]); the shape of an arena ([`Shape`]), editing one in place
//! ([`Memory`]) and filling a new one ([`Heap`]); a set that stands on some [`Ground`] ([`Live`]). No map is named here.

mod entry;
mod fill;
mod ground;
mod list;
mod live;
mod lock;
mod memory;
mod shape;
mod slot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryError, expected, parse};
pub use fill::Heap;
pub use firewall_common::abi::set::SetKind;
pub use ground::{Arena, Ground, HEAD_WORDS, Head, Maker, Shared, lock, memory};
pub use list::{ListError, ListFault, Reader, write};
pub use live::{Added, Limits, Live, LiveError, Timed};
pub use memory::{Entered, Found, Memory, Reaped};
pub use shape::{Counts, Shape, TooMany, plan, plan_grown};

/// A live set as a policy declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name, without `@`.
    pub name: String,
    /// What it holds.
    pub kind: SetKind,
    /// Most entries, if the policy says so. Rules that add to it add none beyond them, or beyond [`SIZE`].
    pub size: Option<u32>,
    /// How long an entry stays that comes without a time of its own, milliseconds; `None`: until it is deleted.
    pub timeout: Option<u64>,
    /// File of the entries that it begins with, below the daemon's folder for sets.
    pub file: Option<String>,
    /// What else it begins with; milliseconds, as above.
    pub entries: Vec<(Entry, Option<u64>)>,
    /// Whether a rule adds to it.
    pub grows: bool,
}

/// Most entries of a set that rules add to, where the policy doesn't say how many.
pub const SIZE: u32 = 65_536;
