//! The stages of a packet's way behind the first program, and how one goes on to the next: by a tail call, of which the
//! processor sees a jump. A call would have to come back, and returning is what costs most where return thunks guard it.
//! Each stage has the whole stack and is verified by itself; what one knows of the packet, the next finds in `Work`.

use aya_ebpf::{EbpfContext, cty::c_void, macros::map, maps::ProgramArray};
use firewall_common::abi::{
    reason::Reason,
    stage::{BEGIN4, BEGIN6, END, FLOW4, FLOW6, JUDGE4, JUDGE6, STAGES},
    table::{State, Verdict},
};

use crate::{
    conntrack::Family,
    cookies, counters,
    gate::{self, Decision},
    judge::{self, BEGIN},
    maps::again_at_hand,
    opaque::{put, volatile},
    packet::Packet,
    verdict::Outcome,
    work::Work,
};

/// Stages at XDP (`abi::stage`). Filled by the daemon before anything is attached, and never changed.
#[map]
pub static STAGES_XDP: ProgramArray = ProgramArray::with_max_entries(STAGES as u32, 0);

/// The same at TC.
#[map]
pub static STAGES_TC: ProgramArray = ProgramArray::with_max_entries(STAGES as u32, 0);

/// A context as a packet has it.
struct Context(*mut c_void);

impl EbpfContext for Context {
    #[inline(always)]
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// Goes on to a stage. Its number is known to the verifier, so that the kernel makes a jump of it. Comes back where the
/// stage isn't there: then it is as if there were no policy.
#[inline(always)]
fn go<const STAGE: u32, P: Packet>(pkt: &P) -> Outcome {
    // SAFETY: nothing here has to be dropped.
    unsafe { P::STAGES.tail_call(&Context(pkt.context()), STAGE) };
    lost(pkt)
}

/// A stage or a map isn't there: the daemon's pins were taken away under the programs.
#[inline(always)]
fn lost<P: Packet>(pkt: &P) -> Outcome {
    let (packets, bytes) = (u64::from(pkt.segments()), u64::from(pkt.frame_len(0)));
    counters::reason(Verdict::Allow, Reason::NoPolicy, packets, bytes);
    Outcome::Pass
}

/// Goes on to [`flow`].
#[inline(always)]
pub fn to_flow<P: Packet>(pkt: &P, work: &Work) -> Outcome {
    if volatile(&work.facts.family) == 4 { go::<FLOW4, _>(pkt) } else { go::<FLOW6, _>(pkt) }
}

/// The second half of every packet's way.
#[inline(always)]
pub fn flow<F: Family, P: Packet>(pkt: &P) -> Outcome {
    let (Some(control), Some((_, table, work))) = (gate::control(), again_at_hand()) else {
        return lost(pkt);
    };
    gate::look_up::<F, P>(pkt, control, table, work)
}

/// Goes on to [`judge`].
#[inline(always)]
pub fn to_judge<P: Packet>(pkt: &P, work: &Work) -> Outcome {
    if volatile(&work.facts.family) == 4 { go::<JUDGE4, _>(pkt) } else { go::<JUDGE6, _>(pkt) }
}

/// Goes on to [`begin`].
#[inline(always)]
pub fn to_begin<P: Packet>(pkt: &P, work: &Work) -> Outcome {
    if volatile(&work.facts.family) == 4 { go::<BEGIN4, _>(pkt) } else { go::<BEGIN6, _>(pkt) }
}

/// The rules, of whatever packet and policy; before them, whether an ACK brings a cookie back.
#[inline(always)]
pub fn judge<F: Family, P: Packet>(pkt: &P) -> Outcome {
    let Some((_, table, work)) = again_at_hand() else { return lost(pkt) };
    if cookies::may_bring_one(work) {
        if cookies::check(pkt, work) {
            put(&mut work.state, State::New);
            put(&mut work.begins, true);
        } else if cookies::listens(pkt, work) {
            let bad = Decision::new(Verdict::Drop, Reason::CookieBad).pack();
            put(&mut work.said, bad);
            return go::<END, _>(pkt);
        }
    }
    let said = judge::judge::<F>(table, work);
    put(&mut work.said, said);
    if volatile(&work.said) == BEGIN { to_begin(pkt, work) } else { go::<END, _>(pkt) }
}

/// An allowed packet begins a flow, or is answered with a cookie instead.
#[inline(always)]
pub fn begin<F: Family, P: Packet>(pkt: &P) -> Outcome {
    let Some((_, table, work)) = again_at_hand() else { return lost(pkt) };
    let said = if judge::asks_for_cookie(table, work) && cookies::prepare(pkt, work) {
        judge::answered(work).reason(Reason::CookieSent)
    } else {
        judge::begin::<F>(table, work)
    };
    put(&mut work.said, said.pack());
    go::<END, _>(pkt)
}

/// The last stage.
#[inline(always)]
pub fn end<P: Packet>(pkt: &P) -> Outcome {
    let Some((_, table, work)) = again_at_hand() else { return lost(pkt) };
    gate::end(pkt, table, work)
}
