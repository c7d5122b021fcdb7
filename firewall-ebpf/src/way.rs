//! The way that a flow's last packets took past the stack, remembered for a few ticks: what the routing table
//! and the neighbour said, and how the egress hook translates. A copy a CPU, so nobody waits and nothing is
//! torn; a flow whose place another one took asks the kernel again.

use core::ptr::NonNull;

use crate::{forward::Route, mapping::Rewrite, maps::WAYS, work::Work};

/// Ways that a CPU remembers: a power of two.
pub const PLACES: u32 = 16_384;
/// Ticks for which a way stands: a change of route, neighbour or link is seen after so long at the latest (64 ms
/// at 250 ticks a second).
const FRESH: u32 = 16;

/// A remembered way, a line of the cache; all zeros, which no flow's id is: none.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Way {
    /// Id of the flow.
    flow: u64,
    /// Tick at which the kernel was asked, low 32 bits.
    asked: u32,
    /// Generation that judged.
    generation: u32,
    /// [`Route::class`] that was asked for.
    class: u32,
    /// Interface that it leaves by.
    ifindex: u32,
    /// First word of a [`Rewrite`]: how the egress hook translates IPv4.
    across: u64,
    /// As [`Route::hop`]; where that has a VLAN, most bytes from the IP header on (16 bits), family of the
    /// next hop (8), and flags.
    hop: [u64; 4],
}

const _: () = assert!(size_of::<Way>() == 64);

/// Against the flow's original direction.
const REPLY: u32 = 1 << 24;
/// A program of ours stands at the interface that it leaves by.
const JUDGED: u32 = 1 << 25;
/// For frames in the driver: the link that it leaves by takes them.
const FRAMES: u32 = 1 << 26;

#[inline(always)]
fn place(work: &Work) -> Option<NonNull<Way>> {
    // Ids are counted, so neighbours in time don't meet; the two directions have places of their own.
    let at = ((work.way_of as u32) << 1 | u32::from(work.reply)) & (PLACES - 1);
    WAYS.get_ptr_mut(at).and_then(NonNull::new)
}

#[inline(always)]
fn word(class: [u8; 4]) -> u32 {
    u32::from_ne_bytes(class)
}

/// Takes up the way of flow `work.way_of` for a packet (or segments) of `len` bytes, if it is known and fresh:
/// route and translation in `work`. `frames`: it is a driver's frame.
#[inline(always)]
pub fn recall(work: &mut Work, len: u32, frames: bool) -> bool {
    let Some(way) = place(work) else { return false };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let way = unsafe { way.as_ref() };
    let limits = way.hop[2] as u32;
    let fresh = (work.now as u32).wrapping_sub(way.asked) < FRESH;
    if way.flow != work.way_of
        || !fresh
        || way.generation != work.generation
        || (limits & REPLY != 0) != work.reply
        || (limits & FRAMES != 0) != frames
        || way.class != word(work.route.class)
        || len > limits & 0xffff
    {
        return false;
    }
    let route = &mut work.route;
    route.family = (limits >> 16) as u8;
    route.ifindex = way.ifindex;
    let (hop, across) = (route.hop(), (&raw mut work.across).cast::<u64>());
    // SAFETY: 32 bytes of the route, and the first word of a rewrite; both in map memory, where words need no
    // alignment.
    unsafe {
        let mut i = 0;
        while i < 4 {
            hop.add(i).write_volatile(way.hop[i]);
            i += 1;
        }
        across.write_unaligned(way.across);
    }
    work.across_judged = limits & JUDGED != 0;
    true
}

/// Remembers the way that the packet at hand takes. `class`: of the question, which the answer has written over;
/// `frames`: as for [`recall`].
#[inline(always)]
pub fn remember(work: &mut Work, class: [u8; 4], frames: bool) {
    let Some(mut way) = place(work) else { return };
    let (hop, across) = (work.route.hop(), (&raw const work.across).cast::<u64>());
    let flags = if work.reply { REPLY } else { 0 }
        | if work.across_judged { JUDGED } else { 0 }
        | if frames { FRAMES } else { 0 };
    work.route.vlan = u32::from(work.route.len) | u32::from(work.route.family) << 16 | flags;
    // SAFETY: as in `recall`.
    let way = unsafe { way.as_mut() };
    way.flow = work.way_of;
    way.asked = work.now as u32;
    way.generation = work.generation;
    way.class = word(class);
    way.ifindex = work.route.ifindex;
    // SAFETY: as in `recall`.
    unsafe {
        way.across = across.read_unaligned();
        let mut i = 0;
        while i < 4 {
            (&raw mut way.hop[i]).write_volatile(hop.add(i).read_unaligned());
            i += 1;
        }
    }
}

const _: () =
    assert!(core::mem::offset_of!(Rewrite, quotes) == 7, "all of IPv4 is in the first word");
const _: () = assert!(core::mem::offset_of!(Route, vlan) == 48, "third word of the hop");
