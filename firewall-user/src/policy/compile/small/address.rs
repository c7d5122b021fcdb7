//! Intervals of addresses into the kernel's two shapes of lookup table.

use firewall_common::abi::small::{V4_LEAVES, V4_POINTER, V4Map, V6_BOUNDS, V6Map};
use std::collections::HashMap;

/// Writes IPv4 intervals (start, row), the first from 0. Returns how many leaves they need; past
/// [`V4_LEAVES`] the map is not usable.
pub fn fill_v4(map: &mut V4Map, steps: &[(u32, u16)]) -> usize {
    let mut used = 0;
    // The same pattern below several /16s is stored once.
    let mut blocks: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut next = 0;
    let mut row = 0;
    for (top, entry) in map.top.iter_mut().enumerate() {
        let mut block: Vec<u32> = Vec::new();
        let mut first = row;
        while let Some((start, new)) =
            steps.get(next).filter(|(start, _)| (start >> 16) as usize == top)
        {
            let low = start & 0xffff;
            if low == 0 {
                first = *new;
            } else {
                if block.is_empty() {
                    block.push(u32::from(first));
                }
                block.push(low << 16 | u32::from(*new));
            }
            row = *new;
            next += 1;
        }
        if block.is_empty() {
            *entry = u32::from(first);
            continue;
        }
        let len = block.len().next_power_of_two();
        let last = block[block.len() - 1];
        block.resize(len, last);
        let base = *blocks.entry(block).or_insert_with_key(|block| {
            let base = used;
            used += len;
            if let Some(leaves) = map.leaves.get_mut(base..used) {
                leaves.copy_from_slice(block);
            }
            base
        });
        *entry = V4_POINTER | len.trailing_zeros() << 24 | base.min(V4_LEAVES - 1) as u32;
    }
    used
}

/// Writes IPv6 intervals (start, row), the first from 0. Returns how many there are; past
/// [`V6_BOUNDS`] the map is not usable.
pub fn fill_v6(map: &mut V6Map, steps: &[(u128, u16)]) -> usize {
    let len = steps.len().next_power_of_two();
    if len > V6_BOUNDS {
        return steps.len();
    }
    map.log2_len = len.trailing_zeros();
    let last = steps.last().map_or(0, |(_, row)| *row);
    let padded = steps.iter().copied().chain(std::iter::repeat((u128::MAX, last)));
    for (i, (start, row)) in padded.take(len).enumerate() {
        map.hi[i] = (start >> 64) as u64;
        map.lo[i] = start as u64;
        map.row[i] = row;
    }
    steps.len()
}
