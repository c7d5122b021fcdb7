//! Live sets: addresses, (address, port) pairs and ports that change while the rules stay.
//!
//! A set's entries stand in an *arena*, a map of its own of one of four sizes ([`SET_ARENAS`]), found in the array of maps
//! of that size (`SETS_A` to `SETS_D`) at the set's index. The first [`SHAPE`] words say where in it what stands; they
//! don't change while the arena is found. A set that outgrows its arena gets a larger one: it is filled, found, and only
//! then does [`SetHead::class`] say so.
//!
//! Addresses are entries of a hash table with linear probing, by prefix and length: a look-up asks once for each length
//! that is in use, the longest first. Before the table stands a filter, a bit for each hash, and before that a gate, a bit
//! for the network that the address is in: most of what isn't listed costs one load. The look-ups are [`crate::sets`]'.

use super::{numbers, plain_bytes};
use bytemuck::{Pod, Zeroable};

/// Most live sets.
pub const MAX_SETS: usize = 64;
/// 64-bit words of the arenas, by [`SetHead::class`] less 1: maps `SETS_A` to `SETS_D`.
pub const SET_ARENAS: [usize; 4] = [1 << 13, 1 << 17, 1 << 20, 1 << 23];
/// Slots that a look-up or an entry tries from where its hash says.
pub const PROBES: u32 = 32;
/// Words of a slot of an IPv4 table: address and tag in one, the tick at which it ends (0: never; dead: when it died).
pub const SLOT4: u32 = 2;
/// Words of a slot of an IPv6 table: upper half, lower half, tag, tick.
pub const SLOT6: u32 = 4;
/// Bits of an IPv4 address that the gate tells apart.
pub const NET4: u32 = 24;
/// The same of an IPv6 address: at most as long as anything is that registries hand out.
pub const NET6: u32 = 32;
/// Words at the arena's beginning that say where what stands.
pub const SHAPE: u32 = 16;

numbers! {
    /// What a set holds.
    SetKind(u32) {
        /// Addresses and prefixes.
        Addresses = 0 => "addresses",
        /// (address, port) pairs.
        Pairs = 1 => "pairs",
        /// Ports.
        Ports = 2 => "ports",
    }
}

/// Words of the shape. Where two numbers share a word, the first stands in its lower half.
pub mod shape {
    /// IPv4 prefix lengths in use: a bit for each, by how much shorter than the whole address it is. Bits are only added.
    pub const LENS4: u32 = 0;
    /// IPv6 prefix lengths in use: as `LENS4`, in this word and the two behind it.
    pub const LENS6: u32 = 1;
    /// First word of the gate's bits, and how far a hash of 32 bits is shifted down to be one's number
    /// ([`crate::sets::gate`]): each network of [`super::NET4`] or [`super::NET6`] bits that an entry is in, or that is in an
    /// entry, has its bit set. First word 0: there is no gate.
    pub const GATE: u32 = 4;
    /// First word of the filter's bits, and their number less 1.
    pub const FILTER: u32 = 5;
    /// First word of the IPv4 slots, and their number; more than [`super::PROBES`] of them, or none.
    pub const SLOTS4: u32 = 6;
    /// The same of IPv6.
    pub const SLOTS6: u32 = 7;
    /// First word of the ports' bits; 0: there are none.
    pub const PORTS: u32 = 8;
    /// Secret of the hash.
    pub const SEED: u32 = 9;
    /// Entries in this arena's tables (not ports): atomic adds.
    pub const COUNT: u32 = 10;
}

/// The upper half of a slot's first word (IPv4) or its third word (IPv6): state (31..30), whether there is a port (24),
/// prefix length (23..16), port (15..0). All zero: never used, where a look-up ends.
pub mod tag {
    /// Somebody writes the slot.
    pub const BUSY: u32 = 1 << 30;
    /// An entry.
    pub const LIVE: u32 = 2 << 30;
    /// It was taken out, and a look-up goes on behind it. Taken again [`super::super::bucket::QUARANTINE`] ticks later.
    pub const DEAD: u32 = 3 << 30;
    /// The state.
    pub const STATE: u32 = 3 << 30;
    /// The entry has a port.
    pub const PORT: u32 = 1 << 24;

    /// Of a live prefix.
    #[inline(always)]
    #[must_use]
    pub const fn prefix(len: u32) -> u32 {
        LIVE | len << 16
    }
    /// Of a live pair; `width`: 32 or 128.
    #[inline(always)]
    #[must_use]
    pub const fn pair(width: u32, port: u32) -> u32 {
        LIVE | PORT | width << 16 | port
    }
}

/// [`SetHead::flags`]: programs find entries here and add none, nor give any more time (a twin's).
pub const SET_FROZEN: u32 = 1;

/// An entry of map `SETS`, by the set's index. The daemon writes what is there to configure; counters are atomic adds.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SetHead {
    /// 1 plus the index in [`SET_ARENAS`] of its arena's size; 0: it has none, and holds nothing.
    pub class: u32,
    /// [`SetKind`].
    pub kind: u32,
    /// `SET_*`.
    pub flags: u32,
    /// Ticks a second.
    pub rate: u32,
    /// Most entries (not of ports): rules add none beyond them.
    pub most: u64,
    /// Who changes the table holds it: 0, or the tick at which it was taken, which is never 0. One that is older than
    /// a second was left by somebody who died.
    pub lock: u64,
    /// Entries that rules added.
    pub added: u64,
    /// Entries that rules gave more time.
    pub renewed: u64,
    /// Entries that rules found no room for.
    pub refused: u64,
    /// Entries that rules didn't add because somebody else was changing the table.
    pub busy: u64,
    /// To come.
    pub _pad: [u64; 6],
}

/// Conditions and deeds of a rule that rows don't know, in the policy's arena, eight words. The first are its tests: 16
/// bits each for source, destination, source port and destination port, from the lowest on ([`test`]). The second: two
/// [`deed`]s of 16 bits each. The third: the deeds' time-outs, milliseconds, 32 bits each; 0: none. The fourth
/// to sixth: its limit ([`super::limit::how`]). The others are to come.
pub const ASK_WORDS: u32 = 8;

/// A test of [`ASK_WORDS`]: 1 plus the set's index (7..0), and how.
pub mod test {
    /// The set's index plus 1.
    pub const SET: u32 = 0xff;
    /// It must not hold it.
    pub const NOT: u32 = 1 << 15;
    /// Address and port of this end together.
    pub const PAIR: u32 = 1 << 14;
}

/// Most tests that are made of every packet before its rows are looked up: what they say is a part of what it is looked
/// up by ([`crate::classify::Fields::place`]).
pub const GATES: u32 = 3;

/// A test of [`super::table::RuleTable::gates`], 16 bits: 1 plus the set's index (7..0), and which end of the packet.
pub mod gate {
    /// The set's index plus 1.
    pub const SET: u32 = 0xff;
    /// The destination, not the source.
    pub const DESTINATION: u32 = 1 << 12;
    /// The port of this end.
    pub const PORT: u32 = 1 << 13;
    /// Address and port of this end together.
    pub const PAIR: u32 = 1 << 14;
}

/// A deed of [`ASK_WORDS`]: 1 plus the index of the set that the packet's end is added to (7..0), and how.
pub mod deed {
    /// The set's index plus 1.
    pub const SET: u32 = 0xff;
    /// An entry that is there gets its time anew.
    pub const RENEW: u32 = 1 << 15;
    /// With the port of this end.
    pub const PAIR: u32 = 1 << 14;
    /// The destination, not the source.
    pub const DESTINATION: u32 = 1 << 13;
}

plain_bytes!(SetHead => 112);
