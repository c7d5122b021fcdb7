//! The fast path: an established forwarded flow's packet goes out at ingress already, past the stack.
//!
//! It is judged and counted as the two hooks on the slow way would do it, one after the other: the flow
//! and the ingress rule were counted when the flow table settled it, and what is left for the egress hook
//! is its rule's count and the translation of the source. Whatever is out of the ordinary (options,
//! fragments, a tag, a neighbour that isn't known, a packet too big for its way) takes the stack, which
//! knows what to do and whom to tell.

use firewall_common::{
    abi::{
        flow::{Flow, Judgement, bits},
        iface::{IFACE_FAST, IFACE_WIRE},
        reason::Reason,
        table::{Direction, SETTING_FAST_PATH, SLOT_NONE, Settings},
    },
    flow::tcp::TcpState,
    wire::{Facts, Fragment, transport},
};

use crate::{
    conntrack::Family,
    counters,
    mapping::{Rewrite, Side},
    maps::{IFACES, WORK},
    medium::replaced,
    nat,
    packet::Packet,
    table::{V4, V6},
    verdict::Outcome,
    way,
    work::Work,
};

/// Length of an Ethernet header.
const ETHERNET: u16 = 14;
/// One tick in so many, each flow its own, its packets take the stack all the same where frames are sent
/// by hardware address: so the kernel's neighbour table learns that the neighbour is in use, and asks
/// whether it is still there.
const RENEWAL: u32 = 1024;
/// AF_INET.
pub const INET: u8 = 2;
/// AF_INET6.
const INET6: u8 = 10;

/// `struct bpf_fib_lookup` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Route {
    /// Address family.
    pub family: u8,
    proto: u8,
    sport: [u8; 2],
    dport: [u8; 2],
    /// Length to compare with the way's MTU.
    pub len: u16,
    /// In: interface that the packet came in at. Out: the one that it leaves by.
    pub ifindex: u32,
    /// IPv4: type of service in the first byte. IPv6: class and label.
    pub class: [u8; 4],
    src: [u8; 16],
    /// In: destination. Out: next hop.
    pub dst: [u8; 16],
    /// Out: VLAN, which we don't use.
    pub vlan: u32,
    /// Hardware address to send from.
    pub smac: [u8; 6],
    /// Hardware address to send to.
    pub dmac: [u8; 6],
}

const _: () = assert!(size_of::<Route>() == 64);

impl Route {
    /// The last 32 bytes: next hop, VLAN, both hardware addresses.
    #[inline(always)]
    pub const fn hop(&mut self) -> *mut u64 {
        const { assert!(core::mem::offset_of!(Self, dst) == 32) };
        (&raw mut self.dst).cast()
    }
}

/// Whether the packet at hand, let by, may be tried: cheap, so that packets that can't go lose nothing.
#[inline(always)]
pub fn is_candidate(settings: &Settings, reason: Reason, work: &Work) -> bool {
    if settings.flags & SETTING_FAST_PATH == 0
        || !matches!(reason, Reason::Established)
        || !matches!(work.direction, Direction::In)
    {
        return false;
    }
    let f = &work.facts;
    if f.family == 6 && settings.prefix_in | settings.prefix_out != 0 {
        // Prefixes are translated at egress, for which there is no plan yet here.
        return false;
    }
    let header = if f.family == 4 { 20 } else { 40 };
    let plain = if f.proto == transport::TCP {
        f.tcp_flags & (transport::SYN | transport::FIN | transport::RST) == 0
    } else {
        f.proto == transport::UDP
    };
    plain
        && f.fragment == Fragment::Whole
        && f.ttl > 1
        && f.l3 == ETHERNET
        && f.l4 == ETHERNET + header
        && f.vlan == 0
        && f.group == 0
}

/// Sends the packet on; `None`: the stack has to, and nothing was changed.
#[inline(always)]
pub fn attempt<P: Packet>(pkt: &P, work: &mut Work) -> Option<Outcome> {
    if !P::ASKS_NEIGHBOURS && work.iface_flags & IFACE_WIRE == 0 {
        return None;
    }
    let first = pkt.bytes::<4>(usize::from(ETHERNET))?;
    let segment = pkt.segment_len(&work.facts);
    let first = u32::from_ne_bytes(first);
    let renew = u32::from(!P::ASKS_NEIGHBOURS);
    let settled = if work.facts.family == 4 {
        sluice_settled4(first, segment, renew)
    } else {
        sluice_settled6(first, segment, renew)
    };
    let known = match settled {
        NOT_SETTLED => return None,
        KNOWN_WAY => true,
        _ => false,
    };
    if !known {
        let class = work.route.class;
        if !pkt.find_route(&mut work.route) {
            return None;
        }
        let out = work.route.ifindex;
        if out == work.ifindex {
            // The stack may want to tell the sender of a shorter way.
            return None;
        }
        let (slot, flags) = IFACES.get(out).map_or((0, 0), |iface| (iface.slot, iface.flags));
        if !P::ASKS_NEIGHBOURS && flags & IFACE_FAST == 0 {
            return None;
        }
        work.across_judged = slot != 0;
        way::remember(work, class, !P::ASKS_NEIGHBOURS);
    }
    let judged = work.across_judged;
    if judged && work.across_slot == SLOT_NONE {
        return None;
    }
    let outcome = pkt.forward(work, judged)?;
    if judged {
        counters::rule_flow(work.across_slot, work.packets, work.bytes);
    }
    Some(outcome)
}

/// What [`sluice_settled4`] says of a packet that is the stack's.
const NOT_SETTLED: u32 = 0;
/// The routing table is to be asked.
const ASK: u32 = 1;
/// The flow's way is known.
const KNOWN_WAY: u32 = 2;

/// Whether the flow of the packet at hand is through with all judgements, and the packet comes from where
/// the flow's packets come from; its way, if it is known; else what the routing table is to be asked, and how
/// the egress hook would translate. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_settled4(first: u32, segment: u32, renew: u32) -> u32 {
    settled::<V4>(first, segment, renew)
}

/// As [`sluice_settled4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_settled6(first: u32, segment: u32, renew: u32) -> u32 {
    settled::<V6>(first, segment, renew)
}

#[inline(always)]
fn settled<F: Family>(first: u32, segment: u32, renew: u32) -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return NOT_SETTLED };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let Some(record) = F::record(work.found) else { return NOT_SETTLED };
    let flow = record.cast::<Flow>();
    if renew != 0 && (work.now as u32).wrapping_add(work.found) & (RENEWAL - 1) == 0 {
        return NOT_SETTLED;
    }
    // SAFETY: a live map value; each judgement is one word, read whole.
    let (flow_bits, state, judged_in, judged_out, if_in, if_out, translated) = unsafe {
        (
            (&raw const (*flow).bits).read_volatile(),
            TcpState::from_raw((*flow).tcp_state),
            (&raw const (*flow).judged_in).read_volatile(),
            (&raw const (*flow).judged_out).read_volatile(),
            (*flow).if_in,
            (*flow).if_out,
            (*flow).nat,
        )
    };
    let established = if work.facts.proto == transport::TCP {
        state == TcpState::Established
    } else {
        flow_bits & bits::SEEN_REPLY != 0
    };
    let (here, across, iface) =
        if work.reply { (judged_out, judged_in, if_out) } else { (judged_in, judged_out, if_in) };
    let stands = |j: Judgement| j.is_set() && j.generation() == work.generation;
    // From elsewhere: whether the source may come from there is the stack's to say.
    if !established || !stands(here) || iface != work.iface {
        return NOT_SETTLED;
    }
    work.across_slot = if stands(across) { across.slot() } else { SLOT_NONE };
    set_class(first, F::FAMILY, &mut work.route);
    // SAFETY: as above; a flow's id doesn't change.
    work.way_of = unsafe { (*flow).id };
    if way::recall(work, segment, renew != 0) {
        return KNOWN_WAY;
    }
    work.across.side = Side::Nothing;
    if translated != 0 && F::FAMILY == 4 {
        nat::sluice_plan_across(work.found, u32::from(work.reply));
    }
    ask(segment, F::FAMILY, work);
    ASK
}

/// Type of service of an IPv4 packet that begins with `first`; class and label of an IPv6 packet.
#[inline(always)]
fn set_class(first: u32, family: u8, route: &mut Route) {
    let first = first.to_ne_bytes();
    route.class = if family == 4 {
        [first[1], 0, 0, 0]
    } else {
        [first[0] & 0x0f, first[1], first[2], first[3]]
    };
}

/// What the stack would ask its routing table: between the two translations.
#[inline(always)]
fn ask(segment: u32, family: u8, work: &mut Work) {
    let (f, route) = (&work.facts, &mut work.route);
    route.proto = f.proto;
    route.sport = f.sport;
    route.dport = f.dport;
    route.len = segment as u16;
    route.ifindex = work.ifindex;
    route.src = f.src;
    route.dst = f.dst;
    route.vlan = 0;
    route.family = if family == 4 { INET } else { INET6 };
    if work.rewrite.side == Side::Destination {
        let to = work.rewrite.address;
        (route.dst[0], route.dst[1], route.dst[2], route.dst[3]) = (to[0], to[1], to[2], to[3]);
        route.dport = work.rewrite.port;
    }
}

/// Bytes from the IP header on of the packet, or of each segment that it stands for, of `payload` bytes.
#[inline(always)]
pub fn segment_len(f: &Facts, payload: u32) -> u32 {
    if payload == 0 {
        return f.ip_len;
    }
    u32::from(f.l4 - f.l3) + u32::from(f.l4_len) + payload
}

#[inline(always)]
fn word<const N: usize>(frame: &[u8; N], at: usize) -> u16 {
    u16::from_ne_bytes([frame[at], frame[at + 1]])
}

#[inline(always)]
fn set_word<const N: usize>(frame: &mut [u8; N], at: usize, word: u16) {
    [frame[at], frame[at + 1]] = word.to_ne_bytes();
}

/// Both checksums of an IPv4 packet.
struct Sums {
    ip: u16,
    transport: u16,
}

/// One end's new address and port, where the frame has them at constant places.
#[inline(always)]
fn replace_end<const N: usize>(frame: &mut [u8; N], at: [usize; 2], to: Rewrite, sums: &mut Sums) {
    let a = to.address;
    for (at, new) in
        [(at[0], u16::from_ne_bytes([a[0], a[1]])), (at[0] + 2, u16::from_ne_bytes([a[2], a[3]]))]
    {
        let old = word(frame, at);
        sums.ip = replaced(sums.ip, old, new);
        sums.transport = replaced(sums.transport, old, new);
        set_word(frame, at, new);
    }
    let (old, new) = (word(frame, at[1]), u16::from_ne_bytes(to.port));
    sums.transport = replaced(sums.transport, old, new);
    set_word(frame, at[1], new);
}

#[inline(always)]
fn set_ends<const N: usize>(frame: &mut [u8; N], route: &Route) {
    let (d, s) = (route.dmac, route.smac);
    [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]] = d;
    [frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]] = s;
}

/// The next hop's Ethernet header, one hop less, both translations: for a frame with an IPv4 header
/// without options and the transport's checksum at `SUM`.
#[inline(always)]
pub fn next_hop4<const N: usize, const SUM: usize>(frame: &mut [u8; N], work: &Work) {
    const { assert!(SUM + 2 <= N && N >= 42) };
    set_ends(frame, &work.route);
    let mut sums = Sums { ip: word(frame, 24), transport: word(frame, SUM) };
    let none = SUM == 40 && sums.transport == 0;
    let before = word(frame, 22);
    frame[22] = frame[22].wrapping_sub(1);
    sums.ip = replaced(sums.ip, before, word(frame, 22));
    if work.rewrite.side == Side::Destination {
        replace_end(frame, [30, 36], work.rewrite, &mut sums);
    }
    if work.across.side == Side::Source {
        replace_end(frame, [26, 34], work.across, &mut sums);
    }
    set_word(frame, 24, sums.ip);
    if !none {
        if SUM == 40 && sums.transport == 0 {
            // Zero would say that there is none (RFC 768).
            sums.transport = 0xffff;
        }
        set_word(frame, SUM, sums.transport);
    }
}

/// As [`next_hop4`] for IPv6, which isn't translated.
#[inline(always)]
pub fn next_hop6<const N: usize>(frame: &mut [u8; N], work: &Work) {
    const { assert!(N >= 54) };
    set_ends(frame, &work.route);
    frame[21] = frame[21].wrapping_sub(1);
}
