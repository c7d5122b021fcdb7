//! Translation: which rule, which mapping, and how the packet at hand has to be rewritten here.
//! `firewall_common::abi::nat` says which tuples there are; `ports` finds public ports.

use firewall_common::{
    abi::{
        control::Control,
        event::Class,
        flow::{Flow4, Key4, bits},
        nat::{
            ALIAS_HAIRPIN, ALIAS_INNER, ALIAS_ORIG_IS_A, Alias4, MAX_NAT_RULES, NAT_HAIRPIN,
            NAT_TO_PORT, NatKind, NatRule,
        },
        reason::Reason,
        table::{Direction, RuleTable, Verdict},
    },
    flow::hash::{hash4, source4},
    wire::{icmp, transport},
};

use crate::{
    atomic,
    conntrack::{Hit, Key, sluice_leave},
    events::{self, About, Told},
    mapping::{Rewrite, Side},
    maps::{ALIASES, FLOWS4, IFACES, NAT_RULES, TABLES, WORK},
    nataccounts,
    opaque::opaque,
    table::{self, Aliases, Claim, Terms, V4},
    words,
    work::Work,
};

/// Why a mapping couldn't be made; 0 is success.
pub const EXHAUSTED: u32 = 1;
/// The packet can't be translated at all.
pub const IMPOSSIBLE: u32 = 2;
/// Another CPU is at it.
pub const BUSY: u32 = 3;

/// Reason of a refusal.
#[inline(always)]
pub fn refusal(why: u32) -> Reason {
    match why {
        EXHAUSTED => Reason::NatExhausted,
        IMPOSSIBLE => Reason::NatImpossible,
        _ => Reason::TableBusy,
    }
}

/// One end of a tuple.
pub type End = ([u8; 4], [u8; 2]);

/// Originator's and responder's end of a key.
#[inline(always)]
pub fn ends(key: &Key4, orig_is_a: bool) -> (End, End) {
    let (a, b) = ((key.a, key.a_port), (key.b, key.b_port));
    if orig_is_a { (a, b) } else { (b, a) }
}

/// The flow that a packet belongs to by one of its other tuples; whether the originator is end `a`
/// of that tuple.
#[inline(always)]
pub fn find(control: &Control, key: &Key, hash: u64) -> (Hit, bool) {
    let mut at = 0;
    // SAFETY: only IPv4 keys come here.
    let alias = table::find::<Aliases>(control, unsafe { &key.v4 }, hash, &mut at);
    if alias.is_null() {
        return (Hit::NONE, false);
    }
    // SAFETY: a live map value; an alias changes only in its flags and its inner alias.
    let (slot, flags) = unsafe { ((*alias).flow, (*alias).flags) };
    if !table::is_live::<V4>(slot) {
        return (Hit::NONE, false);
    }
    let Some(flow) = FLOWS4.get_ptr_mut(slot) else { return (Hit::NONE, false) };
    (Hit { slot, flow: flow.cast() }, flags & ALIAS_ORIG_IS_A != 0)
}

/// Sets how the packet at hand, `reply` or not, of a translated flow is rewritten at this hook.
#[inline(always)]
pub fn plan(hit: Hit, reply: bool) {
    sluice_plan(hit.slot, u32::from(reply));
}

/// See [`plan`]. A global function, as all here that are called from the packet's way: the verifier checks
/// each once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_plan(slot: u32, reply: u32) -> u32 {
    if let Some(work) = WORK.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        let work = unsafe { &mut *work };
        let at_ingress = matches!(work.direction, Direction::In);
        plan_in(slot, reply != 0, at_ingress, &mut work.rewrite);
    }
    0
}

/// Sets in `work.across` how the egress hook that it skips would rewrite the packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_plan_across(slot: u32, reply: u32) -> u32 {
    if let Some(work) = WORK.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        plan_in(slot, reply != 0, false, unsafe { &mut (*work).across });
    }
    0
}

#[inline(always)]
fn plan_in(slot: u32, reply: bool, at_ingress: bool, rewrite: &mut Rewrite) {
    let Some(record) = FLOWS4.get_ptr(slot) else { return };
    // SAFETY: a live map value; its key doesn't change while it lives.
    let record = unsafe { &*record };
    let flow_bits = record.flow.bits;
    let wanted = if at_ingress == reply { bits::NAT_SOURCE } else { bits::NAT_DESTINATION };
    if flow_bits & wanted == 0 {
        return;
    }
    let (address, port) = if reply {
        // Back to what the originator wrote.
        let (src, dst) = ends(&record.key, flow_bits & bits::ORIG_IS_A != 0);
        if at_ingress { src } else { dst }
    } else {
        let Some(alias) = ALIASES.get_ptr(record.flow.nat.wrapping_sub(1)) else { return };
        // SAFETY: as above.
        let alias = unsafe { &*alias };
        let (src, dst) = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
        if at_ingress { dst } else { src }
    };
    rewrite.address = address;
    rewrite.port = port;
    rewrite.side = if at_ingress { Side::Destination } else { Side::Source };
}

/// Makes `work.other` the flow's real ends: the originator's own, and the destination inside.
#[inline(always)]
pub fn real_ends(hit: Hit) {
    sluice_real_ends(hit.slot);
}

/// See [`real_ends`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_real_ends(slot: u32) -> u32 {
    if let Some(work) = WORK.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        real_ends_in(slot, unsafe { &mut *work });
    }
    0
}

#[inline(always)]
fn real_ends_in(slot: u32, work: &mut Work) {
    let Some(record) = FLOWS4.get_ptr(slot) else { return };
    // SAFETY: a live map value.
    let record = unsafe { &*record };
    let (src, mut dst) = ends(&record.key, record.flow.bits & bits::ORIG_IS_A != 0);
    if record.flow.bits & bits::NAT_DESTINATION != 0
        && let Some(alias) = ALIASES.get_ptr(record.flow.nat.wrapping_sub(1))
    {
        // SAFETY: a live map value.
        let alias = unsafe { &*alias };
        dst = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0).1;
    }
    let asked = &mut work.other;
    set_address(&mut asked.src, src.0);
    set_address(&mut asked.dst, dst.0);
    if asked.has_ports() {
        asked.sport = src.1;
        asked.dport = dst.1;
    }
}

/// Writes an IPv4 address into the field that is wide enough for both families.
#[inline(always)]
pub fn set_address(wide: &mut [u8; 16], address: [u8; 4]) {
    wide[0] = address[0];
    wide[1] = address[1];
    wide[2] = address[2];
    wide[3] = address[3];
}

#[inline(always)]
fn narrow(wide: &[u8; 16]) -> [u8; 4] {
    [wide[0], wide[1], wide[2], wide[3]]
}

/// Rule number `index` of the table.
#[inline(always)]
pub fn rule(table: &RuleTable, index: u32) -> &NatRule {
    // SAFETY: the masked index is below the array's length.
    unsafe { table.nat.get_unchecked(opaque(index) as usize & (MAX_NAT_RULES - 1)) }
}

/// First IPv4 address of the interface at hand.
#[inline(always)]
pub fn own_address(work: &Work) -> [u8; 4] {
    IFACES.get(work.ifindex).map_or([0; 4], |iface| iface.address)
}

/// The target of a one-to-one rule for `address`: the rule's prefix, the address's host.
#[inline(always)]
pub fn one_to_one(rule: &NatRule, address: [u8; 4]) -> [u8; 4] {
    let hosts = (u64::from(u32::MAX) >> (rule.inside_len & 63)) as u32;
    (u32::from_be_bytes(rule.to) | u32::from_be_bytes(address) & hosts).to_be_bytes()
}

/// Whether ports of the protocol may change: those of SCTP are under a checksum over the whole packet
/// (RFC 9260 section 6.8).
#[inline(always)]
pub fn has_own_ports(proto: u8) -> bool {
    matches!(proto, transport::TCP | transport::UDP | transport::UDPLITE | icmp::PROTO_ICMP)
}

/// Puts the destination inside into `work.other`; `false` where there is none.
#[inline(always)]
pub fn new_destination(generation: u32, index: u32) -> bool {
    sluice_new_destination(generation, index) != 0
}

/// See [`new_destination`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_new_destination(generation: u32, index: u32) -> u32 {
    let Some((table, work)) = at_hand(generation) else { return 0 };
    u32::from(new_destination_in(table, index, work))
}

/// The live table and the work.
#[inline(always)]
pub fn at_hand(generation: u32) -> Option<(&'static RuleTable, &'static mut Work)> {
    let table = TABLES.get_ptr(generation & 1)?;
    let work = WORK.get_ptr_mut(0)?;
    // SAFETY: live map values; the table isn't written while its generation is live, the work is this
    // CPU's own.
    Some(unsafe { (&*table, &mut *work) })
}

#[inline(always)]
fn new_destination_in(table: &RuleTable, index: u32, work: &mut Work) -> bool {
    let rule = rule(table, index);
    let dst = narrow(&work.facts.dst);
    let to = if rule.kind == NatKind::Redirect as u8 {
        own_address(work)
    } else if rule.kind == NatKind::StaticIn as u8 {
        one_to_one(rule, dst)
    } else if rule.addresses > 1 {
        // One client keeps to one of them.
        let pick = (source4(narrow(&work.facts.src), work.seed) as u32) % u32::from(rule.addresses);
        u32::from_be_bytes(rule.to).wrapping_add(pick).to_be_bytes()
    } else {
        rule.to
    };
    if to == [0; 4] {
        return false;
    }
    set_address(&mut work.other.dst, to);
    if rule.flags & NAT_TO_PORT != 0 {
        if work.facts.proto == transport::SCTP || !work.facts.has_ports() {
            return false;
        }
        let mut port = rule.ports[0];
        if rule.from_port != 0 {
            port = port
                .wrapping_add(u16::from_be_bytes(work.facts.dport).wrapping_sub(rule.from_port));
        }
        work.other.dport = port.to_be_bytes();
    }
    true
}

/// Begins the mapping of the flow in `slot` whose real ends are given by `facts`.
#[inline(always)]
pub fn begin(slot: u32, other: bool, work: &mut Work) {
    let f = if other { &work.other } else { &work.facts };
    let is_icmp = f.proto == icmp::PROTO_ICMP;
    let m = &mut work.mapping;
    m.src = narrow(&f.src);
    m.dst = narrow(&f.dst);
    let ported = f.has_ports() || is_icmp;
    m.sport = if ported { f.sport } else { [0; 2] };
    m.dport = if is_icmp {
        f.sport
    } else if ported {
        f.dport
    } else {
        [0; 2]
    };
    m.to = m.src;
    m.proto = f.proto;
    m.flags = 0;
    m.pool = 0;
    m.flow = slot;
}

/// Enters the alias of `work.mapping` with public source port `port`, host-endian. 0: done; 1: the tuple
/// is somebody's already; 2: no room; 3: locked for too long. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_reserve(port: u32) -> u64 {
    let (Some(control), Some(work)) = (crate::gate::control(), WORK.get_ptr_mut(0)) else {
        return 3;
    };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let m = &mut work.mapping;
    let sport = (port as u16).to_be_bytes();
    // The responder's port of an ICMP query is its identifier, too.
    let dport = if m.proto == icmp::PROTO_ICMP { sport } else { m.dport };
    let (s, d) = (u32::from_be_bytes(m.to), u32::from_be_bytes(m.dst));
    let orig_is_a = s < d || (s == d && u16::from_be_bytes(sport) <= u16::from_be_bytes(dport));
    let (a, b, a_port, b_port) =
        if orig_is_a { (m.to, m.dst, sport, dport) } else { (m.dst, m.to, dport, sport) };
    m.key.v4 = Key4 { a, b, a_port, b_port, proto: m.proto, _pad: [0; 3] };
    // SAFETY: written a moment ago.
    let key = unsafe { &*(&raw const m.key.v4) };
    let hash = hash4(key, control.seed);
    let mut at = 0;
    if !table::find::<Aliases>(control, key, hash, &mut at).is_null()
        || !table::find::<V4>(control, key, hash, &mut at).is_null()
    {
        return 1;
    }
    let terms = Terms { half: false, evict: false, now: work.now as u32 };
    match table::claim::<Aliases>(control, key, hash, terms, &mut m.scan) {
        Claim::Fresh | Claim::Evicted => {}
        Claim::Taken => return 1,
        Claim::Full => return 2,
        Claim::Busy => return 3,
    }
    let slot = m.scan.slot;
    let Some(record) = ALIASES.get_ptr_mut(slot) else { return 2 };
    let orientation = if orig_is_a { ALIAS_ORIG_IS_A } else { 0 };
    // SAFETY: the slot is ours until it is published.
    unsafe {
        let Alias4 { key, flow, rule, pool, flags, inner } = &mut *record;
        words::copy(key, &raw const m.key.v4);
        (*flow, *rule, *pool) = (m.flow, m.rule, m.pool);
        (*flags, *inner) = (u16::from(m.flags) | orientation, 0);
    }
    table::publish::<Aliases>(slot, hash, terms);
    m.alias = slot;
    0
}

/// Gives the flow that was just entered its destination inside (see [`new_destination`]); 0, or why not:
/// then the flow is gone again.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_enter_destination(generation: u32, index: u32) -> u32 {
    let Some((table, work)) = at_hand(generation) else { return BUSY };
    let rule = rule(table, index);
    let slot = work.slot;
    begin(slot, true, work);
    work.mapping.rule = rule.slot;
    if rule.flags & NAT_HAIRPIN != 0 {
        work.mapping.flags = ALIAS_HAIRPIN as u8;
    }
    let port = u16::from_be_bytes(work.mapping.sport);
    if sluice_reserve(u32::from(port)) != 0 {
        forget(slot, work);
        return EXHAUSTED;
    }
    settle(bits::NAT_DESTINATION);
    0
}

/// Takes a flow that came to nothing out again: its source's count is given back.
#[inline(always)]
pub fn forget(slot: u32, work: &Work) {
    if table::remove::<V4>(slot, work.now as u32) {
        sluice_leave(slot);
    }
}

/// Ties the alias that was entered to its flow, counts the mapping, tells of it, and plans the packet.
#[inline(always)]
pub fn settle(bit: u64) {
    sluice_settle(u32::from(bit == bits::NAT_SOURCE));
}

/// See [`settle`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_settle(source: u32) -> u32 {
    if let Some(work) = WORK.get_ptr_mut(0) {
        let bit = if source != 0 { bits::NAT_SOURCE } else { bits::NAT_DESTINATION };
        // SAFETY: this CPU's own entry; programs of one CPU don't nest.
        settle_in(bit, unsafe { &mut *work });
    }
    0
}

#[inline(always)]
fn settle_in(bit: u64, work: &mut Work) {
    let m = &work.mapping;
    let (slot, alias) = (m.flow, m.alias);
    let Some(record) = FLOWS4.get_ptr_mut(slot) else { return };
    // SAFETY: a live map value. The alias first, then the bit that asks for it.
    unsafe {
        let before = (*record).flow.nat;
        if before != 0
            && let Some(entry) = ALIASES.get_ptr_mut(alias)
            && let Some(inner) = ALIASES.get_ptr_mut(before - 1)
        {
            // The destination was translated at ingress: that tuple is now the one between the hooks.
            (*entry).inner = before;
            (*entry).flags |= (*inner).flags & ALIAS_HAIRPIN;
            (*inner).flags |= ALIAS_INNER;
        }
        (&raw mut (*record).flow.nat).write_volatile(alias + 1);
        atomic::fetch_or(&raw mut (*record).flow.bits, bit);
    }
    if let Some(totals) = NAT_RULES.get_ptr_mut(u32::from(m.rule)) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*totals).mappings, 1) };
    }
    let host = if bit == bits::NAT_SOURCE { m.src } else { m.dst };
    if let Some(totals) = nataccounts::host_row(host, work.seed) {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*totals).mappings, 1) };
    }
    tell_mapping(record, work);
    sluice_plan(slot, 0);
}

/// Tells of a mapping: see [`Class::NatNew`].
#[inline(always)]
fn tell_mapping(record: *mut Flow4, work: &mut Work) {
    let m = &work.mapping;
    let Some(alias) = ALIASES.get_ptr(m.alias) else { return };
    // SAFETY: live map values.
    let (key, flow_bits, alias) = unsafe { (&(*record).key, (*record).flow.bits, &*alias) };
    let (src, dst) = ends(key, flow_bits & bits::ORIG_IS_A != 0);
    let (to_src, to_dst) = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
    let (rule, place) = (m.rule, m.flow);
    // The facts are the event's ends; they are put back below.
    let before = (work.facts.src, work.facts.dst, work.facts.sport, work.facts.dport);
    for (wide, from, to) in [(&mut work.facts.src, src, to_src), (&mut work.facts.dst, dst, to_dst)]
    {
        set_address(wide, from.0);
        wide[4] = to.0[0];
        wide[5] = to.0[1];
        wide[6] = to.0[2];
        wide[7] = to.0[3];
        wide[8] = to.1[0];
        wide[9] = to.1[1];
    }
    work.facts.sport = src.1;
    work.facts.dport = dst.1;
    let told =
        Told { class: Class::NatNew, verdict: Verdict::Allow, reason: Reason::Rule, reply: false };
    events::emit(told, rule, About::Flow(place));
    (work.facts.src, work.facts.dst, work.facts.sport, work.facts.dport) = before;
}
