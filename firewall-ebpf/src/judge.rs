//! The second half of a packet's way: what the flow table doesn't settle, the rules judge; and what that
//! means for the flow.

use firewall_common::{
    abi::{
        flow::{Flow, Judgement},
        reason::Reason,
        table::{
            ACTION_BYPASS, ACTION_LIMITS, ACTION_NO_TRACK, Direction, RuleTable, SLOT_NONE, State,
            Verdict,
        },
    },
    wire::transport,
};

use crate::{
    bypass,
    classify::{self, Query, refusal},
    conntrack::{self, Family, Hit, Step},
    cookies::{self, CookieState},
    entering::{self, Entered},
    gate::Decision,
    limits,
    maps::at_hand,
    nat,
    opaque::{put, volatile},
    snat,
    table::{V4, V6},
    tracking::NOT_FOUND,
    words,
    work::Work,
};

/// What is said where the packet is allowed and begins a flow: the rest is the next stage's.
pub const BEGIN: u64 = u64::MAX - 1;

/// What the rules' answer means, by itself.
#[inline(always)]
pub fn answered(work: &Work) -> Decision {
    let m = classify::answer(work);
    Decision { verdict: m.verdict, reason: m.reason, slot: m.slot }
}

/// What the rules' answer means to a packet without a flow; [`BEGIN`].
#[inline(always)]
fn without_flow(work: &mut Work) -> u64 {
    let flags = classify::answer(work).flags;
    let decision = answered(work);
    let allowed = matches!(decision.verdict, Verdict::Allow | Verdict::Continue);
    if allowed && flags & ACTION_NO_TRACK != 0 {
        return decision.reason(Reason::NoTrack).pack();
    }
    if !allowed || !volatile(&work.begins) {
        return decision.pack();
    }
    BEGIN
}

/// Whether the packet at hand can be judged by [`at_once`]: it has no flow, isn't translated before it is judged, and brings no
/// cookie; and the policy is of one part, of whose rules rows know all.
#[inline(always)]
pub fn is_plain(table: &RuleTable, work: &Work) -> bool {
    volatile(&work.found) == NOT_FOUND
        && classify::is_plain(table)
        && (table.settings.nat_in == 0 || !comes_in4(work))
        && !cookies::may_bring_one(work)
}

#[inline(always)]
fn comes_in4(work: &Work) -> bool {
    work.begins && work.facts.family == 4 && matches!(work.direction, Direction::In)
}

/// Asks the rules: [`judge`] for a packet and a policy that [`is_plain`]. No call is made on the way.
#[inline(always)]
pub fn at_once(table: &RuleTable, work: &mut Work) -> u64 {
    put(&mut work.nat_rule, 0);
    let query = Query {
        direction: work.direction,
        iface: work.iface,
        state: work.state,
        tcp_flags: work.facts.tcp_flags,
        other: false,
    };
    classify::judge_at_once(table, work, query);
    without_flow(work)
}

/// Asks the rules, and does for the packet's flow, if it has one, what they say; else it may be [`BEGIN`].
#[inline(always)]
pub fn judge<F: Family>(table: &RuleTable, work: &mut Work) -> u64 {
    let (direction, state, begins) = (work.direction, work.state, work.begins);
    let family = F::FAMILY;
    let mut flow = Hit { slot: work.found, flow: core::ptr::null_mut() };
    if work.found != NOT_FOUND {
        let Some(record) = F::record(work.found) else {
            return Decision::new(Verdict::Drop, Reason::TableBusy).pack();
        };
        flow.flow = record.cast();
    }
    let reply = work.reply;
    // The original direction is what policies speak of: a reply is judged as the packet it answers, and
    // both ends as what they really are, whatever the packet says here.
    let mut tcp_flags = work.facts.tcp_flags;
    let mut other = false;
    let mut nat_rule = 0;
    if flow.is_some() {
        other = true;
        // SAFETY: both are the work's.
        unsafe { words::copy(&raw mut work.other, &raw const work.facts) };
        let (f, asked) = (&work.facts, &mut work.other);
        if reply {
            (asked.src, asked.dst) = (f.dst, f.src);
            (asked.sport, asked.dport) = (f.dport, f.sport);
        }
        // SAFETY: a live map value.
        let (first_flags, first_icmp) = unsafe { ((*flow.flow).first_flags, (*flow.flow).icmp()) };
        // SAFETY: as above.
        let nat = unsafe { (*flow.flow).nat };
        tcp_flags = first_flags;
        if !f.has_ports() {
            asked.dport = first_icmp;
        }
        if nat != 0 {
            nat::real_ends(flow);
        }
    } else if work.cookie.state == CookieState::Good {
        // To the rules it is the SYN that it stands for.
        tcp_flags = transport::SYN;
    } else if begins
        && family == 4
        && matches!(direction, Direction::In)
        && table.settings.nat_in != 0
    {
        let query = Query { direction, iface: work.judge_iface, state, tcp_flags, other: false };
        nat_rule =
            classify::sluice_nat_rule(work.generation, query.pack(), table.settings.nat_in) as u32;
        if nat_rule != 0 {
            if work.defers {
                work.deferred = true;
                return Decision::new(Verdict::Drop, Reason::NatImpossible).pack();
            }
            other = true;
            // SAFETY: both are the work's.
            unsafe { words::copy(&raw mut work.other, &raw const work.facts) };
            if !nat::new_destination(work.generation, nat_rule - 1) {
                return Decision::new(Verdict::Drop, Reason::NatImpossible).pack();
            }
        }
    }
    let (judge_at, judge_iface) = (work.judge_at, work.judge_iface);
    let query = Query { direction: judge_at, iface: judge_iface, state, tcp_flags, other };
    put(&mut work.nat_rule, nat_rule);
    classify::judge_by_rules(table, work, query);
    if flow.is_some() {
        // The rest has a frame of its own, which isn't there while the rules are asked.
        return if family == 4 {
            sluice_rejudged4(work.generation)
        } else {
            sluice_rejudged6(work.generation)
        };
    }
    without_flow(work)
}

/// [`rejudged`] for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_rejudged4(generation: u32) -> u64 {
    rejudged_in::<V4>(generation)
}

/// [`rejudged`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_rejudged6(generation: u32) -> u64 {
    rejudged_in::<V6>(generation)
}

#[inline(always)]
fn rejudged_in<F: Family>(generation: u32) -> u64 {
    let Some((table, work)) = at_hand(generation) else {
        return Decision::new(Verdict::Allow, Reason::NoPolicy).pack();
    };
    rejudged::<F>(table, work).pack()
}

/// What the rules' answer ([`classify::answer`]) means to the packet's flow, which is there already.
#[inline(always)]
fn rejudged<F: Family>(table: &RuleTable, work: &mut Work) -> Decision {
    let Some(record) = F::record(work.found) else {
        return Decision::new(Verdict::Drop, Reason::TableBusy);
    };
    let flow = Hit { slot: work.found, flow: record.cast() };
    let (direction, state, family) = (work.direction, work.state, F::FAMILY);
    let (judge_at, judge_iface, reply) = (work.judge_at, work.judge_iface, work.reply);
    // SAFETY: a live map value.
    let nat = unsafe { (*flow.flow).nat };
    let m = classify::answer(work);
    let decision = Decision { verdict: m.verdict, reason: m.reason, slot: m.slot };
    let allowed = matches!(m.verdict, Verdict::Allow | Verdict::Continue);
    let judgement = Judgement::new(work.generation, m.slot, Verdict::Allow as u8);
    if !allowed {
        // At its second hook for the first time, or let in by an older policy.
        let why = if matches!(state, State::New) { m.reason } else { Reason::PolicyChanged };
        conntrack::end(flow, reply, (m.verdict, why, m.slot));
        return decision;
    }
    if matches!((direction, state), (Direction::Out, State::New))
        && family == 4
        && (table.settings.nat_out != 0 || nat != 0)
    {
        let refused = snat::at_egress(work.generation, flow.slot, false);
        if refused != 0 {
            let reason = nat::refusal(refused);
            conntrack::end(flow, reply, (Verdict::Drop, reason, m.slot));
            return Decision { verdict: Verdict::Drop, reason, slot: m.slot };
        }
    }
    renew(flow.flow, judge_at, judge_iface, judgement);
    limits::mark(flow.flow, judge_at, m.flags & ACTION_LIMITS != 0);
    if matches!(judge_at, Direction::In) {
        let bypass = m.flags & ACTION_BYPASS != 0;
        bypass::mark(flow.flow, bypass);
        work.bypass = bypass && !reply && matches!(direction, Direction::In);
    }
    // The rule's packets were counted as the hit; only the flow is left.
    let step = Step {
        reply,
        slot: SLOT_NONE,
        counts: work.counts,
        acts: work.fits,
        flags: work.step_flags,
    };
    conntrack::advance(flow, step, table.settings.stream_after, work);
    let reason = if work.fits { Reason::Established } else { Reason::OutOfWindow };
    return Decision { reason, ..decision };
}

/// Whether the packet that is allowed is to be answered with a cookie.
#[inline(always)]
pub fn asks_for_cookie(table: &RuleTable, work: &Work) -> bool {
    volatile(&work.nat_rule) == 0
        && cookies::is_asked_for(table, classify::answer(work).flags, work)
}

/// Enters the flow that an allowed packet begins, with its translation.
#[inline(always)]
pub fn begin<F: Family>(table: &RuleTable, work: &mut Work) -> Decision {
    let (decision, flags) = (answered(work), classify::answer(work).flags);
    work.bypass = flags & ACTION_BYPASS != 0;
    work.limited = flags & ACTION_LIMITS != 0;
    let nat_rule = volatile(&work.nat_rule);
    let (direction, family) = (work.direction, F::FAMILY);
    let judgement = Judgement::new(work.generation, decision.slot, Verdict::Allow as u8);
    let refused = match entering::enter::<F>(work.src_is_a, judgement, work.generation) {
        Entered::Yes => {
            let mut why = 0;
            if work.slot != u32::MAX && family == 4 {
                if nat_rule != 0 {
                    why = nat::sluice_enter_destination(work.generation, nat_rule - 1);
                } else if matches!(direction, Direction::Out) && table.settings.nat_out != 0 {
                    why = snat::at_egress(work.generation, work.slot, true);
                }
            }
            if why == 0 {
                if work.cookie.state == CookieState::Good {
                    return Decision { reason: Reason::CookieGood, ..decision };
                }
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
    Decision { verdict: Verdict::Drop, reason: refused, slot: decision.slot }
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
