//! A packet's way through the gate, the same at every hook: parse, fragments, related errors, the flow table, and only where
//! that doesn't settle it, the rules. What most packets meet are two programs; what is rarer or dearer
//! stands in stages of their own ([`crate::stages`]).

use firewall_common::{
    abi::{
        control::Control,
        event::Class,
        flow::bits,
        iface::{IFACE_WIRE, IFACE_XDP, IFACE_XDP_GENERIC},
        reason::Reason,
        table::{Direction, RuleTable, SLOT_NONE, Timeout, Verdict},
    },
    wire::{
        self, Facts, Fragment, Parsed, eth,
        facts::IcmpKind,
        icmp, ipv4, ipv6,
        options::{self, Options},
        transport::{self, TCP_HEADER},
    },
};

use crate::{
    budget,
    classify::refusal,
    conntrack::Family,
    cookies::{self, CookieState},
    counters,
    events::{self, Told},
    forward, fragments,
    judge::{self, BEGIN},
    localports::{self, Lent},
    mapping::Side,
    maps::{CONTROL, IFACES, TABLES, WORK},
    nat,
    opaque::{put, volatile},
    packet::{Load, Network, Packet},
    prefix, reject, stages,
    tracking::{self, JUDGE},
    verdict::Outcome,
    words,
    work::Work,
};

/// What was decided, and by whom.
#[derive(Clone, Copy)]
pub struct Decision {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Slot of the rule that said so.
    pub slot: u32,
}

impl Decision {
    /// A decision that no rule made.
    #[inline(always)]
    pub fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, slot: SLOT_NONE }
    }
    /// The same for another reason.
    #[inline(always)]
    pub fn reason(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }
    /// In one register.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        self.verdict as u64 | (self.reason as u64) << 8 | (self.slot as u64) << 16
    }
    #[inline(always)]
    pub fn unpack(raw: u64) -> Self {
        // SAFETY: `pack` made it of a reason.
        let reason = unsafe { core::mem::transmute::<u8, Reason>((raw >> 8) as u8) };
        Self { verdict: refusal(raw as u8), reason, slot: (raw >> 16) as u32 }
    }
}

/// What doesn't change while the maps live, but for the generation.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: a live map value. The generation, which the daemon changes, is read by itself.
    Some(unsafe { &*control })
}

/// The first half: reads a packet, and goes on to the second where it has anything to say.
#[inline(always)]
pub fn run<P: Packet>(pkt: &P, direction: Direction) -> Outcome {
    let ifindex = pkt.ifindex();
    let segments = u64::from(pkt.segments());
    let Some(control) = control() else {
        return Outcome::Pass;
    };
    // Read once: this packet is judged by this policy, whatever the daemon does meanwhile.
    let generation = volatile(&control.generation);
    let (iface, flags) = match IFACES.get(ifindex) {
        Some(iface) => (iface.slot as u8, iface.flags),
        None => (0, 0),
    };
    if matches!(direction, Direction::In) && flags & IFACE_XDP != 0 && !pkt.is_deferred() {
        // XDP has judged it.
        return Outcome::Pass;
    }
    if generation == 0 || iface == 0 {
        let reason = if generation == 0 { Reason::NoPolicy } else { Reason::UnknownInterface };
        counters::reason(Verdict::Allow, reason, segments, u64::from(pkt.frame_len(0)));
        return Outcome::Pass;
    }
    let Some(table) = TABLES.get_ptr(generation & 1) else {
        return Outcome::Pass;
    };
    // SAFETY: a live map value, never written while its generation is live (see `maps::TABLES`).
    let table = unsafe { &*table };

    let Some(work) = WORK.get_ptr_mut(0) else {
        return Outcome::Pass;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    clear(&mut work.facts);
    work.facts.vlan = pkt.stripped_vlan();
    work.direction = direction;
    work.iface = iface;
    work.iface_flags = flags;
    work.ifindex = ifindex;
    work.generation = generation;
    work.quotes = false;
    work.packets = segments;
    work.now = budget::now();
    work.seed = control.seed;
    work.defers = P::DEFERS && flags & IFACE_WIRE == 0;
    work.deferred = false;
    work.lent = Lent::No;
    work.rewrite.side = Side::Nothing;
    work.rewrite.quotes = false;
    work.cookie.state = CookieState::None;
    work.bypass = false;
    work.limited = false;
    let early = match parse(pkt, &mut work.facts) {
        Err(reason) => Decision::new(refusal(table.settings.malformed), reason).pack(),
        Ok(Parsed::Arp) => Decision::new(Verdict::Allow, Reason::Arp).pack(),
        Ok(Parsed::OtherEthertype) => {
            let verdict = refusal(table.settings.ethertypes);
            Decision::new(verdict, Reason::UnknownEthertype).pack()
        }
        Ok(Parsed::Ip) => {
            let early = in_pieces(table, work).map_or(JUDGE, Decision::pack);
            let asks = work.facts.family == 6 && matches!(direction, Direction::In);
            if early == JUDGE
                && asks
                && table.settings.prefix_in != 0
                && prefix::sluice_prefix(generation, 0, 0) == prefix::IMPOSSIBLE
            {
                Decision::new(Verdict::Drop, Reason::NatImpossible).pack()
            } else {
                early
            }
        }
    };
    // Through the map's memory, from which the verifier takes any decision for any other: it walks the rest
    // once, and not once for each way through the parser.
    put(&mut work.said, early);
    let f = &work.facts;
    // What the parser learnt of these on its way is of no use any more: read anew, they look the same
    // to the verifier whichever way was taken, and it walks the rest once and not once a way.
    let (l3, l4, ip_len, segments) = (
        u64::from(volatile(&f.l3)),
        u64::from(volatile(&f.l4)) + u64::from(volatile(&f.l4_len)),
        volatile(&f.ip_len),
        volatile(&work.packets),
    );
    work.frame_len = pkt.frame_len(l3 as usize + ip_len as usize);
    work.bytes = u64::from(ip_len) + (segments - 1) * (l4 - l3);
    if volatile(&work.said) == JUDGE {
        if work.facts.icmp == IcmpKind::Error && is_related(pkt, table, control, work) {
            let translates =
                work.defers && work.facts.family == 4 && work.rewrite.side != Side::Nothing;
            let related = Decision::new(Verdict::Allow, Reason::Related).pack();
            work.deferred |= translates;
            put(&mut work.said, related);
        } else {
            if work.facts.tcp_flags & transport::SYN != 0 {
                read_options(pkt, work);
            }
            return stages::to_flow(pkt, work);
        }
    }
    end(pkt, table, work)
}

/// The second half: what the flow table says, or else the rules.
#[inline(always)]
pub fn look_up<F: Family, P: Packet>(
    pkt: &P,
    control: &Control,
    table: &RuleTable,
    work: &mut Work,
) -> Outcome {
    let said = tracking::track::<F>(table, control, work);
    put(&mut work.said, said);
    if volatile(&work.said) == JUDGE {
        if !judge::is_plain(table, work) {
            return stages::to_judge(pkt, work);
        }
        let said = judge::at_once(table, work);
        put(&mut work.said, said);
        if volatile(&work.said) == BEGIN {
            return stages::to_begin(pkt, work);
        }
    }
    end(pkt, table, work)
}

/// What was decided is done.
#[inline(always)]
pub fn end<P: Packet>(pkt: &P, table: &RuleTable, work: &mut Work) -> Outcome {
    if P::DEFERS && volatile(&work.deferred) {
        // Nothing was counted yet: the program behind this one begins anew.
        if work.iface_flags & IFACE_XDP_GENERIC == 0 && pkt.defer() {
            return Outcome::Pass;
        }
        let (packets, bytes) = (work.packets, u64::from(work.frame_len));
        counters::reason(Verdict::Drop, Reason::NatImpossible, packets, bytes);
        return Outcome::Drop;
    }
    let said = volatile(&work.said);
    let outcome = carry_out(pkt, table, said, work);
    if outcome == Outcome::Pass {
        pkt.let_by(work);
    }
    outcome
}

/// At ingress behind XDP: whether the packet brings a cookie back that its listener is still to hear of.
#[inline(always)]
pub fn look_for_cookie(pkt: &Network<'_>) {
    let Some(work) = WORK.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    clear(&mut work.facts);
    if parse_network(pkt, &mut work.facts).is_err() || !cookies::is_shaped(&work.facts) {
        return;
    }
    work.cookie.state = CookieState::Again;
    cookies::hand_over(pkt.context(), pkt);
}

/// As [`parse`], from the network header on.
#[inline(never)]
fn parse_network(pkt: &Network<'_>, facts: &mut Facts) -> Result<(), Reason> {
    match pkt.ethertype() {
        eth::IPV4 => ipv4::parse(pkt, 0, facts)?,
        eth::IPV6 => ipv6::parse(pkt, 0, facts)?,
        _ => return Err(Reason::UnknownEthertype),
    }
    if facts.fragment == Fragment::Later { Ok(()) } else { transport::parse(pkt, facts) }
}

/// The parser, with a frame of its own, which is gone when the flow table is asked: the frames of a
/// whole chain of calls have to fit in 512 bytes.
#[inline(always)]
fn parse<P: Packet>(pkt: &P, facts: &mut Facts) -> Result<Parsed, Reason> {
    wire::parse(pkt, facts)
}

/// Reads a segment's options into the work.
#[inline(always)]
pub fn read_options<P: Load>(pkt: &P, work: &mut Work) {
    work.options = Options::default();
    let f = &work.facts;
    let at = usize::from(volatile(&f.l4)) + TCP_HEADER;
    if f.fragment == Fragment::Later || f.l4_len <= TCP_HEADER as u8 {
        return;
    }
    // Options are whole words. The mask is a bound that the verifier sees, and that the compiler can't
    // take for implied, since it knows nothing of this value.
    let words = u32::from(volatile(&f.l4_len)) / 4;
    let len = (words.wrapping_sub(6) & 15) * 4 + 4;
    if pkt.load_part(at, &mut work.option_bytes, len) {
        sluice_options(len);
    }
}

/// Parses the options' bytes in the work. A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_options(len: u32) -> u32 {
    if let Some(work) = WORK.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        let work = unsafe { &mut *work };
        let bytes: &[u8; options::MAX] =
            // SAFETY: the room is longer than that.
            unsafe { &*work.option_bytes.as_ptr().cast() };
        // Where it stands is in memory, which the verifier takes for any place: so it walks each turn once.
        put(&mut work.option_at, 0);
        let mut turns = 0;
        while turns < options::MAX {
            let at = volatile(&work.option_at) as usize;
            if at >= options::END {
                break;
            }
            let next = options::step(bytes, len as usize, at, &mut work.options);
            put(&mut work.option_at, next as u32);
            turns += 1;
        }
    }
    0
}

/// Sets all facts to nothing, in place: a value of that size would pass over the stack.
#[inline(always)]
fn clear(facts: &mut Facts) {
    // SAFETY: all-zero bytes are `Facts::default()`: integers, and enums whose first value is 0.
    unsafe { words::clear(facts) };
}

/// What is settled without the flow table: neighbour discovery, and fragments whose first is unknown.
/// First fragments are remembered, later ones get the facts of their first.
#[inline(always)]
fn in_pieces(table: &RuleTable, work: &mut Work) -> Option<Decision> {
    if work.facts.is_neighbour_discovery() {
        return Some(Decision::new(Verdict::Allow, Reason::NeighbourDiscovery));
    }
    match work.facts.fragment {
        Fragment::Whole => None,
        Fragment::First => {
            fragments::remember(work);
            None
        }
        Fragment::Later => {
            let ticks = table.settings.timeouts[Timeout::Fragment as usize];
            if fragments::follow(work, ticks) {
                return None;
            }
            let verdict = refusal(table.settings.fragments);
            Some(Decision::new(verdict, Reason::FragmentWithoutFirst))
        }
    }
}

/// Whether the packet that an ICMP error carries belongs to a live flow; how to translate both, then.
#[inline(never)]
fn is_related<P: Packet>(pkt: &P, table: &RuleTable, control: &Control, work: &mut Work) -> bool {
    if work.facts.fragment == Fragment::Later {
        return false;
    }
    clear(&mut work.other);
    if !icmp::embedded(pkt, &work.facts, &mut work.other) {
        return false;
    }
    let family = volatile(&work.other.family);
    work.quotes = true;
    if family == 6 && matches!(work.direction, Direction::In) && table.settings.prefix_in != 0 {
        // One that can't be translated belongs to no flow, either.
        prefix::sluice_prefix(work.generation, 0, 1);
    }
    let src_is_a = work.other_key.set(&work.other);
    let hash = work.other_key.hash(family, control);
    let hit = work.other_key.find(family, hash, control);
    if hit.is_some() {
        // SAFETY: a live map value.
        let view = unsafe { &*hit.flow };
        if family == 4 && view.nat != 0 {
            let reply = (view.bits & bits::ORIG_IS_A != 0) != src_is_a;
            // The error goes the other way than the packet it is about.
            nat::plan(hit, !reply);
        }
        return true;
    }
    if family == 4 && control.nat != 0 {
        let (hit, orig_is_a) = nat::find(control, &work.other_key, hash);
        if hit.is_some() {
            nat::plan(hit, orig_is_a == src_is_a);
            return true;
        }
    }
    false
}

/// Counts the packet under its reason, tells of refusals, answers rejects.
#[inline(always)]
fn carry_out<P: Packet>(pkt: &P, table: &RuleTable, decision: u64, work: &mut Work) -> Outcome {
    let Decision { mut verdict, mut reason, slot } = Decision::unpack(decision);
    if verdict == Verdict::Reject {
        if !reject::possible(&work.facts) {
            (verdict, reason) = (Verdict::Drop, Reason::RejectImpossible);
        } else if !budget::take_answer(&table.settings) {
            (verdict, reason) = (Verdict::Drop, Reason::RejectLimited);
        }
    }
    if work.lent != Lent::No && !localports::settle(pkt, work) {
        (verdict, reason) = (Verdict::Drop, Reason::NatLocalPort);
    }
    if verdict == Verdict::Allow
        && work.facts.family == 6
        && table.settings.prefix_out != 0
        && matches!(work.direction, Direction::Out)
        && reason != Reason::NeighbourDiscovery
        && prefix::sluice_prefix(work.generation, 1, u32::from(work.quotes)) == prefix::IMPOSSIBLE
    {
        (verdict, reason) = (Verdict::Drop, Reason::NatImpossible);
    }
    let let_by = matches!(verdict, Verdict::Allow | Verdict::Continue);
    let mut outcome = Outcome::Pass;
    let mut whole = true;
    if let_by && work.bypass && pkt.hand_over(work) {
        (outcome, reason) = (Outcome::Away, Reason::Bypassed);
    } else if let_by
        && forward::is_candidate(&table.settings, reason, work)
        && let Some(sent) = forward::attempt(pkt, work)
    {
        (outcome, reason, whole) = (sent, Reason::FastPath, false);
    }
    counters::reason(verdict, reason, work.packets, u64::from(work.frame_len));
    match verdict {
        Verdict::Allow | Verdict::Continue => {
            if reason == Reason::CookieSent {
                return cookies::answer(pkt, work);
            }
            let rewrites = work.rewrite.side != Side::Nothing || work.rewrite.quotes;
            if whole && rewrites && !pkt.translate(work) {
                return Outcome::Drop;
            }
            outcome
        }
        Verdict::Drop => {
            tell(table, verdict, reason, slot);
            Outcome::Drop
        }
        Verdict::Reject => {
            tell(table, verdict, reason, slot);
            reject::answer(pkt, work)
        }
    }
}

#[inline(always)]
fn tell(table: &RuleTable, verdict: Verdict, reason: Reason, slot: u32) {
    let told = Told { class: Class::Verdict, verdict, reason, reply: false };
    events::emit_sampled(told, slot, &table.settings);
}
