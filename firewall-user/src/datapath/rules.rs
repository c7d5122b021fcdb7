//! Rows of policies: a map for each policy, of the smallest of three sizes that holds it, which programs find in an array of
//! maps beside `TABLES`. It is filled where it stands, before anybody can find it, and is gone with the next policy.

use super::{raw, table::Mapping};
use aya::Ebpf;
use firewall_common::abi::table::ARENAS;
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::atomic::Ordering,
};

/// The arrays of maps, by size.
pub const NAMES: [&str; 3] = ["RULES_S", "RULES_M", "RULES_L"];

/// Where the rows of the two policies are found.
#[derive(Debug)]
pub struct Arenas {
    outer: Vec<OwnedFd>,
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
        Ok(Self { outer: outer.collect::<io::Result<_>>()? })
    }

    /// Makes `words` the rows of policy `index`, which isn't live; `size` is its table's. Bytes that they take.
    ///
    /// # Errors
    /// The kernel refused: no memory, most likely. Then nothing has changed.
    pub fn put(&self, index: u32, size: u32, words: &[u64]) -> io::Result<usize> {
        let (outer, room) = self
            .outer
            .get(size as usize)
            .zip(ARENAS.get(size as usize))
            .filter(|(_, room)| words.len() <= **room)
            .ok_or_else(|| io::Error::other("more rows than there is room for"))?;
        let map = raw::mapped_array("sluice_rules", room * 8)?;
        // Only pages that are written are mapped in.
        let memory = Mapping::of(map.as_fd(), room * 8)?;
        for (to, from) in memory.words().iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        raw::set(outer.as_fd(), &index, &map.as_raw_fd().cast_unsigned())?;
        Ok(room * 8)
    }

    /// Gives the memory back that rows of policy `index` take in arrays of other sizes than `size`, or in all. Whoever
    /// calls has waited until no program looks there.
    pub fn clear(&self, index: u32, size: Option<u32>) {
        for (i, outer) in self.outer.iter().enumerate() {
            if size != Some(i as u32) {
                // Most often there is nothing.
                let _ = raw::remove(outer.as_fd(), &index);
            }
        }
    }
}
