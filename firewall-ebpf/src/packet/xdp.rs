//! Frames in a driver's receive path.

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{
        bpf_redirect, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
        bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    maps::ProgramArray,
    programs::XdpContext,
};
use firewall_common::{
    abi::{iface::DEFERRED, table::Direction},
    wire::{Cursor, Facts, cursor::Pod, transport},
};

use super::{Load, Packet, find_route, read};
use crate::{
    bypass,
    forward::{self, Route},
    maps::IFACES,
    stages::STAGES_XDP,
    translate,
    verdict::Outcome,
    work::Work,
};

/// A frame in a driver's receive path.
pub struct Xdp<'a>(pub &'a XdpContext);

impl Xdp<'_> {
    /// Where the frame begins. Read anew each time: a pointer that the compiler keeps on the stack as 32 bits is
    /// none to the verifier any more.
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is the one this program was called with.
        unsafe { (&raw const (*self.0.ctx).data).read_volatile() as usize }
    }
    /// Where it ends.
    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0.ctx).data_end).read_volatile() as usize }
    }
    /// The frame's first `N` bytes, to be written.
    #[inline(always)]
    fn start<const N: usize>(&self) -> Option<&mut [u8; N]> {
        let at = self.data();
        if at + N > self.data_end() {
            return None;
        }
        // SAFETY: `at + N <= data_end` was just checked, as the verifier demands; any byte is a value,
        // and nobody else has a reference into the frame.
        Some(unsafe { &mut *(at as *mut [u8; N]) })
    }
}

impl Cursor for Xdp<'_> {
    #[inline(always)]
    fn load<T: Pod>(&self, off: usize) -> Option<T> {
        read(self.data(), self.data_end(), off)
    }
    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        // The helper (multi-buffer frames) is asked only where the first buffer is too short.
        end <= self.data_end() - self.data() || end <= self.len()
    }
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the context is the one this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as usize }
    }
    #[inline(always)]
    fn aggregated(&self) -> bool {
        false
    }
}

impl Load for Xdp<'_> {
    #[inline(always)]
    fn load_part(&self, off: usize, to: &mut [u8; 64], len: u32) -> bool {
        let to = to.as_mut_ptr().cast();
        // SAFETY: the helper fills `len` bytes, at most 64, or fails.
        unsafe { bpf_xdp_load_bytes(self.0.ctx, off as u32, to, len) == 0 }
    }
}

impl Packet for Xdp<'_> {
    const DEFERS: bool = true;
    const STAGES: &'static ProgramArray = &STAGES_XDP;
    #[inline(always)]
    fn defer(&self) -> bool {
        // SAFETY: the context is ours. The helper fails where the driver knows no metadata.
        if unsafe { bpf_xdp_adjust_meta(self.0.ctx, -4) } != 0 {
            return false;
        }
        let at = self.0.metadata();
        if at + 4 > self.data() {
            return false;
        }
        // SAFETY: the four bytes are metadata, as was just checked.
        unsafe { (at as *mut u32).write_unaligned(DEFERRED) };
        true
    }
    #[inline(always)]
    fn is_deferred(&self) -> bool {
        true
    }
    #[inline(always)]
    fn is_lent_from_here(&self, _: &Work) -> bool {
        // Sources are translated at egress.
        false
    }
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.ctx.cast()
    }
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.0.ctx).ingress_ifindex }
    }
    #[inline(always)]
    fn frame_len(&self, at_least: usize) -> u32 {
        let linear = self.data_end() - self.data();
        if linear >= at_least { linear as u32 } else { self.len() as u32 }
    }
    #[inline(always)]
    fn copy<const N: usize>(&self, off: usize, to: &mut [u8; N]) -> bool {
        let to = to.as_mut_ptr().cast();
        // SAFETY: the helper fills the N bytes it is given, or fails.
        unsafe { bpf_xdp_load_bytes(self.0.ctx, off as u32, to, N as u32) == 0 }
    }
    #[inline(always)]
    fn segments(&self) -> u32 {
        1
    }
    #[inline(always)]
    fn stripped_vlan(&self) -> u16 {
        0
    }
    #[inline(always)]
    fn let_by(&self, _: &Work) {}
    #[inline(always)]
    fn translate(&self, work: &Work) -> bool {
        // IPv4 frames that don't come off a wire were left to the TC program behind this one.
        translate::frame(self.0.ctx, work)
    }
    const ASKS_NEIGHBOURS: bool = false;
    #[inline(always)]
    fn segment_len(&self, facts: &Facts) -> u32 {
        facts.ip_len
    }
    #[inline(always)]
    fn find_route(&self, route: &mut Route) -> bool {
        find_route(self.0.ctx.cast(), route)
    }
    #[inline(always)]
    fn forward(&self, work: &Work, _: bool) -> Option<Outcome> {
        // A frame in several buffers is not for every driver. One that was sent to somebody else may be
        // here because somebody listens, or a switch didn't know better.
        let ours = IFACES.get(work.ifindex)?.mac;
        if self.data_end() - self.data() != self.len() || *self.start::<6>()? != ours {
            return None;
        }
        let tcp = work.facts.proto == transport::TCP;
        match (work.facts.family, tcp) {
            (4, true) => forward::next_hop4::<54, 50>(self.start()?, work),
            (4, false) => forward::next_hop4::<42, 40>(self.start()?, work),
            _ => forward::next_hop6::<54>(self.start()?, work),
        }
        // SAFETY: the helper takes numbers.
        unsafe { bpf_redirect(work.route.ifindex, 0) };
        Some(Outcome::Away)
    }
    #[inline(always)]
    fn hand_over(&self, work: &Work) -> bool {
        // SAFETY: the context is the one this program was called with.
        bypass::choose(work.iface, unsafe { (*self.0.ctx).rx_queue_index })
    }
    #[inline(always)]
    fn answer<const N: usize>(&self, l3: usize, bytes: &[u8; N], _: Direction) -> Outcome {
        let delta = (l3 + N) as i32 - self.len() as i32;
        // SAFETY: the context is ours; the kernel checks the new length.
        if unsafe { bpf_xdp_adjust_tail(self.0.ctx, delta) } != 0 {
            return Outcome::Drop;
        }
        let mut macs = [0u8; 12];
        let to = macs.as_mut_ptr();
        // SAFETY: each helper checks its range against the frame; the pointers are to arrays of at
        // least the length given.
        let failed = unsafe {
            bpf_xdp_load_bytes(self.0.ctx, 6, to.cast(), 6)
                | bpf_xdp_load_bytes(self.0.ctx, 0, to.add(6).cast(), 6)
                | bpf_xdp_store_bytes(self.0.ctx, 0, to.cast(), 12)
                | bpf_xdp_store_bytes(
                    self.0.ctx,
                    l3 as u32,
                    bytes.as_ptr().cast_mut().cast(),
                    N as u32,
                )
        };
        if failed != 0 {
            return Outcome::Drop;
        }
        Outcome::Bounce
    }
}
