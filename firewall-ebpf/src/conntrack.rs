//! The state table: finding a flow, counting on it, making it, ending it.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_get_smp_processor_id};
use firewall_common::{
    abi::{
        event::Class,
        flow::{Flow, Judgement, Key4, Key6, bits},
        reason::Reason,
        table::{Direction, SLOT_NONE, Verdict},
    },
    flow::{
        key::{key4, key6},
        tcp::{self, TcpState},
    },
    wire::{Facts, Fragment, transport},
};

use crate::{
    atomic, counters,
    events::{self, Told},
    maps::{FLOW_IDS, FLOWS4, FLOWS6},
    work::Work,
};

/// -EEXIST, as the kernel returns it.
const EEXIST: i32 = -17;

/// Either family's key in one place on the stack.
#[derive(Clone, Copy)]
pub union Key {
    v4: Key4,
    v6: Key6,
}

impl Key {
    /// Becomes the key of a packet; whether the packet's source is end `a`.
    #[inline(always)]
    pub fn set(&mut self, f: &Facts) -> bool {
        // SAFETY: either member may be written, any bytes are a value.
        unsafe { if f.family == 4 { key4(&mut self.v4, f) } else { key6(&mut self.v6, f) } }
    }
    /// The flow, if it is in the table.
    #[inline(always)]
    pub fn find(&self, family: u8) -> Option<*mut Flow> {
        // SAFETY: `set` wrote the member of this family.
        unsafe {
            if family == 4 { FLOWS4.get_ptr_mut(&self.v4) } else { FLOWS6.get_ptr_mut(&self.v6) }
        }
    }
    /// Enters a flow; the error is the kernel's (-EEXIST: another CPU was faster).
    #[inline(always)]
    fn insert(&self, family: u8, flow: &Flow) -> Result<(), i32> {
        // SAFETY: `set` wrote the member of this family.
        unsafe {
            if family == 4 {
                FLOWS4.insert(&self.v4, flow, u64::from(BPF_NOEXIST))
            } else {
                FLOWS6.insert(&self.v6, flow, u64::from(BPF_NOEXIST))
            }
        }
    }
    /// Takes a flow out. Two CPUs may try: the second finds nothing, which is as good.
    #[inline(always)]
    fn remove(&self, family: u8) {
        // SAFETY: `set` wrote the member of this family.
        let _ =
            unsafe { if family == 4 { FLOWS4.remove(&self.v4) } else { FLOWS6.remove(&self.v6) } };
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
}

/// Whether `flow` counts a packet here: a forwarded packet meets two hooks and is counted at the
/// first, ingress; one that meets only egress is counted there.
#[inline(always)]
fn counts_here(flow: *mut Flow, flow_bits: u64, reply: bool, direction: Direction) -> bool {
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

/// Counts a packet on its flow and steps the flow's state; tells `established` and `closed` once.
#[inline(always)]
pub fn advance(flow: *mut Flow, reply: bool, slot: u16, work: &Work) {
    // SAFETY (for the whole function): `flow` is a live map value (RCU keeps it for the length of the
    // program; a deleted one is only ever recycled as another `Flow`). The races are those that
    // `abi::flow::Flow` allows.
    let flow_bits = unsafe { (&raw const (*flow).bits).read_volatile() };
    if slot != SLOT_NONE {
        counters::rule_flow(slot, work.packets, work.bytes);
    }
    if !counts_here(flow, flow_bits, reply, work.direction) {
        return;
    }
    // SAFETY: see above.
    unsafe {
        if reply {
            atomic::add(&raw mut (*flow).reply_packets, work.packets);
            atomic::add(&raw mut (*flow).reply_bytes, work.bytes);
        } else {
            atomic::add(&raw mut (*flow).packets, work.packets);
            atomic::add(&raw mut (*flow).bytes, work.bytes);
        }
        (&raw mut (*flow).last).write_volatile(work.now);
    }
    let f = &work.facts;
    let mut established = reply && flow_bits & bits::SEEN_REPLY == 0;
    if established {
        events::first_to(flow, bits::SEEN_REPLY);
    }
    if f.proto == transport::TCP {
        if f.fragment == Fragment::Later {
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
                tell_closed(flow, reply, (Verdict::Allow, reason, slot), work);
            }
        }
    }
    if established && events::first_to(flow, bits::TOLD_ESTABLISHED) {
        let told = Told {
            class: Class::FlowEstablished,
            verdict: Verdict::Allow,
            reason: Reason::Established,
            reply,
        };
        events::emit(work, told, slot, flow);
    }
}

#[inline(always)]
fn tell_closed(
    flow: *mut Flow,
    reply: bool,
    (verdict, reason, slot): (Verdict, Reason, u16),
    work: &Work,
) {
    if events::first_to(flow, bits::TOLD_CLOSED) {
        let told = Told { class: Class::FlowClosed, verdict, reason, reply };
        events::emit(work, told, slot, flow);
    }
}

/// Takes a flow out of the table and tells why.
#[inline(always)]
pub fn end(flow: *mut Flow, reply: bool, why: (Verdict, Reason, u16), work: &Work) {
    tell_closed(flow, reply, why, work);
    work.key.remove(work.facts.family);
}

/// Enters the flow that this packet begins. Out of line: the main program's frame is full.
#[inline(never)]
pub fn enter(src_is_a: bool, judgement: Judgement, work: &mut Work) -> Entered {
    work.flow = Flow {
        packets: work.packets,
        bytes: work.bytes,
        last: work.now,
        first: work.now,
        id: next_id(),
        first_flags: work.facts.tcp_flags,
        vlan: work.facts.vlan,
        ifindex: work.ifindex,
        ..Flow::default()
    };
    let (f, flow) = (&work.facts, &mut work.flow);
    if src_is_a {
        flow.bits |= bits::ORIG_IS_A;
    }
    if f.proto == transport::TCP {
        flow.tcp_state = tcp::first(f.tcp_flags) as u8;
        if f.tcp_flags & transport::SYN == 0 {
            flow.bits |= bits::PICKED_UP;
        }
    } else if !f.has_ports() {
        flow.icmp = f.dport;
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
    match work.key.insert(f.family, flow) {
        Ok(()) => {
            let told = Told {
                class: Class::FlowNew,
                verdict: Verdict::Allow,
                reason: Reason::Rule,
                reply: false,
            };
            events::emit(work, told, judgement.slot(), &raw const work.flow);
            Entered::Yes
        }
        Err(EEXIST) => {
            // Both directions' first packets met on two CPUs: ours belongs to the winner's record.
            if let Some(winner) = work.key.find(work.facts.family) {
                // SAFETY: a live map value.
                let winner_is_a = unsafe { (*winner).bits } & bits::ORIG_IS_A != 0;
                advance(winner, winner_is_a != src_is_a, SLOT_NONE, work);
            }
            Entered::Yes
        }
        Err(_) => Entered::Full,
    }
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
