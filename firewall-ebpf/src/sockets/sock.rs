//! Reading `struct sock` where this kernel has its members.
//!
//! The offsets are constants to the verifier (read-only data, frozen before it looks), so that each read is
//! checked against the kernel's own types, and none needs a helper.

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use core::ffi::c_void;
use firewall_common::abi::socket::{Layout, SocketRow};

/// IPPROTO_TCP.
pub const TCP: u16 = 6;
/// AF_INET, AF_INET6, AF_PACKET, AF_XDP.
const INET: u16 = 2;
const INET6: u16 = 10;
const PACKET: u16 = 17;
const XDP: u16 = 44;

/// Set by user space.
#[unsafe(no_mangle)]
static LAYOUT: Layout = zeroed();

const fn zeroed() -> Layout {
    // SAFETY: integers only.
    unsafe { core::mem::zeroed() }
}

/// A member's offset, as the loader set it: the compiler must not know it.
macro_rules! offsets {
    ($($name:ident)*) => {
        /// Offsets, each read when it is asked for.
        #[derive(Clone, Copy)]
        pub struct Offsets;
        impl Offsets {
            $(
                #[allow(missing_docs, reason = "as the member of `Layout`")]
                #[inline(always)]
                pub fn $name(self) -> u32 {
                    // SAFETY: a static of this type.
                    unsafe { (&raw const LAYOUT.$name).read_volatile() }
                }
            )*
        }
    };
}

offsets! {
    family state local4 remote4 local6 remote6 local_port remote_port net bound_to kind protocol uid error
    net_inode socket_sock group_leader start_boottime tgid comm cred cred_uid cgroups default_cgroup
    cgroup_node node_id mm exe_file file_inode inode_number inode_super super_device bytes_acked bytes_received segs_out segs_in srtt cwnd retransmits source_port
    buffer_sock buffer_protocol drop_receiver signal signal_live
}

/// The offsets.
#[inline(always)]
pub fn layout() -> Offsets {
    Offsets
}

/// The value at an offset of a structure of the kernel's.
///
/// # Safety
/// `base` must be a pointer that the verifier knows the type of; it checks the rest.
#[inline(always)]
pub unsafe fn at<T: Copy>(base: *const c_void, offset: u32) -> T {
    // SAFETY: the caller's promise.
    unsafe { base.byte_add(offset as usize).cast::<T>().read_volatile() }
}

/// A socket of the kernel's.
#[derive(Clone, Copy)]
pub struct Sock(pub *const c_void);

impl Sock {
    /// IPPROTO_*.
    #[inline(always)]
    pub fn protocol(self) -> u16 {
        // SAFETY: a socket.
        unsafe { at(self.0, layout().protocol()) }
    }

    #[inline(always)]
    fn family(self) -> u16 {
        // SAFETY: a socket.
        unsafe { at(self.0, layout().family()) }
    }

    /// Whether it is of a family that carries or sees packets.
    #[inline(always)]
    pub fn is_shown(self) -> bool {
        matches!(self.family(), INET | INET6 | PACKET | XDP)
    }

    /// Fills a row, but for what is kept of the socket.
    ///
    /// # Safety
    /// `row` must be valid for writes.
    #[inline(always)]
    pub unsafe fn read(self, row: *mut SocketRow) {
        let (sk, of) = (self.0, layout());
        let family = self.family();
        // SAFETY: the caller's promise; a socket, whose members the verifier checks.
        unsafe {
            (*row).family = family;
            (*row).protocol = self.protocol();
            (*row).kind = at(sk, of.kind());
            (*row).state = at(sk, of.state());
            (*row)._pad = 0;
            (*row).error = at(sk, of.error());
            (*row).drops = 0;
            (*row).drop_reason = 0;
            (*row).uid = at(sk, of.uid());
            (*row).bound_to = at(sk, of.bound_to());
            let net: *const c_void = at(sk, of.net());
            (*row).netns = if net.is_null() { 0 } else { at(net, of.net_inode()) };
            let (local, remote) =
                ((&raw mut (*row).local).cast::<u32>(), (&raw mut (*row).remote).cast::<u32>());
            let mut i = 0;
            while i < 4 {
                local.add(i).write_volatile(0);
                remote.add(i).write_volatile(0);
                i += 1;
            }
            (*row).local_port = 0;
            (*row).remote_port = 0;
            if family == INET {
                local.write_volatile(at(sk, of.local4()));
                remote.write_volatile(at(sk, of.remote4()));
            } else if family == INET6 {
                let mut i = 0;
                while i < 4 {
                    local.add(i).write_volatile(at(sk, of.local6() + i as u32 * 4));
                    remote.add(i).write_volatile(at(sk, of.remote6() + i as u32 * 4));
                    i += 1;
                }
            }
            if family == INET || family == INET6 {
                (*row).local_port = at(sk, of.local_port());
                (*row).remote_port = u16::from_be(at(sk, of.remote_port()));
            }
            self.read_tcp(row);
        }
    }

    #[inline(always)]
    unsafe fn read_tcp(self, row: *mut SocketRow) {
        let of = layout();
        // SAFETY: the caller's promise; the helper answers null where it is another kind of socket.
        unsafe {
            let tcp: *const c_void = if self.protocol() == TCP {
                bpf_skc_to_tcp_sock(self.0.cast_mut()).cast_const().cast()
            } else {
                core::ptr::null()
            };
            if tcp.is_null() {
                (*row).bytes_acked = 0;
                (*row).bytes_received = 0;
                (*row).segs_out = 0;
                (*row).segs_in = 0;
                (*row).srtt_us = 0;
                (*row).cwnd = 0;
                (*row).retransmits = 0;
                return;
            }
            (*row).bytes_acked = at(tcp, of.bytes_acked());
            (*row).bytes_received = at(tcp, of.bytes_received());
            (*row).segs_out = at(tcp, of.segs_out());
            (*row).segs_in = at(tcp, of.segs_in());
            (*row).srtt_us = at::<u32>(tcp, of.srtt()) >> 3;
            (*row).cwnd = at(tcp, of.cwnd());
            (*row).retransmits = at(tcp, of.retransmits());
            if (*row).local_port == 0 {
                (*row).local_port = u16::from_be(at(tcp, of.source_port()));
            }
        }
    }
}
