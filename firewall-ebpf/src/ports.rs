//! Public ports: which one a new mapping gets.
//!
//! The bitmap of a public address and protocol says which ports are in use at all; a second level says
//! which of its words are full, so that a free port is found in a few steps however many there are, and
//! that there is none as well. Only then is a port shared between mappings to different destinations, as
//! RFC 4787 calls it, "port overloading": many are tried, at random. Who finds none towards a
//! destination where nobody found one in this tick looks at a few only, so that a flood towards it costs
//! little. The reservation itself is always the alias (see `nat::sluice_reserve`).

use firewall_common::{
    abi::nat::Ports,
    wire::{icmp, transport},
};

use crate::{
    atomic,
    maps::{PORTS, WORK},
    nat::{BUSY, EXHAUSTED, sluice_reserve},
    opaque::{opaque, put, volatile},
};

/// Ports tried that the bitmap says are free.
const TRIES: u32 = 4;
/// Words of a group that are looked into: two may only seem to have room, those at the range's ends.
const WORDS: u32 = 3;
/// Ports tried for sharing: with 97 of 100 taken, 49 searches of 50 find one.
const SHARES: u32 = 128;
/// Ports tried where a search found none in this tick.
const FEW_SHARES: u32 = 4;

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

/// A port of the range whose bit is clear, plus 1; 0: there is none. A global function, as its caller.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_vacant_port(pool: u32, bounds: u32, random: u32) -> u64 {
    let Some(map) = PORTS.get_ptr_mut(pool) else { return 0 };
    let (low, high) = (bounds >> 16, bounds & 0xffff);
    let (low_word, high_word) = (low >> 6, high >> 6);
    let start = low_word + below(random, high_word.wrapping_sub(low_word) + 1);
    let Some(work) = WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let search = unsafe { &mut (*work).search };
    // What the search knows lies in the work: from there the verifier takes any value for any other, and
    // walks each turn once.
    put(&mut search.group, start >> 6);
    put(
        &mut search.open,
        open_words(map, start >> 6, low_word, high_word) & u64::MAX << (start & 63),
    );
    let mut groups = 0;
    while groups <= 16 {
        let mut words = 0;
        while words < WORDS {
            let open = volatile(&search.open);
            if open == 0 {
                break;
            }
            put(&mut search.word, (volatile(&search.group) & 15) * 64 + lowest(open));
            put(&mut search.open, open & (open - 1));
            let word = volatile(&search.word);
            let vacant = !used(map, word) & mask(word, low, high);
            if vacant != 0 {
                let above = vacant & u64::MAX << (random & 63);
                let bit = lowest(if above != 0 { above } else { vacant });
                return u64::from(word * 64 + bit) + 1;
            }
            words += 1;
        }
        groups += 1;
        let group = (volatile(&search.group) + 1) & 15;
        put(&mut search.group, group);
        let group = volatile(&search.group);
        put(&mut search.open, open_words(map, group, low_word, high_word));
    }
    0
}

/// Place of the lowest bit that is set. Without the table that the compiler would take: its index would
/// have to be known exactly, and so everything that it hangs on.
#[inline(always)]
fn lowest(bits: u64) -> u32 {
    let mut x = (bits & bits.wrapping_neg()).wrapping_sub(1);
    x -= x >> 1 & 0x5555_5555_5555_5555;
    x = (x & 0x3333_3333_3333_3333) + (x >> 2 & 0x3333_3333_3333_3333);
    x = (x + (x >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (x.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

/// What a search for a port knows.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Search {
    open: u64,
    group: u32,
    word: u32,
}

/// Words of a group that are in the range and not full.
#[inline(always)]
fn open_words(map: *mut Ports, group: u32, low_word: u32, high_word: u32) -> u64 {
    // SAFETY: a live map value; the masked index is below the array's length.
    let full = unsafe {
        (&raw const (*map).full).cast::<u64>().add(opaque(group) as usize & 15).read_volatile()
    };
    !full & mask(group, low_word, high_word)
}

/// Marks a port as used, for a mapping.
#[inline(always)]
fn note(map: *mut Ports, port: u32) {
    mark(map, port);
    // SAFETY: a live map value, an aligned word.
    unsafe { atomic::add(&raw mut (*map).made, 1) };
}

/// Marks a port as used.
#[inline(always)]
pub fn mark(map: *mut Ports, port: u32) {
    let port = opaque(port);
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
    }
}

/// Gives a port back, unless somebody may share it: then the sweep finds out.
#[inline(always)]
pub fn free(map: *mut Ports, port: u16) {
    let port = opaque(port);
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
    unsafe {
        (&raw const (*map).used).cast::<u64>().add(opaque(word) as usize & 1023).read_volatile()
    }
}

/// Reserves one of `work.mapping.ports` for the mapping; 0, or why not. `alone`: one that nobody has. A global
/// function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_take_port(alone: u32) -> u64 {
    let Some(work) = WORK.get_ptr_mut(0) else { return u64::from(BUSY) };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let pool = u32::from(work.mapping.pool).wrapping_sub(1);
    let Some(map) = PORTS.get_ptr_mut(pool) else { return u64::from(EXHAUSTED) };
    // The time is in it: a packet that found no port to share and is sent again looks at others.
    let random = (work.hash >> 13) as u32 ^ (work.now as u32).wrapping_mul(0x9e37_79b9);
    // The port to keep, if it is free: not that of an endpoint, which would come to nothing again and again if a
    // local socket had it.
    let own = u32::from(u16::from_be_bytes(work.mapping.sport));
    let (low, high) = (u32::from(work.mapping.ports[0]), u32::from(work.mapping.ports[1]));
    let bounds = low << 16 | high;
    if low > high {
        return u64::from(EXHAUSTED);
    }
    if alone == 0 && own >= low && own <= high && used(map, own >> 6) >> (own & 63) & 1 == 0 {
        match sluice_reserve(own) {
            0 => {
                note(map, own);
                return 0;
            }
            3 => return u64::from(BUSY),
            _ => {}
        }
    }
    let mut tries = 0;
    while tries < TRIES {
        tries += 1;
        let found = sluice_vacant_port(pool, bounds, random.rotate_left(tries * 5)) as u32;
        if found == 0 {
            break;
        }
        match sluice_reserve(found - 1) {
            0 => {
                note(map, found - 1);
                return 0;
            }
            2 => return u64::from(EXHAUSTED),
            3 => return u64::from(BUSY),
            // Somebody has this very tuple though the bit is clear: not a port of ours, then. The sweep
            // counts anew.
            _ => mark(map, found - 1),
        }
    }
    let count = high - low + 1;
    let search = &mut work.search;
    put(&mut search.word, below(random, count));
    let (dst, dport) = (work.mapping.dst, work.mapping.dport);
    let towards = (u32::from_ne_bytes(dst) ^ u32::from(u16::from_ne_bytes(dport)) << 8)
        .wrapping_mul(0x9e37_79b9);
    let searched = u64::from(towards) << 32 | u64::from(work.now as u32);
    // SAFETY: a live map value, an aligned word.
    let in_vain = unsafe { (&raw const (*map).searched).read_volatile() } == searched;
    let most = if in_vain { FEW_SHARES } else { SHARES };
    let most = if count < most { count } else { most };
    // Steps of any length, or rows of ports in use would grow together; a small range is gone through whole.
    let step = if count <= SHARES { 1 } else { 1 + below(random.rotate_left(16), count - 1) };
    let mut tries = 0;
    while tries < SHARES && tries < most && alone == 0 {
        tries += 1;
        let port = low + volatile(&search.word);
        match sluice_reserve(port) {
            0 => {
                // SAFETY: a live map value, an aligned word.
                unsafe { atomic::add(&raw mut (*map).shared, 1) };
                note(map, port);
                return 0;
            }
            1 => {}
            2 => break,
            _ => return u64::from(BUSY),
        }
        let next = volatile(&search.word) + step;
        put(&mut search.word, if next >= count { next - count } else { next });
    }
    // SAFETY: a live map value, aligned words.
    unsafe {
        if alone == 0 && !in_vain {
            (&raw mut (*map).searched).write_volatile(searched);
        }
        atomic::add(&raw mut (*map).failures, 1);
    }
    u64::from(EXHAUSTED)
}
