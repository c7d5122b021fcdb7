//! The kernel's own connection tracking beside ours, read through ctnetlink: its entries, their
//! translations, and what these carried. Only read: no setting of netfilter's is ever changed.
//!
//! [`decode`] makes entries of bytes, [`table`] keeps the live model of a dump and the events that
//! follow it; both know neither socket nor clock. [`Netfilter`] is the thread that feeds them and the
//! handle that others ask; [`BindingEvent`]s are what a history is made of.

pub mod account;
pub mod attribute;
pub mod binding;
pub mod decode;
pub mod entry;
mod error;
mod follow;
mod rows;
mod socket;
mod sysctl;
pub mod table;

pub use binding::{BindingEvent, Ended, NatBinding};
pub use entry::{NetfilterEntry, ProtoState};
pub use error::{DecodeError, FollowError};
pub use follow::{BindingSink, Follow, Netfilter, Told};
pub use rows::Shown;
pub use sysctl::Settings;
pub use table::NetfilterTable;

#[cfg(test)]
mod tests;
