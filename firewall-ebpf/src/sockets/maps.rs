//! Every map of the socket monitor. None is pinned: they end with the daemon.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    macros::{btf_map, map},
    maps::{Array, PerCpuArray, RingBuf},
};
use core::{ffi::c_void, ptr};
use firewall_common::abi::{
    counter::EventCounter,
    drops::SocketDrops,
    socket::{HeldSocket, SOCKET_CLASSES, Usage},
};

/// Storage of sockets; with BPF_F_CLONE an accepted socket gets a copy of its listener's. (The one in aya-ebpf has
/// its flags fixed.)
#[repr(C)]
pub struct SocketStorage<T, const FLAGS: usize> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: never read: the loader makes a map of its types.
unsafe impl<T, const FLAGS: usize> Sync for SocketStorage<T, FLAGS> {}

impl<T, const FLAGS: usize> SocketStorage<T, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The map, as helpers take it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}

/// What is kept of each socket. Written by whoever holds it and by the state machine; see `Usage`.
#[btf_map]
pub static USAGE: SocketStorage<Usage, { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize }> =
    SocketStorage::new();

/// Packets of each socket that the stack dropped: those that lost any.
#[btf_map]
pub static SOCKET_DROPS: SocketStorage<SocketDrops, { BPF_F_NO_PREALLOC as usize }> =
    SocketStorage::new();

/// The ring. Programs reserve under its own lock; the daemon drains it.
#[map]
pub static SOCKET_EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// What became of events, by class; atomic adds by every CPU.
#[map]
pub static SOCKET_COUNTERS: Array<EventCounter> = Array::with_max_entries(SOCKET_CLASSES as u32, 0);

/// The record that the iterator writes next; the daemon runs one at a time.
#[map]
pub static HELD: PerCpuArray<HeldSocket> = PerCpuArray::with_max_entries(1, 0);
