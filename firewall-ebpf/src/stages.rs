//! How one stage of a packet's way goes on to the next: by a tail call, of which the processor sees a jump. A call would
//! have to come back, and returning is what this costs most where return thunks guard it. Each stage has the whole stack and
//! is verified by itself; what one knows of the packet, the next finds in `Work`.

use aya_ebpf::{EbpfContext, cty::c_void, macros::map, maps::ProgramArray};
use firewall_common::abi::{reason::Reason, stage::STAGES, table::Verdict};

use crate::{counters, packet::Packet, verdict::Outcome};

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

/// Goes on to a stage. The number is known to the verifier, so that the kernel makes a jump of it. Comes back where the stage isn't
/// there: nothing is decided then but what was said before there was a policy.
#[inline(always)]
pub fn go<const STAGE: u32, P: Packet>(pkt: &P) -> Outcome {
    // SAFETY: nothing here has to be dropped.
    unsafe { P::STAGES.tail_call(&Context(pkt.context()), STAGE) };
    lost(pkt)
}

/// A stage isn't there, or the maps aren't: the daemon's pins were taken away under the programs.
#[inline(always)]
pub fn lost<P: Packet>(pkt: &P) -> Outcome {
    counters::reason(
        Verdict::Allow,
        Reason::NoPolicy,
        u64::from(pkt.segments()),
        u64::from(pkt.frame_len(0)),
    );
    Outcome::Pass
}
