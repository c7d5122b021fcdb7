//! Later fragments follow their first.

use firewall_common::{
    abi::frag::{FragFirst, FragKey},
    wire::facts::IcmpKind,
};

use crate::{budget, maps::FRAGMENTS, work::Work};

#[inline(always)]
fn set_key(work: &mut Work) {
    let f = &work.facts;
    work.frag_key = FragKey {
        src: f.src,
        dst: f.dst,
        id: f.frag_id,
        proto: if f.family == 4 { f.proto } else { 0 },
        family: f.family,
        _pad: [0; 2],
    };
}

/// Remembers what a first fragment says about the rest.
#[inline(always)]
pub fn remember(work: &mut Work) {
    set_key(work);
    let f = &work.facts;
    work.frag_first = FragFirst {
        tick: budget::now(),
        sport: f.sport,
        dport: f.dport,
        proto: f.proto,
        tcp_flags: f.tcp_flags,
        kind: f.icmp as u8,
        _pad: 0,
    };
    // The LRU makes room; a failure means the rest counts as without a first.
    let _ = FRAGMENTS.insert(&work.frag_key, &work.frag_first, 0);
}

/// Gives a later fragment the transport facts of its first; `false` if that wasn't seen within `ticks`
/// (RFC 791 section 3.2 asks reassembly to wait 15 s at least, Linux waits 30).
#[inline(always)]
pub fn follow(work: &mut Work, ticks: u32) -> bool {
    set_key(work);
    let Some(first) = FRAGMENTS.get_ptr(&work.frag_key) else { return false };
    // SAFETY: a live map value. It may be replaced as we read; then both versions are of datagrams
    // with this very key, and either is right.
    let first = unsafe { &*first };
    if budget::now().saturating_sub(first.tick) > u64::from(ticks) {
        return false;
    }
    let f = &mut work.facts;
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
