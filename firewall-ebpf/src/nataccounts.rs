//! Totals of ended translated flows: by rule, by inside host.

use firewall_common::{
    abi::{
        flow::{Flow, bits},
        nat::{ALIAS_KEEPS_PORT, ALIAS_ORIG_IS_A, NAT_HOSTS as HOSTS, NatTotals},
    },
    flow::hash::source4,
};

use crate::{
    atomic,
    maps::{ALIASES, NAT_HOSTS, NAT_RULES, PORTS},
    nat::ends,
    ports,
    table::{self, Aliases},
};

/// The row of an inside host, made where it has none.
#[inline(never)]
pub fn host_row(address: [u8; 4], seed: u64) -> Option<*mut NatTotals> {
    let number = u32::from_be_bytes(address);
    let owner = u64::from(number) | 1 << 32;
    let mut at = source4(address, seed) as u32;
    let mut turns = 0;
    while turns < 8 {
        let row = NAT_HOSTS.get_ptr_mut(at & (HOSTS as u32 - 1))?;
        // SAFETY: a live map value, an aligned word.
        unsafe {
            let seen = (&raw const (*row).owner).read_volatile();
            if seen == owner || (seen == 0 && atomic::swap_if(&raw mut (*row).owner, 0, owner)) {
                return Some(row);
            }
            if (&raw const (*row).owner).read_volatile() == owner {
                return Some(row);
            }
        }
        at += 1;
        turns += 1;
    }
    NAT_HOSTS.get_ptr_mut(HOSTS as u32)
}

/// Adds a flow's totals to a row; only that a mapping ended, where the row has them already.
#[inline(always)]
fn fold(totals: *mut NatTotals, flow: &Flow, has_them: bool) {
    // SAFETY: a live map value, aligned words.
    unsafe {
        atomic::add(&raw mut (*totals).ended, 1);
        if has_them {
            return;
        }
        atomic::add(&raw mut (*totals).packets, flow.packets);
        atomic::add(&raw mut (*totals).bytes, flow.bytes);
        atomic::add(&raw mut (*totals).reply_packets, flow.reply_packets);
        atomic::add(&raw mut (*totals).reply_bytes, flow.reply_bytes);
    }
}

/// Ends the mapping of a flow that was taken out of the table: its totals are kept, its aliases and its
/// port are free. A flow that was translated at both ends counts for both rules, and for the hosts at both;
/// where both are the same (a host that calls itself by its public address), it is two mappings, and what
/// it carried is there once.
#[inline(always)]
pub fn let_go(flow: &Flow, source: [u8; 4], seed: u64, now: u32) {
    let slot = flow.nat.wrapping_sub(1);
    let Some(alias) = ALIASES.get_ptr(slot) else { return };
    // SAFETY: a live map value; it is this flow's alone.
    let alias = unsafe { &*alias };
    let (rule, inner) = (alias.rule, alias.inner);
    let pool = if alias.flags & ALIAS_KEEPS_PORT != 0 { 0 } else { alias.pool };
    let (public, inside) = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
    let host = if flow.bits & bits::NAT_SOURCE != 0 { source } else { inside.0 };
    if let Some(totals) = NAT_RULES.get_ptr_mut(u32::from(rule)) {
        fold(totals, flow, false);
    }
    if let Some(totals) = host_row(host, seed) {
        fold(totals, flow, false);
    }
    table::remove::<Aliases>(slot, now);
    if inner != 0 {
        if let Some(entry) = ALIASES.get_ptr(inner - 1) {
            // SAFETY: a live map value, this flow's alone.
            let second = unsafe { (*entry).rule };
            if let Some(totals) = NAT_RULES.get_ptr_mut(u32::from(second)) {
                fold(totals, flow, second == rule);
            }
        }
        if let Some(totals) = host_row(inside.0, seed) {
            fold(totals, flow, inside.0 == host);
        }
        table::remove::<Aliases>(inner - 1, now);
    }
    if pool != 0
        && let Some(map) = PORTS.get_ptr_mut(u32::from(pool) - 1)
    {
        ports::free(map, u16::from_be_bytes(public.1));
    }
}
