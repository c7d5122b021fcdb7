//! Where a socket belongs.

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_probe_read_kernel};
use core::{ffi::c_void, mem::MaybeUninit};
use firewall_common::abi::observed::NetLayout;

/// Words of a socket that are read: its namespace is among the first.
const WORDS: usize = 16;

/// Set by user space.
#[unsafe(no_mangle)]
static NET: NetLayout = NetLayout { net: 0, inode: 0 };

/// The network namespace of a socket: the inode; 0 where it can't be read.
///
/// # Safety
/// A socket that the verifier knows as one.
#[inline(always)]
pub unsafe fn netns(sk: *const bpf_sock) -> u32 {
    // SAFETY: statics of this type, which the compiler must not know; the kernel's memory is read by a helper that
    // fails where there is none. The verifier lets nobody add to a socket's address: it is read from its beginning on.
    unsafe {
        let at = (&raw const NET.net).read_volatile() as usize / 8;
        let inode = (&raw const NET.inode).read_volatile();
        let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
        let size = size_of::<[u64; WORDS]>() as u32;
        if at >= WORDS
            || bpf_probe_read_kernel(words.as_mut_ptr().cast(), size, sk.cast::<c_void>()) != 0
        {
            return 0;
        }
        let net = words.as_ptr().cast::<u64>().add(at).read_volatile();
        let mut number = 0u32;
        let from = net.wrapping_add(u64::from(inode)) as *const c_void;
        if bpf_probe_read_kernel((&raw mut number).cast(), 4, from) != 0 {
            return 0;
        }
        number
    }
}
