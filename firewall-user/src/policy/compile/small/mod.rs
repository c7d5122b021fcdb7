//! Policies of few rules, all rows of one length: the rules by owner.

mod address;
mod bits;
mod collect;
mod sweep;

use super::super::ast::Family;
use super::super::ranges::AddrSet;
use super::super::resolved::Resolved;
use super::{Ask, CompileError, Part, icmp_ranges};
pub use bits::{Bits, Pool};
use collect::Collector;
use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::small::{SmallTable, V4_LEAVES, V6_BOUNDS};
use firewall_common::abi::table::{Direction, State};

/// Fields with few values: each value is asked of each rule.
pub fn small_fields(asks: &[Ask<'_>], table: &mut SmallTable, pool: &mut Pool) {
    let mut row = |test: &dyn Fn(&Ask<'_>) -> bool| {
        let mut bits = Bits::default();
        asks.iter().filter(|ask| test(ask)).for_each(|ask| bits.set(ask.bit));
        pool.intern(&bits)
    };
    for direction in Direction::ALL {
        for slot in 0..IFACE_SLOTS {
            table.meta[direction.raw() as usize * IFACE_SLOTS + slot] = row(&|ask| {
                ask.when.direction.is_none_or(|d| d == *direction)
                    && ask.on.as_ref().is_none_or(|on| on.slots[slot] != on.negated)
            });
        }
    }
    for proto in 0..=u8::MAX {
        table.proto[usize::from(proto)] =
            row(&|ask| ask.when.protos.as_ref().is_none_or(|protos| protos.contains(&proto)));
    }
    for flags in 0..=u8::MAX {
        table.tcp_flags[usize::from(flags)] =
            row(&|ask| ask.when.flags.is_none_or(|f| flags & f.mask == f.value));
    }
    for state in State::ALL {
        table.state[state.raw() as usize] =
            row(&|ask| ask.when.states.as_ref().is_none_or(|states| states.contains(state)));
    }
    table.no_port[2] = row(&|ask| ask.when.flags.is_none());
}

/// Ports, and ICMP's type and code, which live in the destination ports' table. The two don't mix:
/// a rule that asks for ports names protocols with ports only, one that asks for types names ICMP.
pub fn ports(asks: &[Ask<'_>], resolved: &Resolved, table: &mut SmallTable, pool: &mut Pool) {
    let (mut source, mut destination) = (Collector::default(), Collector::default());
    for Ask { bit, when, .. } in asks {
        match &when.src.ports {
            None => source.any.set(*bit),
            Some(list) => source.add(*bit, list.negated, resolved.port_ranges(list)),
        }
        match (&when.dst.ports, &when.icmp) {
            (Some(list), _) => destination.add(*bit, list.negated, resolved.port_ranges(list)),
            (None, Some(icmp)) => destination.add(*bit, false, icmp_ranges(icmp)),
            (None, None) => destination.any.set(*bit),
        }
    }
    table.no_port[0] = pool.intern(&source.any);
    table.no_port[1] = pool.intern(&destination.any);
    for (collector, rows) in [(source, &mut table.sport), (destination, &mut table.dport)] {
        let steps = sweep::sweep(&collector.field(|ranges| ranges), pool);
        for (i, (start, row)) in steps.iter().enumerate() {
            let end = steps.get(i + 1).map_or(rows.len(), |(next, _)| usize::from(*next));
            rows[usize::from(*start)..end].fill(*row);
        }
    }
}

pub fn addresses(
    asks: &[Ask<'_>],
    resolved: &Resolved,
    table: &mut SmallTable,
    pool: &mut Pool,
) -> Result<(), CompileError> {
    let (mut v4, mut v6) = (Bits::default(), Bits::default());
    for Ask { bit, when, .. } in asks {
        if when.family != Some(Family::V6) {
            v4.set(*bit);
        }
        if when.family != Some(Family::V4) {
            v6.set(*bit);
        }
    }
    let parts =
        [(Part::Ipv4Sources, Part::Ipv6Sources), (Part::Ipv4Destinations, Part::Ipv6Destinations)];
    for (end, (leaves, bounds)) in parts.into_iter().enumerate() {
        let mut collector: Collector<AddrSet> = Collector::default();
        for Ask { bit, when, .. } in asks {
            match if end == 0 { &when.src.addrs } else { &when.dst.addrs } {
                None => collector.any.set(*bit),
                Some(list) => collector.addresses(*bit, list, resolved),
            }
        }
        let mut field = collector.field(|set| &set.v4);
        field.mask = Some(v4);
        let steps4 = sweep::sweep(&field, pool);
        let mut field = collector.field(|set| &set.v6);
        field.mask = Some(v6);
        let steps6 = sweep::sweep(&field, pool);
        let (map4, map6) = if end == 0 {
            (&mut table.src4, &mut table.src6)
        } else {
            (&mut table.dst4, &mut table.dst6)
        };
        let used = address::fill_v4(map4, &steps4);
        CompileError::check(leaves, used, V4_LEAVES)?;
        let used = address::fill_v6(map6, &steps6);
        CompileError::check(bounds, used, V6_BOUNDS)?;
    }
    Ok(())
}
