//! Rules by owner in the kernel: judged where processes of the daemon's network namespace call for the network, and
//! where packets ask their sockets. Nothing is judged but by these rules; whatever they let by meets the filter.
//!
//! `connect` and `sendmsg` run for the caller: the caller is `current`. What comes in is judged by who made the
//! socket that listens. Connections that are there are left alone.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the BPF target's atomics are only there as intrinsics")]

#[path = "../atomic.rs"]
#[allow(dead_code, reason = "the filter's programs need more of them")]
mod atomic;
#[path = "../budget.rs"]
#[allow(dead_code, reason = "the filter's programs need more of it")]
mod budget;
#[path = "../buffer.rs"]
mod buffer;
mod call;
mod judge;
mod lookup;
mod maps;
#[path = "../object.rs"]
mod object;
mod place;
#[path = "../sockets/process.rs"]
#[allow(dead_code, reason = "the socket monitor needs more of it")]
mod process;
#[path = "../sockets/sock.rs"]
#[allow(dead_code, reason = "the socket monitor needs more of it")]
mod sock;
mod talk;
mod tell;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock_addr},
    helpers::generated::{
        bpf_get_current_task_btf, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval,
        bpf_sk_storage_get, bpf_sock_from_file,
    },
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use core::{ffi::c_void, mem::MaybeUninit, ptr};
use firewall_common::abi::{
    owner::{OWNER_INCOMING, OWNER_PLACES, Owned, OwnerTable, PlaceRows},
    socket::Process,
    table::Verdict,
};

use buffer::{socket_of, word};
use call::{Call, TCP, UDP};
use judge::judge;
use maps::{CONTROL, OWNED, OWNER_COUNTERS, OWNER_TABLES};
use sock::at;

/// The hook's caller goes on.
const ALLOW: i32 = 1;
/// It gets EPERM, or what was set; a packet is dropped.
const REFUSE: i32 = 0;
/// ECONNREFUSED.
const REFUSED: i32 = 111;
/// BPF_SK_STORAGE_GET_F_CREATE.
const CREATE: u64 = 1;
/// TCP_LISTEN (include/net/tcp_states.h).
const LISTEN: u32 = 10;

/// Cookie of the network namespace that the rules are for. Set by user space.
#[unsafe(no_mangle)]
static NETNS: u64 = 0;

#[inline(always)]
fn is_ours(netns: u64) -> bool {
    // SAFETY: a static of this type; the compiler must not know the value.
    netns == unsafe { (&raw const NETNS).read_volatile() }
}

/// The live policy: its generation and table, if it has any rule by owner.
#[inline(always)]
fn live() -> Option<(u32, &'static OwnerTable)> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: a live map value; one aligned word, read once.
    let generation = unsafe { (&raw const (*control).generation).read_volatile() };
    let table = OWNER_TABLES.get_ptr(generation & 1)?;
    // SAFETY: a live map value; it isn't written while its generation is live.
    let table = unsafe { &*table };
    (generation != 0 && table.rules.settings.words != 0).then_some((generation, table))
}

/// The process that runs.
#[inline(always)]
fn current() -> *const c_void {
    // SAFETY: takes nothing; the task lives while its program runs.
    unsafe { bpf_get_current_task_btf() as *const c_void }
}

#[inline(always)]
fn unlisted(table: &OwnerTable) -> u32 {
    u32::from(table.unlisted[3]) | u32::from(table.unlisted[4]) << 16
}

/// A socket is made: by whom. Its cgroup is worked out here, where it can be.
#[cgroup_sock(sock_create)]
pub fn sluice_own_create(ctx: SockContext) -> i32 {
    let sk = ctx.as_ptr();
    // SAFETY: the program's context.
    unsafe {
        let owned: *mut Owned =
            bpf_sk_storage_get(OWNED.as_ptr(), sk, ptr::null_mut(), CREATE).cast();
        if owned.is_null() {
            return ALLOW;
        }
        let task = current();
        process::read(task, &raw mut (*owned).owner);
        (*owned).netns = bpf_get_netns_cookie(sk);
        if let Some((generation, table)) = live()
            && table.flags & OWNER_PLACES != 0
        {
            place::of_task(task, (*owned).owner.cgroup, table, generation & 1);
        }
    }
    ALLOW
}

/// `connect` and `sendmsg` to an address of `family`.
#[inline(always)]
fn outgoing(ctx: &SockAddrContext, family: u8) -> i32 {
    let Some((generation, table)) = live() else { return ALLOW };
    let raw: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the program's context.
    unsafe {
        if !is_ours(bpf_get_netns_cookie(raw.cast())) {
            return ALLOW;
        }
        let (mut call, mut talk) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let call = Call::asked(&mut call, raw, family);
        let socket = bpf_get_socket_cookie(raw.cast());
        let both_ways = table.flags & OWNER_INCOMING != 0 && call.proto != u32::from(TCP);
        let talk = talk::key(&mut talk, call, socket);
        if both_ways && talk::is_known(talk) {
            return ALLOW;
        }
        let mut who = MaybeUninit::<Process>::uninit();
        let task = current();
        process::read(task, who.as_mut_ptr());
        let who = who.assume_init_ref();
        let place = if table.flags & OWNER_PLACES != 0 {
            place::of_task(task, who.cgroup, table, generation & 1)
        } else {
            unlisted(table)
        };
        let place = u64::from(place) | u64::from(generation) << 32;
        let said = judge(table, call, who, place, socket);
        if said == Verdict::Drop as u64 {
            return REFUSE;
        }
        if said == Verdict::Reject as u64 {
            bpf_set_retval(-REFUSED);
            return REFUSE;
        }
        if both_ways {
            talk::begin(talk);
        }
    }
    ALLOW
}

/// `connect` to an IPv4 address.
#[cgroup_sock_addr(connect4)]
pub fn sluice_own_connect4(ctx: SockAddrContext) -> i32 {
    outgoing(&ctx, 4)
}

/// `connect` to an IPv6 address.
#[cgroup_sock_addr(connect6)]
pub fn sluice_own_connect6(ctx: SockAddrContext) -> i32 {
    outgoing(&ctx, 6)
}

/// UDP: `sendto` and `sendmsg` with an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub fn sluice_own_sendmsg4(ctx: SockAddrContext) -> i32 {
    outgoing(&ctx, 4)
}

/// UDP: `sendto` and `sendmsg` with an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub fn sluice_own_sendmsg6(ctx: SockAddrContext) -> i32 {
    outgoing(&ctx, 6)
}

/// A packet of a socket's whose maker is known: what the rules for makers say.
#[inline(always)]
unsafe fn packet(skb: *mut __sk_buff, owned: *const Owned, incoming: bool) -> i32 {
    let Some((generation, table)) = live() else { return ALLOW };
    // SAFETY: the program's context, and the storage of its socket.
    unsafe {
        if !is_ours((*owned).netns) {
            return ALLOW;
        }
        let (mut call, mut talk) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let Some(call) = Call::packet(&mut call, skb, incoming) else { return ALLOW };
        let socket = bpf_get_socket_cookie(skb.cast());
        let datagram = call.proto != u32::from(TCP);
        let talk = talk::key(&mut talk, call, socket);
        if datagram && talk::is_known(talk) {
            return ALLOW;
        }
        let who = &(*owned).owner;
        let place = if table.flags & OWNER_PLACES != 0 {
            match place::known(who.cgroup, generation & 1) {
                Some(PlaceRows { unit, cgroup }) => u32::from(unit) | u32::from(cgroup) << 16,
                None => {
                    if let Some(counter) = OWNER_COUNTERS.get_ptr_mut(0) {
                        atomic::add(&raw mut (*counter).places_missed, 1);
                    }
                    unlisted(table)
                }
            }
        } else {
            unlisted(table)
        };
        let place = u64::from(place) | u64::from(generation) << 32;
        let said = judge(table, call, who, place, socket);
        if said == Verdict::Drop as u64 || said == Verdict::Reject as u64 {
            return REFUSE;
        }
        if datagram {
            talk::begin(talk);
        }
    }
    ALLOW
}

/// Who made a packet's socket; null where nobody knows.
#[inline(always)]
unsafe fn maker(sk: *mut c_void) -> *const Owned {
    // SAFETY: the caller's socket.
    let owned = unsafe { bpf_sk_storage_get(OWNED.as_ptr(), sk, ptr::null_mut(), 0) };
    if owned.is_null()
        && let Some(counter) = OWNER_COUNTERS.get_ptr_mut(0)
    {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).unknown, 1) };
    }
    owned.cast_const().cast()
}

/// A packet is about to be given to a socket: a SYN to who listens, a datagram that nobody asked for.
#[cgroup_skb]
pub fn sluice_own_ingress(ctx: SkBuffContext) -> i32 {
    let Some((_, table)) = live() else { return ALLOW };
    if table.flags & OWNER_INCOMING == 0 {
        return ALLOW;
    }
    let skb = ctx.skb.skb;
    // SAFETY: the program's context; sockets are checked as the verifier wants.
    unsafe {
        let sk = socket_of(skb);
        if sk.is_null() {
            return ALLOW;
        }
        let protocol = word(&raw const (*sk).protocol);
        if protocol == u32::from(TCP) {
            if word(&raw const (*sk).state) != LISTEN {
                return ALLOW;
            }
        } else if call::is_connected(sk) {
            return ALLOW;
        }
        let owned = maker(sk.cast());
        if owned.is_null() { ALLOW } else { packet(skb, owned, true) }
    }
}

/// A packet leaves a socket that is neither TCP's nor UDP's: those were judged as they were called.
#[cgroup_skb]
pub fn sluice_own_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: as above.
    unsafe {
        let sk = socket_of(skb);
        if sk.is_null() {
            return ALLOW;
        }
        let protocol = word(&raw const (*sk).protocol);
        if protocol == u32::from(TCP) || protocol == u32::from(UDP) {
            return ALLOW;
        }
        let owned = maker(sk.cast());
        if owned.is_null() { ALLOW } else { packet(skb, owned, false) }
    }
}

/// Each descriptor of each process: who holds a socket that was there before the rules is taken for its maker.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn sluice_own_held(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of this kind of iterator; the kernel's pointers are read as the verifier allows.
    unsafe {
        let ctx = &*ctx.cast::<process::TaskFile>();
        let (task, file) = (ctx.task, ctx.file);
        if task.is_null() || file.is_null() || process::leader(task) != task {
            return 0;
        }
        let socket = bpf_sock_from_file(file.cast_mut().cast());
        if socket.is_null() {
            return 0;
        }
        let sk = sock::Sock(at(socket.cast_const().cast(), sock::layout().socket_sock()));
        if sk.0.is_null() || !sk.is_shown() {
            return 0;
        }
        let owned: *mut Owned =
            bpf_sk_storage_get(OWNED.as_ptr(), sk.0.cast_mut(), ptr::null_mut(), CREATE).cast();
        if owned.is_null() || (*owned).owner.tgid != 0 {
            return 0;
        }
        process::read(task, &raw mut (*owned).owner);
        let net: *const c_void = at(sk.0, sock::layout().net());
        if !net.is_null() {
            (*owned).netns = at(net, place::net_cookie());
        }
    }
    0
}
