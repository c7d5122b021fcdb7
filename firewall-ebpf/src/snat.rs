//! The source of a flow that leaves: which rule gives it a public one, and which (RFC 3022 section 2.2). In
//! steps, each a global function with a frame of its own: together they would be more than a chain of calls
//! may have.

use firewall_common::{
    abi::{
        flow::bits,
        nat::{ALIAS_HAIRPIN, NAT_BLOCKS, NAT_ENDPOINT_INDEPENDENT, NatKind},
        table::RuleTable,
    },
    flow::hash::source4,
};

use crate::{
    atomic, classify, endpoints, events,
    localports::Lent,
    maps::{ALIASES, FLOWS4, NAT_RULES, WORK},
    nat::{
        BUSY, EXHAUSTED, IMPOSSIBLE, at_hand, begin, forget, has_own_ports, one_to_one,
        own_address, rule, settle, sluice_reserve,
    },
    nataccounts, ports,
    table::{self, Aliases},
    work::Work,
};

/// Gives the flow in `slot` its public source at its first egress, where a rule asks for one. 0, or why
/// not; then a flow that was `entered` here a moment ago is gone again.
#[inline(always)]
pub fn at_egress(generation: u32, slot: u32, entered: bool) -> u32 {
    let mut why = sluice_source(generation, slot, u32::from(!entered));
    if why >= CHOOSE {
        let found = match why {
            CHOOSE_TUPLE => sluice_reserve_own(),
            CHOOSE_ENDPOINT => match endpoints::sluice_endpoint() {
                endpoints::NONE => match ports::sluice_take_port(1) {
                    0 => endpoints::sluice_keep(),
                    why => why,
                },
                why => why,
            },
            _ => ports::sluice_take_port(0),
        };
        why = sluice_chosen(found as u32, why);
    }
    if why != 0 && entered {
        sluice_forget(slot);
    }
    why
}

/// [`sluice_source`]: a port has to be chosen.
const CHOOSE: u32 = 0x100;
/// There is nothing to choose: this tuple or none.
const CHOOSE_TUPLE: u32 = 0x101;
/// The endpoint keeps its port.
const CHOOSE_ENDPOINT: u32 = 0x102;

/// Which source the flow in `slot` is to have: into `work.mapping`. 0: its own; `CHOOSE`...; or why there is
/// none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_source(generation: u32, slot: u32, other: u32) -> u32 {
    let Some((table, work)) = at_hand(generation) else { return BUSY };
    source(table, slot, other, work)
}

/// Reserves the tuple as it is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_reserve_own() -> u64 {
    let Some(work) = WORK.get_ptr(0) else { return u64::from(BUSY) };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let port = u16::from_be_bytes(unsafe { (*work).mapping.sport });
    if sluice_reserve(u32::from(port)) == 0 { 0 } else { u64::from(EXHAUSTED) }
}

/// Last step: the mapping stands, but that a chosen port is still to be looked at (see `localports`); or its
/// failure is counted.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_chosen(why: u32, choice: u32) -> u32 {
    if why == 0 {
        if choice == CHOOSE_TUPLE {
            settle(bits::NAT_SOURCE);
        } else if let Some(work) = WORK.get_ptr_mut(0) {
            let lent = if choice == CHOOSE_ENDPOINT { Lent::ToEndpoint } else { Lent::Yes };
            // SAFETY: this CPU's own entry; programs of one CPU don't nest.
            unsafe { (*work).lent = lent };
        }
        return 0;
    }
    if let Some(work) = WORK.get_ptr(0) {
        // SAFETY: as above.
        count_failure(unsafe { &*work });
    }
    why
}

/// Counts that `work.mapping` got no port: by its rule, by its host.
#[inline(always)]
pub fn count_failure(work: &Work) {
    if let Some(totals) = NAT_RULES.get_ptr_mut(u32::from(work.mapping.rule)) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*totals).failures, 1) };
    }
    if let Some(totals) = nataccounts::host_row(work.mapping.src, work.seed) {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*totals).failures, 1) };
    }
}

/// Takes the flow in `slot`, which came to nothing, out again.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_forget(slot: u32) -> u32 {
    if let Some(work) = WORK.get_ptr(0) {
        // SAFETY: as above.
        forget(slot, unsafe { &*work });
    }
    0
}

#[inline(always)]
fn source(table: &RuleTable, slot: u32, other: u32, work: &mut Work) -> u32 {
    let Some(record) = FLOWS4.get_ptr_mut(slot) else { return BUSY };
    let met = classify::nat_match(table, work, table.settings.nat_out);
    // SAFETY: a live map value.
    let (nat, if_in) = unsafe { ((*record).flow.nat, (*record).flow.if_in) };
    let mut kind = NatKind::None as u8;
    let mut independent = false;
    let mut range = [1024, 65_535];
    begin(slot, other != 0, work);
    let mut pool = u32::from(work.iface);
    if met != 0 {
        let rule = rule(table, met - 1);
        kind = rule.kind;
        range = rule.ports;
        independent = rule.flags & NAT_ENDPOINT_INDEPENDENT != 0;
        work.mapping.rule = rule.slot;
        if kind == NatKind::StaticOut as u8 {
            work.mapping.to = one_to_one(rule, work.mapping.src);
        } else if kind == NatKind::Source as u8 {
            let mut pick = 0;
            if rule.flags & NAT_BLOCKS != 0 && rule.block != 0 {
                // RFC 7422: address and ports follow from the host's place in its prefix.
                let host = u32::from_be_bytes(work.mapping.src)
                    .wrapping_sub(u32::from_be_bytes(rule.inside));
                let span = u32::from(rule.ports[1]) - u32::from(rule.ports[0]) + 1;
                let each = (span / u32::from(rule.block)).max(1);
                pick = host / each;
                let low = u32::from(rule.ports[0]) + (host % each) * u32::from(rule.block);
                range = [low as u16, (low + u32::from(rule.block) - 1) as u16];
            } else if rule.addresses > 1 {
                // RFC 4787 REQ-2: one host keeps to one address.
                pick = (source4(work.mapping.src, work.seed) as u32) % u32::from(rule.addresses);
            }
            if pick >= u32::from(rule.addresses) {
                return EXHAUSTED;
            }
            work.mapping.to = u32::from_be_bytes(rule.to).wrapping_add(pick).to_be_bytes();
            pool = u32::from(rule.pool) + pick;
        }
    } else if nat != 0
        && if_in == work.iface
        && let Some(alias) = ALIASES.get_ptr(nat - 1)
    {
        // SAFETY: a live map value.
        let alias = unsafe { &*alias };
        if alias.flags & ALIAS_HAIRPIN != 0 {
            kind = NatKind::Masquerade as u8;
            work.mapping.rule = alias.rule;
        }
    }
    if kind == NatKind::None as u8 {
        return 0;
    }
    if kind == NatKind::Masquerade as u8 {
        work.mapping.to = own_address(work);
        if work.mapping.to == [0; 4] {
            return IMPOSSIBLE;
        }
        if work.mapping.to == work.mapping.src && !is_lent(work) {
            return 0;
        }
    }
    // SAFETY: a live map value.
    if !events::first_to(unsafe { &raw mut (*record).flow }, bits::NAT_SETTLED) {
        return BUSY;
    }
    if kind == NatKind::StaticOut as u8 || !has_own_ports(work.mapping.proto) {
        return CHOOSE_TUPLE;
    }
    let pool = pool * 3 + ports::class(work.mapping.proto);
    work.mapping.pool = pool as u16 + 1;
    work.mapping.ports = range;
    if independent { CHOOSE_ENDPOINT } else { CHOOSE }
}

/// Whether the tuple of a packet of the machine's own was lent to somebody inside.
#[inline(always)]
fn is_lent(work: &Work) -> bool {
    let Some(control) = crate::gate::control() else { return false };
    // SAFETY: only IPv4 keys come here.
    let key = unsafe { &work.key.v4 };
    let mut at = 0;
    !table::find::<Aliases>(control, key, work.hash, &mut at).is_null()
}
