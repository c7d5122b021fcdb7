//! Where bytes come from.

/// Any bytes are a value.
pub use bytemuck::Pod;

/// Read access to a packet. Offsets count from the first byte of the Ethernet header.
pub trait Cursor {
    /// A value at `off` as it lies there, or `None` where it reaches past what can be read. Arrays of words are
    /// read a word at a time, those of bytes a byte at a time: headers are read as words.
    fn load<T: Pod>(&self, off: usize) -> Option<T>;
    /// The `N` bytes at `off`, or `None` where they reach past what can be read.
    #[inline(always)]
    fn bytes<const N: usize>(&self, off: usize) -> Option<[u8; N]>
    where
        [u8; N]: Pod,
    {
        self.load(off)
    }
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
    fn load<T: Pod>(&self, off: usize) -> Option<T> {
        let bytes = self.0.get(off..off.checked_add(size_of::<T>())?)?;
        Some(bytemuck::pod_read_unaligned(bytes))
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
