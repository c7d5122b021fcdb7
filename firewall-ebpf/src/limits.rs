//! Limits of rules (`firewall_common::abi::limit`).

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use firewall_common::{
    abi::{
        bucket::{finish, mix},
        flow::{Flow, bits},
        limit::{FRACTION, LIMIT_BUCKETS, LIMIT_WAYS, cost_of, how, moved},
        table::{Direction, STATES, State},
    },
    classify::HAS_V4,
    flow::hash::{source4, source6},
};

use crate::{
    atomic,
    classify::v6_halves,
    conntrack::count_source,
    maps::{LIMIT_SOURCES, LIMIT_STATS, LIMITS, WORK},
    opaque::{opaque, put, volatile},
    work::Work,
};

/// Who passes unmeasured where others change the same number: after so many tries.
const TRIES: u32 = 4;

/// What is measured, and against what.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Measured {
    /// `how::*`.
    flags: u32,
    /// Of a unit, as the policy has it.
    cost: u64,
    /// As the policy has it.
    burst: u64,
    /// Of the rule.
    slot: u32,
    /// The source: an IPv4 address, an IPv6 /64.
    source: u64,
    is_v4: u32,
    /// 1: it goes against its flow's original direction.
    reply: u32,
}

/// What [`sluice_limit`] returns where [`sluice_within`] has to say it.
pub const MEASURE: u32 = 2;

/// Whether the rule at hand (`work.ask`) is met as far as its limit goes; 0, 1 or [`MEASURE`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_limit() -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let said = volatile(&work.ask[3]);
    let flags = said as u32 & 0xff;
    let is_new = volatile(&work.fields.place) as usize % STATES == State::New as usize;
    let slot = said as u32 >> 8;
    let (cost, burst) = (volatile(&work.ask[4]), volatile(&work.ask[5]));
    if flags & how::FLOWS != 0 {
        note(slot, [said, cost, burst]);
    }
    let source = volatile(&work.fields.src[0]);
    let is_v4 = volatile(&work.fields.has) & HAS_V4;
    // A live flow that is judged again was counted when it began, or is measured packet by packet.
    let counts = flags & how::FLOWS == 0 && flags & how::UNIT < how::NEW;
    let over = flags & how::OVER != 0;
    if !is_new && !counts {
        return u32::from(!over);
    }
    if flags & how::UNIT != how::CONNECTIONS {
        // Not called from here: the stack is nearly used up.
        measure(work, flags, [cost, burst, source], slot, is_v4, 0);
        return MEASURE;
    }
    let within = count_source(index(source, is_v4, work.seed), 0) < said >> 32;
    if !within {
        count_over(slot, volatile(&work.packets));
    }
    u32::from(within != over)
}

/// Notes what [`sluice_within`] is to measure; field by field, for as a whole it would stand on the stack first.
#[inline(always)]
fn measure(
    work: &mut Work,
    flags: u32,
    [cost, burst, source]: [u64; 3],
    slot: u32,
    is_v4: u32,
    reply: u32,
) {
    let to = &mut work.measured;
    put(&mut to.flags, flags);
    put(&mut to.cost, cost);
    put(&mut to.burst, burst);
    put(&mut to.slot, slot);
    put(&mut to.source, source);
    put(&mut to.is_v4, is_v4);
    put(&mut to.reply, reply);
}

/// Measures the packet as `work.measured` says: whether it is within the limit, and what is, is taken off it; or whether
/// it is over it, where the rule asks that.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_within() -> u32 {
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &*work };
    let m = &work.measured;
    let within = is_within(work, m);
    if !within {
        count_over(volatile(&m.slot), volatile(&work.packets));
    }
    u32::from(within != (volatile(&m.flags) & how::OVER != 0))
}

/// Whether a packet of a known flow keeps within the limit of the rule in `slot`, which let the flow in. `reply`: it goes
/// against the flow's original direction, and the source that is meant is the other end.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_police(slot: u32, reply: u32) -> u32 {
    let (Some(work), Some(limited)) = (WORK.get_ptr_mut(0), LIMITS.get_ptr(slot)) else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest. A live map value, three aligned words: by turns of
    // those of two policies one packet may be measured.
    let (work, [said, cost, burst]) = unsafe { (&mut *work, volatile(&(*limited).says)) };
    let flags = said as u32 & 0xff;
    if flags & how::FLOWS == 0 {
        return 1;
    }
    let f = &work.facts;
    let address = if reply == 0 { &f.src } else { &f.dst };
    let is_v4 = u32::from(f.family == 4);
    let source = if is_v4 != 0 {
        u64::from(u32::from_be_bytes([address[0], address[1], address[2], address[3]]))
    } else {
        v6_halves(address)[0]
    };
    // Only a rule that lets its flows in within a limit, not over one, measures them.
    measure(work, flags, [cost, burst, source], slot, is_v4, reply);
    sluice_within()
}

/// The bit of a flow that is limited by the rule that let it by at a hook.
#[inline(always)]
pub const fn bit(at: Direction) -> u64 {
    match at {
        Direction::In => bits::LIMITED_IN,
        Direction::Out => bits::LIMITED_OUT,
    }
}

/// Makes a flow that was judged at a hook one of those, or one no longer.
#[inline(always)]
pub fn mark(flow: *mut Flow, at: Direction, limited: bool) {
    let bit = bit(at);
    // SAFETY: a live map value; the field is an aligned word.
    unsafe {
        let seen = (&raw const (*flow).bits).read_volatile();
        if limited && seen & bit == 0 {
            atomic::fetch_or(&raw mut (*flow).bits, bit);
        } else if !limited && seen & bit != 0 {
            atomic::and(&raw mut (*flow).bits, !bit);
        }
    }
}

/// Remembers what a rule says of the flows that it lets in.
#[inline(always)]
fn note(slot: u32, says: [u64; 3]) {
    let Some(limited) = LIMITS.get_ptr_mut(slot) else { return };
    // SAFETY: a live map value; whoever else writes it writes the same, or what another policy says.
    unsafe {
        if volatile(&(*limited).says) != says {
            put(&mut (*limited).says, says);
        }
    }
}

#[inline(always)]
fn count_over(slot: u32, packets: u64) {
    if let Some(limited) = LIMITS.get_ptr_mut(slot) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*limited).over, packets) };
    }
}

/// Index of a source in map `SOURCES`.
#[inline(always)]
fn index(source: u64, is_v4: u32, seed: u64) -> usize {
    if is_v4 != 0 {
        source4((source as u32).to_be_bytes(), seed)
    } else {
        let mut wide = [0; 16];
        wide[..8].copy_from_slice(&source.to_be_bytes());
        source6(&wide, seed)
    }
}

#[inline(always)]
fn is_within(work: &Work, m: &Measured) -> bool {
    let units = match volatile(&m.flags) & how::UNIT {
        how::BITS => volatile(&work.bytes) * 8,
        how::NEW => 1,
        _ => volatile(&work.packets),
    };
    let cost = cost_of(units, volatile(&m.cost));
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() } << FRACTION;
    let word = if volatile(&m.flags) & how::SOURCE != 0 {
        of_source(work, m, now)
    } else {
        // SAFETY: a live map value.
        LIMITS.get_ptr_mut(volatile(&m.slot)).map(|limited| unsafe {
            if volatile(&m.reply) == 0 {
                &raw mut (*limited).arrival
            } else {
                &raw mut (*limited).arrival_reply
            }
        })
    };
    let Some(word) = word else { return true };
    let mut left = TRIES;
    while left != 0 {
        // SAFETY: an aligned word of a live map value.
        let arrival = unsafe { word.read_volatile() };
        let Some(next) = moved(arrival, now, cost, volatile(&m.burst)) else { return false };
        // SAFETY: as above.
        if unsafe { atomic::swap_if(word, arrival, next) } {
            return true;
        }
        left -= 1;
    }
    if let Some(stats) = LIMIT_STATS.get_ptr_mut(0) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*stats).contended, 1) };
    }
    true
}

/// The arrival time of the packet's source; a place for it where it has none.
#[inline(always)]
fn of_source(work: &Work, m: &Measured, now: u64) -> Option<*mut u64> {
    let kind = u64::from(volatile(&m.reply)) << 1 | u64::from(volatile(&m.is_v4) != 0);
    let rule = u64::from(volatile(&m.slot)) << 32 | kind;
    let hash = finish(mix(mix(volatile(&work.seed), volatile(&m.source)), rule));
    let key = hash | 1;
    let bucket = LIMIT_SOURCES.get_ptr_mut((hash >> 32) as u32 & (LIMIT_BUCKETS as u32 - 1))?;
    // SAFETY: a live map value.
    let (keys, arrivals) = unsafe {
        ((&raw mut (*bucket).keys).cast::<u64>(), (&raw mut (*bucket).arrivals).cast::<u64>())
    };
    let mut least = i64::MAX;
    let mut found = 0;
    let mut at = 0;
    while at < LIMIT_WAYS {
        // SAFETY: `at` is below the arrays' length.
        let (is, arrival) =
            unsafe { (keys.add(at).read_volatile(), arrivals.add(at).read_volatile()) };
        if is == key {
            // SAFETY: as above.
            return Some(unsafe { arrivals.add(at) });
        }
        let owes = if is == 0 { i64::MIN } else { arrival.wrapping_sub(now) as i64 };
        if owes < least {
            least = owes;
            found = at;
        }
        at += 1;
    }
    let found = opaque(found) & (LIMIT_WAYS - 1);
    if least > 0
        && let Some(stats) = LIMIT_STATS.get_ptr_mut(0)
    {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*stats).evicted, 1) };
    }
    // The time first: whoever finds the key finds it with it.
    // SAFETY: the masked index is below the arrays' length.
    unsafe {
        arrivals.add(found).write_volatile(now);
        keys.add(found).write_volatile(key);
        Some(arrivals.add(found))
    }
}
