//! Later fragments follow their first.

use firewall_common::{
    abi::frag::{FragFirst, FragKey},
    wire::{Facts, facts::IcmpKind},
};

use crate::{budget, maps::FRAGMENTS};

#[inline(always)]
fn key(f: &Facts) -> FragKey {
    FragKey {
        src: f.src,
        dst: f.dst,
        id: f.frag_id,
        proto: if f.family == 4 { f.proto } else { 0 },
        family: f.family,
        _pad: [0; 2],
    }
}

/// Remembers what a first fragment says about the rest.
#[inline(always)]
pub fn remember(f: &Facts) {
    let first = FragFirst {
        tick: budget::now(),
        sport: f.sport,
        dport: f.dport,
        proto: f.proto,
        tcp_flags: f.tcp_flags,
        kind: f.icmp as u8,
        _pad: 0,
    };
    // The LRU makes room; a failure means the rest counts as without a first.
    let _ = FRAGMENTS.insert(&key(f), &first, 0);
}

/// Gives a later fragment the transport facts of its first; `false` if that wasn't seen within `ticks`
/// (RFC 791 section 3.2 asks reassembly to wait 15 s at least, Linux waits 30).
#[inline(always)]
pub fn follow(f: &mut Facts, ticks: u32) -> bool {
    let Some(first) = FRAGMENTS.get_ptr(&key(f)) else {
        return false;
    };
    // SAFETY: a live map value. It may be replaced as we read; then both versions are of datagrams
    // with this very key, and either is right.
    let first = unsafe { core::ptr::read(first) };
    if budget::now().saturating_sub(first.tick) > u64::from(ticks) {
        return false;
    }
    f.sport = first.sport;
    f.dport = first.dport;
    f.proto = first.proto;
    f.tcp_flags = first.tcp_flags;
    f.icmp = match first.kind {
        1 => IcmpKind::Query,
        2 => IcmpKind::Answer,
        3 => IcmpKind::Error,
        _ => IcmpKind::Other,
    };
    true
}
