//! The state table: finding a flow, counting on it, making it, ending it.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use firewall_common::{
    abi::{
        control::Control,
        event::Class,
        flow::{Flow, Judgement, Key4, Key6, bits},
        reason::Reason,
        table::{Direction, RuleTable, SETTING_EVICT_HALF_OPEN, SLOT_NONE, Verdict},
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
    events::{self, Told},
    maps::{FLOW_IDS, SOURCES, TABLE_COUNTERS},
    nat,
    table::{self, Claim, Terms, V4, V6},
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
    /// The record.
    pub flow: *mut Flow,
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
            if family == 4 {
                hash4(&self.v4, control.seed)
            } else {
                hash6(&self.v6, control.seed)
            }
        }
    }
    /// The flow, if it is in the table.
    #[inline(always)]
    pub fn find(&self, family: u8, hash: u64, control: &Control) -> Option<Hit> {
        // SAFETY: `set` wrote the member of this family. A flow is the first member of its record.
        unsafe {
            if family == 4 {
                let found = table::find::<V4>(control, &self.v4, hash)?;
                Some(Hit { slot: found.slot, flow: found.record.cast() })
            } else {
                let found = table::find::<V6>(control, &self.v6, hash)?;
                Some(Hit { slot: found.slot, flow: found.record.cast() })
            }
        }
    }
}

/// What became of an attempt to enter a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is in the table (made by us, or by another CPU a moment ago: then this packet is counted
    /// on that record).
    Yes,
    /// No room.
    Full,
    /// The table was locked for too long.
    Busy,
    /// Its source has its share.
    SourceLimit,
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
pub fn fits(flow: *mut Flow, flow_bits: u64, reply: bool, enforce: bool, work: &Work) -> bool {
    let f = &work.facts;
    let segment = segment(f);
    let end = usize::from(reply);
    // SAFETY: a live map value; races as `abi::flow::Flow` allows.
    let (mut scales, state) = unsafe { ((*flow).scales, TcpState::from_raw((*flow).tcp_state)) };
    let mut flow_bits = flow_bits;
    if f.tcp_flags & transport::SYN != 0 && state.is_handshake() {
        let (with, set) = window::note_options(scales, end, &work.options);
        if set & !flow_bits != 0 || with != scales {
            // SAFETY: as above.
            unsafe {
                (*flow).scales = with;
                atomic::fetch_or(&raw mut (*flow).bits, set);
            }
        }
        (scales, flow_bits) = (with, flow_bits | set);
    }
    let known = window::Known { bits: flow_bits, scales, state, enforce };
    // SAFETY: as above; nobody else holds a reference to the windows while this CPU works on them, and
    // another CPU's words are taken as they come.
    window::fits(unsafe { &mut (*flow).windows }, end, &segment, known)
}

#[inline(always)]
fn segment(f: &Facts) -> window::Segment {
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
    pub slot: u16,
    /// Whether it counts at this hook (see [`counts_here`]).
    pub counts: bool,
    /// Whether the TCP state goes on: the segment fits.
    pub fits: bool,
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
        if f.fragment == Fragment::Later || !step.fits {
            return;
        }
        // SAFETY: see above.
        let before = TcpState::from_raw(unsafe { (*flow).tcp_state });
        let after = tcp::next(before, reply, f.tcp_flags);
        established = after == TcpState::Established && before != TcpState::Established;
        if after != before {
            // SAFETY: see above.
            unsafe { (*flow).tcp_state = after as u8 };
            if after.is_over() && !before.is_over() {
                let reason = if after == TcpState::Reset { Reason::Reset } else { Reason::Closed };
                tell_closed(flow, reply, (Verdict::Allow, reason, step.slot), work);
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
        events::emit(work, told, step.slot, flow);
    }
}

/// Tells a flow's end, once.
#[inline(always)]
fn tell_closed(flow: *mut Flow, reply: bool, why: (Verdict, Reason, u16), work: &Work) {
    if events::first_to(flow, bits::TOLD_CLOSED) {
        let (verdict, reason, slot) = why;
        let told = Told { class: Class::FlowClosed, verdict, reason, reply };
        events::emit(work, told, slot, flow);
    }
}

/// Takes a flow out of the table and tells why.
#[inline(always)]
pub fn end(hit: Hit, reply: bool, why: (Verdict, Reason, u16), work: &mut Work) {
    tell_closed(hit.flow, reply, why, work);
    let now = work.now as u32;
    let ours = if work.facts.family == 4 {
        table::remove::<V4>(hit.slot, now)
    } else {
        table::remove::<V6>(hit.slot, now)
    };
    if ours {
        leave(hit.slot, work);
    }
}

/// What a flow that was taken out leaves behind: its source's count, its translation. Out of line: flows
/// end rarely.
#[inline(never)]
fn leave(slot: u32, work: &Work) {
    let now = work.now as u32;
    if work.facts.family == 4 {
        if let Some(record) = <V4 as table::Table>::record(slot) {
            // SAFETY: a live map value.
            let record = unsafe { &*record };
            let source = if record.flow.bits & bits::ORIG_IS_A != 0 { record.key.a } else { record.key.b };
            if record.flow.bits & bits::SOURCE_COUNTED != 0 {
                count_source(source4(source, work.seed), u64::MAX);
            }
            if record.flow.nat != 0 {
                nat::let_go(&record.flow, source, work.seed, now);
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
}

/// Adds `n` (`u64::MAX`: takes one away) to a source's flows; how many there were.
#[inline(always)]
fn count_source(index: usize, n: u64) -> u64 {
    let Some(sources) = SOURCES.get_ptr_mut(0) else { return 0 };
    // SAFETY: a live map value; the masked index is below its length.
    unsafe {
        let flows = (&raw mut (*sources).flows).cast::<u64>();
        atomic::fetch_add(flows.add(index & 0xffff), n)
    }
}

/// Makes the record of the flow that this packet begins: `work.flow`.
#[inline(always)]
fn prepare(src_is_a: bool, judgement: Judgement, work: &mut Work) {
    work.flow = Flow {
        packets: work.packets,
        bytes: work.bytes,
        last: work.now as u32,
        first: work.now as u32,
        first_high: (work.now >> 32) as u8,
        id: next_id(),
        first_flags: work.facts.tcp_flags,
        vlan: work.facts.vlan,
        ..Flow::default()
    };
    let (f, flow) = (&work.facts, &mut work.flow);
    if src_is_a {
        flow.bits |= bits::ORIG_IS_A;
    }
    if f.proto == transport::TCP {
        flow.tcp_state = tcp::first(f.tcp_flags) as u8;
        window::begin(&mut flow.windows, &segment(f));
        if f.tcp_flags & transport::SYN == 0 || f.tcp_flags & transport::ACK != 0 {
            flow.bits |= bits::PICKED_UP;
        } else {
            let (scales, set) = window::note_options(0, 0, &work.options);
            flow.scales = scales;
            flow.bits |= set;
        }
    } else if !f.has_ports() {
        flow.set_icmp(f.dport);
    }
    match work.direction {
        Direction::In => {
            flow.bits |= bits::ORIG_AT_INGRESS;
            flow.judged_in = judgement;
            flow.if_in = work.iface;
        }
        Direction::Out => {
            flow.judged_out = judgement;
            flow.if_out = work.iface;
        }
    }
}

/// Enters the flow that this packet begins. Out of line: the main program's frame is full.
#[inline(never)]
pub fn enter(src_is_a: bool, judgement: Judgement, table: &RuleTable, work: &mut Work) -> Entered {
    let settings = &table.settings;
    let mut source = usize::MAX;
    if settings.source_flows != 0 {
        let f = &work.facts;
        source = if f.family == 4 {
            source4([f.src[0], f.src[1], f.src[2], f.src[3]], work.seed)
        } else {
            source6(&f.src, work.seed)
        };
        if count_source(source, 1) >= u64::from(settings.source_flows) {
            count_source(source, u64::MAX);
            if let Some(counter) = TABLE_COUNTERS.get_ptr_mut(0) {
                // SAFETY: a live map value, an aligned word.
                unsafe { atomic::add(&raw mut (*counter).source_limited, 1) };
            }
            return Entered::SourceLimit;
        }
    }
    prepare(src_is_a, judgement, work);
    if source != usize::MAX {
        work.flow.bits |= bits::SOURCE_COUNTED;
    }
    let picked_up_open = work.facts.proto == transport::TCP && work.flow.bits & bits::PICKED_UP != 0;
    let terms = Terms {
        half: !picked_up_open,
        evict: settings.flags & SETTING_EVICT_HALF_OPEN != 0,
        now: work.now as u32,
    };
    let entered = if work.facts.family == 4 { enter4(terms, work) } else { enter6(terms, work) };
    if entered != Entered::Yes {
        if source != usize::MAX {
            count_source(source, u64::MAX);
        }
        return entered;
    }
    if work.slot == u32::MAX {
        // Both directions' first packets met on two CPUs: ours belongs to the winner's record.
        if source != usize::MAX {
            count_source(source, u64::MAX);
        }
        return Entered::Yes;
    }
    let told = Told {
        class: Class::FlowNew,
        verdict: Verdict::Allow,
        reason: Reason::Rule,
        reply: false,
    };
    events::emit_new(work, told, judgement.slot(), settings);
    Entered::Yes
}

/// Counts this packet on the record of whoever was faster.
#[inline(always)]
fn join(flow: *mut Flow, slot: u32, work: &mut Work) {
    // SAFETY: a live map value.
    let winner_is_a = unsafe { (*flow).bits } & bits::ORIG_IS_A != 0;
    let reply = winner_is_a != (work.flow.bits & bits::ORIG_IS_A != 0);
    let step = Step { reply, slot: SLOT_NONE, counts: true, fits: true };
    advance(Hit { slot, flow }, step, u32::MAX, work);
    work.slot = u32::MAX;
}

/// Adds the totals of a flow that had to make room.
#[inline(always)]
fn count_evicted(flow: &Flow) {
    if let Some(counter) = TABLE_COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, aligned words.
        unsafe {
            atomic::add(&raw mut (*counter).evicted, 1);
            atomic::add(&raw mut (*counter).evicted_packets, flow.packets + flow.reply_packets);
            atomic::add(&raw mut (*counter).evicted_bytes, flow.bytes + flow.reply_bytes);
        }
    }
}

/// Enters `work.flow` under the IPv4 key; `work.slot` says where.
#[inline(never)]
fn enter4(terms: Terms, work: &mut Work) -> Entered {
    let Some(control) = crate::gate::control() else { return Entered::Busy };
    // SAFETY: `set` wrote this member.
    let key = unsafe { work.key.v4 };
    let hash = work.hash;
    let (found, evicted) =
        match table::claim::<V4>(control, &key, hash, terms, &mut work.scan) {
            Claim::Fresh(found) => (found, false),
            Claim::Evicted(found) => (found, true),
            Claim::Taken(found) => {
                join(found.record.cast(), found.slot, work);
                return Entered::Yes;
            }
            Claim::Full => return Entered::Full,
            Claim::Busy => return Entered::Busy,
        };
    if evicted {
        // SAFETY: the slot is ours; nobody else writes its record.
        count_evicted(unsafe { &(*found.record).flow });
        leave(found.slot, work);
    }
    // SAFETY: the slot is ours until it is published.
    unsafe {
        (*found.record).flow = work.flow;
        (*found.record).key = work.key.v4;
    }
    table::publish::<V4>(found.slot, hash, terms);
    work.slot = found.slot;
    Entered::Yes
}

/// As [`enter4`].
#[inline(never)]
fn enter6(terms: Terms, work: &mut Work) -> Entered {
    let Some(control) = crate::gate::control() else { return Entered::Busy };
    let hash = work.hash;
    // SAFETY: `set` wrote this member; the work isn't touched by the claim but for its scan.
    let key = unsafe { &*(&raw const work.key.v6) };
    let (found, evicted) =
        match table::claim::<V6>(control, key, hash, terms, &mut work.scan) {
            Claim::Fresh(found) => (found, false),
            Claim::Evicted(found) => (found, true),
            Claim::Taken(found) => {
                join(found.record.cast(), found.slot, work);
                return Entered::Yes;
            }
            Claim::Full => return Entered::Full,
            Claim::Busy => return Entered::Busy,
        };
    if evicted {
        // SAFETY: the slot is ours; nobody else writes its record.
        count_evicted(unsafe { &(*found.record).flow });
        leave(found.slot, work);
    }
    // SAFETY: the slot is ours until it is published.
    unsafe {
        (*found.record).flow = work.flow;
        (*found.record).key = work.key.v6;
    }
    table::publish::<V6>(found.slot, hash, terms);
    work.slot = found.slot;
    Entered::Yes
}

/// A new flow's id: CPU in the top 16 bits, that CPU's count below.
#[inline(always)]
fn next_id() -> u64 {
    let Some(count) = FLOW_IDS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest. The helper has no precondition.
    unsafe {
        *count += 1;
        u64::from(bpf_get_smp_processor_id() as u32) << 48 | *count
    }
}
