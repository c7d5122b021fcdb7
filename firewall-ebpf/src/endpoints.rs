//! Endpoint-independent mapping (RFC 4787 REQ-1, RFC 5382 REQ-1): an endpoint inside keeps its public endpoint,
//! whomever it talks to. What an endpoint has stands in the table of aliases under a key of its own
//! (`firewall_common::abi::nat::endpoint_key`). It outlives its flows until the daemon's count of ports finds
//! that nobody uses it; its port is nobody else's until then.

use firewall_common::{
    abi::nat::{ALIAS_ENDPOINT, ALIAS_KEEPS_PORT, ALIAS_ORIG_IS_A, Alias4, endpoint_key},
    flow::hash::hash4,
};

use crate::{
    atomic,
    maps::{ALIASES, PORTS, WORK},
    nat::{BUSY, EXHAUSTED, ends, sluice_reserve},
    table::{self, Aliases, Claim, Terms},
    words,
    work::Work,
};

/// [`sluice_endpoint`]: it has none.
pub const NONE: u64 = 0x100;

/// Gives `work.mapping` the public endpoint that its source has; 0, or why not, or [`NONE`]. A global function,
/// as the other: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_endpoint() -> u64 {
    let (Some(control), Some(work)) = (crate::gate::control(), WORK.get_ptr_mut(0)) else {
        return u64::from(BUSY);
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let m = &mut work.mapping;
    m.flags |= ALIAS_KEEPS_PORT as u8;
    m.endpoint.v4 = endpoint_key(m.src, m.sport, m.proto, m.rule);
    // SAFETY: written a moment ago; nobody writes it below.
    let key = unsafe { &*(&raw const m.endpoint.v4) };
    let mut slot = 0;
    let known = table::find::<Aliases>(control, key, hash4(key, control.seed), &mut slot);
    if known.is_null() {
        return NONE;
    }
    let now = work.now as u32;
    // SAFETY: a live map value, which doesn't change while it lives.
    let (to, port) = unsafe { ((*known).flow.to_ne_bytes(), (*known).inner) };
    let m = &work.mapping;
    if to != m.to || port < u32::from(m.ports[0]) || port > u32::from(m.ports[1]) {
        // A newer policy has other addresses or ports.
        table::remove::<Aliases>(slot, now);
        return NONE;
    }
    if !table::touch::<Aliases>(slot, now) {
        return u64::from(BUSY);
    }
    let pool = u32::from(m.pool).wrapping_sub(1);
    match sluice_reserve(port) {
        0 => {
            made(pool);
            0
        }
        3 => u64::from(BUSY),
        _ => u64::from(EXHAUSTED),
    }
}

/// Remembers the port that the mapping has just got as that of its source; 0, or why not: then the port is
/// given back by the next count.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_keep() -> u64 {
    let (Some(control), Some(work)) = (crate::gate::control(), WORK.get_ptr_mut(0)) else {
        return u64::from(BUSY);
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let now = work.now as u32;
    let m = &mut work.mapping;
    // SAFETY: `sluice_endpoint` wrote it; nobody writes it below.
    let key = unsafe { &*(&raw const m.endpoint.v4) };
    let hash = hash4(key, control.seed);
    let terms = Terms { half: false, evict: false, now };
    let why = match table::claim::<Aliases>(control, key, hash, terms, &mut m.scan) {
        Claim::Fresh | Claim::Evicted => {
            let slot = m.scan.slot;
            if let Some(record) = ALIASES.get_ptr_mut(slot)
                && let Some(alias) = ALIASES.get_ptr(m.alias)
            {
                // SAFETY: live map values; the slot is ours until it is published, the alias is our flow's.
                unsafe {
                    let port = ends(&(*alias).key, (*alias).flags & ALIAS_ORIG_IS_A != 0).0.1;
                    let Alias4 { key, flow, rule, pool, flags, inner } = &mut *record;
                    words::copy(key, &raw const m.endpoint.v4);
                    (*flow, *rule, *pool) = (u32::from_ne_bytes(m.to), m.rule, m.pool);
                    (*flags, *inner) = (ALIAS_ENDPOINT, u32::from(u16::from_be_bytes(port)));
                }
            }
            table::publish::<Aliases>(slot, hash, terms);
            return 0;
        }
        Claim::Full => EXHAUSTED,
        // Another CPU has just given it one.
        Claim::Taken | Claim::Busy => BUSY,
    };
    table::remove::<Aliases>(m.alias, now);
    u64::from(why)
}

/// Forgets what the endpoint of `work.mapping` has.
#[inline(always)]
pub fn forget(work: &Work) {
    let Some(control) = crate::gate::control() else { return };
    // SAFETY: `sluice_endpoint` wrote it.
    let key = unsafe { &work.mapping.endpoint.v4 };
    let mut slot = 0;
    if !table::find::<Aliases>(control, key, hash4(key, control.seed), &mut slot).is_null() {
        table::remove::<Aliases>(slot, work.now as u32);
    }
}

/// Counts a mapping on a port that was in use by its own endpoint.
#[inline(always)]
fn made(pool: u32) {
    if let Some(map) = PORTS.get_ptr_mut(pool) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*map).made, 1) };
    }
}
