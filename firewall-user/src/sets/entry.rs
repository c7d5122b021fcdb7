//! An entry of a live set.

/// An entry. Addresses are host-endian numbers; bits of a prefix below its length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// An IPv4 prefix, and its length.
    Prefix4(u32, u8),
    /// An IPv6 prefix, and its length.
    Prefix6(u128, u8),
    /// An IPv4 address and a port.
    Pair4(u32, u16),
    /// An IPv6 address and a port.
    Pair6(u128, u16),
    /// Ports from the first to the second, both included.
    Ports(u16, u16),
}
