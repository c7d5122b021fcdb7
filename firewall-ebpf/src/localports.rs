//! Public ports and the machine's own sockets: what is lent to somebody inside must not be what a program
//! here already talks or listens by. The flow table knows the connections that Sluice has seen; the kernel
//! knows the rest, and is asked once for each new mapping.

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
};
use firewall_common::{
    abi::{
        nat::ALIAS_ORIG_IS_A,
        reason::Reason,
        table::{SLOT_NONE, Verdict},
    },
    wire::transport,
};

use crate::{
    conntrack::sluice_end,
    endpoints,
    maps::{ALIASES, WORK},
    nat::{self, ends},
    packet::Packet,
    ports, snat,
    table::{self, Aliases},
    work::Work,
};

/// BPF_F_CURRENT_NETNS.
const THIS_NETNS: u64 = u64::MAX;

/// A packet's tuple, as `struct bpf_sock_tuple` has it for IPv4.
#[repr(C)]
struct Tuple {
    src: [u8; 4],
    dst: [u8; 4],
    sport: [u8; 2],
    dport: [u8; 2],
}

/// Whether what comes back to `work.mapping` would have been a local socket's. `ctx` is the program's.
#[inline(always)]
pub fn is_taken(ctx: *mut c_void, work: &Work) -> bool {
    let m = &work.mapping;
    let Some(alias) = ALIASES.get_ptr(m.alias) else { return false };
    // SAFETY: a live map value, this flow's own.
    let alias = unsafe { &*alias };
    let ((address, port), (far, far_port)) = ends(&alias.key, alias.flags & ALIAS_ORIG_IS_A != 0);
    let mut tuple = Tuple { src: far, dst: address, sport: far_port, dport: port };
    let at = (&raw mut tuple).cast();
    // SAFETY: the helpers read the tuple, whose length they are told, and give a socket that is given back.
    unsafe {
        let socket = match m.proto {
            transport::TCP => bpf_skc_lookup_tcp(ctx, at, 12, THIS_NETNS, 0),
            transport::UDP => bpf_sk_lookup_udp(ctx, at, 12, THIS_NETNS, 0),
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
    }
    true
}

/// Whether the packet's flow has just got a public port, which is still to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lent {
    /// No.
    No = 0,
    /// Yes: another may be chosen.
    Yes = 1,
    /// Yes, and its endpoint keeps it.
    ToEndpoint = 2,
}

/// Ports that are looked at for one packet.
const TURNS: u32 = 4;

/// Lets the mapping stand whose port nobody here uses; `false`: it found none, and its flow is gone again.
#[inline(always)]
pub fn settle<P: Packet>(pkt: &P, work: &mut Work) -> bool {
    let mut turns = 0;
    while pkt.is_lent_from_here(work) {
        turns += 1;
        if turns > TURNS || sluice_another_port() != 0 {
            sluice_leave_port();
            return false;
        }
    }
    nat::sluice_settle(1);
    true
}

/// Chooses another port for `work.mapping`; the one it has counts as used until the next count. A global
/// function, as the other: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_another_port() -> u64 {
    let Some(work) = WORK.get_ptr(0) else { return 1 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &*work };
    if work.lent == Lent::ToEndpoint {
        return 1;
    }
    table::remove::<Aliases>(work.mapping.alias, work.now as u32);
    ports::sluice_take_port(0)
}

/// Takes the flow of `work.mapping` out again, and counts that it got no port.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_leave_port() -> u32 {
    let Some(work) = WORK.get_ptr(0) else { return 0 };
    // SAFETY: as above.
    let work = unsafe { &*work };
    table::remove::<Aliases>(work.mapping.alias, work.now as u32);
    if work.lent == Lent::ToEndpoint {
        endpoints::forget(work);
    }
    let why =
        Verdict::Drop as u64 | (Reason::NatLocalPort as u64) << 8 | u64::from(SLOT_NONE) << 16;
    sluice_end(work.mapping.flow, 0, why);
    snat::count_failure(work);
    0
}
