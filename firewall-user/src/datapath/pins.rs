//! The folder of pins, before anything is loaded: held by one daemon, and what the last one left in it.

use super::DatapathError;
use aya::maps::{Array, Map, MapData};
use firewall_common::abi::control::Control;
use std::{fs::File, os::fd::AsRawFd as _, path::Path};

/// Makes the pin directory and locks it.
pub fn lock(dir: &Path) -> Result<File, DatapathError> {
    let failed = |source| DatapathError::PinDir { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = File::open(dir).map_err(failed)?;
    // SAFETY: all-zero bytes are a valid statfs, and the call fills it.
    let fs_type = unsafe {
        let mut st: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(file.as_raw_fd(), &mut st) != 0 {
            return Err(failed(std::io::Error::last_os_error()));
        }
        st.f_type
    };
    if fs_type as u64 != 0xcafe_4a11 {
        return Err(failed(std::io::Error::other("another kind of file system")));
    }
    // SAFETY: a live descriptor.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(DatapathError::Busy { path: dir.to_owned() });
    }
    Ok(file)
}

/// Generation and ABI version that are pinned, if any.
pub fn control(dir: &Path) -> Result<Option<Control>, DatapathError> {
    let Ok(data) = MapData::from_pin(dir.join("CONTROL")) else { return Ok(None) };
    let map = Map::from_map_data(data).map_err(DatapathError::map("CONTROL"))?;
    let map: Array<MapData, Control> = map.try_into().map_err(DatapathError::map("CONTROL"))?;
    map.get(&0, 0).map(Some).map_err(DatapathError::map("CONTROL"))
}
