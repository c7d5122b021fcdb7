//! Rows of `sluice names`.

use serde::{Deserialize, Serialize};

/// Every word for how a name is known.
pub const NAME_SOURCES: [&str; 3] = ["dns", "sni", "sni-outer"];

/// A name that an answer of DNS gave an address, as it was seen on its way to a local socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameView {
    /// What was asked for, in small letters.
    pub name: String,
    /// The address.
    pub address: String,
    /// Network namespace of who asked: its inode.
    pub netns: u32,
    /// Who answered last.
    pub server: String,
    /// How often that was answered.
    pub answers: u64,
    /// When it was answered first.
    pub first: String,
    /// When it was answered last.
    pub last: String,
    /// Until when sockets that begin are taken to have meant it: time to live, a minute at least, and a minute more.
    pub until: String,
    /// That time is over.
    pub expired: bool,
}

/// What names are read from, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameStatsView {
    /// Messages by kind.
    pub observed: Vec<ObservedStatsView>,
    /// Addresses that have names.
    pub addresses: u64,
    /// Answers to what their socket hadn't asked, or not before the monitor: not believed.
    pub unasked: u64,
    /// ClientHellos of which only the beginning was seen.
    pub incomplete: u64,
    /// ClientHellos that say no name.
    pub nameless: u64,
    /// Addresses that made room for others.
    pub addresses_forgotten: u64,
    /// Names of addresses with more than eight that made room.
    pub names_forgotten: u64,
    /// Questions that made room before their answer came.
    pub questions_forgotten: u64,
    /// ClientHellos that made room before their socket was heard of.
    pub hellos_forgotten: u64,
}

/// Messages of one kind: produced = delivered + lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedStatsView {
    /// `question`, `answer`, `hello`.
    pub kind: String,
    /// Seen in the kernel.
    pub produced: u64,
    /// Read here.
    pub delivered: u64,
    /// Not written: the ring was full.
    pub lost: u64,
    /// Read here and not understood.
    pub unread: u64,
}
