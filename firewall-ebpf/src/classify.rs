//! The seam of the classifier: facts in, the first rule that decides out. How rules are found is
//! `firewall_common::classify`'s; but for live sets that are asked first ([`sluice_gates`]), and rules of which rows don't
//! know all ([`crate::asks`]), no helper is called and no map but the policy's is touched.

use firewall_common::{
    abi::{
        event::Class,
        iface::IFACE_SLOTS,
        reason::Reason,
        table::{
            ACTION_ADDS, ACTION_ASKS, ACTION_LOG, Direction, MAX_ALWAYS, RuleAction, RuleTable,
            SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, STATES, State, Verdict,
        },
    },
    classify::{Fields, HAS_DPORT, HAS_SPORT, HAS_V4, PLACES},
    wire::{icmp, transport},
};

use crate::{
    asks, counters,
    events::{self, Told},
    maps::{WORK, at_hand},
    opaque::{put, volatile},
    rules::{self, NOTHING},
    sets,
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
    /// See [`Query::pack`].
    #[inline(always)]
    pub fn unpack(raw: u64) -> Self {
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
    pub slot: u32,
    /// `ACTION_*` of the rule.
    pub flags: u8,
}

impl Match {
    /// The slot stands where a judgement has it.
    #[inline(always)]
    fn pack(self) -> u64 {
        self.verdict as u64
            | (matches!(self.reason, Reason::Rule) as u64) << 2
            | (self.slot as u64) << 8
            | (self.flags as u64) << 32
    }
    /// From what [`sluice_classify`] returned.
    #[inline(always)]
    pub fn unpack(raw: u64) -> Self {
        Self {
            verdict: refusal(raw as u8 & 3),
            reason: if raw >> 2 & 1 != 0 { Reason::Rule } else { Reason::Default },
            slot: raw as u32 >> 8,
            flags: (raw >> 32) as u8,
        }
    }
}

/// What a rule's verdict means where it decides.
#[inline(always)]
fn decided(action: RuleAction) -> Verdict {
    match action.verdict() {
        1 => Verdict::Allow,
        2 => Verdict::Drop,
        3 => Verdict::Reject,
        _ => Verdict::Continue,
    }
}

/// Counts the packet on a rule, and logs it if the rule says so.
#[inline(always)]
pub fn meet(action: RuleAction, table: &RuleTable, work: &Work) {
    counters::rule_hit(action.slot(), work.packets, work.bytes, work.now);
    if action.flags() & ACTION_LOG != 0 {
        let verdict = decided(action);
        let told = Told { class: Class::Log, verdict, reason: Reason::Rule, reply: false };
        events::emit_sampled(told, action.slot(), &table.settings);
    }
}

/// What is said where there is no policy to be found: `Verdict::Allow` by no rule.
pub const NO_POLICY: u64 = Verdict::Allow as u64;

/// Judges the packet at hand by the live policy; counts and logs every rule it meets on the way. What the rules say is
/// the [`answer`].
#[inline(always)]
pub fn judge_by_rules(table: &RuleTable, work: &mut Work, query: Query) {
    // Kept there between the calls, not on the stack.
    put(&mut work.query, query.pack());
    if table.gates != 0 {
        sluice_gates(table.gates, volatile(&work.query));
    }
    let said = sluice_classify(volatile(&work.generation), volatile(&work.query));
    put(&mut work.query, said);
}

/// Whether part 0 is all there is to look into, and rows know all of its rules.
#[inline(always)]
pub fn is_plain(table: &RuleTable) -> bool {
    // Read anew each time: a part that a single rule joined may be there by now (ADR 13).
    let more = table.cut | table.continues_len | (volatile(&table.always) - 1);
    more | table.any_flags & (ACTION_ASKS | ACTION_ADDS) as u32 == 0
}

/// [`judge_by_rules`] of a policy that [`is_plain`], without a call but for sets that are asked first.
#[inline(always)]
pub fn judge_at_once(table: &RuleTable, work: &mut Work, query: Query) {
    if table.gates != 0 {
        sluice_gates(table.gates, query.pack());
    } else {
        look_at(query, work);
    }
    let met = rules::first_at_once(table, work);
    // Through the map's memory: one answer for the verifier, whichever way it was found.
    put(&mut work.met, met);
    let said = conclude(table, work, volatile(&work.met), query.direction);
    put(&mut work.query, said);
}

/// What the rules said last.
#[inline(always)]
pub fn answer(work: &Work) -> Match {
    Match::unpack(volatile(&work.query))
}

/// The two halves of an IPv6 address.
#[inline(always)]
pub fn v6_halves(a: &[u8; 16]) -> [u64; 2] {
    [
        u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]),
        u64::from_be_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]),
    ]
}

#[inline(always)]
fn v4_word(a: &[u8; 16]) -> [u64; 2] {
    [u64::from(u32::from_be_bytes([a[0], a[1], a[2], a[3]])), 0]
}

/// [`look_at`], unless [`sluice_gates`] did.
#[inline(always)]
pub fn look_at_once(query: Query, table: &RuleTable, work: &mut Work) {
    if table.gates == 0 {
        look_at(query, work);
    }
}

/// [`look_at`], with what the policy's gates say of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_gates(gates: u64, query: u64) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    look_at(Query::unpack(query), work);
    let held = sets::held(gates);
    let place = volatile(&work.fields.place) | held << PLACES.trailing_zeros();
    put(&mut work.fields.place, place);
    held
}

/// Puts what the rules are looked up by into `work.fields`.
#[inline(always)]
fn look_at(query: Query, work: &mut Work) {
    let facts = if query.other { &work.other } else { &work.facts };
    let is_v4 = facts.family == 4;
    let (src, dst) = if is_v4 {
        (v4_word(&facts.src), v4_word(&facts.dst))
    } else {
        (v6_halves(&facts.src), v6_halves(&facts.dst))
    };
    let is_icmp = (facts.proto == icmp::PROTO_ICMP && is_v4)
        || (facts.proto == icmp::PROTO_ICMPV6 && facts.family == 6);
    let has_ports = facts.has_ports();
    let kind = if facts.proto == transport::TCP {
        256 + u32::from(query.tcp_flags)
    } else {
        u32::from(facts.proto)
    };
    let at = query.direction as usize * IFACE_SLOTS + (query.iface as usize & (IFACE_SLOTS - 1));
    let of = |is: bool, bit: u32| if is { bit } else { 0 };
    let has = of(is_v4, HAS_V4) | of(has_ports, HAS_SPORT) | of(has_ports || is_icmp, HAS_DPORT);
    // One by one: a whole `Fields` would stand on the stack first.
    let (sport, dport) = (u16::from_be_bytes(facts.sport), u16::from_be_bytes(facts.dport));
    let place = (at * STATES) as u32 | query.state as u32;
    let fields: &mut Fields = &mut work.fields;
    put(&mut fields.src, src);
    put(&mut fields.dst, dst);
    put(&mut fields.sport, u32::from(sport));
    put(&mut fields.dport, u32::from(dport));
    put(&mut fields.kind, kind);
    put(&mut fields.place, place);
    put(&mut fields.has, has);
}

/// [`judge_by_rules`] of any policy. The query and the answer ([`Match`]) are packed.
///
/// A global function: the verifier checks it once by itself, for any arguments.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_classify(generation: u32, query: u64) -> u64 {
    let Some((table, work)) = at_hand(generation) else {
        return NO_POLICY;
    };
    look_at_once(Query::unpack(query), table, work);
    let size = table.size;
    // What stands first among all rules is the smaller number.
    let mut met = rules::first(size, generation, 0);
    asks::note(work, 0, met, 0);
    let mut index = 1;
    // Read anew each time: a part that a single rule joined may be there by now (ADR 13).
    while index < MAX_ALWAYS as u32 && index < volatile(&table.always) {
        let found = rules::first(size, generation, index);
        asks::note(work, index, found, index);
        met = met.min(found);
        index += 1;
    }
    if table.cut != 0 {
        let parts = rules::parts_of(size, generation);
        if parts as u32 != 0 {
            let found = rules::first(size, generation, parts as u32);
            asks::note(work, index, found, parts as u32);
            met = met.min(found);
            index += 1;
        }
        if parts >> 32 != 0 {
            let found = rules::first(size, generation, (parts >> 32) as u32);
            asks::note(work, index, found, (parts >> 32) as u32);
            met = met.min(found);
            index += 1;
        }
    }
    if met != NOTHING && rules::action(met).flags() & ACTION_ASKS != 0 {
        met = asks::go_on(table, work, met, index);
    }
    if table.continues_len != 0 {
        let end = (met >> 32) as u32;
        let stopped = rules::pass(size, generation, end, 0);
        if stopped != 0 {
            asks::pass(work, size, end, stopped);
        }
    }
    if met != NOTHING && rules::action(met).flags() & ACTION_ADDS != 0 {
        asks::add(size, generation, (met >> 32) as u32);
    }
    conclude(table, work, met, Query::unpack(query).direction)
}

/// Counts the packet on the rule that it met, or on the default, and says what that means ([`Match`], packed).
#[inline(always)]
pub fn conclude(table: &RuleTable, work: &Work, met: u64, direction: Direction) -> u64 {
    if met != NOTHING {
        let action = rules::action(met);
        meet(action, table, work);
        let (verdict, slot, flags) = (decided(action), action.slot(), action.flags());
        return Match { verdict, reason: Reason::Rule, slot, flags }.pack();
    }
    let (raw, slot) = match direction {
        Direction::In => (table.settings.defaults[0], SLOT_DEFAULT_IN),
        Direction::Out => (table.settings.defaults[1], SLOT_DEFAULT_OUT),
    };
    counters::rule_hit(slot, work.packets, work.bytes, work.now);
    Match { verdict: refusal(raw), reason: Reason::Default, slot, flags: 0 }.pack()
}

/// The first of the translation rules in `mask` that the packet at hand meets, plus 1; 0: none. The query is packed.
///
/// A global function, as [`sluice_classify`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_nat_rule(generation: u32, query: u64, mask: u64) -> u64 {
    let Some((table, work)) = at_hand(generation) else {
        return 0;
    };
    look_at(Query::unpack(query), work);
    u64::from(number(rules::nat(table.size, generation, rules::AGAIN) & mask))
}

/// As [`sluice_nat_rule`], of the rows that the last look-up left.
#[inline(always)]
pub fn nat_match(table: &RuleTable, work: &Work, mask: u64) -> u32 {
    number(rules::nat(table.size, work.generation, 0) & mask)
}

#[inline(always)]
fn number(set: u64) -> u32 {
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
