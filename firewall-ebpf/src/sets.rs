//! Live sets (`firewall_common::abi::set` says how they stand in memory): whether one holds an end of the packet at hand,
//! and adding it. As with rules, what looks into an arena is compiled once for each size.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    cty::c_void,
    helpers::generated::bpf_loop,
    macros::btf_map,
};
use firewall_common::{
    abi::{
        bucket::QUARANTINE,
        set::{
            GATES, MAX_SETS, SET_ARENAS, SET_FROZEN, SLOT4, SLOT6, SetHead, SetKind, gate, shape,
            tag,
        },
    },
    classify::{Arena as _, HAS_SPORT, HAS_V4},
    sets,
};

use crate::{
    arena::Mem,
    atomic,
    maps::{MMAPABLE, SETS, WORK},
    opaque::{opaque, put, volatile},
    work::Work,
};

type Entries<const WORDS: usize> =
    ArrayOfMaps<Array<[u64; WORDS], 1, { MMAPABLE as usize }>, { MAX_SETS }>;

/// Entries of the smallest sets, by index; the daemon makes the map that it holds.
#[btf_map]
pub static SETS_A: Entries<{ SET_ARENAS[0] }> = Entries::new();

/// Of larger ones.
#[btf_map]
pub static SETS_B: Entries<{ SET_ARENAS[1] }> = Entries::new();

/// Of still larger ones.
#[btf_map]
pub static SETS_C: Entries<{ SET_ARENAS[2] }> = Entries::new();

/// Of the largest.
#[btf_map]
pub static SETS_D: Entries<{ SET_ARENAS[3] }> = Entries::new();

/// Which end of the packet.
#[derive(Clone, Copy)]
pub struct Which {
    /// Its port alone.
    pub port: bool,
    /// The destination, not the source.
    pub destination: bool,
    /// Address and port together.
    pub pair: bool,
}

impl Which {
    #[inline(always)]
    fn pack(self) -> u32 {
        self.port as u32 | (self.destination as u32) << 1 | (self.pair as u32) << 2
    }
    #[inline(always)]
    fn unpack(raw: u32) -> Self {
        Self { port: raw & 1 != 0, destination: raw & 2 != 0, pair: raw & 4 != 0 }
    }
}

/// An end of the packet at hand.
struct End {
    is_v4: bool,
    has_port: bool,
    address: [u64; 2],
    port: u32,
}

#[inline(always)]
fn end(work: &Work, destination: bool) -> End {
    let f = &work.fields;
    let has = volatile(&f.has);
    let (address, port) = if destination { (&f.dst, &f.dport) } else { (&f.src, &f.sport) };
    End {
        is_v4: has & HAS_V4 != 0,
        // Who has a source port has both.
        has_port: has & HAS_SPORT != 0,
        address: [volatile(&address[0]), volatile(&address[1])],
        port: volatile(port),
    }
}

#[inline(always)]
fn work() -> Option<&'static mut Work> {
    let work = WORK.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    Some(unsafe { &mut *work })
}

#[inline(always)]
fn head(index: u32) -> Option<*mut SetHead> {
    SETS.get_ptr_mut(index)
}

/// The tag of a whole address, with its port where that belongs to it.
#[inline(always)]
fn whole(end: &End, pair: bool) -> u32 {
    let width = if end.is_v4 { 32 } else { 128 };
    if pair { tag::pair(width, end.port) } else { tag::prefix(width) }
}

/// First word of a slot that an entry of this hash may take; 0: there is none.
#[inline(always)]
fn vacant<const WORDS: usize>(arena: &Mem<WORDS>, is_v4: bool, hash: u64, now: u64) -> u32 {
    if is_v4 {
        vacant_in::<WORDS, 4>(arena, hash, now)
    } else {
        vacant_in::<WORDS, 6>(arena, hash, now)
    }
}

#[inline(always)]
fn vacant_in<const WORDS: usize, const FAMILY: u32>(
    arena: &Mem<WORDS>,
    hash: u64,
    now: u64,
) -> u32 {
    let (table, size, tagged, ended, shift) = if FAMILY == 4 {
        (shape::SLOTS4, SLOT4, 0, 1, 32)
    } else {
        (shape::SLOTS6, SLOT6, 2, 3, 0)
    };
    sets::walk(arena, arena.word(table), size, hash, |at| {
        let tag = (arena.word(at + tagged) >> shift) as u32;
        let died = arena.word(at + ended) + u64::from(QUARANTINE);
        (tag == 0 || tag == tag::DEAD && now > died).then_some(at)
    })
}

#[inline(always)]
fn set_bit<const WORDS: usize>(arena: &Mem<WORDS>, at: u32, bit: u64) {
    if arena.word(at) & bit == 0 {
        // SAFETY: an aligned word of the arena.
        unsafe { atomic::fetch_or(arena.place(at), bit) };
    }
}

#[inline(always)]
fn store<const WORDS: usize>(arena: &Mem<WORDS>, at: u32, word: u64) {
    // SAFETY: a word of the arena.
    unsafe { arena.place(at).write_volatile(word) };
}

/// Writes an entry into a slot that is vacant, under the set's lock: what leads to it first, what makes it live last.
#[inline(always)]
fn write<const WORDS: usize>(
    arena: &Mem<WORDS>,
    at: u32,
    (is_v4, address, tag): (bool, [u64; 2], u32),
    hash: u64,
    ends: u64,
) {
    let filter = arena.word(shape::FILTER);
    let (word, bit) = sets::filtered(hash, (filter >> 32) as u32);
    set_bit(arena, filter as u32 + word, bit);
    let gate = arena.word(shape::GATE);
    if gate as u32 != 0 {
        let net = if is_v4 { sets::net4(address[0] as u32) } else { sets::net6(address[0]) };
        let (word, bit) = sets::gate(net, (gate >> 32) as u32);
        set_bit(arena, gate as u32 + word, bit);
    }
    if is_v4 {
        set_bit(arena, shape::LENS4, 1);
        store(arena, at + 1, ends);
        store(arena, at, sets::entry4(address[0] as u32, tag));
    } else {
        set_bit(arena, shape::LENS6, 1);
        store(arena, at, address[0]);
        store(arena, at + 1, address[1]);
        store(arena, at + 3, ends);
        store(arena, at + 2, u64::from(tag));
    }
    // SAFETY: an aligned word of the arena.
    unsafe { atomic::add(arena.place(shape::COUNT), 1) };
}

/// What is added to a set.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Adding {
    hash: u64,
    ends: u64,
    tag: u32,
    destination: u32,
}

/// A search for an IPv6 address.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Look {
    /// Prefix lengths that weren't looked for.
    left: [u64; 3],
    /// Tag of the pair, if one is asked for.
    pair: u32,
    /// It was found.
    held: u32,
}

/// What a look-up says where it has to go on.
const LOOK: u32 = 2;

/// What became of an attempt to add.
mod became {
    pub const ADDED: u32 = 1;
    pub const RENEWED: u32 = 2;
    pub const FULL: u32 = 3;
    pub const BUSY: u32 = 4;
    pub const NEW: u32 = 5;
}

/// The functions of one size.
macro_rules! sized {
    ($map:ident, $class:expr, $words:expr, $has:ident, $has6:ident, $look6:ident, $probe4:ident, $probe6:ident, $vacant:ident, $add:ident, $write:ident) => {
        /// Whether set `index` holds an end of the packet at hand.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $has(index: u32, which: u32) -> u32 {
            let Some(work) = work() else { return 0 };
            let Some(words) = $map.get_value(index, &0) else { return 0 };
            let arena = Mem::<{ $words }>(words.as_ptr());
            let which = Which::unpack(which);
            let end = end(work, which.destination);
            if which.port {
                return (end.has_port && sets::holds_port(&arena, end.port)) as u32;
            }
            if which.pair && !end.has_port {
                return 0;
            }
            let pair = if which.pair { whole(&end, true) } else { 0 };
            if !end.is_v4 {
                if !sets::is_open(&arena, sets::net6(end.address[0])) {
                    return 0;
                }
                // The caller goes on with `$has6`.
                put(&mut work.look, Look { left: sets::lens6(&arena), pair, held: 0 });
                return LOOK;
            }
            let address = end.address[0] as u32;
            let held = sets::holds4(&arena, address, pair, |entry, hash| {
                $probe4(index, entry, hash, work.now) != 0
            });
            held as u32
        }
        /// The rest of [`$has`] for IPv6.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $has6(index: u32, which: u32) -> u32 {
            let Some(work) = work() else { return 0 };
            put(&mut work.look_at, [index, which]);
            // SAFETY: the callback takes nothing.
            unsafe { bpf_loop(129, $look6 as *mut c_void, core::ptr::null_mut(), 0) };
            volatile(&work.look.held)
        }
        /// One prefix length of them; 1 ends the search. A plain loop of as many would be walked turn by turn.
        extern "C" fn $look6(_: u64, _: *mut c_void) -> i64 {
            let Some(work) = work() else { return 1 };
            let [index, which] = volatile(&work.look_at);
            let Some(words) = $map.get_value(index, &0) else { return 1 };
            let arena = Mem::<{ $words }>(words.as_ptr());
            let end = end(work, Which::unpack(which).destination);
            let Look { mut left, pair, .. } = volatile(&work.look);
            let Some(candidate) = sets::next6(&arena, end.address, pair, &mut left) else {
                return 1;
            };
            put(&mut work.look.left, left);
            let sets::Candidate { prefix, tag, hash } = candidate;
            if !sets::may_be(&arena, hash) {
                return 0;
            }
            // Not a call: there are only so many frames.
            let found = sets::probe6(&arena, prefix, tag, hash, work.now);
            let held = opaque(found != 0) as u32;
            put(&mut work.look.held, held);
            i64::from(held & 1)
        }
        /// `sets::probe4` in set `index`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $probe4(index: u32, entry: u64, hash: u64, now: u64) -> u32 {
            let Some(words) = $map.get_value(index, &0) else { return 0 };
            sets::probe4(&Mem::<{ $words }>(words.as_ptr()), entry, hash, now)
        }
        /// `sets::probe6` in set `index`, at the packet's time.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $probe6(index: u32, hi: u64, lo: u64, tag: u32, hash: u64) -> u32 {
            let Some(work) = work() else { return 0 };
            let Some(words) = $map.get_value(index, &0) else { return 0 };
            let now = work.now;
            sets::probe6(&Mem::<{ $words }>(words.as_ptr()), [hi, lo], tag, hash, now)
        }
        /// [`vacant`] in set `index`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $vacant(index: u32, is_v4: u32, hash: u64) -> u32 {
            let Some(work) = work() else { return 0 };
            let Some(words) = $map.get_value(index, &0) else { return 0 };
            vacant(&Mem::<{ $words }>(words.as_ptr()), is_v4 != 0, hash, work.now)
        }
        /// Adds an end of the packet at hand to set `index`, or gives it more time. Says what `became` of it.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $add(index: u32, which: u32, renew: u32, ms: u32) -> u32 {
            let (Some(work), Some(head)) = (work(), head(index)) else { return 0 };
            let Some(words) = $map.get_value(index, &0) else { return 0 };
            let arena = Mem::<{ $words }>(words.as_ptr());
            let which = Which::unpack(which);
            let end = end(work, which.destination);
            if which.pair && !end.has_port {
                return 0;
            }
            let tag = whole(&end, which.pair);
            let seed = arena.word(shape::SEED);
            // SAFETY: a live map value.
            let (rate, most) = unsafe { ((*head).rate, (*head).most) };
            let ticks = (u64::from(ms) * u64::from(rate) + 999) / 1000;
            let ends = if ms == 0 { 0 } else { work.now + ticks };
            // At tick 0 nothing has ended yet: what has is found, too.
            let (hash, at) = if end.is_v4 {
                let entry = sets::entry4(end.address[0] as u32, tag);
                let hash = sets::hash4(entry, seed);
                (hash, $probe4(index, entry, hash, 0))
            } else {
                let hash = sets::hash6(end.address, tag, seed);
                let now = core::mem::replace(&mut work.now, 0);
                let at = $probe6(index, end.address[0], end.address[1], tag, hash);
                work.now = now;
                (hash, at)
            };
            if at != 0 {
                let at = at + if end.is_v4 { 1 } else { 3 };
                let there = arena.word(at);
                let ended = there != 0 && there <= work.now;
                if there != 0 && (ended || renew != 0) && there != ends {
                    store(&arena, at, ends);
                    return became::RENEWED;
                }
                return 0;
            }
            if arena.word(shape::COUNT) >= most {
                return became::FULL;
            }
            work.adding = Adding { hash, ends, tag, destination: which.destination as u32 };
            became::NEW
        }
        /// The second half of adding `work.adding`: under the set's lock.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $write(index: u32) -> u32 {
            let (Some(work), Some(head)) = (work(), head(index)) else { return 0 };
            let Adding { hash, ends, tag, destination } = volatile(&work.adding);
            // SAFETY: a live map value, an aligned word.
            if !unsafe { lock(&raw mut (*head).lock, work.now, (*head).rate) } {
                return became::BUSY;
            }
            // Which arena it is may have changed since the set was asked; under the lock it doesn't.
            // SAFETY: a live map value, aligned words; the lock is ours until now.
            let found = unsafe { (&raw const (*head).class).read_volatile() } == $class;
            let found = if found { $map.get_value(index, &0) } else { None };
            let Some(words) = found else {
                // SAFETY: as above.
                unsafe { (&raw mut (*head).lock).write_volatile(0) };
                return became::BUSY;
            };
            let arena = Mem::<{ $words }>(words.as_ptr());
            let end = end(work, destination != 0);
            let at = if end.is_v4 {
                $probe4(index, sets::entry4(end.address[0] as u32, tag), hash, 0)
            } else {
                let now = core::mem::replace(&mut work.now, 0);
                let at = $probe6(index, end.address[0], end.address[1], tag, hash);
                work.now = now;
                at
            };
            let mut said = 0;
            if at == 0 {
                let at = $vacant(index, end.is_v4 as u32, hash);
                said = became::FULL;
                if at != 0 {
                    write(&arena, at, (end.is_v4, end.address, tag), hash, ends);
                    said = became::ADDED;
                }
            }
            // SAFETY: as above; ours until now.
            unsafe { (&raw mut (*head).lock).write_volatile(0) };
            said
        }
    };
}

sized!(
    SETS_A,
    1,
    SET_ARENAS[0],
    sluice_set_has_a,
    sluice_set_has6_a,
    look6_a,
    sluice_set_probe4_a,
    sluice_set_probe6_a,
    sluice_set_vacant_a,
    sluice_set_add_a,
    sluice_set_write_a
);
sized!(
    SETS_B,
    2,
    SET_ARENAS[1],
    sluice_set_has_b,
    sluice_set_has6_b,
    look6_b,
    sluice_set_probe4_b,
    sluice_set_probe6_b,
    sluice_set_vacant_b,
    sluice_set_add_b,
    sluice_set_write_b
);
sized!(
    SETS_C,
    3,
    SET_ARENAS[2],
    sluice_set_has_c,
    sluice_set_has6_c,
    look6_c,
    sluice_set_probe4_c,
    sluice_set_probe6_c,
    sluice_set_vacant_c,
    sluice_set_add_c,
    sluice_set_write_c
);
sized!(
    SETS_D,
    4,
    SET_ARENAS[3],
    sluice_set_has_d,
    sluice_set_has6_d,
    look6_d,
    sluice_set_probe4_d,
    sluice_set_probe6_d,
    sluice_set_vacant_d,
    sluice_set_add_d,
    sluice_set_write_d
);

/// Takes a set's lock; one that somebody left who died is taken after a second.
///
/// # Safety
/// `word` is an aligned word of a live map value.
#[inline(always)]
unsafe fn lock(word: *mut u64, now: u64, rate: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let held = word.read_volatile();
        (held == 0 || now > held + u64::from(rate)) && atomic::swap_if(word, held, now)
    }
}

/// Whether set `index` holds an end of the packet at hand.
#[inline(always)]
pub fn hold(index: u32, which: Which) -> bool {
    let Some(head) = head(index) else { return false };
    // SAFETY: a live map value; one aligned word.
    let class = unsafe { (&raw const (*head).class).read_volatile() };
    let which = which.pack();
    let held = match class {
        0 => 0,
        1 => sluice_set_has_a(index, which),
        2 => sluice_set_has_b(index, which),
        3 => sluice_set_has_c(index, which),
        _ => sluice_set_has_d(index, which),
    };
    if held != LOOK {
        return held != 0;
    }
    let held = match class {
        1 => sluice_set_has6_a(index, which),
        2 => sluice_set_has6_b(index, which),
        3 => sluice_set_has6_c(index, which),
        _ => sluice_set_has6_d(index, which),
    };
    held != 0
}

/// What the policy's gates say of the packet at hand, a bit for each.
#[inline(always)]
pub fn held(gates: u64) -> u32 {
    let mut held = 0;
    let mut i = 0;
    while i < GATES {
        let gate = (gates >> (i * 16)) as u32 & 0xffff;
        if gate == 0 {
            break;
        }
        let which = Which {
            port: gate & gate::PORT != 0,
            destination: gate & gate::DESTINATION != 0,
            pair: gate & gate::PAIR != 0,
        };
        held |= opaque(hold((gate & gate::SET) - 1, which) as u32) << i;
        i += 1;
    }
    held
}

/// Adds an end of the packet at hand to set `index`, for `ms` milliseconds; 0: for good. `renew`: one that is there gets
/// its time anew.
#[inline(always)]
pub fn add(index: u32, which: Which, renew: bool, ms: u32) {
    let Some(head) = head(index) else { return };
    // SAFETY: a live map value; aligned words.
    let (class, kind, flags) = unsafe { ((*head).class, (*head).kind, (*head).flags) };
    if flags & SET_FROZEN != 0 || kind == SetKind::Ports as u32 {
        return;
    }
    let (which, renew) = (which.pack(), u32::from(renew));
    let mut said = match class {
        0 => became::FULL,
        1 => sluice_set_add_a(index, which, renew, ms),
        2 => sluice_set_add_b(index, which, renew, ms),
        3 => sluice_set_add_c(index, which, renew, ms),
        _ => sluice_set_add_d(index, which, renew, ms),
    };
    if said == became::NEW {
        // One after the other, not one in the other: the stack is nearly used up here.
        said = match class {
            1 => sluice_set_write_a(index),
            2 => sluice_set_write_b(index),
            3 => sluice_set_write_c(index),
            _ => sluice_set_write_d(index),
        };
    }
    // SAFETY: a live map value, aligned words.
    unsafe {
        match said {
            became::ADDED => atomic::add(&raw mut (*head).added, 1),
            became::RENEWED => atomic::add(&raw mut (*head).renewed, 1),
            became::FULL => atomic::add(&raw mut (*head).refused, 1),
            became::BUSY => atomic::add(&raw mut (*head).busy, 1),
            _ => {}
        }
    }
}
