//! Which programs hang where, ours and others': what the kernel tells of them by number.

use super::{Datapath, raw};
use std::io;

/// `enum bpf_attach_type` (include/uapi/linux/bpf.h).
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_NETKIT_PRIMARY: u32 = 54;
const BPF_NETKIT_PEER: u32 = 55;

/// A row of programs that the kernel runs one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// TCX on the way in.
    TcxIn,
    /// TCX on the way out.
    TcxOut,
    /// netkit, for what its primary end sends.
    NetkitPrimary,
    /// netkit, for what its peer sends.
    NetkitPeer,
}

/// A program of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnProgram {
    /// The kernel's id.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// What the filter has of its own, and which ways past the stack the live policy opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Our programs.
    pub programs: Vec<OwnProgram>,
    /// Established forwarded flows may skip the stack.
    pub fast_path: bool,
    /// Some rule hands packets to AF_XDP sockets.
    pub bypass: bool,
}

/// Ids of the programs of a row, in the order that packets meet them; of an interface of the caller's
/// network namespace. Takes CAP_NET_ADMIN.
///
/// # Errors
/// What the kernel says; EINVAL before Linux 6.6 (TCX) and 6.7 (netkit).
pub fn row(ifindex: u32, row: Row) -> io::Result<Vec<u32>> {
    raw::query(
        ifindex,
        match row {
            Row::TcxIn => BPF_TCX_INGRESS,
            Row::TcxOut => BPF_TCX_EGRESS,
            Row::NetkitPrimary => BPF_NETKIT_PRIMARY,
            Row::NetkitPeer => BPF_NETKIT_PEER,
        },
    )
}

/// Name of a program by its id. Takes CAP_SYS_ADMIN (kernel/bpf/syscall.c, `bpf_prog_get_fd_by_id`).
///
/// # Errors
/// What the kernel says; ENOENT where the program has gone.
pub fn name(id: u32) -> io::Result<String> {
    raw::program_name(id)
}

impl Datapath {
    /// What the filter has of its own, and which ways past the stack the live policy opens.
    pub fn ways(&self) -> Ways {
        let programs = self.ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(OwnProgram { id: info.id(), name: name.to_owned() })
        });
        Ways {
            programs: programs.collect(),
            fast_path: self.wanted.fast(),
            bypass: self.wanted.bypass(),
        }
    }
}
