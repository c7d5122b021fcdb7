//! From a key to its place in the tables.

use crate::abi::{
    bucket::{finish, mix},
    flow::{Key4, Key6},
};

/// Eight bytes from `at` on as one word. The order of bytes doesn't matter here, as long as kernel and
/// user space run on one machine.
#[inline(always)]
const fn word<const LEN: usize>(bytes: &[u8; LEN], at: usize) -> u64 {
    assert!(at + 8 <= LEN);
    // SAFETY: the eight bytes are within the array, as was just checked; any bytes are a value.
    unsafe { bytes.as_ptr().add(at).cast::<u64>().read_unaligned() }
}

/// Words of an IPv4 key.
#[inline(always)]
pub fn words4(key: &Key4) -> [u64; 2] {
    let b: &[u8; 16] = bytemuck::must_cast_ref(key);
    [word(b, 0), word(b, 8)]
}

/// Words of an IPv6 key.
#[inline(always)]
pub fn words6(key: &Key6) -> [u64; 5] {
    let b: &[u8; 40] = bytemuck::must_cast_ref(key);
    [word(b, 0), word(b, 8), word(b, 16), word(b, 24), word(b, 32)]
}

/// Hash of an IPv4 key.
#[inline(always)]
pub fn hash4(key: &Key4, seed: u64) -> u64 {
    let w = words4(key);
    finish(mix(mix(seed, w[0]), w[1]))
}

/// Hash of an IPv6 key.
#[inline(always)]
pub fn hash6(key: &Key6, seed: u64) -> u64 {
    let w = words6(key);
    finish(mix(mix(mix(mix(mix(seed, w[0]), w[1]), w[2]), w[3]), w[4]))
}

/// Index of an IPv4 source in map `SOURCES`.
#[inline(always)]
pub const fn source4(address: [u8; 4], seed: u64) -> usize {
    (finish(mix(seed ^ 0x50, u32::from_be_bytes(address) as u64)) & 0xffff) as usize
}

/// Index of an IPv6 source in map `SOURCES`: of its /64, which one host can use up alone.
#[inline(always)]
pub const fn source6(address: &[u8; 16], seed: u64) -> usize {
    (finish(mix(seed ^ 0x50, word(address, 0))) & 0xffff) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbours_scatter() {
        // The keys of a scan: one address, every port. Neither half of the hash repeats itself much.
        let mut low = HashSet::new();
        let mut high = HashSet::new();
        for port in 0..=u16::MAX {
            let key = Key4 {
                a: [10, 0, 0, 1],
                b: [10, 0, 0, 2],
                a_port: port.to_be_bytes(),
                b_port: [0, 80],
                proto: 6,
                _pad: [0; 3],
            };
            let hash = hash4(&key, 0x1234_5678_9abc_def0);
            low.insert(hash & 0xff_ffff);
            high.insert(hash >> 40);
        }
        assert!(low.len() > 65_000 && high.len() > 65_000, "{} {}", low.len(), high.len());
    }
}
