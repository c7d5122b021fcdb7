//! The seam of the classifier: facts in, the first rule that decides out.
//!
//! Each field is looked up to a row (a set of rules as bits, in rule order); the AND of the rows is
//! the set that matches. No helper is called and no map but the table is touched: a packet costs
//! about eight loads for the rows and eight a word of 64 rules.

use firewall_common::{
    abi::{
        event::Class,
        iface::IFACE_SLOTS,
        reason::Reason,
        table::{
            ACTION_LOG, Direction, MAX_ROWS, MAX_RULES, RuleAction, RuleTable, SLOT_DEFAULT_IN,
            SLOT_DEFAULT_OUT, State, V4_LEAVES, V4_POINTER, V4Map, V6_BOUNDS, V6Map, Verdict,
            WORDS,
        },
    },
    wire::{Facts, icmp, transport},
};

use crate::{
    counters,
    events::{self, Told},
    work::Work,
};

/// What the classifier is asked.
#[derive(Clone, Copy)]
pub struct Query {
    /// Direction of the hook that judges.
    pub direction: Direction,
    /// Slot of its interface.
    pub iface: u8,
    /// What connection tracking says.
    pub state: State,
    /// TCP flags to judge by.
    pub tcp_flags: u8,
}

/// Its answer.
#[derive(Clone, Copy)]
pub struct Match {
    /// Allow, Drop or Reject.
    pub verdict: Verdict,
    /// Rule or Default.
    pub reason: Reason,
    /// Slot of the rule.
    pub slot: u16,
}

/// Reads `array[index & mask]`, where `mask + 1` is the array's length: a bound that the verifier sees.
macro_rules! at {
    ($array:expr, $index:expr, $len:expr) => {{
        const MASK: usize = $len - 1;
        const { assert!($len & MASK == 0) };
        // SAFETY: the masked index is below the array's length.
        unsafe { *$array.get_unchecked($index as usize & MASK) }
    }};
}

#[inline(always)]
fn v4(map: &V4Map, address: &[u8; 16]) -> u16 {
    let address = u32::from_be_bytes([address[0], address[1], address[2], address[3]]);
    let entry = at!(map.top, address >> 16, 65_536);
    if entry & V4_POINTER == 0 {
        return entry as u16;
    }
    let low = address & 0xffff;
    let mut pos = entry & 0x00ff_ffff;
    let mut step = (1u32 << (entry >> 24 & 0x0f)) >> 1;
    let mut left = 16;
    while step != 0 && left != 0 {
        let probe = pos + step;
        if at!(map.leaves, probe, V4_LEAVES) >> 16 <= low {
            pos = probe;
        }
        step >>= 1;
        left -= 1;
    }
    at!(map.leaves, pos, V4_LEAVES) as u16
}

#[inline(always)]
fn v6(map: &V6Map, a: &[u8; 16]) -> u16 {
    let hi = u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]);
    let lo = u64::from_be_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]);
    let mut pos = 0u32;
    let mut step = (1u32 << (map.log2_len & 0x0f)) >> 1;
    let mut left = 16;
    while step != 0 && left != 0 {
        let probe = pos + step;
        let start = at!(map.hi, probe, V6_BOUNDS);
        if start < hi || (start == hi && at!(map.lo, probe, V6_BOUNDS) <= lo) {
            pos = probe;
        }
        step >>= 1;
        left -= 1;
    }
    at!(map.row, pos, V6_BOUNDS)
}

#[inline(always)]
fn row(table: &RuleTable, index: u16) -> &[u64; WORDS] {
    // SAFETY: the masked index is below the array's length.
    unsafe { table.rows.get_unchecked(index as usize & (MAX_ROWS - 1)) }
}

/// Judges a packet; counts and logs every rule it meets on the way.
#[inline(always)]
pub fn classify(table: &RuleTable, facts: &Facts, query: Query, work: &Work) -> Match {
    let (src, dst) = if facts.family == 4 {
        (v4(&table.src4, &facts.src), v4(&table.dst4, &facts.dst))
    } else {
        (v6(&table.src6, &facts.src), v6(&table.dst6, &facts.dst))
    };
    let is_icmp = (facts.proto == icmp::PROTO_ICMP && facts.family == 4)
        || (facts.proto == icmp::PROTO_ICMPV6 && facts.family == 6);
    let sport = if facts.has_ports() {
        at!(table.sport, u16::from_be_bytes(facts.sport), 65_536)
    } else {
        table.no_port[0]
    };
    let dport = if facts.has_ports() || is_icmp {
        at!(table.dport, u16::from_be_bytes(facts.dport), 65_536)
    } else {
        table.no_port[1]
    };
    let flags = if facts.proto == transport::TCP {
        at!(table.tcp_flags, query.tcp_flags, 256)
    } else {
        table.no_port[2]
    };
    let meta = query.direction as usize * IFACE_SLOTS + (query.iface as usize & (IFACE_SLOTS - 1));
    let rows = [
        row(table, src),
        row(table, dst),
        row(table, sport),
        row(table, dport),
        row(table, flags),
        row(table, at!(table.proto, facts.proto, 256)),
        row(table, at!(table.meta, meta, 2 * IFACE_SLOTS)),
        row(table, at!(table.state, query.state as u8, 4)),
    ];
    let words = table.settings.words as usize;
    let mut w = 0;
    while w < WORDS && w < words {
        let mut set = rows[0][w]
            & rows[1][w]
            & rows[2][w]
            & rows[3][w]
            & rows[4][w]
            & rows[5][w]
            & rows[6][w]
            & rows[7][w];
        let mut left = 64;
        while set != 0 && left != 0 {
            let index = w * 64 + set.trailing_zeros() as usize;
            let action: RuleAction = at!(table.actions, index, MAX_RULES);
            counters::rule_hit(action.slot, work.packets, work.bytes, work.now);
            let verdict = match action.verdict {
                1 => Verdict::Allow,
                2 => Verdict::Drop,
                3 => Verdict::Reject,
                _ => Verdict::Continue,
            };
            if action.flags & ACTION_LOG != 0 {
                let limit = table.settings.sample_budget;
                let told = Told {
                    class: Class::Log,
                    verdict,
                    reason: Reason::Rule,
                    reply: false,
                };
                events::emit_sampled(work, told, action.slot, limit);
            }
            if verdict != Verdict::Continue {
                return Match {
                    verdict,
                    reason: Reason::Rule,
                    slot: action.slot,
                };
            }
            set &= set - 1;
            left -= 1;
        }
        w += 1;
    }
    let (raw, slot) = match query.direction {
        Direction::In => (table.settings.defaults[0], SLOT_DEFAULT_IN),
        Direction::Out => (table.settings.defaults[1], SLOT_DEFAULT_OUT),
    };
    counters::rule_hit(slot, work.packets, work.bytes, work.now);
    Match {
        verdict: refusal(raw),
        reason: Reason::Default,
        slot,
    }
}

/// A verdict from the settings, where everything but drop and reject means allow.
#[inline(always)]
pub fn refusal(raw: u8) -> Verdict {
    match raw {
        2 => Verdict::Drop,
        3 => Verdict::Reject,
        _ => Verdict::Allow,
    }
}
