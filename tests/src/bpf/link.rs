//! Links: a program at an interface for as long as we hold the descriptor.

use super::{INFO_LEN, InfoAttr, OBJ_GET_INFO_BY_FD, Program, bpf, own};
use std::io::Result;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    Xdp,
    /// TCX, on the way in.
    TcxIn,
    /// TCX, on the way out.
    TcxOut,
}

/// An attached program; detached when dropped.
#[derive(Debug)]
pub struct Link {
    _fd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    /// Of TCX: where in the row of programs. Nothing: at its end.
    relative: u32,
    pad: u32,
    revision: u64,
}

const LINK_CREATE: libc::c_long = 28;
/// `XDP_FLAGS_DRV_MODE`.
const DRIVER: u32 = 1 << 2;
/// Offset of `prog_id` in `struct bpf_link_info`.
const PROG_ID_AT: usize = 8;

impl Link {
    /// Attaches `program` to interface `ifindex` of the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn attach(program: &Program, ifindex: u32, hook: Hook) -> Result<Self> {
        let (attach_type, flags) = match hook {
            Hook::Xdp => (37, DRIVER),
            Hook::TcxIn => (46, 0),
            Hook::TcxOut => (47, 0),
        };
        let prog_fd = program.fd.as_raw_fd() as u32;
        let mut attr = LinkAttr { prog_fd, ifindex, attach_type, flags, ..LinkAttr::default() };
        bpf(LINK_CREATE, &mut attr).map(|fd| Self { _fd: own(fd).fd })
    }
}

/// The program behind a pinned link.
///
/// # Errors
/// The kernel's.
pub fn linked_program(path: &Path) -> Result<Program> {
    let link = Program::pinned(path)?.fd;
    let mut info = [0u8; INFO_LEN];
    let mut attr = InfoAttr {
        fd: link.as_raw_fd() as u32,
        len: INFO_LEN as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let id: [u8; 4] = info[PROG_ID_AT..PROG_ID_AT + 4].try_into().expect("four bytes");
    Program::by_id(u32::from_ne_bytes(id))
}
