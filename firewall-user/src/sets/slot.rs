//! An entry as a slot of an arena holds it, and back.

use super::entry::Entry;
use firewall_common::{
    abi::set::{NET4, NET6, tag},
    sets::{entry4, hash4, hash6, net4, net6},
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

/// The network, as the gate knows it, that a prefix is a part of, or those that are parts of it: the first, and how many.
pub const fn nets(key: Key) -> (u32, u64) {
    let (first, bits) = match key {
        Key::Four(word) => (net4(word as u32), NET4),
        Key::Six([upper, _], _) => (net6(upper), NET6),
    };
    (first, 1 << bits.saturating_sub(key.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        fn nets_hold_all_that_is_in_a_prefix(four: u32, six: u128, len in 0u8..=128) {
            let holds = |entry: Option<Entry>, net| {
                let (first, many) = nets(entry.and_then(Key::of).expect("an entry"));
                first <= net && u64::from(net - first) < many
            };
            let cut = len.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(cut)).unwrap_or(0);
            prop_assert!(holds(Entry::prefix4(four & mask, cut), net4(four)));
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            prop_assert!(holds(Entry::prefix6(six & mask, len), net6((six >> 64) as u64)));
        }
    }
}
