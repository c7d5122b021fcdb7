//! Rules by owner: what a policy says of processes, judged where they call for the network.
//!
//! The packet's part of such a rule is compiled into a [`SmallTable`]; who calls is looked up
//! to one row more for each of five fields. (Keys stand at multiples of eight: programs make them on their stack, where
//! the verifier wants every access aligned, and the compiler joins what stands side by side.) Live is what `CONTROL.generation` says, as with the filter's tables: both
//! change in one word.

use super::{plain_bytes, small::SmallTable, socket::Process};
use bytemuck::{Pod, Zeroable};

/// Longest name of a unit, with the zero behind it.
pub const UNIT_NAME: usize = 128;

/// [`OwnerTable::flags`]: some rule is about what comes in; else that isn't looked at.
pub const OWNER_INCOMING: u32 = 1;
/// [`OwnerTable::flags`]: some rule asks for a unit or a cgroup; else they aren't looked for.
pub const OWNER_PLACES: u32 = 2;

/// Field of an owner, as an index of [`OwnerTable::unlisted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum OwnerField {
    /// `user`.
    User = 0,
    /// `exe`.
    Exe = 1,
    /// `process`.
    Process = 2,
    /// `unit`.
    Unit = 3,
    /// `cgroup`.
    Cgroup = 4,
}

/// Number of [`OwnerField`]s.
pub const OWNER_FIELDS: usize = 5;

/// One whole policy's rules by owner: an entry of map `OWNER_TABLES`, as `RuleTable` is one of `TABLES`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct OwnerTable {
    /// Rows of the call (direction, protocol, addresses, ports), actions, settings. No rule of it is among the
    /// filter's.
    pub rules: SmallTable,
    /// Row of whoever isn't in the field's map, by [`OwnerField`].
    pub unlisted: [u16; OWNER_FIELDS],
    /// Zero.
    pub _pad: u16,
    /// `OWNER_*`.
    pub flags: u32,
}

/// Key of map `OWNER_USERS`. In every key `table` is the index of the table that the row is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct UserKey {
    /// User, as numbered in the first user namespace.
    pub uid: u32,
    /// See the type.
    pub table: u32,
}

/// Key of map `OWNER_EXES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct ExeKey {
    /// Inode of the file.
    pub inode: u64,
    /// File system, as the kernel numbers it (`s_dev`).
    pub device: u32,
    /// See [`UserKey`].
    pub table: u32,
}

/// Key of map `OWNER_PROCESSES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct NameKey {
    /// Name of the process's first thread, filled up with zeros.
    pub comm: [u8; 16],
    /// See [`UserKey`].
    pub table: u32,
    /// Zero.
    pub _pad: u32,
}

/// Key of map `OWNER_UNITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct UnitKey {
    /// Name of the unit's directory among the cgroups, filled up with zeros.
    pub name: [u8; UNIT_NAME],
    /// See [`UserKey`].
    pub table: u32,
    /// Zero.
    pub _pad: u32,
}

/// Key of maps `OWNER_CGROUPS` (those that rules name) and `OWNER_PLACES` (those that were met).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct CgroupKey {
    /// Inode of its directory (cgroup v2).
    pub id: u64,
    /// See [`UserKey`].
    pub table: u32,
    /// Zero.
    pub _pad: u32,
}

/// Rows of a cgroup: the value of `OWNER_PLACES`, worked out once for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct PlaceRows {
    /// Row of its unit.
    pub unit: u16,
    /// Row of the nearest cgroup at or above it that rules name.
    pub cgroup: u16,
}

/// What is kept of a socket, in its own storage: who made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Owned {
    /// Its maker; one older than the rules: who held it when they came.
    pub owner: Process,
    /// Cookie of its network namespace.
    pub netns: u64,
}

/// Key of map `TALKS`: a socket without a connection, and whom it exchanges datagrams with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct TalkKey {
    /// Cookie of the socket.
    pub socket: u64,
    /// Address of the other end; IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// Its port, big-endian; 0 where there are none.
    pub port: [u8; 2],
    /// Zero.
    pub _pad: [u8; 6],
}

/// The one entry of map `OWNER_COUNTERS`. Atomic adds by every CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct OwnerCounter {
    /// Calls and packets that were judged.
    pub judged: u64,
    /// Packets of sockets whose maker isn't known (the kernel's own have none): not judged.
    pub unknown: u64,
    /// Cgroups that found no room in `OWNER_PLACES`: looked at again at each call.
    pub places_full: u64,
    /// Packets whose cgroup was in `OWNER_PLACES` no more: judged as of no unit.
    pub places_missed: u64,
}

plain_bytes!(
    OwnerTable => size_of::<SmallTable>() + 16,
    UserKey => 8,
    ExeKey => 16,
    NameKey => 24,
    UnitKey => UNIT_NAME + 8,
    CgroupKey => 16,
    PlaceRows => 4,
    Owned => 64,
    TalkKey => 32,
    OwnerCounter => 32
);
