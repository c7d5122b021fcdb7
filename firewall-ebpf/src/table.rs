//! The open-coded hash tables (`firewall_common::abi::bucket` says how they work): finding, entering, taking
//! out. No helper is called; what a look-up touches is one or two lines of tags and the record.

use firewall_common::{
    abi::{
        bucket::{
            self, Bucket, HALF_OPEN_SLOTS, QUARANTINE, SLOTS, STRIPES,
            tag::{self, CLAIMED, DEAD, FINGERPRINT, HALF, LIVE, MATCH},
        },
        control::Control,
        flow::{Flow4, Flow6, Key4, Key6},
        nat::Alias4,
    },
    flow::hash::{words4, words6},
};

use crate::{
    atomic,
    maps::{ALIAS_BUCKETS, ALIASES, BUCKETS4, BUCKETS6, FLOWS4, FLOWS6, LOCKS, TABLE_COUNTERS},
};

/// Turns that a CPU waits for a lock: some microseconds. It is held for a fraction of one, unless the
/// holder's virtual CPU stands still.
const PATIENCE: u32 = 256;

/// One of the tables.
pub trait Table {
    /// What is looked for.
    type Key;
    /// What is found.
    type Record;
    /// A bucket by index.
    fn bucket(index: u32) -> Option<*mut Bucket>;
    /// A record by slot.
    fn record(slot: u32) -> Option<*mut Self::Record>;
    /// Whether the record is of this key.
    fn holds(record: *const Self::Record, key: &Self::Key) -> bool;
    /// Buckets of the table.
    fn buckets(control: &Control) -> u32;
}

/// IPv4 flows.
pub struct V4;
/// IPv6 flows.
pub struct V6;
/// Aliases of translated flows.
pub struct Aliases;

impl Table for V4 {
    type Key = Key4;
    type Record = Flow4;
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket> {
        BUCKETS4.get_ptr_mut(index)
    }
    #[inline(always)]
    fn record(slot: u32) -> Option<*mut Flow4> {
        FLOWS4.get_ptr_mut(slot)
    }
    #[inline(always)]
    fn holds(record: *const Flow4, key: &Key4) -> bool {
        // SAFETY: a live map value; a key that is being written is compared as any bytes.
        let (there, here) = unsafe { (words4(&(*record).key), words4(key)) };
        there[0] == here[0] && there[1] == here[1]
    }
    #[inline(always)]
    fn buckets(control: &Control) -> u32 {
        control.buckets4
    }
}

impl Table for V6 {
    type Key = Key6;
    type Record = Flow6;
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket> {
        BUCKETS6.get_ptr_mut(index)
    }
    #[inline(always)]
    fn record(slot: u32) -> Option<*mut Flow6> {
        FLOWS6.get_ptr_mut(slot)
    }
    #[inline(always)]
    fn holds(record: *const Flow6, key: &Key6) -> bool {
        // SAFETY: as for IPv4.
        let (t, h) = unsafe { (words6(&(*record).key), words6(key)) };
        (t[0] ^ h[0]) | (t[1] ^ h[1]) | (t[2] ^ h[2]) | (t[3] ^ h[3]) | (t[4] ^ h[4]) == 0
    }
    #[inline(always)]
    fn buckets(control: &Control) -> u32 {
        control.buckets6
    }
}

impl Table for Aliases {
    type Key = Key4;
    type Record = Alias4;
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket> {
        ALIAS_BUCKETS.get_ptr_mut(index)
    }
    #[inline(always)]
    fn record(slot: u32) -> Option<*mut Alias4> {
        ALIASES.get_ptr_mut(slot)
    }
    #[inline(always)]
    fn holds(record: *const Alias4, key: &Key4) -> bool {
        // SAFETY: as for flows.
        let (there, here) = unsafe { (words4(&(*record).key), words4(key)) };
        there[0] == here[0] && there[1] == here[1]
    }
    #[inline(always)]
    fn buckets(control: &Control) -> u32 {
        control.alias_buckets
    }
}

/// Reads a tag.
#[inline(always)]
fn read(bucket: *mut Bucket, at: usize) -> u64 {
    // SAFETY: a live map value of eight aligned words; `at` is below eight.
    unsafe { (&raw const (*bucket).tags[at & (SLOTS - 1)]).read_volatile() }
}

/// Where a tag stands.
#[inline(always)]
fn word(bucket: *mut Bucket, at: u32) -> *mut u64 {
    // SAFETY: a live map value of eight words; the masked index is below eight.
    unsafe { (&raw mut (*bucket).tags).cast::<u64>().add(at as usize & (SLOTS - 1)) }
}

/// The record of `key` in one bucket, or null; its slot goes to `at`. No `Option`: the compiler would
/// carry the unset half of one in a register, which the verifier doesn't let it.
#[inline(always)]
fn in_bucket<T: Table>(key: &T::Key, wanted: u64, index: u32, at: &mut u32) -> *mut T::Record {
    let Some(bucket) = T::bucket(index) else { return core::ptr::null_mut() };
    // Most buckets of most machines are empty: a third of the instructions.
    let mut any = 0;
    let mut i = 0;
    while i < SLOTS {
        any |= read(bucket, i);
        i += 1;
    }
    if any & LIVE == 0 {
        return core::ptr::null_mut();
    }
    // No bucket holds two live tags of one fingerprint, so there is one candidate at most.
    let mut place = SLOTS as u32;
    let mut i = 0;
    while i < SLOTS {
        if read(bucket, i) & MATCH == wanted {
            place = i as u32;
        }
        i += 1;
    }
    if place == SLOTS as u32 {
        return core::ptr::null_mut();
    }
    let slot = index * SLOTS as u32 + place;
    let Some(record) = T::record(slot) else { return core::ptr::null_mut() };
    if !T::holds(record, key) {
        return core::ptr::null_mut();
    }
    *at = slot;
    record
}

/// The record of `key`, whose hash is given, or null; its slot goes to `at`.
#[inline(always)]
pub fn find<T: Table>(control: &Control, key: &T::Key, hash: u64, at: &mut u32) -> *mut T::Record {
    let n = T::buckets(control);
    let wanted = tag::wanted(hash);
    let first = bucket::first(hash, n);
    let found = in_bucket::<T>(key, wanted, first, at);
    if !found.is_null() {
        return found;
    }
    in_bucket::<T>(key, wanted, bucket::second(hash, first, n), at)
}

/// What a walk over both buckets of a key found. In memory and not in registers: the verifier then sees
/// one state after each tag, and not one for each way to come there.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Scan {
    /// By bucket: index of it.
    bucket: [u32; 2],
    /// Vacant slots.
    vacant: [u32; 2],
    /// One of them.
    at: [u32; 2],
    /// Live flows that nobody has answered.
    half: [u32; 2],
    /// A tag with this fingerprint, plus 1.
    twin: [u32; 2],
    /// Slot of the oldest unanswered one, plus 1.
    oldest: u32,
    /// Its age.
    age: u32,
    /// What came of it.
    pub slot: u32,
}

/// Stores in such a way that the compiler keeps it.
macro_rules! put {
    ($place:expr, $value:expr) => {{
        let value = $value;
        // SAFETY: a reference is valid for writes.
        unsafe { (&raw mut $place).write_volatile(value) }
    }};
}

#[inline(always)]
fn scan<T: Table>(scan: &mut Scan, which: usize, index: u32, hash: u64, now: u32) -> Option<()> {
    let bucket = T::bucket(index)?;
    put!(scan.bucket[which], index);
    put!(scan.vacant[which], 0);
    put!(scan.half[which], 0);
    put!(scan.twin[which], 0);
    let fingerprint = hash >> 32;
    let mut i = 0;
    while i < SLOTS {
        let seen = read(bucket, i);
        if tag::vacant(seen, now) {
            put!(scan.vacant[which], scan.vacant[which] + 1);
            put!(scan.at[which], i as u32);
        } else if seen & (LIVE | CLAIMED) != 0 && seen & FINGERPRINT == fingerprint {
            put!(scan.twin[which], i as u32 + 1);
        }
        if seen & HALF != 0 {
            put!(scan.half[which], scan.half[which] + 1);
            let age = u32::from(tag::age(seen, now));
            if age > scan.age {
                put!(scan.age, age);
                put!(scan.oldest, index * SLOTS as u32 + i as u32 + 1);
            }
        }
        i += 1;
    }
    Some(())
}

/// What became of an attempt to enter a key.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Claim {
    /// The slot in `Scan::slot` is claimed: the record is to be written, then [`publish`]ed. The lock is
    /// held until then.
    Fresh = 0,
    /// As `Fresh`; the slot belonged to an unanswered flow, whose record is still there to be read.
    Evicted = 1,
    /// The key is there already, in the slot in `Scan::slot`.
    Taken = 2,
    /// No room.
    Full = 3,
    /// Somebody held the lock for too long.
    Busy = 4,
}

/// How to enter a key.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Nobody has answered yet: not into the room of those that were.
    pub half: bool,
    /// Where there is no room, the oldest unanswered flow makes it.
    pub evict: bool,
    /// Now, in ticks.
    pub now: u32,
}

impl Terms {
    /// All but the tick, in one register.
    #[inline(always)]
    pub fn pack(self) -> u32 {
        u32::from(self.half) | u32::from(self.evict) << 1
    }
    /// From what [`Terms::pack`] returned.
    #[inline(always)]
    pub fn unpack(raw: u32, now: u32) -> Self {
        Self { half: raw & 1 != 0, evict: raw & 2 != 0, now }
    }
}

/// Takes the lock of a hash's stripe.
#[inline(always)]
fn lock(hash: u64) -> bool {
    let Some(locks) = LOCKS.get_ptr_mut(0) else { return false };
    let mut turns = 0;
    while turns < PATIENCE {
        // SAFETY: a live map value; the masked index is below its length.
        unsafe {
            let stripe = (&raw mut (*locks).stripes).cast::<u64>();
            if atomic::swap_if(stripe.add(bucket::stripe(hash) & (STRIPES - 1)), 0, 1) {
                return true;
            }
        }
        turns += 1;
    }
    if let Some(counter) = TABLE_COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, an aligned word.
        unsafe { atomic::add(&raw mut (*counter).busy, 1) };
    }
    false
}

/// Gives the lock of a hash's stripe back.
#[inline(always)]
pub fn unlock(hash: u64) {
    if let Some(locks) = LOCKS.get_ptr_mut(0) {
        // SAFETY: as in `lock`. A compare-and-swap, because everything before has to be seen before it.
        unsafe {
            let stripe = (&raw mut (*locks).stripes).cast::<u64>();
            atomic::swap_if(stripe.add(bucket::stripe(hash) & (STRIPES - 1)), 1, 0);
        }
    }
}

/// Claims a slot for `key`. The lock is held on return from `Fresh` and `Evicted` only.
#[inline(always)]
pub fn claim<T: Table>(
    control: &Control,
    key: &T::Key,
    hash: u64,
    terms: Terms,
    room: &mut Scan,
) -> Claim {
    if !lock(hash) {
        return Claim::Busy;
    }
    let claimed = claim_locked::<T>(control, key, hash, terms, room);
    match claimed {
        Claim::Fresh | Claim::Evicted => {}
        Claim::Taken | Claim::Full | Claim::Busy => unlock(hash),
    }
    claimed
}

#[inline(always)]
fn claim_locked<T: Table>(
    control: &Control,
    key: &T::Key,
    hash: u64,
    terms: Terms,
    room: &mut Scan,
) -> Claim {
    let n = T::buckets(control);
    let first = bucket::first(hash, n);
    put!(room.oldest, 0);
    put!(room.age, u32::from(QUARANTINE));
    if scan::<T>(room, 0, first, hash, terms.now).is_none()
        || scan::<T>(room, 1, bucket::second(hash, first, n), hash, terms.now).is_none()
    {
        return Claim::Full;
    }
    let mut which = 0;
    while which < 2 {
        if room.twin[which] != 0 {
            let slot = room.bucket[which] * SLOTS as u32 + room.twin[which] - 1;
            if let Some(record) = T::record(slot)
                && T::holds(record, key)
            {
                put!(room.slot, slot);
                return Claim::Taken;
            }
        }
        which += 1;
    }
    // A bucket can't take a second tag of one fingerprint, nor too many unanswered ones.
    let limit = if terms.half { HALF_OPEN_SLOTS as u32 } else { SLOTS as u32 + 1 };
    let mut best = 0;
    let mut evicted = false;
    put!(room.slot, u32::MAX);
    which = 0;
    while which < 2 {
        if room.twin[which] == 0 && room.half[which] < limit && room.vacant[which] > best {
            best = room.vacant[which];
            put!(
                room.slot,
                room.bucket[which] * SLOTS as u32 + (room.at[which] & (SLOTS as u32 - 1))
            );
        }
        which += 1;
    }
    if room.slot == u32::MAX {
        if !terms.evict || room.oldest == 0 {
            return Claim::Full;
        }
        put!(room.slot, room.oldest - 1);
        evicted = true;
    }
    let slot = room.slot;
    let Some(bucket) = T::bucket(slot / SLOTS as u32) else { return Claim::Full };
    let at = word(bucket, slot);
    // SAFETY: `at` is an aligned word of a live map value.
    let claimed = unsafe {
        let seen = at.read_volatile();
        let as_expected = if evicted { seen & HALF != 0 } else { tag::vacant(seen, terms.now) };
        as_expected && atomic::swap_if(at, seen, tag::new(CLAIMED, terms.now, hash))
    };
    if !claimed {
        // Another stripe was faster in this bucket.
        return Claim::Busy;
    }
    if evicted { Claim::Evicted } else { Claim::Fresh }
}

/// Makes a claimed record one that is found, and gives the lock back.
#[inline(always)]
pub fn publish<T: Table>(slot: u32, hash: u64, terms: Terms) {
    if let Some(bucket) = T::bucket(slot / SLOTS as u32) {
        let state = if terms.half { LIVE | HALF } else { LIVE };
        let claimed = tag::new(CLAIMED, terms.now, hash);
        // SAFETY: an aligned word of a live map value. A compare-and-swap, because the record's bytes
        // have to be seen before it.
        unsafe { atomic::swap_if(word(bucket, slot), claimed, tag::new(state, terms.now, hash)) };
    }
    unlock(hash);
}

/// Notes that somebody has answered: from now on the slot isn't given to anybody else.
#[inline(always)]
pub fn confirm<T: Table>(slot: u32) {
    if let Some(bucket) = T::bucket(slot / SLOTS as u32) {
        // SAFETY: an aligned word of a live map value.
        unsafe { atomic::and(word(bucket, slot), !HALF) };
    }
}

/// Takes a record out; whether it was this CPU that did.
#[inline(always)]
pub fn remove<T: Table>(slot: u32, now: u32) -> bool {
    let Some(bucket) = T::bucket(slot / SLOTS as u32) else { return false };
    let at = word(bucket, slot);
    // SAFETY: an aligned word of a live map value.
    unsafe {
        let seen = at.read_volatile();
        seen & LIVE != 0
            && atomic::swap_if(at, seen, tag::new(DEAD, now, (seen & FINGERPRINT) << 32))
    }
}

/// Notes that a record is in use now; `false`: it is being taken out.
#[inline(always)]
pub fn touch<T: Table>(slot: u32, now: u32) -> bool {
    let Some(bucket) = T::bucket(slot / SLOTS as u32) else { return false };
    let at = word(bucket, slot);
    // SAFETY: an aligned word of a live map value.
    unsafe {
        let seen = at.read_volatile();
        seen & LIVE != 0
            && (tag::age(seen, now) == 0
                || atomic::swap_if(at, seen, tag::new(LIVE, now, (seen & FINGERPRINT) << 32)))
    }
}

/// Whether a slot's record may be read.
#[inline(always)]
pub fn is_live<T: Table>(slot: u32) -> bool {
    match T::bucket(slot / SLOTS as u32) {
        // SAFETY: an aligned word of a live map value.
        Some(bucket) => unsafe { word(bucket, slot).read_volatile() & LIVE != 0 },
        None => false,
    }
}
