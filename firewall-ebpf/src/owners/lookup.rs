//! Looking a value up in a compiled policy: address to row, row to bits.

use firewall_common::abi::small::{
    MAX_ROWS, SmallTable, V4_LEAVES, V4_POINTER, V4Map, V6_BOUNDS, V6Map, WORDS,
};

/// Reads `array[index & mask]`, where `mask + 1` is the array's length: a bound that the verifier sees.
macro_rules! at {
    ($array:expr, $index:expr, $len:expr) => {{
        const MASK: usize = $len - 1;
        const { assert!($len & MASK == 0) };
        // SAFETY: the masked index is below the array's length.
        unsafe { *$array.get_unchecked($index as usize & MASK) }
    }};
}
pub(crate) use at;

/// Row of an IPv4 address (its first four bytes). Out of line, as `v6`: each verified by itself, and the loop's registers to itself.
#[inline(never)]
pub fn v4(map: &V4Map, address: &[u8; 16]) -> u16 {
    let address = u32::from_be_bytes([address[0], address[1], address[2], address[3]]);
    let entry = at!(map.top, address >> 16, 65_536);
    if entry & V4_POINTER == 0 {
        return entry as u16;
    }
    let low = address & 0xffff;
    let mut pos = entry & (V4_LEAVES as u32 - 1);
    let mut step = (1u32 << (entry >> 24 & 0x0f)) >> 1;
    let mut left = 16;
    while step != 0 && left != 0 {
        // Masked here and not only at its use: the verifier then sees the same range each time round.
        let probe = (pos + step) & (V4_LEAVES as u32 - 1);
        if at!(map.leaves, probe, V4_LEAVES) >> 16 <= low {
            pos = probe;
        }
        step >>= 1;
        left -= 1;
    }
    at!(map.leaves, pos, V4_LEAVES) as u16
}

/// As [`v4`].
#[inline(never)]
pub fn v6(map: &V6Map, a: &[u8; 16]) -> u16 {
    let hi = u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]);
    let lo = u64::from_be_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]);
    let mut pos = 0u32;
    let mut step = (1u32 << (map.log2_len & 0x0f)) >> 1;
    let mut left = 16;
    while step != 0 && left != 0 {
        let probe = (pos + step) & (V6_BOUNDS as u32 - 1);
        let start = at!(map.hi, probe, V6_BOUNDS);
        let low = at!(map.lo, probe, V6_BOUNDS);
        if start < hi || (start == hi && low <= lo) {
            pos = probe;
        }
        step >>= 1;
        left -= 1;
    }
    at!(map.row, pos, V6_BOUNDS)
}

/// The rules of a row, as bits.
#[inline(always)]
pub fn row(table: &SmallTable, index: u16) -> &[u64; WORDS] {
    // SAFETY: the masked index is below the array's length.
    unsafe { table.rows.get_unchecked(index as usize & (MAX_ROWS - 1)) }
}
