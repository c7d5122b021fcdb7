//! What is kept of each socket: its owner, its times, what went through it.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_sk_storage_get};
use core::{ffi::c_void, mem::offset_of, ptr};
use firewall_common::abi::socket::{Process, SIZES, Sizes, SocketClass, Usage, size_class};

use crate::{
    current,
    events::{self, Change},
    exits,
    maps::USAGE,
    opaque::opaque,
    process,
    sock::{Sock, TCP},
};

/// Bytes of `Usage` that say something of every socket.
pub const KEPT: usize = offset_of!(Usage, used_ns);

/// BPF_SK_STORAGE_GET_F_CREATE.
const CREATE: u64 = 1;

/// What is kept of a socket; null where nothing is (or there is no memory).
///
/// # Safety
/// `sk` must be a socket, or the context of a program that has one.
#[inline(always)]
pub unsafe fn get(sk: *mut c_void, flags: u64) -> *mut Usage {
    // SAFETY: the caller's promise; the map lives as long as the program.
    unsafe { bpf_sk_storage_get(USAGE.as_ptr(), sk, ptr::null_mut(), flags).cast() }
}

/// A socket's cookie; it gets one if it has none.
///
/// # Safety
/// As [`get`].
#[inline(always)]
pub unsafe fn cookie(sk: *mut c_void) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { bpf_get_socket_cookie(sk) }
}

/// Copies a process.
#[inline(always)]
unsafe fn copy(from: *const Process, to: *mut Process) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let mut i = 0;
    while i < size_of::<Process>() / 8 {
        // SAFETY: within both.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        i += 1;
    }
}

/// A new socket, in the context of who makes it.
#[inline(always)]
pub fn create(sk: *mut c_void) {
    // SAFETY: the program's context.
    unsafe {
        let usage = get(sk, CREATE);
        if usage.is_null() {
            return;
        }
        (*usage).cookie = cookie(sk);
        (*usage).created_ns = bpf_ktime_get_ns();
        process::read(current(), &raw mut (*usage).owner);
        exits::watch(&raw const (*usage).owner);
    }
}

/// Zeroes what calls have left, by words: LLVM would call a `memset` that goes byte by byte.
#[inline(always)]
fn clear(usage: &mut Usage) {
    let words = (&raw mut *usage).cast::<u64>();
    let mut i = KEPT / 8;
    while i < size_of::<Usage>() / 8 {
        // SAFETY: within the value, which stands at a multiple of eight.
        unsafe { words.add(i).write_volatile(0) };
        i += 1;
    }
}

/// Notes something of a TCP socket. `ours`: the program runs for the socket's caller, who owns it if nobody
/// does. What is kept of it; null where nothing can be.
#[inline(always)]
pub fn stamp(sk: Sock, ours: bool, now: u64, note: impl FnOnce(&mut Usage)) -> *const Usage {
    let sk = sk.0.cast_mut();
    // SAFETY: a socket.
    unsafe {
        let usage = get(sk, CREATE);
        if usage.is_null() {
            return ptr::null();
        }
        let own = cookie(sk);
        let kept = &mut *usage;
        if kept.cookie != own {
            // Its listener's, or nothing yet: the owner stays, all else begins.
            kept.cookie = own;
            kept.created_ns = now;
            kept.asked_ns = 0;
            kept.established_ns = 0;
            // A listener moves no data.
            if moved_any(kept) {
                clear(kept);
            }
        }
        if ours && kept.owner.tgid == 0 {
            process::read(current(), &raw mut kept.owner);
            exits::watch(&raw const kept.owner);
        }
        note(kept);
        usage
    }
}

/// Whether a call has moved data on the socket: else all after [`KEPT`] bytes is zero.
#[inline(always)]
pub fn moved_any(usage: &Usage) -> bool {
    usage.used_ns != 0
}

/// Makes `holder` the owner of a socket that has none.
///
/// # Safety
/// `holder` must be valid for reads.
#[inline(always)]
pub unsafe fn seed(sk: Sock, holder: *const Process) {
    // SAFETY: a socket; the caller's promise.
    unsafe {
        let usage = get(sk.0.cast_mut(), CREATE);
        if !usage.is_null() && (*usage).owner.tgid == 0 {
            (*usage).cookie = cookie(sk.0.cast_mut());
            copy(holder, &raw mut (*usage).owner);
        }
    }
}

/// Whoever runs uses the socket.
#[inline(always)]
unsafe fn used(usage: &mut Usage) {
    // SAFETY: the task lives while its program runs.
    unsafe {
        usage.used_ns = bpf_ktime_get_ns();
        let task = current();
        let tgid = process::number(task);
        if tgid != usage.owner.tgid && tgid != usage.user.tgid {
            process::read(task, &raw mut usage.user);
        }
    }
}

/// Counts a call by its size.
#[inline(always)]
fn count(sizes: &mut Sizes, length: u32) {
    if sizes.least == 0 || length < sizes.least {
        sizes.least = length;
    }
    if length > sizes.most {
        sizes.most = length;
    }
    // Opaque, or the compiler drops a bound that the verifier needs.
    let class = opaque(size_class(length)) & (SIZES - 1);
    // SAFETY: the masked class is below the length.
    unsafe { *(&raw mut sizes.calls).cast::<u32>().add(class) += 1 };
}

/// A call moved `length` bytes (0 or less: none), to the other end or from it.
#[inline(always)]
pub fn moved(sk: Sock, length: i32, sent: bool) {
    if length <= 0 || !sk.is_shown() {
        return;
    }
    // SAFETY: a socket.
    unsafe {
        let usage = get(sk.0.cast_mut(), CREATE);
        if usage.is_null() {
            return;
        }
        let usage = &mut *usage;
        if sent {
            usage.sent_bytes += length as u64;
            usage.sends += 1;
            count(&mut usage.sent, length as u32);
        } else {
            usage.received_bytes += length as u64;
            usage.receives += 1;
            count(&mut usage.received, length as u32);
        }
        used(usage);
        first_use(sk, usage);
    }
}

/// Sockets without connections are told of when they are used for the first time.
#[inline(always)]
fn first_use(sk: Sock, usage: &mut Usage) {
    if sk.protocol() != TCP && usage.established_ns == 0 {
        usage.established_ns = usage.used_ns;
        let now = usage.used_ns;
        let change = Change { class: SocketClass::Established, before: 0, after: 0, now };
        events::tell_whole(change, sk, usage, false);
    }
}

/// Copies the first `bytes` of what is kept of a socket, by words; zeros where nothing is. The cookie may be another's.
///
/// # Safety
/// `from` what is kept of it, or null; `to` must be valid for writes of so many bytes.
#[inline(always)]
pub unsafe fn copy_to(from: *const Usage, to: *mut Usage, bytes: usize) {
    // SAFETY: the caller's promise; each word is within both.
    unsafe {
        let (from, words) = (from.cast::<u64>(), to.cast::<u64>());
        let mut i = 0;
        while i < bytes / 8 {
            let word = if from.is_null() { 0 } else { from.add(i).read_volatile() };
            words.add(i).write_volatile(word);
            i += 1;
        }
    }
}
