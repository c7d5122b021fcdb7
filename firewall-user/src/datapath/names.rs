//! Who owns which slot, as pinned beside the counters.

use super::error::DatapathError;
use aya::maps::{Array, MapData};
use firewall_common::abi::names::Name;

/// Owners of slots: (slot, name, generation at which the name last stood in the live policy).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotNames {
    /// Of rule slots.
    pub rules: Vec<(u16, String, u32)>,
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

/// Reads both maps.
pub(super) fn load(rules: &NameMap, ifaces: &NameMap) -> Result<SlotNames, DatapathError> {
    Ok(SlotNames {
        rules: read(rules, "RULE_NAMES")?
            .into_iter()
            .map(|(i, n)| (i as u16, n.as_str().to_owned(), n.generation))
            .collect(),
        ifaces: read(ifaces, "IFACE_NAMES")?
            .into_iter()
            .map(|(i, n)| (i as u8, n.as_str().to_owned(), n.generation))
            .collect(),
    })
}

/// Writes one owner.
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
