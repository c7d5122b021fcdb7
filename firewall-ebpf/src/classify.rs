//! The seam of the classifier: facts in, the first rule that decides out.
//!
//! Each field is looked up to a row (a set of rules as bits, in rule order); the AND of the rows is
//! the set that matches. No helper is called and no map but the table is touched: a packet costs
//! about eight loads for the rows and eight a word of 64 rules.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use firewall_common::{
    abi::{
        event::Class,
        iface::IFACE_SLOTS,
        reason::Reason,
        table::{
            ACTION_LOG, Direction, MAX_CONTINUES, MAX_RULES, RuleAction, RuleTable,
            SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, STATES, State, Verdict, WORDS,
        },
    },
    wire::{icmp, transport},
};

use crate::{
    counters,
    events::{self, Told},
    lookup::{at, row, v4, v6},
    maps::{TABLES, WORK},
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
    /// Judge `work.other`, not `work.facts`.
    pub other: bool,
}

impl Query {
    /// In one register: a call takes five at most.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        self.direction as u64
            | (self.iface as u64) << 8
            | (self.state as u64) << 16
            | (self.tcp_flags as u64) << 24
            | (self.other as u64) << 32
    }
    #[inline(always)]
    fn unpack(raw: u64) -> Self {
        Self {
            direction: if raw & 1 == 0 { Direction::In } else { Direction::Out },
            iface: (raw >> 8) as u8,
            state: match raw >> 16 & 7 {
                0 => State::New,
                1 => State::Established,
                2 => State::Related,
                3 => State::Invalid,
                _ => State::Untracked,
            },
            tcp_flags: (raw >> 24) as u8,
            other: raw >> 32 & 1 != 0,
        }
    }
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
    /// `ACTION_*` of the rule.
    pub flags: u8,
}

impl Match {
    #[inline(always)]
    fn pack(self) -> u64 {
        self.verdict as u64
            | (matches!(self.reason, Reason::Rule) as u64) << 8
            | (self.slot as u64) << 16
            | (self.flags as u64) << 32
    }
    /// From what [`classify`] returned.
    #[inline(always)]
    pub fn unpack(raw: u64) -> Self {
        Self {
            verdict: refusal(raw as u8),
            reason: if raw >> 8 & 1 != 0 { Reason::Rule } else { Reason::Default },
            slot: (raw >> 16) as u16,
            flags: (raw >> 32) as u8,
        }
    }
}

/// What a rule's verdict means where it decides.
#[inline(always)]
fn decided(action: RuleAction) -> Verdict {
    match action.verdict {
        1 => Verdict::Allow,
        2 => Verdict::Drop,
        3 => Verdict::Reject,
        _ => Verdict::Continue,
    }
}

/// Counts the packet on the rule, and logs it if the rule says so.
#[inline(always)]
fn meet(table: &RuleTable, index: usize, work: &Work) -> RuleAction {
    let action: RuleAction = at!(table.actions, index, MAX_RULES);
    counters::rule_hit(action.slot, work.packets, work.bytes, work.now);
    if action.flags & ACTION_LOG != 0 {
        let verdict = decided(action);
        let told = Told { class: Class::Log, verdict, reason: Reason::Rule, reply: false };
        events::emit_sampled(told, action.slot, &table.settings);
    }
    action
}

/// Rows of the eight fields.
pub type Rows = [u16; 8];

/// The rules that a packet meets at word `w` of the rows: all conditions hold.
#[inline(always)]
fn word(table: &RuleTable, rows: &Rows, w: usize) -> u64 {
    row(table, rows[0])[w]
        & row(table, rows[1])[w]
        & row(table, rows[2])[w]
        & row(table, rows[3])[w]
        & row(table, rows[4])[w]
        & row(table, rows[5])[w]
        & row(table, rows[6])[w]
        & row(table, rows[7])[w]
}

/// What [`pass_by`] needs.
struct Walk<'a> {
    table: &'a RuleTable,
    work: &'a Work,
    first: usize,
}

/// One rule that only counts or logs, number `i` of them; 1 ends the walk.
extern "C" fn pass_by(i: u64, ctx: *mut c_void) -> i64 {
    // SAFETY: `classify` hands over a live `Walk`.
    let walk = unsafe { &*ctx.cast::<Walk>() };
    let index = usize::from(at!(walk.table.continues, i, MAX_CONTINUES)) & (MAX_RULES - 1);
    if index > walk.first {
        return 1;
    }
    if word(walk.table, &walk.work.rows, index / 64) >> (index % 64) & 1 != 0 {
        meet(walk.table, index, walk.work);
    }
    0
}

/// Looks every field up: `work.rows`. Out of line, so that its frame is gone before a rule is met.
#[inline(never)]
fn look_up(table: &RuleTable, query: Query, work: &mut Work) {
    let facts = if query.other { &work.other } else { &work.facts };
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
    let proto = at!(table.proto, facts.proto, 256);
    work.rows = [
        src,
        dst,
        sport,
        dport,
        flags,
        proto,
        at!(table.meta, meta, 2 * IFACE_SLOTS),
        at!(table.state, query.state as u8, STATES),
    ];
}

/// Judges the packet at hand by the policy of `generation`; counts and logs every rule it meets on the
/// way. The query and the answer ([`Match`]) are packed.
///
/// A global function: the verifier checks it once by itself, for any arguments.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_classify(generation: u32, query: u64) -> u64 {
    let (Some(table), Some(work)) = (TABLES.get_ptr(generation & 1), WORK.get_ptr_mut(0)) else {
        return Match { verdict: Verdict::Allow, reason: Reason::Default, slot: 0, flags: 0 }
            .pack();
    };
    // SAFETY: live map values; the table isn't written while its generation is live, the work is this
    // CPU's own.
    let (table, work) = unsafe { (&*table, &mut *work) };
    let query = Query::unpack(query);
    look_up(table, query, work);
    let words = table.settings.words as usize;
    let mut first = MAX_RULES;
    let mut w = 0;
    while w < WORDS && w < words {
        let set = word(table, &work.rows, w) & table.terminal[w];
        if set != 0 {
            first = w * 64 + set.trailing_zeros() as usize;
            break;
        }
        w += 1;
    }
    if table.continues_len != 0 {
        let mut walk = Walk { table, work, first };
        let ctx = (&raw mut walk).cast();
        // A plain loop of this length would cost the verifier its million instructions.
        // SAFETY: the callback takes a `Walk`, which outlives the call.
        unsafe { bpf_loop(table.continues_len, pass_by as *mut c_void, ctx, 0) };
    }
    if first < MAX_RULES {
        let action = meet(table, first, work);
        let (verdict, slot, flags) = (decided(action), action.slot, action.flags);
        return Match { verdict, reason: Reason::Rule, slot, flags }.pack();
    }
    let (raw, slot) = match query.direction {
        Direction::In => (table.settings.defaults[0], SLOT_DEFAULT_IN),
        Direction::Out => (table.settings.defaults[1], SLOT_DEFAULT_OUT),
    };
    counters::rule_hit(slot, work.packets, work.bytes, work.now);
    Match { verdict: refusal(raw), reason: Reason::Default, slot, flags: 0 }.pack()
}

/// The first of the translation rules in `mask` that the packet at hand meets, plus 1; 0: none. As
/// [`sluice_classify`], a global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_nat_rule(generation: u32, query: u64, mask: u64) -> u64 {
    let (Some(table), Some(work)) = (TABLES.get_ptr(generation & 1), WORK.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: as in `sluice_classify`.
    let (table, work) = unsafe { (&*table, &mut *work) };
    look_up(table, Query::unpack(query), work);
    let w = table.settings.nat_word as usize & (WORDS - 1);
    let set = word(table, &work.rows, w) & mask;
    if set == 0 { 0 } else { u64::from(set.trailing_zeros()) + 1 }
}

/// The translation rules that are met by an IPv6 address and an interface, whatever else they ask: those for
/// prefixes ask nothing else.
#[inline(always)]
pub fn address_and_interface(
    table: &RuleTable,
    address: &[u8; 16],
    direction: Direction,
    iface: u8,
) -> u64 {
    let map = match direction {
        Direction::In => &table.dst6,
        Direction::Out => &table.src6,
    };
    let meta = direction as usize * IFACE_SLOTS + (iface as usize & (IFACE_SLOTS - 1));
    let w = table.settings.nat_word as usize & (WORDS - 1);
    row(table, v6(map, address))[w] & row(table, at!(table.meta, meta, 2 * IFACE_SLOTS))[w]
}

/// As [`sluice_nat_rule`], of the rows that the last look-up left.
#[inline(always)]
pub fn nat_match(table: &RuleTable, work: &Work, mask: u64) -> u32 {
    let set = word(table, &work.rows, table.settings.nat_word as usize & (WORDS - 1)) & mask;
    if set == 0 { 0 } else { set.trailing_zeros() + 1 }
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
