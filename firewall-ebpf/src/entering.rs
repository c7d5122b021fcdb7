//! Making a flow: its record, its place in the table, what is told of it.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use firewall_common::{
    abi::{
        event::Class,
        flow::{Flow, Judgement, bits},
        reason::Reason,
        table::{Direction, SETTING_EVICT_HALF_OPEN, SLOT_NONE, Verdict},
    },
    flow::{
        hash::{source4, source6},
        tcp, window,
    },
    wire::transport,
};

use crate::{
    atomic, bypass,
    conntrack::{Family, Hit, Step, advance, count_source, segment, sluice_leave},
    cookies::{self, CookieState},
    events::{self, About, Told},
    limits,
    maps::{FLOW_IDS, TABLE_COUNTERS, WORK, at_hand},
    table::{self, Claim, Terms, V4, V6},
    words,
    work::Work,
};

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

/// Makes the record of the flow that this packet begins: `work.flow`.
#[inline(always)]
fn prepare(src_is_a: bool, judgement: Judgement, work: &mut Work) {
    // SAFETY: all-zero bytes are a flow.
    unsafe { words::clear(&raw mut work.flow) };
    let (f, flow) = (&work.facts, &mut work.flow);
    flow.packets = work.packets;
    flow.bytes = work.bytes;
    flow.last = work.now as u32;
    flow.first = work.now as u32;
    flow.first_high = (work.now >> 32) as u8;
    flow.id = next_id();
    flow.first_flags = f.tcp_flags;
    flow.vlan = f.vlan;
    if src_is_a {
        flow.bits |= bits::ORIG_IS_A;
    }
    if f.proto == transport::TCP && work.cookie.state == CookieState::Good {
        cookies::begin(flow, f, &work.cookie);
    } else if f.proto == transport::TCP {
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
    if work.bypass {
        flow.bits |= bypass::BITS;
    }
    if work.limited {
        flow.bits |= limits::bit(work.direction);
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
    sluice_entered(generation, raw, judgement.slot());
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
    let Some((table, work)) = at_hand(generation) else {
        return SOURCE_LIMIT;
    };
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
    let open = work.facts.proto == transport::TCP
        && work.flow.bits & (bits::PICKED_UP | bits::COOKIE) != 0;
    let evict = settings.flags & SETTING_EVICT_HALF_OPEN != 0;
    Terms { half: !open, evict, now: 0 }.pack()
}

/// Third step: tells of the flow, or takes the count of its source back.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_entered(generation: u32, how: u32, rule: u32) -> u32 {
    let Some((table, work)) = at_hand(generation) else { return 0 };
    let work = &*work;
    if how != 0 || work.slot == u32::MAX {
        // No room, or both directions' first packets met on two CPUs: ours belongs to the winner's record.
        if work.source != u32::MAX {
            count_source(work.source as usize, u64::MAX);
        }
        return 0;
    }
    let told =
        Told { class: Class::FlowNew, verdict: Verdict::Allow, reason: Reason::Rule, reply: false };
    events::emit_new(told, rule, &table.settings);
    if work.flow.bits & bits::COOKIE != 0 {
        let told = Told { class: Class::FlowEstablished, reason: Reason::CookieGood, ..told };
        events::emit(told, rule, About::Entering);
    }
    0
}

/// Counts this packet on the record of whoever was faster.
#[inline(always)]
fn join(flow: *mut Flow, slot: u32, work: &mut Work) {
    // SAFETY: a live map value.
    let winner_is_a = unsafe { (*flow).bits } & bits::ORIG_IS_A != 0;
    let reply = winner_is_a != (work.flow.bits & bits::ORIG_IS_A != 0);
    let step =
        Step { reply, slot: SLOT_NONE, counts: true, acts: true, flags: work.facts.tcp_flags };
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
    enter_in::<V4>(terms) as u32
}

/// As [`sluice_enter4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_enter6(terms: u32) -> u32 {
    enter_in::<V6>(terms) as u32
}

#[inline(always)]
fn enter_in<F: Family>(terms: u32) -> Entered {
    let (Some(control), Some(work)) = (crate::gate::control(), WORK.get_ptr_mut(0)) else {
        return Entered::Busy;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let terms = Terms::unpack(terms, work.now as u32);
    let hash = work.hash;
    // SAFETY: `set` wrote this family's key; the claim touches nothing of the work but its scan.
    let key = unsafe { &*(&raw const work.key) };
    let claim = table::claim::<F>(control, F::key(key), hash, terms, &mut work.scan);
    let slot = work.scan.slot;
    match claim {
        Claim::Fresh | Claim::Evicted | Claim::Taken => {}
        Claim::Full => return Entered::Full,
        Claim::Busy => return Entered::Busy,
    }
    let Some(record) = F::record(slot) else { return Entered::Busy };
    let flow = record.cast::<Flow>();
    if claim == Claim::Taken {
        join(flow, slot, work);
        return Entered::Yes;
    }
    if claim == Claim::Evicted {
        // SAFETY: the slot is ours; nobody else writes its record.
        count_evicted(unsafe { &*flow });
        sluice_leave(slot);
    }
    // SAFETY: the slot is ours until it is published; a record is a flow and its key.
    unsafe {
        words::copy(flow, &raw const work.flow);
        words::copy(flow.add(1).cast::<F::Key>(), F::key(key));
    }
    table::publish::<F>(slot, hash, terms);
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
