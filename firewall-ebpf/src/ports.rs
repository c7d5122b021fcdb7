//! Public ports: which one a new mapping gets.
//!
//! The bitmap of a public address and protocol says which ports are in use at all; a second level says
//! which of its words are full, so that a free port is found in a few steps however many there are, and
//! that there is none as well. Only then is a port shared between mappings to different destinations, as
//! RFC 4787 calls it, "port overloading": a few are tried at random. The reservation itself is always the
//! alias (see `nat::sluice_reserve`).

use firewall_common::{
    abi::nat::Ports,
    wire::{icmp, transport},
};

use crate::{
    atomic,
    maps::PORTS,
    nat::{BUSY, EXHAUSTED, sluice_reserve},
    work::Work,
};

/// Ports tried in words that have free ones, before giving up on the bitmap.
const TRIES: u32 = 12;
/// Ports tried for sharing.
const SHARES: u32 = 16;

/// Which of a public address's three bitmaps a protocol uses.
#[inline(always)]
pub fn class(proto: u8) -> u32 {
    match proto {
        transport::TCP => 0,
        icmp::PROTO_ICMP => 2,
        _ => 1,
    }
}

/// Bits `low` to `high` of word `word`, of a row of words of 64.
#[inline(always)]
fn mask(word: u32, low: u32, high: u32) -> u64 {
    let first = word * 64;
    let last = first + 63;
    if high < first || low > last {
        return 0;
    }
    let mut m = u64::MAX;
    if low > first {
        m &= u64::MAX << (low - first);
    }
    if high < last {
        m &= u64::MAX >> (last - high);
    }
    m
}

/// A number below `n`.
#[inline(always)]
fn below(random: u32, n: u32) -> u32 {
    (u64::from(random) * u64::from(n) >> 32) as u32
}

/// Reserves a port of `range` for `work.mapping`; 0, or why not.
#[inline(always)]
pub fn take(pool: u32, range: [u16; 2], work: &mut Work) -> u32 {
    let own = u16::from_be_bytes(work.mapping.sport);
    let bounds = u32::from(range[0]) << 16 | u32::from(range[1]);
    sluice_take_port(pool, bounds, u32::from(own), (work.hash >> 13) as u32) as u32
}

/// Marks a port as used.
#[inline(always)]
fn note(map: *mut Ports, port: u32) {
    let word = (port >> 6) as usize & 1023;
    let bit = 1u64 << (port & 63);
    // SAFETY: a live map value; the masked indices are below the arrays' lengths.
    unsafe {
        let used = (&raw mut (*map).used).cast::<u64>().add(word);
        if atomic::fetch_or(used, bit) | bit == u64::MAX {
            atomic::fetch_or(
                (&raw mut (*map).full).cast::<u64>().add(word >> 6),
                1u64 << (word & 63),
            );
        }
        atomic::add(&raw mut (*map).made, 1);
    }
}

/// Gives a port back, unless somebody may share it: then the sweep finds out.
#[inline(always)]
pub fn free(map: *mut Ports, port: u16) {
    let word = (port >> 6) as usize & 1023;
    // SAFETY: as in `note`.
    unsafe {
        if (&raw const (*map).shared).read_volatile() != 0 {
            return;
        }
        atomic::and((&raw mut (*map).used).cast::<u64>().add(word), !(1u64 << (port & 63)));
        atomic::and((&raw mut (*map).full).cast::<u64>().add(word >> 6), !(1u64 << (word & 63)));
    }
}

/// Reads one word of the bitmap.
#[inline(always)]
fn used(map: *mut Ports, word: u32) -> u64 {
    // SAFETY: a live map value; the masked index is below the array's length.
    unsafe { (&raw const (*map).used).cast::<u64>().add(word as usize & 1023).read_volatile() }
}

/// See [`take`]. A global function: verified once, by itself. `own` is the port to keep if it is free,
/// `random` where to begin.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_take_port(pool: u32, bounds: u32, own: u32, random: u32) -> u64 {
    let Some(map) = PORTS.get_ptr_mut(pool) else { return u64::from(EXHAUSTED) };
    let (low, high) = (bounds >> 16, bounds & 0xffff);
    if low > high {
        return u64::from(EXHAUSTED);
    }
    let own = own & 0xffff;
    if own >= low && own <= high && used(map, own >> 6) >> (own & 63) & 1 == 0 {
        match sluice_reserve(own) {
            0 => {
                note(map, own);
                return 0;
            }
            3 => return u64::from(BUSY),
            _ => {}
        }
    }
    let (low_word, high_word) = (low >> 6, high >> 6);
    let start = low_word + below(random, high_word - low_word + 1);
    let mut tries = 0;
    let mut step = 0;
    while step <= 16 && tries < TRIES {
        let group = ((start >> 6) + step) & 15;
        // SAFETY: a live map value; the masked index is below the array's length.
        let full = unsafe {
            (&raw const (*map).full).cast::<u64>().add(group as usize & 15).read_volatile()
        };
        let mut open = !full & mask(group, low_word, high_word);
        if step == 0 {
            open &= u64::MAX << (start & 63);
        } else if step == 16 {
            open &= !(u64::MAX << (start & 63));
        }
        while open != 0 && tries < TRIES {
            let word = group * 64 + open.trailing_zeros();
            open &= open - 1;
            tries += 1;
            let vacant = !used(map, word) & mask(word, low, high);
            if vacant == 0 {
                continue;
            }
            let above = vacant & u64::MAX << (random >> 16 & 63);
            let port = word * 64 + (if above != 0 { above } else { vacant }).trailing_zeros();
            match sluice_reserve(port) {
                0 => {
                    note(map, port);
                    return 0;
                }
                2 => return u64::from(EXHAUSTED),
                3 => return u64::from(BUSY),
                // Somebody has this very tuple though the bit is clear: not a port of ours, then.
                _ => {}
            }
        }
        step += 1;
    }
    let count = high - low + 1;
    let mut at = below(random, count);
    let mut tries = 0;
    while tries < SHARES {
        tries += 1;
        match sluice_reserve(low + at) {
            0 => {
                // SAFETY: a live map value, an aligned word.
                unsafe { atomic::add(&raw mut (*map).shared, 1) };
                note(map, low + at);
                return 0;
            }
            1 => {}
            2 => break,
            _ => return u64::from(BUSY),
        }
        at += 1;
        if at >= count {
            at = 0;
        }
    }
    // SAFETY: a live map value, an aligned word.
    unsafe { atomic::add(&raw mut (*map).failures, 1) };
    u64::from(EXHAUSTED)
}
