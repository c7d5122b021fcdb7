//! Where a packet lies that is rewritten: a socket buffer or a driver's frame, behind one set of
//! operations.
//!
//! A buffer's helpers know whether a checksum is whole or partial. A frame's sums are computed here, and
//! must be whole.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{
        bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes,
        bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
};

/// BPF_F_PSEUDO_HDR: the change is to the pseudo header (RFC 9293 section 3.1).
pub const PSEUDO: u64 = 1 << 4;
/// BPF_F_MARK_MANGLED_0: a UDP checksum of zero means none, and stays zero (RFC 768).
pub const KEEP_ZERO: u64 = 1 << 5;

/// A packet that can be rewritten. Each operation fails where the packet isn't long enough.
pub trait Medium: Copy {
    /// Copies bytes out.
    fn load<const N: usize>(self, at: u32) -> Option<[u8; N]>;
    /// Writes bytes.
    fn store<const N: usize>(self, at: u32, bytes: [u8; N]) -> bool;
    /// Puts an IPv4 header's checksum right after `from` became `to`.
    fn network_sum(self, at: u32, from: u32, to: u32) -> bool;
    /// Puts a transport's checksum right after four bytes changed; `flags`: [`PSEUDO`], [`KEEP_ZERO`].
    fn sum4(self, at: u32, from: u32, to: u32, flags: u64) -> bool;
    /// The same for two bytes.
    fn sum2(self, at: u32, from: u16, to: u16, flags: u64) -> bool;
}

impl Medium for *mut __sk_buff {
    #[inline(always)]
    fn load<const N: usize>(self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the helper fills the array, or fails.
        let failed =
            unsafe { bpf_skb_load_bytes(self.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
        (failed == 0).then_some(bytes)
    }
    #[inline(always)]
    fn store<const N: usize>(self, at: u32, bytes: [u8; N]) -> bool {
        // A flow's hash covers its address.
        let flags = if N >= 4 { u64::from(aya_ebpf::bindings::BPF_F_INVALIDATE_HASH) } else { 0 };
        // SAFETY: the context is the program's; the helper checks the range; the source is N bytes.
        unsafe { bpf_skb_store_bytes(self.cast(), at, bytes.as_ptr().cast(), N as u32, flags) == 0 }
    }
    #[inline(always)]
    fn network_sum(self, at: u32, from: u32, to: u32) -> bool {
        // SAFETY: the context is the program's; the helper checks the range.
        unsafe { bpf_l3_csum_replace(self, at, u64::from(from), u64::from(to), 4) == 0 }
    }
    #[inline(always)]
    fn sum4(self, at: u32, from: u32, to: u32, flags: u64) -> bool {
        // SAFETY: as above.
        unsafe { bpf_l4_csum_replace(self, at, u64::from(from), u64::from(to), flags | 4) == 0 }
    }
    #[inline(always)]
    fn sum2(self, at: u32, from: u16, to: u16, flags: u64) -> bool {
        // SAFETY: as above.
        unsafe { bpf_l4_csum_replace(self, at, u64::from(from), u64::from(to), flags | 2) == 0 }
    }
}

impl Medium for *mut xdp_md {
    #[inline(always)]
    fn load<const N: usize>(self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the helper fills the array, or fails.
        let failed = unsafe { bpf_xdp_load_bytes(self, at, bytes.as_mut_ptr().cast(), N as u32) };
        (failed == 0).then_some(bytes)
    }
    #[inline(always)]
    fn store<const N: usize>(self, at: u32, bytes: [u8; N]) -> bool {
        let source = bytes.as_ptr().cast_mut().cast();
        // SAFETY: the context is the program's; the helper checks the range, and reads N bytes.
        unsafe { bpf_xdp_store_bytes(self, at, source, N as u32) == 0 }
    }
    #[inline(always)]
    fn network_sum(self, at: u32, from: u32, to: u32) -> bool {
        self.sum4(at, from, to, 0)
    }
    #[inline(always)]
    fn sum4(self, at: u32, from: u32, to: u32, flags: u64) -> bool {
        summed(self, at, flags, |sum| {
            let sum = replaced(sum, from as u16, to as u16);
            replaced(sum, (from >> 16) as u16, (to >> 16) as u16)
        })
    }
    #[inline(always)]
    fn sum2(self, at: u32, from: u16, to: u16, flags: u64) -> bool {
        summed(self, at, flags, |sum| replaced(sum, from, to))
    }
}

#[inline(always)]
fn summed(frame: *mut xdp_md, at: u32, flags: u64, change: impl Fn(u16) -> u16) -> bool {
    let Some(bytes) = frame.load::<2>(at) else { return false };
    let may_be_none = flags & KEEP_ZERO != 0;
    if may_be_none && bytes == [0, 0] {
        return true;
    }
    let mut sum = change(u16::from_ne_bytes(bytes));
    if may_be_none && sum == 0 {
        sum = 0xffff;
    }
    frame.store(at, sum.to_ne_bytes())
}

/// A one's complement checksum after one word changed (RFC 1624, equation 3).
#[inline(always)]
pub fn replaced(sum: u16, from: u16, to: u16) -> u16 {
    let mut n = u32::from(!sum) + u32::from(!from) + u32::from(to);
    n = (n & 0xffff) + (n >> 16);
    n = (n & 0xffff) + (n >> 16);
    !(n as u16)
}
