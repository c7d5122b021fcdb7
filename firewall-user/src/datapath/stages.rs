//! The stages of a packet's way (`firewall_common::abi::stage`): programs that go on to each other through arrays that the
//! kernel keeps filled only while a descriptor or a pin holds them. So each daemon pins its own pair beside the links, under
//! names of its own: until the last link is updated, the programs of the daemon before still go through theirs.

use super::{DatapathError, error::chain, load_error};
use aya::{
    Ebpf,
    maps::{Map, MapError, ProgramArray},
    programs::{Program, ProgramError, loaded_programs},
};
use firewall_common::abi::stage::ARRAYS;
use std::{io, path::Path};

/// What the pins' names begin with; the map's id stands behind it.
const PREFIX: &str = "stages-";
/// The programs that packets enter by.
const ENTRIES: [&str; 3] = ["sluice_xdp", "sluice_tc_in", "sluice_tc_out"];

/// Loads the stages and fills their arrays.
///
/// # Errors
/// The kernel refused one.
pub fn load(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    for (array, names) in ARRAYS {
        let mut stages = Vec::new();
        for name in names {
            let program = ebpf
                .program_mut(name)
                .ok_or_else(|| DatapathError::Load(format!("the object has no program {name}")))?;
            load_one(program).map_err(|e| load_error(&e))?;
            stages.push(
                program
                    .fd()
                    .map_err(|e| load_error(&e))?
                    .try_clone()
                    .map_err(DatapathError::io("duplicating a program's descriptor"))?,
            );
        }
        let failed = |e: &MapError| DatapathError::Map { map: array, message: chain(e) };
        let map = ebpf
            .map_mut(array)
            .ok_or_else(|| DatapathError::Load(format!("the object has no map {array}")))?;
        let mut map = ProgramArray::try_from(map).map_err(|e| failed(&e))?;
        for (index, stage) in (0..).zip(&stages) {
            map.set(index, stage, 0).map_err(|e| failed(&e))?;
        }
    }
    Ok(())
}

fn load_one(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Pins the arrays, before anything is attached that goes through them.
pub(super) fn pin(ebpf: &Ebpf, dir: &Path) -> Result<(), DatapathError> {
    for (array, _) in ARRAYS {
        let Some(Map::ProgramArray(map)) = ebpf.map(array) else {
            return Err(DatapathError::Load(format!("the object has no map {array}")));
        };
        let id = map.info().map_err(DatapathError::map(array))?.id();
        let path = dir.join(format!("{PREFIX}{id}"));
        map.pin(&path)
            .map_err(|e| DatapathError::PinDir { path, source: io::Error::other(chain(&e)) })?;
    }
    Ok(())
}

/// Removes the pins of arrays that no packet goes through any more. Where that can't be told they stay.
pub(super) fn forget(dir: &Path) {
    let mut used = Vec::new();
    for program in loaded_programs() {
        let Ok(program) = program else { return };
        let enters = program.name_as_str().is_some_and(|name| ENTRIES.contains(&name));
        match program.map_ids() {
            Ok(Some(ids)) if enters => used.extend(ids),
            Err(_) | Ok(None) if enters => return,
            _ => {}
        }
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if id.is_some_and(|id| !used.contains(&id)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
