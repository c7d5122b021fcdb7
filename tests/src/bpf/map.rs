//! Maps, by bytes.

use super::{Program, bpf, own};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// A map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `enum bpf_cmd`.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
/// `enum bpf_map_type`.
const TYPE_ARRAY: u32 = 2;
const TYPE_PROG_ARRAY: u32 = 3;

impl Map {
    /// A pinned map.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pinned(path: &Path) -> Result<Self> {
        Program::pinned(path).map(|object| Self { fd: object.fd })
    }

    /// An array of one value of `len` bytes: memory that a program and we share.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(len: usize) -> Result<Self> {
        Self::create(TYPE_ARRAY, len as u32)
    }

    /// An array of one program, for tail calls.
    ///
    /// # Errors
    /// The kernel's.
    pub fn programs() -> Result<Self> {
        Self::create(TYPE_PROG_ARRAY, 4)
    }

    fn create(map_type: u32, value_size: u32) -> Result<Self> {
        let mut attr = CreateAttr { map_type, key_size: 4, value_size, max_entries: 1 };
        bpf(MAP_CREATE, &mut attr).map(|fd| Self { fd: own(fd).fd })
    }

    /// Its descriptor, for instructions that name the map.
    pub fn descriptor(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Makes `program` the one that a tail call through this array goes to.
    ///
    /// # Errors
    /// The kernel's: `InvalidInput` where it is of another kind than the caller.
    pub fn call(&self, program: &Program) -> Result<()> {
        self.update(&0u32.to_ne_bytes(), &program.fd.as_raw_fd().to_ne_bytes())
    }

    /// A number that the kernel tells about the map in `fdinfo`: `memlock` (bytes, overhead included),
    /// `max_entries`, `value_size`.
    ///
    /// # Errors
    /// Where there is no such number.
    pub fn info(&self, name: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.descriptor()))?;
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().parse().ok())
            .ok_or_else(|| Error::other(format!("no {name} in fdinfo")))
    }

    fn element(&self, key: &[u8], value: *const u8) -> ElementAttr {
        ElementAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            key: key.as_ptr() as u64,
            value: value as u64,
            ..ElementAttr::default()
        }
    }

    /// The value (of `len` bytes, as the map was made) of a key.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lookup(&self, key: &[u8], len: usize) -> Result<Vec<u8>> {
        let mut value = vec![0; len];
        bpf(MAP_LOOKUP, &mut self.element(key, value.as_mut_ptr()))?;
        Ok(value)
    }

    /// Sets a key's value; both as long as the map was made.
    ///
    /// # Errors
    /// The kernel's.
    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<()> {
        bpf(MAP_UPDATE, &mut self.element(key, value.as_ptr())).map(drop)
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// The kernel's; `NotFound` where there was none.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        bpf(MAP_DELETE, &mut self.element(key, std::ptr::null())).map(drop)
    }
}
