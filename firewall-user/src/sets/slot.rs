//! An entry as a slot of an arena holds it, and back.

use super::entry::Entry;
use firewall_common::{
    abi::set::tag,
    sets::{entry4, hash4, hash6},
};

/// What a slot holds of an entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Address and tag.
    Four(u64),
    /// Address, and tag.
    Six([u64; 2], u32),
}

impl Key {
    /// Of a live entry; `None` for ports, which aren't in tables.
    pub fn of(entry: Entry) -> Option<Self> {
        let halves = |address: u128| [(address >> 64) as u64, address as u64];
        Some(match entry {
            Entry::Prefix4(address, len) => Self::Four(entry4(address, tag::prefix(len.into()))),
            Entry::Pair4(address, port) => Self::Four(entry4(address, tag::pair(32, port.into()))),
            Entry::Prefix6(address, len) => Self::Six(halves(address), tag::prefix(len.into())),
            Entry::Pair6(address, port) => Self::Six(halves(address), tag::pair(128, port.into())),
            Entry::Ports(..) => return None,
        })
    }

    /// The entry; `None` where the bits aren't those of a live one.
    pub fn entry(self) -> Option<Entry> {
        let tag = self.tag();
        if tag & tag::STATE != tag::LIVE {
            return None;
        }
        let (len, port) = ((tag >> 16) as u8, tag as u16);
        let pair = tag & tag::PORT != 0;
        match self {
            Self::Four(word) if pair => Some(Entry::Pair4(word as u32, port)),
            Self::Four(word) => Entry::prefix4(word as u32, len),
            Self::Six([upper, lower], _) => {
                let address = u128::from(upper) << 64 | u128::from(lower);
                if pair { Some(Entry::Pair6(address, port)) } else { Entry::prefix6(address, len) }
            }
        }
    }

    /// Its tag.
    pub const fn tag(self) -> u32 {
        match self {
            Self::Four(word) => (word >> 32) as u32,
            Self::Six(_, tag) => tag,
        }
    }

    /// Its prefix' length; a pair's is the whole width.
    pub const fn len(self) -> u32 {
        self.tag() >> 16 & 0xff
    }

    /// Its hash.
    pub const fn hash(self, seed: u64) -> u64 {
        match self {
            Self::Four(word) => hash4(word, seed),
            Self::Six(address, tag) => hash6(address, tag, seed),
        }
    }
}

/// The /24 that an IPv4 prefix is a part of, or those that are parts of it: the first, as the gate counts, and how many.
pub const fn nets24(address: u32, len: u32) -> (u32, u32) {
    let many = if len >= 24 { 1 } else { 1 << (24 - len) };
    (address >> 8, many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firewall_common::sets::gate4;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_is_its_entry(address: u32, six: u128, port: u16, len in 0u8..=128) {
            let entries = [
                Entry::prefix4(address >> (32 - len.min(32)).min(31) << (32 - len.min(32)).min(31), len.min(32)),
                Entry::prefix6(if len == 0 { 0 } else { six >> (128 - len) << (128 - len) }, len),
                Some(Entry::Pair4(address, port)),
                Some(Entry::Pair6(six, port)),
            ];
            for entry in entries.into_iter().flatten() {
                prop_assert_eq!(Key::of(entry).and_then(Key::entry), Some(entry));
            }
        }

        #[test]
        fn nets_are_the_gates_bits(address: u32) {
            let (net, many) = nets24(address, 24);
            prop_assert_eq!((net >> 6, 1u64 << (net & 63)), gate4(address));
            prop_assert_eq!(many, 1);
        }
    }
}
