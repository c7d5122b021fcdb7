//! A packet's way through the gate, the same at every hook: parse, fragments, related errors, the
//! flow table, and only where that doesn't settle it, the rules.

use firewall_common::{
    abi::{
        event::Class,
        flow::{Flow, Judgement, bits},
        reason::Reason,
        control::Control,
        table::{
            ACTION_NO_TRACK, Direction, RuleTable, SETTING_TCP_PICKUP, SETTING_WINDOW_OFF,
            SETTING_WINDOW_STRICT, SLOT_NONE, State, TIMEOUTS, Timeout, Verdict,
        },
    },
    flow::{
        tcp::{self, TcpState},
        timeout,
    },
    wire::{
        self, Facts, Fragment, Parsed,
        facts::IcmpKind,
        icmp,
        options::{self, Options},
        transport::{self, TCP_HEADER},
    },
};

use crate::{
    budget,
    classify::{self, Match, Query, refusal},
    conntrack::{self, Entered, Step},
    counters,
    events::{self, Told},
    fragments,
    maps::{CONTROL, IFACES, TABLES, WORK},
    nat::{self, Side},
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

/// What doesn't change while the maps live, but for the generation.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: a live map value. The generation, which the daemon changes, is read by itself.
    Some(unsafe { &*control })
}

/// Judges one packet and does what was decided.
#[inline(always)]
pub fn run<P: Packet>(pkt: &P, direction: Direction) -> Outcome {
    let ifindex = pkt.ifindex();
    let segments = u64::from(pkt.segments());
    let Some(control) = control() else {
        return Outcome::Pass;
    };
    // Read once: this packet is judged by this policy, whatever the daemon does meanwhile.
    let generation = volatile(&control.generation);
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
    work.seed = control.seed;
    work.rewrite.side = Side::Nothing;
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
        None if work.facts.icmp == IcmpKind::Error && is_related(pkt, control, work) => {
            Decision::new(Verdict::Allow, Reason::Related)
        }
        None => {
            if work.facts.tcp_flags & transport::SYN != 0 {
                read_options(pkt, work);
            }
            track(table, control, work)
        }
    };
    carry_out(pkt, table, decision, work)
}

/// Reads a SYN's options into the work.
#[inline(always)]
fn read_options<P: Packet>(pkt: &P, work: &mut Work) {
    work.options = Options::default();
    let f = &work.facts;
    let len = u32::from(volatile(&f.l4_len)).wrapping_sub(TCP_HEADER as u32);
    let at = usize::from(volatile(&f.l4)) + TCP_HEADER;
    if f.fragment != Fragment::Later
        && (1..=options::MAX as u32).contains(&len)
        && pkt.load_part(at, &mut work.option_bytes, len)
    {
        sluice_options(len);
    }
}

/// Parses the options' bytes in the work. A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_options(len: u32) -> u32 {
    if let Some(work) = WORK.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        let work = unsafe { &mut *work };
        options::parse(&work.option_bytes, len as usize, &mut work.options);
    }
    0
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

/// Whether the packet that an ICMP error carries belongs to a live flow; how to translate both, then.
#[inline(always)]
fn is_related<P: Packet>(pkt: &P, control: &Control, work: &mut Work) -> bool {
    if work.facts.fragment == Fragment::Later {
        return false;
    }
    clear(&mut work.other);
    if !icmp::embedded(pkt, &work.facts, &mut work.other) {
        return false;
    }
    let src_is_a = work.other_key.set(&work.other);
    let family = work.other.family;
    let hash = work.other_key.hash(family, control);
    if let Some(hit) = work.other_key.find(family, hash, control) {
        // SAFETY: a live map value.
        let view = unsafe { &*hit.flow };
        if family == 4 && view.nat != 0 {
            let reply = (view.bits & bits::ORIG_IS_A != 0) != src_is_a;
            // The error goes the other way than the packet it is about.
            nat::plan(hit, !reply, work);
        }
        return true;
    }
    if family == 4
        && control.nat != 0
        && let Some((hit, orig_is_a)) = nat::find(control, &work.other_key, hash)
    {
        nat::plan(hit, orig_is_a == src_is_a, work);
        return true;
    }
    false
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
            IcmpKind::Other => (State::Untracked, false),
            IcmpKind::Answer | IcmpKind::Error => (State::Invalid, false),
        }
    } else {
        (State::New, true)
    }
}

/// Flow table first; the rules judge what it doesn't know, and what it knows from an older policy.
#[inline(always)]
fn track(table: &RuleTable, control: &Control, work: &mut Work) -> Decision {
    let direction = work.direction;
    let src_is_a = work.key.set(&work.facts);
    let family = work.facts.family;
    work.hash = work.key.hash(family, control);
    let mut flow = work.key.find(family, work.hash, control);
    let mut reply = false;
    if let Some(found) = flow {
        // SAFETY: a live map value.
        let flow_bits = unsafe { (*found.flow).bits };
        reply = (flow_bits & bits::ORIG_IS_A != 0) != src_is_a;
        if reply && flow_bits & bits::NAT_SOURCE != 0 && matches!(direction, Direction::In) {
            // Replies to a translated source come to the translated address: if this is one all the
            // same, the machine itself uses a port that it also lent to somebody inside.
            flow = None;
        }
    }
    if flow.is_none()
        && family == 4
        && control.nat != 0
        && let Some((hit, orig_is_a)) = nat::find(control, &work.key, work.hash)
    {
        flow = Some(hit);
        reply = orig_is_a != src_is_a;
    }
    let (proto, syn_only) = (
        work.facts.proto,
        work.facts.tcp_flags & (transport::SYN | transport::ACK) == transport::SYN,
    );
    let mut fits = true;
    let mut counts = true;
    if let Some(found) = flow {
        // SAFETY: a live map value.
        let view = unsafe { &*found.flow };
        let timeouts: &[u32; TIMEOUTS] = &table.settings.timeouts;
        let again = proto == transport::TCP
            && syn_only
            && TcpState::from_raw(view.tcp_state).is_over();
        if again {
            conntrack::end(found, reply, (Verdict::Allow, Reason::Reused, SLOT_NONE), work);
            flow = None;
        } else if timeout::expired(view, proto, timeouts, work.now) {
            conntrack::end(found, reply, (Verdict::Allow, Reason::TimedOut, SLOT_NONE), work);
            flow = None;
        } else {
            counts = conntrack::counts_here(found.flow, view.bits, reply, direction);
            let flags = table.settings.flags;
            if proto == transport::TCP
                && counts
                && work.facts.fragment == Fragment::Whole
                && flags & SETTING_WINDOW_OFF == 0
            {
                fits = conntrack::fits(found.flow, view.bits, reply, true, work);
                if !fits && flags & SETTING_WINDOW_STRICT != 0 {
                    return Decision::new(Verdict::Drop, Reason::OutOfWindow);
                }
            }
            if view.nat != 0 || view.bits & (bits::NAT_SOURCE | bits::NAT_DESTINATION) != 0 {
                if view.nat == 0 {
                    // Another CPU is about to translate it.
                    return Decision::new(Verdict::Drop, Reason::TableBusy);
                }
                nat::plan(found, reply, work);
            }
        }
    }
    let reason_of_flow = if fits { Reason::Established } else { Reason::OutOfWindow };

    // Which judgement has to be renewed: of the original direction at this hook, or, for a reply, at
    // whichever hook the original direction met under an older policy.
    let mut judge_at = direction;
    let mut judge_iface = work.iface;
    let (mut state, mut begins) = (State::Established, false);
    if let Some(found) = flow {
        // SAFETY: a live map value; each judgement is one word, read whole.
        let (judged_in, judged_out, if_in, if_out) = unsafe {
            (
                (&raw const (*found.flow).judged_in).read_volatile(),
                (&raw const (*found.flow).judged_out).read_volatile(),
                (*found.flow).if_in,
                (*found.flow).if_out,
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
            let step = Step { reply, slot, counts, fits };
            conntrack::advance(found, step, table.settings.stream_after, work);
            return Decision { verdict: Verdict::Allow, reason: reason_of_flow, slot };
        }
    } else {
        (state, begins) = fresh(table, &work.facts);
        begins &= work.facts.fragment != Fragment::Later;
    }

    // The original direction is what policies speak of: a reply is judged as the packet it answers, and
    // both ends as what they really are, whatever the packet says here.
    let mut tcp_flags = work.facts.tcp_flags;
    let mut other = false;
    let mut nat_rule = 0;
    if let Some(found) = flow {
        other = true;
        work.other = work.facts;
        let (f, asked) = (&work.facts, &mut work.other);
        if reply {
            (asked.src, asked.dst) = (f.dst, f.src);
            (asked.sport, asked.dport) = (f.dport, f.sport);
        }
        // SAFETY: a live map value.
        let (first_flags, first_icmp, nat) =
            unsafe { ((*found.flow).first_flags, (*found.flow).icmp(), (*found.flow).nat) };
        tcp_flags = first_flags;
        if !f.has_ports() {
            asked.dport = first_icmp;
        }
        if nat != 0 {
            nat::real_ends(found, work);
        }
    } else if begins && family == 4 && matches!(direction, Direction::In) && table.settings.nat_in != 0
    {
        let query = Query { direction, iface: judge_iface, state, tcp_flags, other: false };
        nat_rule =
            classify::sluice_nat_rule(work.generation, query.pack(), table.settings.nat_in) as u32;
        if nat_rule != 0 {
            other = true;
            work.other = work.facts;
            if !nat::new_destination(table, nat_rule - 1, work) {
                return Decision::new(Verdict::Drop, Reason::NatImpossible);
            }
        }
    }
    let query = Query { direction: judge_at, iface: judge_iface, state, tcp_flags, other };
    let m = Match::unpack(classify::sluice_classify(work.generation, query.pack()));
    let decision = Decision { verdict: m.verdict, reason: m.reason, slot: m.slot };
    let allowed = matches!(m.verdict, Verdict::Allow | Verdict::Continue);
    let judgement = Judgement::new(work.generation, m.slot, Verdict::Allow as u8);

    if let Some(found) = flow {
        if allowed {
            if matches!((direction, state), (Direction::Out, State::New))
                && family == 4
                && table.settings.nat_out != 0
            {
                let refused = nat::at_egress(table, found, work);
                if refused != 0 {
                    let reason = nat::refusal(refused);
                    conntrack::end(found, reply, (Verdict::Drop, reason, m.slot), work);
                    return Decision { verdict: Verdict::Drop, reason, slot: m.slot };
                }
            }
            renew(found.flow, judge_at, judge_iface, judgement);
            // The rule's packets were counted as the hit; only the flow is left.
            let step = Step { reply, slot: SLOT_NONE, counts, fits };
            conntrack::advance(found, step, table.settings.stream_after, work);
            return Decision { reason: reason_of_flow, ..decision };
        }
        // At its second hook for the first time, or let in by an older policy.
        let why = if matches!(state, State::New) { m.reason } else { Reason::PolicyChanged };
        conntrack::end(found, reply, (m.verdict, why, m.slot), work);
        return decision;
    }
    if allowed && m.flags & ACTION_NO_TRACK != 0 {
        return Decision { reason: Reason::NoTrack, ..decision };
    }
    if allowed && begins {
        let refused = match conntrack::enter(src_is_a, judgement, table, work) {
            Entered::Yes => {
                let mut why = 0;
                if work.slot != u32::MAX && family == 4 {
                    if nat_rule != 0 {
                        why = nat::enter_destination(table, nat_rule - 1, work);
                    } else if matches!(direction, Direction::Out) && table.settings.nat_out != 0 {
                        why = nat::at_egress_new(table, work);
                    }
                }
                if why == 0 {
                    return decision;
                }
                nat::refusal(why)
            }
            Entered::Full if refusal(table.settings.flow_full) == Verdict::Allow => {
                return Decision { verdict: Verdict::Allow, reason: Reason::Untracked, ..decision };
            }
            Entered::Full => Reason::FlowTableFull,
            Entered::Busy => Reason::TableBusy,
            Entered::SourceLimit => Reason::SourceLimit,
        };
        return Decision { verdict: Verdict::Drop, reason: refused, slot: m.slot };
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
        Verdict::Allow | Verdict::Continue => {
            if work.rewrite.side != Side::Nothing && !pkt.translate(work) {
                return Outcome::Drop;
            }
            Outcome::Pass
        }
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
