//! Where bytes come from.

/// Read access to a packet. Offsets count from the first byte of the Ethernet header.
pub trait Cursor {
    /// The `N` bytes at `off`, or `None` where they reach past what can be read.
    fn bytes<const N: usize>(&self, off: usize) -> Option<[u8; N]>;
    /// Whether the packet (not only its readable part) has at least `end` bytes.
    fn holds(&self, end: usize) -> bool;
    /// Length of the packet, bytes.
    fn len(&self) -> usize;
    /// Whether there is no byte at all.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether this is one buffer that stands for several segments (GSO, GRO): then the IP length
    /// fields may be zero (BIG TCP) and the real length is the buffer's.
    fn aggregated(&self) -> bool;
}

/// A packet that is a slice, whole.
pub struct Slice<'a>(pub &'a [u8]);

impl Cursor for Slice<'_> {
    fn bytes<const N: usize>(&self, off: usize) -> Option<[u8; N]> {
        self.0.get(off..off.checked_add(N)?)?.try_into().ok()
    }
    fn holds(&self, end: usize) -> bool {
        end <= self.0.len()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn aggregated(&self) -> bool {
        false
    }
}
