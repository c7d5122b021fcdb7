//! The state table: finding a flow, counting on it, making it, ending it.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use firewall_common::{
    abi::{
        control::Control,
        event::Class,
        flow::{Flow, Judgement, Key4, Key6, bits},
        reason::Reason,
        table::{Direction, SETTING_EVICT_HALF_OPEN, SLOT_NONE, Verdict},
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
    maps::{FLOW_IDS, SOURCES, TABLE_COUNTERS, TABLES, WORK},
    nat,
    opaque::{put, volatile},
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

/// What became of an attempt to enter a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
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
pub fn fits(slot: u32, reply: bool, family: u8) -> bool {
    sluice_fits(slot, u32::from(reply), u32::from(family)) != 0
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
    /// Whether the TCP state goes on: the segment fits, and does something.
    pub acts: bool,
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
        let after = tcp::next(before, reply, f.tcp_flags);
        established = after == TcpState::Established && before != TcpState::Established;
        if after != before {
            // SAFETY: see above.
            unsafe { (*flow).tcp_state = after as u8 };
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
fn tell_closed(hit: Hit, reply: bool, why: (Verdict, Reason, u16)) {
    if events::first_to(hit.flow, bits::TOLD_CLOSED) {
        let (verdict, reason, slot) = why;
        let told = Told { class: Class::FlowClosed, verdict, reason, reply };
        events::emit(told, slot, About::Flow(hit.slot));
    }
}

/// Takes a flow out of the table and tells why.
#[inline(always)]
pub fn end(hit: Hit, reply: bool, why: (Verdict, Reason, u16)) {
    let (verdict, reason, rule) = why;
    let why = verdict as u32 | (reason as u32) << 8 | u32::from(rule) << 16;
    sluice_end(hit.slot, u32::from(reply), why);
}

/// See [`end`]. A global function: flows end rarely.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_end(slot: u32, reply: u32, why: u32) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let flow = if work.facts.family == 4 {
        <V4 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    } else {
        <V6 as table::Table>::record(slot).map(|record| record.cast::<Flow>())
    };
    let Some(flow) = flow else { return 0 };
    if events::first_to(flow, bits::TOLD_CLOSED) {
        let told = Class::FlowClosed as u32 | (why & 0xffff) << 8 | reply << 24;
        events::sluice_tell(told, why >> 16, 2, slot);
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
    0
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

/// Enters the flow that this packet begins. In three steps, each with a frame of its own.
#[inline(always)]
pub fn enter<F: Family>(src_is_a: bool, judgement: Judgement, generation: u32) -> Entered {
    let terms = sluice_prepare(u32::from(src_is_a), judgement.0, generation);
    if terms == SOURCE_LIMIT {
        return Entered::SourceLimit;
    }
    let raw = if F::FAMILY == 4 { sluice_enter4(terms) } else { sluice_enter6(terms) };
    sluice_entered(generation, raw, u32::from(judgement.slot()));
    match raw {
        0 => Entered::Yes,
        1 => Entered::Full,
        _ => Entered::Busy,
    }
}

/// What [`sluice_prepare`] returns where the source has its share.
const SOURCE_LIMIT: u32 = u32::MAX;

/// First step: makes the record, counts its source. The terms on which it may enter, or [`SOURCE_LIMIT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_prepare(src_is_a: u32, judgement: u64, generation: u32) -> u32 {
    let (Some(table), Some(work)) = (TABLES.get_ptr(generation & 1), WORK.get_ptr_mut(0)) else {
        return SOURCE_LIMIT;
    };
    // SAFETY: live map values; the table isn't written while its generation is live, the work is this
    // CPU's own.
    let (table, work) = unsafe { (&*table, &mut *work) };
    let settings = &table.settings;
    work.source = u32::MAX;
    if settings.source_flows != 0 {
        let f = &work.facts;
        let source = if f.family == 4 {
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
            return SOURCE_LIMIT;
        }
        work.source = source as u32;
    }
    prepare(src_is_a != 0, Judgement(judgement), work);
    if work.source != u32::MAX {
        work.flow.bits |= bits::SOURCE_COUNTED;
    }
    let open = work.facts.proto == transport::TCP && work.flow.bits & bits::PICKED_UP != 0;
    let evict = settings.flags & SETTING_EVICT_HALF_OPEN != 0;
    Terms { half: !open, evict, now: 0 }.pack()
}

/// Third step: tells of the flow, or takes the count of its source back.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_entered(generation: u32, how: u32, rule: u32) -> u32 {
    let (Some(table), Some(work)) = (TABLES.get_ptr(generation & 1), WORK.get_ptr(0)) else {
        return 0;
    };
    // SAFETY: as in `sluice_prepare`.
    let (table, work) = unsafe { (&*table, &*work) };
    if how != 0 || work.slot == u32::MAX {
        // No room, or both directions' first packets met on two CPUs: ours belongs to the winner's record.
        if work.source != u32::MAX {
            count_source(work.source as usize, u64::MAX);
        }
        return 0;
    }
    let told =
        Told { class: Class::FlowNew, verdict: Verdict::Allow, reason: Reason::Rule, reply: false };
    events::emit_new(told, rule as u16, &table.settings);
    0
}

/// Counts this packet on the record of whoever was faster.
#[inline(always)]
fn join(flow: *mut Flow, slot: u32, work: &mut Work) {
    // SAFETY: a live map value.
    let winner_is_a = unsafe { (*flow).bits } & bits::ORIG_IS_A != 0;
    let reply = winner_is_a != (work.flow.bits & bits::ORIG_IS_A != 0);
    let step = Step { reply, slot: SLOT_NONE, counts: true, acts: true };
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
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_enter4(terms: u32) -> u32 {
    let (Some(control), Some(work)) = (crate::gate::control(), WORK.get_ptr_mut(0)) else {
        return Entered::Busy as u32;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let terms = Terms::unpack(terms, work.now as u32);
    enter4(control, terms, work) as u32
}

#[inline(always)]
fn enter4(control: &Control, terms: Terms, work: &mut Work) -> Entered {
    // SAFETY: `set` wrote this member.
    let key = unsafe { work.key.v4 };
    let hash = work.hash;
    let claim = table::claim::<V4>(control, &key, hash, terms, &mut work.scan);
    let slot = work.scan.slot;
    match claim {
        Claim::Fresh | Claim::Evicted | Claim::Taken => {}
        Claim::Full => return Entered::Full,
        Claim::Busy => return Entered::Busy,
    }
    let Some(record) = <V4 as table::Table>::record(slot) else { return Entered::Busy };
    if claim == Claim::Taken {
        join(record.cast(), slot, work);
        return Entered::Yes;
    }
    if claim == Claim::Evicted {
        // SAFETY: the slot is ours; nobody else writes its record.
        count_evicted(unsafe { &(*record).flow });
        sluice_leave(slot);
    }
    // SAFETY: the slot is ours until it is published.
    unsafe {
        (*record).flow = work.flow;
        (*record).key = work.key.v4;
    }
    table::publish::<V4>(slot, hash, terms);
    work.slot = slot;
    Entered::Yes
}

/// As [`enter4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_enter6(terms: u32) -> u32 {
    let (Some(control), Some(work)) = (crate::gate::control(), WORK.get_ptr_mut(0)) else {
        return Entered::Busy as u32;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let terms = Terms::unpack(terms, work.now as u32);
    enter6(control, terms, work) as u32
}

#[inline(always)]
fn enter6(control: &Control, terms: Terms, work: &mut Work) -> Entered {
    let hash = work.hash;
    // SAFETY: `set` wrote this member; the work isn't touched by the claim but for its scan.
    let key = unsafe { &*(&raw const work.key.v6) };
    let claim = table::claim::<V6>(control, key, hash, terms, &mut work.scan);
    let slot = work.scan.slot;
    match claim {
        Claim::Fresh | Claim::Evicted | Claim::Taken => {}
        Claim::Full => return Entered::Full,
        Claim::Busy => return Entered::Busy,
    }
    let Some(record) = <V6 as table::Table>::record(slot) else { return Entered::Busy };
    if claim == Claim::Taken {
        join(record.cast(), slot, work);
        return Entered::Yes;
    }
    if claim == Claim::Evicted {
        // SAFETY: the slot is ours; nobody else writes its record.
        count_evicted(unsafe { &(*record).flow });
        sluice_leave(slot);
    }
    // SAFETY: the slot is ours until it is published.
    unsafe {
        (*record).flow = work.flow;
        (*record).key = work.key.v6;
    }
    table::publish::<V6>(slot, hash, terms);
    work.slot = slot;
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
