//! A packet from its IP header on, as far as names need it. Packets of IPv6 with extension headers aren't looked at.

use aya_ebpf::bindings::__sk_buff;

use crate::buffer::load;

/// Where things are in a packet.
pub struct Packet {
    /// 4 or 6.
    pub family: u8,
    /// Where the upper layer's header begins, bytes.
    pub at: u32,
}

impl Packet {
    /// Reads the IP header; `None`: it is none of `proto` (IPPROTO_*), or can't be read.
    ///
    /// # Safety
    /// The context of a `cgroup_skb` program.
    #[inline(always)]
    pub unsafe fn read(skb: *mut __sk_buff, proto: u8) -> Option<Self> {
        let mut first = [0u8; 16];
        // SAFETY: the caller's promise; the array is filled.
        unsafe { load(skb, 0, first.as_mut_ptr(), 16)? };
        if first[0] >> 4 == 4 {
            let at = u32::from(first[0] & 15) * 4;
            return (first[9] == proto).then_some(Self { family: 4, at });
        }
        (first[6] == proto).then_some(Self { family: 6, at: 40 })
    }

    /// Writes an address into 16 bytes that are zero: the source's, or the destination's.
    ///
    /// # Safety
    /// As [`Self::read`]; 16 bytes at `into`.
    #[inline(always)]
    pub unsafe fn address(&self, skb: *mut __sk_buff, source: bool, into: *mut u8) -> Option<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if self.family == 4 {
                load(skb, if source { 12 } else { 16 }, into, 4)
            } else {
                load(skb, if source { 8 } else { 24 }, into, 16)
            }
        }
    }
}
