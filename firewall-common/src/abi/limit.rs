//! Limits of rules: how many packets, bits or new flows a second, of all packets that the rule asks for or of each source.
//!
//! A limit is a generic cell rate algorithm (ITU-T I.371): of whom it limits it keeps one number, the theoretical arrival
//! time, at which all that came would have come at the rate. Each packet moves it on by what it costs; one that would move
//! it further ahead of the clock than the burst is over the limit, and moves nothing. Unlike a bucket of tokens it
//! needs no refill, and one word that changes by compare and swap.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Fractions of a nanosecond in arrival times: they wrap every 36 years.
pub const FRACTION: u32 = 4;
/// Fractions of a nanosecond in the cost of a unit: within a hundredth of a percent also at 100 Gbit/s.
pub const COST_FRACTION: u32 = 10;

/// Buckets of sources ([`LimitBucket`]), a power of two.
pub const LIMIT_BUCKETS: usize = 1 << 15;
/// Sources of a bucket.
pub const LIMIT_WAYS: usize = 4;

/// The fourth of a rule's [`super::set::ASK_WORDS`]: how it is limited, in the lower 8 bits; slot of the rule (31..8);
/// for [`how::CONNECTIONS`] how many (63..32). The fifth: nanoseconds that a unit costs, in fractions of
/// [`COST_FRACTION`] bits. The sixth: the burst, nanoseconds in fractions of [`FRACTION`] bits.
pub mod how {
    /// There is a limit.
    pub const IS: u32 = 1;
    /// The rule is met where the limit is exceeded, not where it is kept.
    pub const OVER: u32 = 2;
    /// Each source by itself (IPv6: each /64).
    pub const SOURCE: u32 = 4;
    /// The packets of the flows that the rule lets in are measured, too.
    pub const FLOWS: u32 = 8;
    /// What is counted.
    pub const UNIT: u32 = 3 << 4;
    /// Packets.
    pub const PACKETS: u32 = 0;
    /// Bits from the IP header on.
    pub const BITS: u32 = 1 << 4;
    /// Packets that would begin a flow.
    pub const NEW: u32 = 2 << 4;
    /// Live flows that the source has begun (map `SOURCES`).
    pub const CONNECTIONS: u32 = 3 << 4;
}

/// An entry of map `LIMITS`, by rule slot. Programs write; the daemon clears it where the slot gets another owner, and sets
/// `over` to zero where counters are reset.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Limited {
    /// Theoretical arrival time, nanoseconds of CLOCK_MONOTONIC in fractions; not where sources are limited.
    pub arrival: u64,
    /// Packets that were over the limit.
    pub over: u64,
    /// The limit of packets or bits of flows that the rule let in, as it was when it last let one by: the fourth to sixth
    /// of its [`super::set::ASK_WORDS`].
    pub says: [u64; 3],
    /// As `arrival`, of what goes against the original direction of flows that the rule let in: measured by itself, as
    /// answers that come right behind what they answer would never find anything left.
    pub arrival_reply: u64,
    /// To come.
    pub _pad: [u64; 2],
}

/// Sources, in map `LIMIT_SOURCES`. One whose arrival time is past owes nothing, and is as one that was never seen: its place
/// is free.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct LimitBucket {
    /// Hash of source and rule with the tables' secret, never 0; 0: nobody's.
    pub keys: [u64; LIMIT_WAYS],
    /// As [`Limited::arrival`].
    pub arrivals: [u64; LIMIT_WAYS],
}

/// The entry of map `LIMIT_STATS`; atomic adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LimitStats {
    /// Sources that were forgotten while they owed something, as their bucket was full of such.
    pub evicted: u64,
    /// Packets that passed unmeasured, as others changed the same number all the while.
    pub contended: u64,
}

/// The arrival time behind a packet, if it is within the limit.
///
/// `cost` and `burst` as `now` and `arrival`: nanoseconds in fractions of [`FRACTION`] bits.
#[inline(always)]
#[must_use]
pub const fn moved(arrival: u64, now: u64, cost: u64, burst: u64) -> Option<u64> {
    // How far ahead of the clock: numbers wrap.
    let ahead = arrival.wrapping_sub(now) as i64;
    let owed = if ahead > 0 { ahead as u64 } else { 0 };
    let owed = owed.saturating_add(cost);
    if owed > burst { None } else { Some(now.wrapping_add(owed)) }
}

/// What so many units cost. `cost` of one in fractions of [`COST_FRACTION`] bits.
#[inline(always)]
#[must_use]
pub const fn cost_of(units: u64, cost: u64) -> u64 {
    units.wrapping_mul(cost) >> (COST_FRACTION - FRACTION)
}

plain_bytes!(Limited => 64, LimitBucket => 64, LimitStats => 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_the_rate_and_one_burst() {
        // 1,000 a second, burst 20, offered ten times as many for ten seconds, across the end of the numbers.
        let cost = cost_of(1, (1_000_000_000 / 1_000) << COST_FRACTION);
        let burst = 20 * cost;
        let begin = u64::MAX - (3 << 36);
        let (mut arrival, mut passed) = (0, 0);
        for i in 0..100_000u64 {
            let now = begin.wrapping_add((i * 100_000) << FRACTION);
            if let Some(next) = moved(if i == 0 { now } else { arrival }, now, cost, burst) {
                arrival = next;
                passed += 1;
            }
        }
        assert_eq!(passed, 10_000 + 19);
    }

    #[test]
    fn who_rests_owes_nothing() {
        assert_eq!(moved(500, 1_000, 10, 100), Some(1_010));
        assert_eq!(moved(1_090, 1_000, 10, 100), Some(1_100));
        assert_eq!(moved(1_091, 1_000, 10, 100), None);
        assert_eq!(moved(0, 0, 101, 100), None);
    }
}
