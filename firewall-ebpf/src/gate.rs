//! A packet's way through the gate, the same at every hook: parse, fragments, related errors, the
//! flow table, and only where that doesn't settle it, the rules.

use firewall_common::{
    abi::{
        event::Class,
        flow::{Flow, Judgement, bits},
        reason::Reason,
        table::{
            Direction, RuleTable, SETTING_TCP_PICKUP, SLOT_NONE, State, TIMEOUTS, Timeout, Verdict,
        },
    },
    flow::{
        tcp::{self, TcpState},
        timeout,
    },
    wire::{self, Facts, Fragment, Parsed, facts::IcmpKind, icmp, transport},
};

use crate::{
    budget,
    classify::{self, Match, Query, refusal},
    conntrack::{self, Entered},
    counters,
    events::{self, Told},
    fragments,
    maps::{CONTROL, IFACES, TABLES, WORK},
    packet::Packet,
    reject,
    verdict::Outcome,
    work::Work,
};

/// What was decided, and by whom.
#[derive(Clone, Copy)]
struct Decision {
    verdict: Verdict,
    reason: Reason,
    slot: u16,
}

impl Decision {
    #[inline(always)]
    fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, slot: SLOT_NONE }
    }
}

/// Judges one packet and does what was decided.
#[inline(always)]
pub fn run<P: Packet>(pkt: &P, direction: Direction) -> Outcome {
    let ifindex = pkt.ifindex();
    let segments = u64::from(pkt.segments());
    let Some(control) = CONTROL.get_ptr(0) else {
        return Outcome::Pass;
    };
    // Read once: this packet is judged by this policy, whatever the daemon does meanwhile.
    // SAFETY: a live map value, an aligned word.
    let generation = unsafe { (&raw const (*control).generation).read_volatile() };
    let iface = match IFACES.get(ifindex) {
        Some(iface) => iface.slot as u8,
        None => 0,
    };
    if generation == 0 || iface == 0 {
        let reason = if generation == 0 { Reason::NoPolicy } else { Reason::UnknownInterface };
        counters::reason(Verdict::Allow, reason, segments, u64::from(pkt.frame_len(0)));
        return Outcome::Pass;
    }
    let Some(table) = TABLES.get_ptr(generation & 1) else {
        return Outcome::Pass;
    };
    // SAFETY: a live map value, never written while its generation is live (see `maps::TABLES`).
    let table = unsafe { &*table };

    let Some(work) = WORK.get_ptr_mut(0) else {
        return Outcome::Pass;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    clear(&mut work.facts);
    work.facts.vlan = pkt.stripped_vlan();
    work.direction = direction;
    work.iface = iface;
    work.ifindex = ifindex;
    work.generation = generation;
    work.packets = segments;
    work.now = budget::now();
    let parsed = wire::parse(pkt, &mut work.facts);
    let early = match parsed {
        Err(reason) => Some(Decision::new(refusal(table.settings.malformed), reason)),
        Ok(Parsed::Arp) => Some(Decision::new(Verdict::Allow, Reason::Arp)),
        Ok(Parsed::OtherEthertype) => {
            let verdict = refusal(table.settings.ethertypes);
            Some(Decision::new(verdict, Reason::UnknownEthertype))
        }
        Ok(Parsed::Ip) => in_pieces(table, work),
    };
    let f = &work.facts;
    // What the parser learnt of these on its way is of no use any more: read anew, they look the same
    // to the verifier whichever way was taken, and it walks the rest once and not once a way.
    let (l3, l4, ip_len, segments) = (
        u64::from(volatile(&f.l3)),
        u64::from(volatile(&f.l4)) + u64::from(volatile(&f.l4_len)),
        volatile(&f.ip_len),
        volatile(&work.packets),
    );
    work.frame_len = pkt.frame_len(l3 as usize + ip_len as usize);
    work.bytes = u64::from(ip_len) + (segments - 1) * (l4 - l3);
    let decision = match early {
        Some(decision) => decision,
        None if work.facts.icmp == IcmpKind::Error && is_related(pkt, work) => {
            Decision::new(Verdict::Allow, Reason::Related)
        }
        None => track(table, work),
    };
    carry_out(pkt, table, decision, work)
}

/// Reads a value from memory, whatever the compiler knows of it.
#[inline(always)]
fn volatile<T: Copy>(value: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::read_volatile(value) }
}

/// Sets all facts to nothing, in place: a value of that size would pass over the stack.
#[inline(always)]
fn clear(facts: &mut Facts) {
    // SAFETY: all-zero bytes are `Facts::default()`: integers, and enums whose first value is 0.
    unsafe { core::ptr::from_mut(facts).write_bytes(0, 1) };
}

/// What is settled without the flow table: neighbour discovery, and fragments whose first is unknown.
/// First fragments are remembered, later ones get the facts of their first.
#[inline(always)]
fn in_pieces(table: &RuleTable, work: &mut Work) -> Option<Decision> {
    if work.facts.is_neighbour_discovery() {
        return Some(Decision::new(Verdict::Allow, Reason::NeighbourDiscovery));
    }
    match work.facts.fragment {
        Fragment::Whole => None,
        Fragment::First => {
            fragments::remember(work);
            None
        }
        Fragment::Later => {
            let ticks = table.settings.timeouts[Timeout::Fragment as usize];
            if fragments::follow(work, ticks) {
                return None;
            }
            let verdict = refusal(table.settings.fragments);
            Some(Decision::new(verdict, Reason::FragmentWithoutFirst))
        }
    }
}

/// Whether the packet that an ICMP error carries belongs to a live flow.
#[inline(always)]
fn is_related<P: Packet>(pkt: &P, work: &mut Work) -> bool {
    if work.facts.fragment == Fragment::Later {
        return false;
    }
    clear(&mut work.other);
    if !icmp::embedded(pkt, &work.facts, &mut work.other) {
        return false;
    }
    work.other_key.set(&work.other);
    work.other_key.find(work.other.family).is_some()
}

/// What connection tracking says of a packet without a flow, and whether it may begin one.
#[inline(always)]
fn fresh(table: &RuleTable, f: &Facts) -> (State, bool) {
    let is_icmp = (f.proto == icmp::PROTO_ICMP && f.family == 4)
        || (f.proto == icmp::PROTO_ICMPV6 && f.family == 6);
    if f.proto == transport::TCP {
        let begins = tcp::begins(f.tcp_flags, table.settings.flags & SETTING_TCP_PICKUP != 0);
        (if begins { State::New } else { State::Invalid }, begins)
    } else if is_icmp {
        match f.icmp {
            IcmpKind::Query => (State::New, true),
            IcmpKind::Other => (State::New, false),
            IcmpKind::Answer | IcmpKind::Error => (State::Invalid, false),
        }
    } else {
        (State::New, true)
    }
}

/// Flow table first; the rules judge what it doesn't know, and what it knows from an older policy.
#[inline(always)]
fn track(table: &RuleTable, work: &mut Work) -> Decision {
    let direction = work.direction;
    let src_is_a = work.key.set(&work.facts);
    let f = &work.facts;
    let mut flow = work.key.find(f.family);
    let mut reply = false;
    if let Some(found) = flow {
        // SAFETY: a live map value.
        let view = unsafe { &*found };
        reply = (view.bits & bits::ORIG_IS_A != 0) != src_is_a;
        let timeouts: &[u32; TIMEOUTS] = &table.settings.timeouts;
        let again = f.proto == transport::TCP
            && f.tcp_flags & (transport::SYN | transport::ACK) == transport::SYN
            && TcpState::from_raw(view.tcp_state).is_over();
        if again {
            conntrack::end(found, reply, (Verdict::Allow, Reason::Reused, SLOT_NONE), work);
            flow = None;
        } else if timeout::expired(view, f.proto, timeouts, work.now) {
            conntrack::end(found, reply, (Verdict::Allow, Reason::TimedOut, SLOT_NONE), work);
            flow = None;
        }
    }

    // Which judgement has to be renewed: of the original direction at this hook, or, for a reply, at
    // whichever hook the original direction met under an older policy.
    let mut judge_at = direction;
    let mut judge_iface = work.iface;
    let (mut state, mut begins) = (State::Established, false);
    if let Some(found) = flow {
        // SAFETY: a live map value; each judgement is one word, read whole.
        let (judged_in, judged_out, if_in, if_out) = unsafe {
            (
                (&raw const (*found).judged_in).read_volatile(),
                (&raw const (*found).judged_out).read_volatile(),
                (*found).if_in,
                (*found).if_out,
            )
        };
        let stale = |j: Judgement| j.is_set() && j.generation() != work.generation;
        let settled;
        let slot;
        if reply {
            if stale(judged_in) {
                settled = false;
                judge_at = Direction::In;
                judge_iface = if_in;
                slot = SLOT_NONE;
            } else if stale(judged_out) {
                settled = false;
                judge_at = Direction::Out;
                judge_iface = if_out;
                slot = SLOT_NONE;
            } else {
                settled = true;
                // The hook across: a forwarded reply comes in where the original went out.
                let across =
                    if matches!(direction, Direction::In) { judged_out } else { judged_in };
                let other = if matches!(direction, Direction::In) { judged_in } else { judged_out };
                slot = if across.is_set() { across.slot() } else { other.slot() };
            }
        } else {
            let here = if matches!(direction, Direction::In) { judged_in } else { judged_out };
            settled = here.is_set() && here.generation() == work.generation;
            slot = here.slot();
            if !here.is_set() {
                // The second hook of a forwarded flow has yet to let it by: to its rules this is new.
                state = State::New;
            }
        }
        if settled {
            conntrack::advance(found, reply, slot, work);
            return Decision { verdict: Verdict::Allow, reason: Reason::Established, slot };
        }
    } else {
        (state, begins) = fresh(table, f);
        begins &= f.fragment != Fragment::Later;
    }

    // The original direction is what policies speak of: a reply is judged as the packet it answers.
    let mut tcp_flags = f.tcp_flags;
    if let Some(found) = flow {
        work.other = work.facts;
        let (f, asked) = (&work.facts, &mut work.other);
        if reply {
            (asked.src, asked.dst) = (f.dst, f.src);
            (asked.sport, asked.dport) = (f.dport, f.sport);
        }
        // SAFETY: a live map value.
        let (first_flags, first_icmp) = unsafe { ((*found).first_flags, (*found).icmp) };
        tcp_flags = first_flags;
        if !f.has_ports() {
            asked.dport = first_icmp;
        }
    }
    let other = flow.is_some();
    let query = Query { direction: judge_at, iface: judge_iface, state, tcp_flags, other };
    let m = Match::unpack(classify::sluice_classify(work.generation, query.pack()));
    let decision = Decision { verdict: m.verdict, reason: m.reason, slot: m.slot };
    let allowed = matches!(m.verdict, Verdict::Allow | Verdict::Continue);
    let judgement = Judgement::new(work.generation, m.slot, Verdict::Allow as u8);

    if let Some(found) = flow {
        if allowed {
            renew(found, judge_at, judge_iface, judgement);
            // The rule's packets were counted as the hit; only the flow is left.
            conntrack::advance(found, reply, SLOT_NONE, work);
            return Decision { reason: Reason::Established, ..decision };
        }
        // At its second hook for the first time, or let in by an older policy.
        let why = if matches!(state, State::New) { m.reason } else { Reason::PolicyChanged };
        conntrack::end(found, reply, (m.verdict, why, m.slot), work);
        return decision;
    }
    if allowed && begins {
        match conntrack::enter(src_is_a, judgement, work) {
            Entered::Yes => {}
            Entered::Full => {
                let verdict = refusal(table.settings.flow_full);
                let reason = if verdict == Verdict::Allow {
                    Reason::Untracked
                } else {
                    Reason::FlowTableFull
                };
                return Decision { verdict, reason, slot: m.slot };
            }
        }
    }
    decision
}

/// Writes a flow's new judgement at a hook.
#[inline(always)]
fn renew(flow: *mut Flow, at: Direction, iface: u8, judgement: Judgement) {
    // SAFETY: a live map value; one word, written whole. Two CPUs write the same policy's judgement.
    unsafe {
        match at {
            Direction::In => {
                (&raw mut (*flow).judged_in).write_volatile(judgement);
                (*flow).if_in = iface;
            }
            Direction::Out => {
                (&raw mut (*flow).judged_out).write_volatile(judgement);
                (*flow).if_out = iface;
            }
        }
    }
}

/// Counts the packet under its reason, tells of refusals, answers rejects.
#[inline(always)]
fn carry_out<P: Packet>(
    pkt: &P,
    table: &RuleTable,
    decision: Decision,
    work: &mut Work,
) -> Outcome {
    let Decision { mut verdict, mut reason, slot } = decision;
    if verdict == Verdict::Reject {
        if !reject::possible(&work.facts) {
            (verdict, reason) = (Verdict::Drop, Reason::RejectImpossible);
        } else if !budget::take_answer(&table.settings) {
            (verdict, reason) = (Verdict::Drop, Reason::RejectLimited);
        }
    }
    counters::reason(verdict, reason, work.packets, u64::from(work.frame_len));
    match verdict {
        Verdict::Allow | Verdict::Continue => Outcome::Pass,
        Verdict::Drop => {
            tell(table, verdict, reason, slot, work);
            Outcome::Drop
        }
        Verdict::Reject => {
            tell(table, verdict, reason, slot, work);
            reject::answer(pkt, work)
        }
    }
}

#[inline(always)]
fn tell(table: &RuleTable, verdict: Verdict, reason: Reason, slot: u16, work: &Work) {
    let told = Told { class: Class::Verdict, verdict, reason, reply: false };
    events::emit_sampled(work, told, slot, &table.settings);
}
