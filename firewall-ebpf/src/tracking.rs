//! The first half of a packet's way: what the flow table says. `judge` is the second.

use firewall_common::{
    abi::{
        control::Control,
        flow::{Judgement, bits},
        reason::Reason,
        table::{
            Direction, RuleTable, SETTING_TCP_PICKUP, SETTING_WINDOW_OFF, SETTING_WINDOW_STRICT,
            SLOT_NONE, State, TIMEOUTS, Verdict,
        },
    },
    flow::{
        tcp::{self, TcpState},
        timeout,
    },
    wire::{Facts, Fragment, facts::IcmpKind, icmp, transport},
};

use crate::{
    conntrack::{self, Family, Hit, Step},
    cookies::CookieState,
    events,
    gate::Decision,
    limits, nat,
    work::Work,
};

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

/// What [`track`] returns where the rules have to be asked.
pub const JUDGE: u64 = u64::MAX;
/// `Work::found` where there is no flow.
pub const NOT_FOUND: u32 = u32::MAX;

/// Flow table first; the rules judge what it doesn't know, and what it knows from an older policy: then
/// [`JUDGE`], and the work says the rest.
#[inline(always)]
pub fn track<F: Family>(table: &RuleTable, control: &Control, work: &mut Work) -> u64 {
    let direction = work.direction;
    work.facts.family = F::FAMILY;
    let src_is_a = work.key.set(&work.facts);
    let family = F::FAMILY;
    work.hash = work.key.hash(family, control);
    let mut flow = work.key.find_in::<F>(work.hash, control);
    let mut reply = false;
    if flow.is_some() {
        // SAFETY: a live map value.
        let flow_bits = unsafe { (*flow.flow).bits };
        reply = (flow_bits & bits::ORIG_IS_A != 0) != src_is_a;
        if reply && flow_bits & bits::NAT_SOURCE != 0 && matches!(direction, Direction::In) {
            // Replies to a translated source come to the translated address: if this is one all the
            // same, the machine itself uses a port that it also lent to somebody inside.
            flow = Hit::NONE;
        }
    }
    if !flow.is_some() && family == 4 && control.nat != 0 {
        let (hit, orig_is_a) = nat::find(control, &work.key, work.hash);
        if hit.is_some() {
            flow = hit;
            reply = orig_is_a != src_is_a;
        }
    }
    let (proto, syn_only) = (
        work.facts.proto,
        work.facts.tcp_flags & (transport::SYN | transport::ACK) == transport::SYN,
    );
    let mut fits = true;
    let mut step_flags = work.facts.tcp_flags;
    let mut counts = true;
    if flow.is_some() {
        let found = flow;
        // SAFETY: a live map value.
        let view = unsafe { &*found.flow };
        let timeouts: &[u32; TIMEOUTS] = &table.settings.timeouts;
        let again =
            proto == transport::TCP && syn_only && TcpState::from_raw(view.tcp_state).is_over();
        if again {
            conntrack::end(found, reply, (Verdict::Allow, Reason::Reused, SLOT_NONE));
            flow = Hit::NONE;
        } else if timeout::expired(view, proto, timeouts, work.now) {
            conntrack::end(found, reply, (Verdict::Allow, Reason::TimedOut, SLOT_NONE));
            flow = Hit::NONE;
        } else {
            // Whether it would be rewritten here.
            let turned = if reply { bits::NAT_SOURCE } else { bits::NAT_DESTINATION };
            if work.defers && view.bits & turned != 0 {
                work.deferred = true;
                return Decision::new(Verdict::Drop, Reason::NatImpossible).pack();
            }
            counts = conntrack::counts_here(found.flow, view.bits, reply, direction);
            if view.bits & (bits::COOKIE | bits::SEEN_REPLY) == bits::COOKIE && !reply {
                // The listener may not have heard of it yet.
                work.cookie.state = CookieState::Again;
            }
            let flags = table.settings.flags;
            if proto == transport::TCP && counts {
                if work.facts.fragment == Fragment::Whole && flags & SETTING_WINDOW_OFF == 0 {
                    fits = conntrack::fits(found.slot, reply, family, work.facts.tcp_flags);
                    if !fits && flags & SETTING_WINDOW_STRICT != 0 {
                        return Decision::new(Verdict::Drop, Reason::OutOfWindow).pack();
                    }
                    let reset = work.facts.tcp_flags & transport::RST != 0;
                    if reset
                        && fits
                        && conntrack::sluice_resets(found.slot, u32::from(reply), u32::from(family))
                            == 0
                    {
                        step_flags &= !transport::RST;
                    }
                } else if work.facts.fragment != Fragment::Later && view.bits & bits::PICKED_UP == 0
                {
                    // Its numbers are not looked at: from here on they can't be held against anybody.
                    events::first_to(found.flow, bits::PICKED_UP);
                }
            }
            if view.nat != 0 || view.bits & (bits::NAT_SOURCE | bits::NAT_DESTINATION) != 0 {
                if view.nat == 0 {
                    // Another CPU is about to translate it.
                    return Decision::new(Verdict::Drop, Reason::TableBusy).pack();
                }
                nat::plan(found, reply);
            }
        }
    }
    work.found = if flow.is_some() { flow.slot } else { NOT_FOUND };
    work.reply = reply;
    work.counts = counts;
    work.fits = fits;
    work.step_flags = step_flags;
    work.src_is_a = src_is_a;

    // Which judgement has to be renewed: of the original direction at this hook, or, for a reply, at
    // whichever hook the original direction met under an older policy.
    let mut judge_at = direction;
    let mut judge_iface = work.iface;
    let (mut state, mut begins) = (State::Established, false);
    if flow.is_some() {
        let found = flow;
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
        // At which hook the rule judged that the packet counts for.
        let mut at = direction;
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
                let is_in = matches!(direction, Direction::In) != across.is_set();
                at = if is_in { Direction::In } else { Direction::Out };
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
            // SAFETY: a live map value, an aligned word.
            let flow_bits = unsafe { (&raw const (*found.flow).bits).read_volatile() };
            let wanted = flow_bits & bits::BYPASS != 0;
            work.bypass = wanted && !reply && matches!(direction, Direction::In);
            if counts
                && flow_bits & limits::bit(at) != 0
                && limits::sluice_police(slot, u32::from(reply)) == 0
            {
                return Decision { verdict: Verdict::Drop, reason: Reason::OverLimit, slot }.pack();
            }
            let step = Step { reply, slot, counts, acts: fits, flags: step_flags };
            conntrack::advance(found, step, table.settings.stream_after, work);
            let reason = if fits { Reason::Established } else { Reason::OutOfWindow };
            return Decision { verdict: Verdict::Allow, reason, slot }.pack();
        }
    } else {
        (state, begins) = fresh(table, &work.facts);
        begins &= work.facts.fragment != Fragment::Later;
    }
    work.judge_at = judge_at;
    work.judge_iface = judge_iface;
    work.state = state;
    work.begins = begins;
    JUDGE
}
