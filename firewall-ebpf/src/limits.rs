//! Limits of rules (`firewall_common::abi::limit`).

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use firewall_common::{
    abi::{
        bucket::{finish, mix},
        limit::{FRACTION, LIMIT_BUCKETS, LIMIT_WAYS, cost_of, how, moved},
        table::{STATES, State},
    },
    classify::HAS_V4,
    flow::hash::{source4, source6},
};

use crate::{
    atomic,
    conntrack::count_source,
    maps::{LIMIT_SOURCES, LIMIT_STATS, LIMITS, WORK},
    opaque::{opaque, volatile},
    work::Work,
};

/// Who passes unmeasured where others change the same number: after so many tries.
const TRIES: u32 = 4;

/// Whether the rule at hand (`work.ask`) is met as far as its limit goes. What is within the limit is taken off it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_limit() -> u32 {
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let said = volatile(&work.ask[3]);
    let flags = said as u32 & 0xffff;
    let is_new = volatile(&work.fields.place) as usize % STATES == State::New as usize;
    let unit = flags & how::UNIT;
    let slot = (said >> 16) as u32 & 0xffff;
    let is_within = match unit {
        // A live flow that is judged again was counted when it began.
        how::NEW | how::CONNECTIONS if !is_new => true,
        how::CONNECTIONS => count_source(source(work), 0) < said >> 32,
        _ => is_within(work, flags, slot),
    };
    if !is_within && let Some(limited) = LIMITS.get_ptr_mut(slot) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*limited).over, volatile(&work.packets)) };
    }
    u32::from(is_within != (flags & how::OVER != 0))
}

/// Index of the packet's source in map `SOURCES`.
#[inline(always)]
fn source(work: &Work) -> usize {
    let src = volatile(&work.fields.src);
    if volatile(&work.fields.has) & HAS_V4 != 0 {
        source4((src[0] as u32).to_be_bytes(), work.seed)
    } else {
        let mut wide = [0; 16];
        wide[..8].copy_from_slice(&src[0].to_be_bytes());
        source6(&wide, work.seed)
    }
}

#[inline(always)]
fn is_within(work: &Work, flags: u32, slot: u32) -> bool {
    let units = match flags & how::UNIT {
        how::BITS => volatile(&work.bytes) * 8,
        how::NEW => 1,
        _ => volatile(&work.packets),
    };
    let cost = cost_of(units, volatile(&work.ask[4]));
    let burst = volatile(&work.ask[5]);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() } << FRACTION;
    let word = if flags & how::SOURCE != 0 {
        of_source(work, slot, now)
    } else {
        // SAFETY: a live map value.
        LIMITS.get_ptr_mut(slot).map(|limited| unsafe { &raw mut (*limited).arrival })
    };
    let Some(word) = word else { return true };
    let mut left = TRIES;
    while left != 0 {
        // SAFETY: an aligned word of a live map value.
        let arrival = unsafe { word.read_volatile() };
        let Some(next) = moved(arrival, now, cost, burst) else { return false };
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
fn of_source(work: &Work, slot: u32, now: u64) -> Option<*mut u64> {
    let src = volatile(&work.fields.src);
    let family = volatile(&work.fields.has) & HAS_V4;
    // IPv6: a host has all of its /64.
    let rule = u64::from(slot) << 32 | u64::from(family);
    let hash = finish(mix(mix(volatile(&work.seed), src[0]), rule));
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
