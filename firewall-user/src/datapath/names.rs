//! Who owns which slot, as pinned beside the counters.

use super::{error::DatapathError, table::Mapping};
use aya::maps::{Array, MapData};
use firewall_common::abi::{names::Name, table::RULE_SLOTS};
use std::{
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

/// Owners of slots: (slot, name, generation at which the name last stood in the live policy).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotNames {
    /// Of rule slots.
    pub rules: Vec<(u32, String, u32)>,
    /// Of interface slots.
    pub ifaces: Vec<(u8, String, u32)>,
}

type NameMap = Array<MapData, Name>;

fn read(map: &NameMap, what: &'static str) -> Result<Vec<(u32, Name)>, DatapathError> {
    (0..map.len())
        .map(|i| map.get(&i, 0).map(|n| (i, n)).map_err(DatapathError::map(what)))
        .filter(|r| !matches!(r, Ok((_, n)) if n.len == 0))
        .collect()
}

/// The owners of rule slots: tens of thousands, so that they are read and written where the map has them.
pub(super) struct RuleNames(Mapping);

/// Words of an entry.
const WORDS: usize = size_of::<Name>() / 8;

impl RuleNames {
    /// Of map `RULE_NAMES`.
    pub(super) fn of(map: BorrowedFd<'_>) -> std::io::Result<Self> {
        Mapping::of(map, RULE_SLOTS * size_of::<Name>()).map(Self)
    }

    fn entry(&self, slot: u32) -> &[AtomicU64] {
        &self.0.words()[slot as usize * WORDS..][..WORDS]
    }

    fn load(&self, slot: u32) -> Name {
        let entry = self.entry(slot);
        let words: [u64; WORDS] = std::array::from_fn(|i| entry[i].load(Ordering::Relaxed));
        bytemuck::cast(words)
    }

    /// Whether somebody else than `name` owns a slot so far.
    pub(super) fn is_of_another(&self, slot: u32, name: &str) -> bool {
        let owner = self.load(slot);
        owner.len != 0 && owner.as_str() != name
    }

    fn read(&self) -> Vec<(u32, String, u32)> {
        let named = (0..RULE_SLOTS as u32).filter_map(|slot| {
            let name = self.load(slot);
            (name.len != 0).then(|| (slot, name.as_str().to_owned(), name.generation))
        });
        named.collect()
    }

    /// Writes one owner.
    pub(super) fn store(&self, slot: u32, name: &str, generation: u32) {
        let words: [u64; WORDS] = bytemuck::cast(Name::new(name, generation).unwrap_or_default());
        for (to, from) in self.entry(slot).iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
    }
}

/// Reads both maps.
pub(super) fn load(rules: &RuleNames, ifaces: &NameMap) -> Result<SlotNames, DatapathError> {
    Ok(SlotNames {
        rules: rules.read(),
        ifaces: read(ifaces, "IFACE_NAMES")?
            .into_iter()
            .map(|(i, n)| (i as u8, n.as_str().to_owned(), n.generation))
            .collect(),
    })
}

/// Writes the owner of an interface slot.
pub(super) fn store(
    map: &mut NameMap,
    what: &'static str,
    slot: u32,
    name: &str,
    generation: u32,
) -> Result<(), DatapathError> {
    let value = Name::new(name, generation).unwrap_or_default();
    map.set(slot, value, 0).map_err(DatapathError::map(what))
}
