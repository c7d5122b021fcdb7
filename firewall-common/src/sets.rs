//! Looking into a live set ([`crate::abi::set`]): generic over where its words stand, as [`crate::classify`], so that the
//! kernel and whoever asks "is it in there" walk the same way.

use crate::{
    abi::{
        bucket::{finish, mix},
        set::{NET4, NET6, PROBES, SLOT4, SLOT6, shape, tag},
    },
    classify::Arena,
};

/// The two numbers of a word.
#[inline(always)]
const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// An IPv4 entry as its slot holds it: address in the lower half, tag in the upper.
#[inline(always)]
#[must_use]
pub const fn entry4(address: u32, tag: u32) -> u64 {
    (tag as u64) << 32 | address as u64
}

/// Hash of an IPv4 entry.
#[inline(always)]
#[must_use]
pub const fn hash4(entry: u64, seed: u64) -> u64 {
    finish(mix(seed, entry))
}

/// Hash of an IPv6 entry, a prefix whose bits below `tag`'s length are zero.
#[inline(always)]
#[must_use]
pub const fn hash6(address: [u64; 2], tag: u32, seed: u64) -> u64 {
    finish(mix(mix(mix(seed, address[0]), address[1]), tag as u64))
}

/// The address' first `len` bits.
#[inline(always)]
#[must_use]
pub const fn masked4(address: u32, len: u32) -> u32 {
    // A shift by the whole width would be none.
    (address as u64 & (!0u64 << (32 - len))) as u32
}

/// As [`masked4`].
#[inline(always)]
#[must_use]
pub const fn masked6(address: [u64; 2], len: u32) -> [u64; 2] {
    if len == 0 {
        [0, 0]
    } else if len <= 64 {
        [address[0] & (!0u64 << (64 - len)), 0]
    } else {
        [address[0], address[1] & (!0u64 << (128 - len))]
    }
}

/// Word of a network's bit in the gate, behind its first, and the bit: the multiplication spreads networks that stand
/// side by side (the constant is the odd number next to 2^32 over the golden ratio; Knuth, volume 3, 6.4).
#[inline(always)]
#[must_use]
pub const fn gate(net: u32, shift: u32) -> (u32, u64) {
    let bit = net.wrapping_mul(0x9e37_79b1) >> (shift & 31);
    (bit >> 6, 1 << (bit & 63))
}

/// The network of an IPv4 address, as the gate knows it.
#[inline(always)]
#[must_use]
pub const fn net4(address: u32) -> u32 {
    address >> (32 - NET4)
}

/// The network of an IPv6 address, by its upper half.
#[inline(always)]
#[must_use]
pub const fn net6(upper: u64) -> u32 {
    (upper >> (64 - NET6)) as u32
}

/// Whether anything that is listed may hold an address of this network.
#[inline(always)]
#[must_use]
pub fn is_open<A: Arena + ?Sized>(arena: &A, net: u32) -> bool {
    let (first, shift) = halves(arena.word(shape::GATE));
    let (word, bit) = gate(net, shift);
    first == 0 || arena.word(first + word) & bit != 0
}

/// Word of a hash's bit in the filter, behind its first, and the bit.
#[inline(always)]
#[must_use]
pub const fn filtered(hash: u64, mask: u32) -> (u32, u64) {
    let bit = hash as u32 & mask;
    (bit >> 6, 1 << (bit & 63))
}

/// First slot of a hash, of `slots`.
#[inline(always)]
#[must_use]
pub const fn home(hash: u64, slots: u32) -> u32 {
    (((hash >> 32) * slots as u64) >> 32) as u32
}

/// Whether an entry of this hash may be there.
#[inline(always)]
pub fn may_be<A: Arena + ?Sized>(arena: &A, hash: u64) -> bool {
    let (first, mask) = halves(arena.word(shape::FILTER));
    let (word, bit) = filtered(hash, mask);
    arena.word(first + word) & bit != 0
}

/// All ones where `pair` is a tag, none where it is 0. Arithmetic, as all here that whoever checks the program would else
/// follow both ways of, turn by turn.
#[inline(always)]
fn if_pair<A: Arena + ?Sized>(arena: &A, pair: u32) -> u32 {
    (arena.opaque(u64::from(pair).wrapping_neg()) >> 63).wrapping_neg() as u32
}

/// Whether an address is listed: under `pair` (a tag) alone where it isn't 0, else under any of its prefixes.
/// `probe` looks an entry up by its hash: [`probe4`].
#[inline(always)]
pub fn holds4<A: Arena + ?Sized>(
    arena: &A,
    address: u32,
    pair: u32,
    mut probe: impl FnMut(u64, u64) -> bool,
) -> bool {
    if !is_open(arena, net4(address)) {
        return false;
    }
    let paired = if_pair(arena, pair);
    let seed = arena.word(shape::SEED);
    let mut lens = arena.word(shape::LENS4);
    let mut left = 33;
    while left != 0 && lens != 0 {
        let shorter = lens.trailing_zeros() & 63;
        let len = 32u32.wrapping_sub(shorter);
        lens &= lens - 1;
        left -= 1;
        let tag = tag::prefix(len) & !paired | pair;
        let entry = entry4((u64::from(address) & !0u64 << shorter) as u32, tag);
        let hash = hash4(entry, seed);
        if may_be(arena, hash) && probe(entry, hash) {
            return true;
        }
    }
    false
}

/// As [`holds4`]. `probe` gets prefix, tag and hash: [`probe6`].
#[inline(always)]
pub fn holds6<A: Arena + ?Sized>(
    arena: &A,
    address: [u64; 2],
    pair: u32,
    mut probe: impl FnMut([u64; 2], u32, u64) -> bool,
) -> bool {
    if !is_open(arena, net6(address[0])) {
        return false;
    }
    let mut left = lens6(arena);
    while let Some(candidate) = next6(arena, address, pair, &mut left) {
        if may_be(arena, candidate.hash) && probe(candidate.prefix, candidate.tag, candidate.hash) {
            return true;
        }
    }
    false
}

/// An entry that an IPv6 address would be listed under.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its bits.
    pub prefix: [u64; 2],
    /// Its tag.
    pub tag: u32,
    /// Its hash.
    pub hash: u64,
}

/// The IPv6 prefix lengths in use, by how much shorter than the whole address they are.
#[inline(always)]
pub fn lens6<A: Arena + ?Sized>(arena: &A) -> [u64; 3] {
    [arena.word(shape::LENS6), arena.word(shape::LENS6 + 1), arena.word(shape::LENS6 + 2)]
}

/// The entry of the next prefix length of `left`, which it is taken out of. As its caller's loop may be a helper's, it
/// keeps nothing but that.
#[inline(always)]
pub fn next6<A: Arena + ?Sized>(
    arena: &A,
    address: [u64; 2],
    pair: u32,
    left: &mut [u64; 3],
) -> Option<Candidate> {
    let paired = if_pair(arena, pair);
    let seed = arena.word(shape::SEED);
    let (len, prefix) = if left[0] != 0 {
        let shorter = taken(&mut left[0]);
        (128 - shorter, [address[0], address[1] & but_last(shorter)])
    } else if left[1] != 0 {
        let shorter = taken(&mut left[1]);
        (64 - shorter, [address[0] & but_last(shorter), 0])
    } else if left[2] != 0 {
        left[2] = 0;
        (0, [0, 0])
    } else {
        return None;
    };
    let tag = tag::prefix(len) & !paired | pair;
    Some(Candidate { prefix, tag, hash: hash6(prefix, tag, seed) })
}

/// Takes the lowest bit out of a word that has one.
#[inline(always)]
const fn taken(word: &mut u64) -> u32 {
    let bit = word.trailing_zeros() & 63;
    *word &= *word - 1;
    bit
}

/// All bits of a word but for the last `bits`, of which there are fewer than 64.
#[inline(always)]
const fn but_last(bits: u32) -> u64 {
    !0u64 << (bits & 63)
}

/// The slot behind a slot.
#[inline(always)]
fn behind<A: Arena + ?Sized>(arena: &A, slot: u32, slots: u32) -> u32 {
    let next = u64::from(slot) + 1;
    let within = arena.opaque(next.wrapping_sub(u64::from(slots))) >> 63;
    (next & within.wrapping_neg()) as u32
}

/// What `look` says of the first slot of a hash that it says anything of, by the slot's first word; 0: it says nothing of
/// any that a look-up tries. `table` is the table's word of the shape, `size` the words of its slots.
#[inline(always)]
pub fn walk<A: Arena + ?Sized>(
    arena: &A,
    table: u64,
    size: u32,
    hash: u64,
    mut look: impl FnMut(u32) -> Option<u32>,
) -> u32 {
    let (first, slots) = halves(table);
    if slots == 0 {
        return 0;
    }
    let mut slot = home(hash, slots);
    let mut left = PROBES;
    while left != 0 {
        if let Some(said) = look(first + slot * size) {
            return said;
        }
        slot = behind(arena, slot, slots);
        left -= 1;
    }
    0
}

/// `at`, if what stands there ends after `now` or never; else 0.
#[inline(always)]
const fn lasting(at: u32, ends: u64, now: u64) -> u32 {
    if ends == 0 || ends > now { at } else { 0 }
}

/// First word of the slot of an IPv4 entry that hasn't ended by `now`; 0: there is none.
#[inline(always)]
pub fn probe4<A: Arena + ?Sized>(arena: &A, entry: u64, hash: u64, now: u64) -> u32 {
    walk(arena, arena.word(shape::SLOTS4), SLOT4, hash, |at| {
        let there = arena.word(at);
        if there == entry {
            return Some(lasting(at, arena.word(at + 1), now));
        }
        (there == 0).then_some(0)
    })
}

/// The same of an IPv6 entry.
#[inline(always)]
pub fn probe6<A: Arena + ?Sized>(
    arena: &A,
    prefix: [u64; 2],
    tag: u32,
    hash: u64,
    now: u64,
) -> u32 {
    walk(arena, arena.word(shape::SLOTS6), SLOT6, hash, |at| {
        // The tag is read first: once it is live, the rest is written.
        let there = arena.word(at + 2) as u32;
        let other = u64::from(there ^ tag)
            | (arena.word(at) ^ prefix[0])
            | (arena.word(at + 1) ^ prefix[1]);
        if arena.opaque(other) == 0 {
            return Some(lasting(at, arena.word(at + 3), now));
        }
        (there == 0).then_some(0)
    })
}

/// Whether a port is listed.
#[inline(always)]
pub fn holds_port<A: Arena + ?Sized>(arena: &A, port: u32) -> bool {
    let first = arena.word(shape::PORTS) as u32;
    first != 0 && arena.word(first + (port >> 6 & 1023)) >> (port & 63) & 1 != 0
}
