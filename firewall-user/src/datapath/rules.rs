//! Rows of policies: a map for each policy, of the smallest of three sizes that holds it, which programs find in an array of
//! maps beside `TABLES`. It is filled where it stands, while no program looks there; one that isn't live any more is filled
//! again by the next policy of its size, or is gone where it is large.

use super::{raw, table::Mapping};
use aya::Ebpf;
use firewall_common::abi::table::ARENAS;
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

/// The arrays of maps, by size.
pub const NAMES: [&str; 3] = ["RULES_S", "RULES_M", "RULES_L"];

/// The size of which the idle policy's arena is kept for the next one: to make room and let programs find it takes a
/// grace period, for small policies longer than all else. A larger one would double what ten thousand rules take.
const KEPT: u32 = 0;

/// Where the rows of the two policies are found.
#[derive(Debug)]
pub struct Arenas {
    outer: Vec<OwnedFd>,
    /// By policy: the arena that is in `outer`, as far as we put it there, with its size.
    held: [Option<(u32, Mapping)>; 2],
}

impl Arenas {
    /// Of a loaded object.
    ///
    /// # Errors
    /// A map isn't there, or its descriptor can't be duplicated.
    pub fn of(ebpf: &Ebpf) -> io::Result<Self> {
        let outer = NAMES.iter().map(|name| {
            let Some(aya::maps::Map::ArrayOfMaps(data)) = ebpf.map(name) else {
                return Err(io::Error::other(format!("the object has no array of maps {name}")));
            };
            data.fd().as_fd().try_clone_to_owned()
        });
        Ok(Self { outer: outer.collect::<io::Result<_>>()?, held: [None, None] })
    }

    /// Makes `words` the rows of policy `index`, which isn't live and which no program looks at any more; `size` is its
    /// table's. Bytes that they take.
    ///
    /// # Errors
    /// The kernel refused: no memory, most likely. The live policy is as it was.
    pub fn put(&mut self, index: u32, size: u32, words: &[u64]) -> io::Result<usize> {
        let room = *ARENAS
            .get(size as usize)
            .filter(|room| words.len() <= **room)
            .ok_or_else(|| io::Error::other("more rows than there is room for"))?;
        let held = &mut self.held[index as usize & 1];
        match held {
            Some((known, memory)) if *known == size => fill(memory, words),
            _ => {
                *held = None;
                let map = raw::mapped_array("sluice_rules", room * 8)?;
                // Only pages that are written are mapped in.
                let memory = Mapping::of(map.as_fd(), room * 8)?;
                fill(&memory, words);
                for (i, outer) in self.outer.iter().enumerate() {
                    if i == size as usize {
                        raw::set(outer.as_fd(), &index, &map.as_raw_fd().cast_unsigned())?;
                    } else {
                        // Most often there is nothing.
                        let _ = raw::remove(outer.as_fd(), &index);
                    }
                }
                self.held[index as usize & 1] = Some((size, memory));
            }
        }
        Ok(room * 8)
    }

    /// The words of policy `index`, where they were put by us.
    pub fn words(&self, index: u32) -> Option<&[AtomicU64]> {
        self.held[index as usize & 1].as_ref().map(|(_, memory)| memory.words())
    }

    /// Policy `index` is no longer live, and no program looks there: gives its memory back, unless it is to be kept.
    pub fn retire(&mut self, index: u32) {
        let held = &mut self.held[index as usize & 1];
        if held.as_ref().is_some_and(|(size, _)| *size == KEPT) {
            return;
        }
        *held = None;
        for outer in &self.outer {
            let _ = raw::remove(outer.as_fd(), &index);
        }
    }
}

fn fill(memory: &Mapping, words: &[u64]) {
    for (to, from) in memory.words().iter().zip(words) {
        to.store(*from, Ordering::Relaxed);
    }
}
