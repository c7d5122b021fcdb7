//! IPv6 prefix translation (RFC 6296). Without state: each packet is asked anew, by its address and its
//! interface alone. Ingress gives destinations the inside prefix before anything else looks at them, egress
//! gives sources the outside prefix behind everything else; so flows and rules know the inside only.
//! An ICMPv6 error's quoted packet goes the other way than the error, and is translated with it.

use firewall_common::{
    abi::{
        nat::{MAX_NAT_RULES, NatRule},
        table::{Direction, RuleTable},
    },
    flow::nptv6,
};

use crate::{
    mapping::Side,
    maps::at_hand,
    opaque::{opaque, put},
    rules::{self, Which},
    work::Work,
};

/// No rule wants it, or `work.rewrite` says how.
pub const DONE: u32 = 0;
/// A rule wants it, and its address is one that can't be translated back (RFC 6296 section 3.5, 3.6).
pub const IMPOSSIBLE: u32 = 1;

/// Translates the packet at hand, at ingress the facts with it. `quotes`: it is an ICMPv6 error, and
/// `work.other` the packet that it carries. A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_prefix(generation: u32, at_egress: u32, quotes: u32) -> u32 {
    let Some((table, work)) = at_hand(generation) else {
        return DONE;
    };
    if at_egress == 0 {
        inwards(table, work, quotes != 0)
    } else {
        outwards(table, work, quotes != 0)
    }
}

#[inline(always)]
fn inwards(table: &RuleTable, work: &mut Work, quoted: bool) -> u32 {
    let mask = table.settings.prefix_in;
    if quoted {
        // What our side sent carries the outside prefix out there.
        let rule = met(table, work, mask, Direction::In, Which::QuotedSource);
        if rule.is_null() {
            return DONE;
        }
        // SAFETY: a place in the live table.
        if !nptv6::translate(&mut work.other.src, unsafe { &*rule }) {
            return IMPOSSIBLE;
        }
        work.rewrite.quoted = work.other.src;
        put(&mut work.rewrite.quotes, true);
        return DONE;
    }
    let rule = met(table, work, mask, Direction::In, Which::Destination);
    if rule.is_null() {
        return DONE;
    }
    // SAFETY: as above.
    if !nptv6::translate(&mut work.facts.dst, unsafe { &*rule }) {
        return IMPOSSIBLE;
    }
    work.rewrite.prefix = work.facts.dst;
    put(&mut work.rewrite.side, Side::Destination);
    DONE
}

#[inline(always)]
fn outwards(table: &RuleTable, work: &mut Work, quotes: bool) -> u32 {
    let mask = table.settings.prefix_out;
    let rule = met(table, work, mask, Direction::Out, Which::Source);
    if !rule.is_null() {
        work.rewrite.prefix = work.facts.src;
        // SAFETY: a place in the live table.
        if !nptv6::translate(&mut work.rewrite.prefix, unsafe { &*rule }) {
            return IMPOSSIBLE;
        }
        put(&mut work.rewrite.side, Side::Source);
    }
    if quotes {
        // What came in to our side carried the outside prefix out there.
        let rule = met(table, work, mask, Direction::Out, Which::QuotedDestination);
        if !rule.is_null() {
            work.rewrite.quoted = work.other.dst;
            // SAFETY: as above.
            if !nptv6::translate(&mut work.rewrite.quoted, unsafe { &*rule }) {
                return IMPOSSIBLE;
            }
            put(&mut work.rewrite.quotes, true);
        }
    }
    DONE
}

/// The first of the rules in `mask` that an address meets, or null.
#[inline(always)]
fn met(
    table: &RuleTable,
    work: &Work,
    mask: u64,
    direction: Direction,
    which: Which,
) -> *const NatRule {
    let set = rules::prefix_rules(table.size, work.generation, direction, which) & mask;
    if set == 0 {
        return core::ptr::null();
    }
    let index = opaque(set.trailing_zeros()) as usize & (MAX_NAT_RULES - 1);
    // SAFETY: the masked index is below the array's length.
    unsafe { table.nat.as_ptr().add(index) }
}
