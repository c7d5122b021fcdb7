//! The few `bpf(2)` commands that tests and benchmarks need, straight: programs by pin or id, test
//! runs with a context, maps, links, what the verifier said. Independent of the product's own loader, so that a
//! peer's program runs the same way as ours.

mod asm;
mod link;
mod map;

pub use asm::{Asm, Reg};
pub use link::{Hook, Link, linked_program};
pub use map::Map;

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next: u32,
    flags: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// Offset of `verified_insns` in `struct bpf_prog_info`.
const VERIFIED_INSNS_AT: usize = 216;
const INFO_LEN: usize = 256;

fn bpf<A>(command: libc::c_long, attr: &mut A) -> Result<i32> {
    // SAFETY: the attribute is a whole structure of this command's kind, and its size is what is
    // said; every pointer in it was taken from a buffer that its caller keeps until we return.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), std::mem::size_of::<A>())
    };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result as i32) }
}

fn own(fd: i32) -> Program {
    // SAFETY: the kernel just made this descriptor for us.
    Program { fd: unsafe { OwnedFd::from_raw_fd(fd) } }
}

/// What kind of program instructions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// XDP.
    Xdp {
        /// Takes frames of several buffers.
        frags: bool,
        /// Says at load that it will be attached as XDP: a tail call wants both ends to say the same.
        says_so: bool,
    },
    /// TC, in or out.
    Tc,
}

impl Kind {
    /// The plainest XDP program.
    pub const XDP: Self = Self::Xdp { frags: false, says_so: false };
    /// An XDP program that may be attached to a link with large frames.
    pub const XDP_FRAGS: Self = Self::Xdp { frags: true, says_so: false };

    /// Type, flags, attach type.
    fn numbers(self) -> (u32, u32, u32) {
        match self {
            // BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, BPF_XDP.
            Self::Xdp { frags, says_so } => {
                (6, u32::from(frags) << 5, if says_so { 37 } else { 0 })
            }
            // BPF_PROG_TYPE_SCHED_CLS.
            Self::Tc => (3, 0, 0),
        }
    }
}

/// What a test run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The program's return value.
    pub code: u32,
    /// The packet as the program left it.
    pub data: Vec<u8>,
}

/// `struct xdp_md` for a test run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Offset of `ifindex` in `struct __sk_buff`, and the structure's length.
const SK_BUFF_IFINDEX_AT: usize = 40;
const SK_BUFF_LEN: usize = 192;

impl Program {
    /// A program that something else has loaded.
    ///
    /// # Panics
    /// Where the process has no descriptor left.
    pub fn of(fd: impl AsFd) -> Self {
        Self { fd: fd.as_fd().try_clone_to_owned().expect("another descriptor") }
    }

    /// Loads a program of raw instructions (8 bytes each, little-endian).
    ///
    /// # Errors
    /// The kernel's; where the verifier refuses, with the end of what it said.
    pub fn load(kind: Kind, instructions: &[u64]) -> Result<Self> {
        let license = c"GPL";
        let mut log = vec![0u8; 1 << 16];
        let (prog_type, prog_flags, attach_type) = kind.numbers();
        let mut attr = LoadAttr {
            prog_type,
            prog_flags,
            attach_type,
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log_buf: log.as_mut_ptr() as u64,
            ..LoadAttr::default()
        };
        bpf(PROG_LOAD, &mut attr).map(own).map_err(|error| {
            let said = String::from_utf8_lossy(&log);
            let said = said.trim_end_matches('\0').trim_end();
            let end: Vec<&str> = said.lines().rev().take(6).collect();
            Error::new(error.kind(), format!("{error}: {}", end.join(" < ")))
        })
    }

    /// The XDP program that returns `code` and does nothing else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn returning(code: u32) -> Result<Self> {
        Self::load(Kind::XDP, &Asm::returning(code))
    }

    /// Pins the program at `path`, below a bpffs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pin(&self, path: &Path) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(Error::other)?;
        let fd = self.fd.as_raw_fd() as u32;
        let mut attr = ObjAttr { pathname: path.as_ptr() as u64, fd, ..ObjAttr::default() };
        bpf(OBJ_PIN, &mut attr).map(drop)
    }

    /// A pinned program.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pinned(path: &Path) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(Error::other)?;
        bpf(OBJ_GET, &mut ObjAttr { pathname: path.as_ptr() as u64, ..ObjAttr::default() }).map(own)
    }

    /// A program by its id.
    ///
    /// # Errors
    /// The kernel's.
    pub fn by_id(id: u32) -> Result<Self> {
        bpf(PROG_GET_FD_BY_ID, &mut IdAttr { id, ..IdAttr::default() }).map(own)
    }

    /// How many instructions the verifier walked (0 on kernels that don't tell).
    ///
    /// # Errors
    /// The kernel's.
    pub fn verified_instructions(&self) -> Result<u32> {
        let mut info = [0u8; INFO_LEN];
        let mut attr = InfoAttr {
            fd: self.fd.as_raw_fd() as u32,
            len: INFO_LEN as u32,
            info: info.as_mut_ptr() as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
        let at = VERIFIED_INSNS_AT;
        Ok(u32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes")))
    }

    fn run(&self, frame: &[u8], context: &mut [u8], repeat: u32) -> Result<Run> {
        // An answer may be longer than what it answers.
        let mut out = vec![0u8; frame.len() + 4096];
        let mut attr = TestRunAttr {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_size_out: out.len() as u32,
            data_out: out.as_mut_ptr() as u64,
            repeat,
            ..TestRunAttr::default()
        };
        if !context.is_empty() {
            attr.ctx_in = context.as_ptr() as u64;
            attr.ctx_size_in = context.len() as u32;
        }
        bpf(PROG_TEST_RUN, &mut attr)?;
        out.truncate(attr.data_size_out as usize);
        Ok(Run { code: attr.retval, data: out })
    }

    /// Runs an XDP program once on `frame`, as if it had come in at interface `ifindex` of the
    /// calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's; it takes no frame below 14 bytes.
    pub fn run_xdp(&self, frame: &[u8], ifindex: u32) -> Result<Run> {
        let context =
            XdpMd { data_end: frame.len() as u32, ingress_ifindex: ifindex, ..XdpMd::default() };
        // SAFETY: a plain structure of 24 bytes without padding, read as bytes.
        let mut bytes: [u8; 24] = unsafe { std::mem::transmute(context) };
        self.run(frame, &mut bytes, 1)
    }

    /// Runs a TC program once on `frame` at interface `ifindex` of the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's; it takes no frame below 15 bytes.
    pub fn run_tc(&self, frame: &[u8], ifindex: u32) -> Result<Run> {
        let mut context = [0u8; SK_BUFF_LEN];
        context[SK_BUFF_IFINDEX_AT..SK_BUFF_IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
        self.run(frame, &mut context, 1)
    }

    /// Runs an XDP program `repeat` times on one frame: nanoseconds of this thread's CPU time a run,
    /// and the last return value. The kernel's own figure is whole nanoseconds only.
    ///
    /// # Errors
    /// The kernel's.
    pub fn time_xdp(&self, frame: &[u8], ifindex: u32, repeat: u32) -> Result<(f64, u32)> {
        let context =
            XdpMd { data_end: frame.len() as u32, ingress_ifindex: ifindex, ..XdpMd::default() };
        // SAFETY: as in `run_xdp`.
        let mut bytes: [u8; 24] = unsafe { std::mem::transmute(context) };
        let before = thread_cpu_time();
        let run = self.run(frame, &mut bytes, repeat)?;
        let spent = thread_cpu_time() - before;
        Ok((spent.as_nanos() as f64 / f64::from(repeat), run.code))
    }

    /// Runs a TC program `repeat` times on one frame, as [`Program::time_xdp`]. The return value is the
    /// program's as a signed number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn time_tc(&self, frame: &[u8], ifindex: u32, repeat: u32) -> Result<(f64, i32)> {
        let mut context = [0u8; SK_BUFF_LEN];
        context[SK_BUFF_IFINDEX_AT..SK_BUFF_IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
        let before = thread_cpu_time();
        let run = self.run(frame, &mut context, repeat)?;
        let spent = thread_cpu_time() - before;
        Ok((spent.as_nanos() as f64 / f64::from(repeat), run.code.cast_signed()))
    }

    /// Sends `repeat` copies of a frame through the program in live mode: what it passes goes up the
    /// stack of the interface. Nanoseconds of this thread's CPU time a frame.
    ///
    /// # Errors
    /// The kernel's.
    pub fn time_live(&self, frame: &[u8], ifindex: u32, repeat: u32) -> Result<f64> {
        let context =
            XdpMd { data_end: frame.len() as u32, ingress_ifindex: ifindex, ..XdpMd::default() };
        // SAFETY: as in `run_xdp`.
        let bytes: [u8; 24] = unsafe { std::mem::transmute(context) };
        let mut attr = TestRunAttr {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            ctx_in: bytes.as_ptr() as u64,
            ctx_size_in: 24,
            repeat,
            flags: LIVE_FRAMES,
            batch_size: 64,
            ..TestRunAttr::default()
        };
        let before = thread_cpu_time();
        bpf(PROG_TEST_RUN, &mut attr)?;
        Ok((thread_cpu_time() - before).as_nanos() as f64 / f64::from(repeat))
    }
}

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Pins the calling thread to CPU `cpu`.
pub fn pin_to_cpu(cpu: usize) {
    pin_task_to_cpu(0, cpu);
}

/// Pins a thread to CPU `cpu`; 0: the calling one.
pub fn pin_task_to_cpu(tid: libc::pid_t, cpu: usize) {
    // SAFETY: an all-zero cpu_set_t is an empty set; CPU_SET checks its range; the set outlives the
    // call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(tid, std::mem::size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_program_runs() {
        if let Some(reason) = crate::skip::no_kernel_access() {
            return crate::skip::skip("bpf::an_empty_program_runs", reason);
        }
        let program = Program::returning(2).unwrap();
        let frame = crate::packet::Packet::new().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2).build();
        assert_eq!(program.run_xdp(&frame, 1).unwrap(), Run { code: 2, data: frame.clone() });
        assert_eq!(program.verified_instructions().unwrap(), 2);
        assert_eq!(program.time_xdp(&frame, 1, 1000).unwrap().1, 2);
    }
}
