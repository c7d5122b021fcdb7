//! The state table: finding a flow, counting on it, making it, ending it.

use firewall_common::{
    abi::{
        control::Control,
        event::Class,
        flow::{Flow, Key4, Key6, bits},
        reason::Reason,
        table::{Direction, SLOT_NONE, Verdict},
    },
    flow::{
        hash::{hash4, hash6, source4, source6},
        key::{key4, key6},
        tcp::{self, TcpState},
        window,
    },
    wire::{Facts, Fragment, transport},
};

use crate::{
    atomic, counters,
    events::{self, About, Told},
    maps::{SOURCES, WORK},
    nataccounts,
    opaque::{put, volatile},
    resync::{sluice_remember_syn, sluice_resync},
    table::{self, V4, V6},
    work::Work,
};

/// Either family's key in one place, aligned so that it can be read by words.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub union Key {
    /// IPv4.
    pub v4: Key4,
    /// IPv6.
    pub v6: Key6,
}

/// A flow and where it stands.
#[derive(Clone, Copy)]
pub struct Hit {
    /// Slot in its family's table.
    pub slot: u32,
    /// The record; null: there is none.
    pub flow: *mut Flow,
}

impl Hit {
    /// Whether there is a flow.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        !self.flow.is_null()
    }
    /// No flow.
    pub const NONE: Self = Self { slot: 0, flow: core::ptr::null_mut() };
}

impl Key {
    /// Becomes the key of a packet; whether the packet's source is end `a`.
    #[inline(always)]
    pub fn set(&mut self, f: &Facts) -> bool {
        // SAFETY: either member may be written, any bytes are a value.
        unsafe { if f.family == 4 { key4(&mut self.v4, f) } else { key6(&mut self.v6, f) } }
    }
    /// Its hash.
    #[inline(always)]
    pub fn hash(&self, family: u8, control: &Control) -> u64 {
        // SAFETY: `set` wrote the member of this family.
        unsafe {
            if family == 4 { hash4(&self.v4, control.seed) } else { hash6(&self.v6, control.seed) }
        }
    }
    /// The flow of a family's table, if it is there.
    #[inline(always)]
    pub fn find_in<F: Family>(&self, hash: u64, control: &Control) -> Hit {
        let mut slot = 0;
        let flow = table::find::<F>(control, F::key(self), hash, &mut slot).cast::<Flow>();
        Hit { slot, flow }
    }
    /// The flow, if it is in the table.
    #[inline(always)]
    pub fn find(&self, family: u8, hash: u64, control: &Control) -> Hit {
        let mut slot = 0;
        // SAFETY: `set` wrote the member of this family. A flow is the first member of its record.
        let flow = unsafe {
            if family == 4 {
                table::find::<V4>(control, &self.v4, hash, &mut slot).cast::<Flow>()
            } else {
                table::find::<V6>(control, &self.v6, hash, &mut slot).cast::<Flow>()
            }
        };
        Hit { slot, flow }
    }
}

/// A table of flows.
pub trait Family: table::Table {
    /// 4 or 6.
    const FAMILY: u8;
    /// The key, which must be of this family.
    fn key(key: &Key) -> &Self::Key;
}

impl Family for V4 {
    const FAMILY: u8 = 4;
    #[inline(always)]
    fn key(key: &Key) -> &Key4 {
        // SAFETY: any bytes are a key.
        unsafe { &key.v4 }
    }
}

impl Family for V6 {
    const FAMILY: u8 = 6;
    #[inline(always)]
    fn key(key: &Key) -> &Key6 {
        // SAFETY: any bytes are a key.
        unsafe { &key.v6 }
    }
}

/// Whether `flow` counts a packet here: a forwarded packet meets two hooks and is counted at the
/// first, ingress; one that meets only egress is counted there.
#[inline(always)]
pub fn counts_here(flow: *mut Flow, flow_bits: u64, reply: bool, direction: Direction) -> bool {
    let at_ingress = if reply { bits::REPLY_AT_INGRESS } else { bits::ORIG_AT_INGRESS };
    match direction {
        Direction::In => {
            if flow_bits & at_ingress == 0 {
                events::first_to(flow, at_ingress);
            }
            true
        }
        Direction::Out => flow_bits & at_ingress == 0,
    }
}

/// Whether a TCP segment fits its flow's windows, which are stepped on. Not asked of fragments, whose
/// length isn't the segment's.
#[inline(always)]
pub fn fits(slot: u32, reply: bool, family: u8, flags: u8) -> bool {
    let family = u32::from(family);
    let syn = flags & transport::SYN != 0;
    let fits = sluice_fits(slot, u32::from(reply), family) != 0;
    if !syn {
        return fits;
    }
    if !reply {
        sluice_remember_syn(slot, family);
        return fits;
    }
    fits || (sluice_resync(slot, family) != 0 && sluice_fits(slot, 1, family) != 0)
}

/// See [`fits`]. A global function: its many ways are verified once, and not once for each way that
/// leads here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_fits(slot: u32, reply: u32, family: u32) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let record = if family == 4 {
        <V4 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    } else {
        <V6 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    };
    let Some(flow) = record else { return 1 };
    let segment = segment(&work.facts);
    let end = reply as usize & 1;
    // SAFETY: a live map value; races as `abi::flow::Flow` allows.
    let (scales, state, flow_bits) =
        unsafe { ((*flow).scales, TcpState::from_raw((*flow).tcp_state), (*flow).bits) };
    put(&mut work.new_scales, scales);
    put(&mut work.new_bits, flow_bits);
    if segment.flags & transport::SYN != 0 && state.is_handshake() {
        let (with, set) = window::note_options(scales, end, &work.options);
        put(&mut work.new_scales, with);
        put(&mut work.new_bits, flow_bits | set);
    }
    // From the work, so that all ways are one to the verifier; and so that the stack stays short.
    let known = window::Known {
        bits: volatile(&work.new_bits),
        scales: volatile(&work.new_scales),
        state,
        enforce: true,
    };
    // SAFETY: as above; nobody else holds a reference to the windows while this CPU works on them, and
    // another CPU's words are taken as they come.
    if !window::fits(unsafe { &mut (*flow).windows }, end, &segment, known) {
        return 0;
    }
    if segment.flags & transport::SYN != 0 {
        // Options count once their segment does.
        // SAFETY: as above.
        unsafe {
            (*flow).scales = volatile(&work.new_scales);
            atomic::fetch_or(&raw mut (*flow).bits, volatile(&work.new_bits));
        }
    }
    1
}

/// Whether a RST that fits ends its connection (`window::resets`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_resets(slot: u32, reply: u32, family: u32) -> u32 {
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    let record = if family == 4 {
        <V4 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    } else {
        <V6 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    };
    let Some(flow) = record else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let segment = segment(unsafe { &(*work).facts });
    // SAFETY: a live map value; races as `abi::flow::Flow` allows.
    let flow = unsafe { &*flow };
    let known = window::Known {
        bits: flow.bits,
        scales: flow.scales,
        state: TcpState::from_raw(flow.tcp_state),
        enforce: true,
    };
    u32::from(window::resets(&flow.windows, reply as usize & 1, &segment, known))
}

#[inline(always)]
pub fn segment(f: &Facts) -> window::Segment {
    window::Segment {
        seq: f.seq,
        ack: f.ack,
        len: f.segment_len(),
        window: f.window,
        flags: f.tcp_flags,
    }
}

/// A packet's part in the life of its flow.
#[derive(Clone, Copy)]
pub struct Step {
    /// Against the original direction.
    pub reply: bool,
    /// Rule whose packet it is; `SLOT_NONE` where the rule has counted it already.
    pub slot: u32,
    /// Whether it counts at this hook (see [`counts_here`]).
    pub counts: bool,
    /// Whether the TCP state goes on: the segment fits.
    pub acts: bool,
    /// TCP flags to step the state with: without a RST that its receiver doesn't believe.
    pub flags: u8,
}

/// Counts a packet on its flow and steps the flow's state; tells `established` and `closed` once.
#[inline(always)]
pub fn advance(hit: Hit, step: Step, stream_after: u32, work: &Work) {
    let flow = hit.flow;
    // SAFETY (for the whole function): `flow` is a live map value; a flow that was taken out keeps its
    // record for as long as this program can run (see `abi::bucket::QUARANTINE`). The races are those that
    // `abi::flow::Flow` allows.
    let flow_bits = unsafe { (&raw const (*flow).bits).read_volatile() };
    if step.slot != SLOT_NONE {
        counters::rule_flow(step.slot, work.packets, work.bytes);
    }
    if !step.counts {
        return;
    }
    let reply = step.reply;
    // SAFETY: see above.
    unsafe {
        if reply {
            atomic::add(&raw mut (*flow).reply_packets, work.packets);
            atomic::add(&raw mut (*flow).reply_bytes, work.bytes);
        } else {
            atomic::add(&raw mut (*flow).packets, work.packets);
            atomic::add(&raw mut (*flow).bytes, work.bytes);
        }
        let now = work.now as u32;
        if (&raw const (*flow).last).read_volatile() != now {
            (&raw mut (*flow).last).write_volatile(now);
        }
    }
    let f = &work.facts;
    let mut established = reply && flow_bits & bits::SEEN_REPLY == 0;
    if established {
        events::first_to(flow, bits::SEEN_REPLY);
    }
    if f.proto == transport::TCP {
        if f.fragment == Fragment::Later || !step.acts {
            return;
        }
        // SAFETY: see above.
        let before = TcpState::from_raw(unsafe { (*flow).tcp_state });
        let mut after = tcp::next(before, reply, step.flags);
        established = after == TcpState::Established && before != TcpState::Established;
        if after != before {
            // SAFETY: see above.
            unsafe { (*flow).tcp_state = after as u8 };
            if matches!(after, TcpState::FinOrig | TcpState::FinReply) {
                // Both ends may say FIN at once, on two CPUs: each then writes its own over the other's. The bits
                // lose none, and the locked instruction comes after the write: who is second sees the first.
                let (mine, other) = if reply {
                    (bits::FIN_REPLY, bits::FIN_ORIG)
                } else {
                    (bits::FIN_ORIG, bits::FIN_REPLY)
                };
                // SAFETY: see above; an aligned word.
                unsafe {
                    if atomic::fetch_or(&raw mut (*flow).bits, mine) & other != 0 {
                        after = TcpState::Closed;
                        (*flow).tcp_state = after as u8;
                    }
                }
            }
            if after.is_over() && !before.is_over() {
                let reason = if after == TcpState::Reset { Reason::Reset } else { Reason::Closed };
                tell_closed(hit, reply, (Verdict::Allow, reason, step.slot));
            }
        }
    } else if flow_bits & (bits::SEEN_REPLY | bits::STREAM) == bits::SEEN_REPLY {
        // SAFETY: see above.
        let first = unsafe { (*flow).first };
        if (work.now as u32).wrapping_sub(first) > stream_after {
            events::first_to(flow, bits::STREAM);
        }
    }
    if established && events::first_to(flow, bits::TOLD_ESTABLISHED) {
        if f.family == 4 {
            table::confirm::<V4>(hit.slot);
        } else {
            table::confirm::<V6>(hit.slot);
        }
        let told = Told {
            class: Class::FlowEstablished,
            verdict: Verdict::Allow,
            reason: Reason::Established,
            reply,
        };
        events::emit(told, step.slot, About::Flow(hit.slot));
    }
}

/// Tells a flow's end, once.
#[inline(always)]
fn tell_closed(hit: Hit, reply: bool, why: (Verdict, Reason, u32)) {
    if events::first_to(hit.flow, bits::TOLD_CLOSED) {
        let (verdict, reason, slot) = why;
        let told = Told { class: Class::FlowClosed, verdict, reason, reply };
        events::emit(told, slot, About::Flow(hit.slot));
    }
}

/// Takes a flow out of the table and tells why.
#[inline(always)]
pub fn end(hit: Hit, reply: bool, why: (Verdict, Reason, u32)) {
    let (verdict, reason, rule) = why;
    let why = verdict as u64 | (reason as u64) << 8 | u64::from(rule) << 16;
    sluice_end(hit.slot, u32::from(reply), why);
}

/// See [`end`]. A global function: flows end rarely.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_end(slot: u32, reply: u32, why: u64) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let flow = if work.facts.family == 4 {
        <V4 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    } else {
        <V6 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    };
    let Some(flow) = flow else { return 0 };
    // Its end was told when it was closed; but only now is its translated port another's.
    // SAFETY: a live map value.
    let lent_again = why >> 8 & 0xff == Reason::Reused as u64 && unsafe { (*flow).nat } != 0;
    if events::first_to(flow, bits::TOLD_CLOSED) || lent_again {
        let told = Class::FlowClosed as u32 | (why as u32 & 0xffff) << 8 | reply << 24;
        events::sluice_tell(told, (why >> 16) as u32, 2, slot);
    }
    let now = work.now as u32;
    let ours = if work.facts.family == 4 {
        table::remove::<V4>(slot, now)
    } else {
        table::remove::<V6>(slot, now)
    };
    if ours {
        sluice_leave(slot);
    }
    0
}

/// What a flow that was taken out leaves behind: its source's count, its translation. Out of line: flows
/// end rarely.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_leave(slot: u32) -> u32 {
    let Some(work) = WORK.get_ptr(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &*work };
    let now = work.now as u32;
    if work.facts.family == 4 {
        if let Some(record) = <V4 as table::Table>::record(slot) {
            // SAFETY: a live map value.
            let record = unsafe { &*record };
            let source =
                if record.flow.bits & bits::ORIG_IS_A != 0 { record.key.a } else { record.key.b };
            if record.flow.bits & bits::SOURCE_COUNTED != 0 {
                count_source(source4(source, work.seed), u64::MAX);
            }
            if record.flow.nat != 0 {
                nataccounts::let_go(&record.flow, source, work.seed, now);
            }
        }
    } else if let Some(record) = <V6 as table::Table>::record(slot) {
        // SAFETY: a live map value.
        let record = unsafe { &*record };
        if record.flow.bits & bits::SOURCE_COUNTED != 0 {
            let orig_is_a = record.flow.bits & bits::ORIG_IS_A != 0;
            let index = if orig_is_a {
                source6(&record.key.a, work.seed)
            } else {
                source6(&record.key.b, work.seed)
            };
            count_source(index, u64::MAX);
        }
    }
    0
}

/// Adds `n` (`u64::MAX`: takes one away) to a source's flows; how many there were.
#[inline(always)]
pub fn count_source(index: usize, n: u64) -> u64 {
    let Some(sources) = SOURCES.get_ptr_mut(0) else { return 0 };
    // SAFETY: a live map value; the masked index is below its length.
    unsafe {
        let flows = (&raw mut (*sources).flows).cast::<u64>();
        atomic::fetch_add(flows.add(index & 0xffff), n)
    }
}
