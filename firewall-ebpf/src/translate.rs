//! Rewriting a packet's address and port, with every checksum that covers them.
//!
//! At TC the kernel's helpers do it: they know whether a checksum is whole or partial (a packet that a
//! local socket sent, or that came over a veth, carries only the pseudo header's sum until a device adds
//! the rest). A partial sum can't be told from a whole one in XDP, so there only frames off a wire are
//! rewritten.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{
        bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes,
        bpf_xdp_store_bytes,
    },
};
use firewall_common::{
    abi::table::Direction,
    wire::{Fragment, facts::IcmpKind, icmp, ipv4, transport},
};

use crate::{
    mapping::{Rewrite, Side},
    work::Work,
};

/// BPF_F_PSEUDO_HDR: the change is to the pseudo header (RFC 9293 section 3.1).
const PSEUDO: u64 = 1 << 4;
/// BPF_F_MARK_MANGLED_0: a UDP checksum of zero means none, and stays zero (RFC 768).
const KEEP_ZERO: u64 = 1 << 5;
/// Offset of the checksum in the IPv4 header.
const IP_CHECKSUM: u32 = 10;
/// Offset of the checksum in the ICMP header.
const ICMP_CHECKSUM: u32 = 2;

/// Where a transport header has its checksum, and whether zero means none.
#[inline(always)]
fn checksum_of(proto: u8) -> Option<(u32, u64)> {
    match proto {
        transport::TCP => Some((16, 0)),
        transport::UDP | transport::UDPLITE => Some((6, KEEP_ZERO)),
        _ => None,
    }
}

/// What is replaced by what, where, in a header.
#[derive(Clone, Copy)]
struct Change {
    /// Offset of the address.
    address_at: u32,
    /// Offset of the port, 0: none.
    port_at: u32,
    /// Old and new address, as numbers in memory order.
    address: [u32; 2],
    /// Old and new port.
    port: [u16; 2],
}

/// Rewrites a socket buffer; `false`: it couldn't be, and must not go on.
#[inline(never)]
pub fn skb(skb: *mut __sk_buff, work: &Work) -> bool {
    let f = &work.facts;
    if f.family == 6 {
        return prefixes(skb, work);
    }
    let to = work.rewrite;
    let source = to.side == Side::Source;
    let (l3, l4) = (u32::from(f.l3), u32::from(f.l4));
    let old = if source { &f.src } else { &f.dst };
    let mut change = Change {
        address_at: l3 + if source { 12 } else { 16 },
        port_at: 0,
        address: [
            u32::from_ne_bytes([old[0], old[1], old[2], old[3]]),
            u32::from_ne_bytes(to.address),
        ],
        port: [0; 2],
    };
    let whole = f.fragment != Fragment::Later;
    let is_icmp = f.proto == icmp::PROTO_ICMP;
    if whole && is_icmp && matches!(f.icmp, IcmpKind::Query | IcmpKind::Answer) {
        change.port_at = l4 + 4;
        change.port = [u16::from_ne_bytes(f.sport), u16::from_ne_bytes(to.port)];
    } else if whole && f.has_ports() {
        change.port_at = l4 + if source { 0 } else { 2 };
        let port = if source { f.sport } else { f.dport };
        change.port = [u16::from_ne_bytes(port), u16::from_ne_bytes(to.port)];
    }
    if change.port[0] == change.port[1] {
        change.port_at = 0;
    }
    if whole && f.icmp == IcmpKind::Error && is_icmp && !inner(skb, l4, to, work) {
        return false;
    }
    if whole {
        let ok = match checksum_of(f.proto) {
            Some((at, flags)) => transport_checksum(skb, l4 + at, flags, change),
            None if is_icmp => icmp_checksum(skb, l4 + ICMP_CHECKSUM, change),
            None => true,
        };
        if !ok {
            return false;
        }
    }
    let (from, new) = (u64::from(change.address[0]), u64::from(change.address[1]));
    // SAFETY: the context is the program's; each helper checks its range; the sources are as long as
    // they say.
    unsafe {
        if bpf_l3_csum_replace(skb, l3 + IP_CHECKSUM, from, new, 4) != 0 {
            return false;
        }
        store(skb, change)
    }
}

/// Where IPv6 addresses are written: the packet's own, and that of the packet that it quotes.
#[inline(always)]
fn places(work: &Work) -> (u32, u32) {
    let f = &work.facts;
    let (outer, inner) = if matches!(work.direction, Direction::Out) { (8, 24) } else { (24, 8) };
    (u32::from(f.l3) + outer, u32::from(f.l4) + 8 + inner)
}

/// Writes IPv6 addresses. Prefixes are changed so that no checksum notices, not even one over the whole
/// packet that the device has made (CHECKSUM_COMPLETE).
#[inline(always)]
fn prefixes(skb: *mut __sk_buff, work: &Work) -> bool {
    let (at, quoted_at) = places(work);
    let invalid = u64::from(aya_ebpf::bindings::BPF_F_INVALIDATE_HASH);
    let (new, quoted) = (work.rewrite.prefix.as_ptr(), work.rewrite.quoted.as_ptr());
    // SAFETY: the context is the program's; the helper checks its range; the sources are 16 bytes.
    unsafe {
        (work.rewrite.side == Side::Nothing
            || bpf_skb_store_bytes(skb.cast(), at, new.cast(), 16, invalid) == 0)
            && (!work.rewrite.quotes
                || bpf_skb_store_bytes(skb.cast(), quoted_at, quoted.cast(), 16, 0) == 0)
    }
}

/// As [`skb`], for a frame, where IPv6 prefixes are all that is translated: no checksum changes.
#[inline(always)]
pub fn frame(ctx: *mut xdp_md, work: &Work) -> bool {
    if work.facts.family != 6 {
        return true;
    }
    let (at, quoted_at) = places(work);
    let (new, quoted) = (work.rewrite.prefix.as_ptr(), work.rewrite.quoted.as_ptr());
    // SAFETY: as in `prefixes`.
    unsafe {
        (work.rewrite.side == Side::Nothing
            || bpf_xdp_store_bytes(ctx, at, new.cast_mut().cast(), 16) == 0)
            && (!work.rewrite.quotes
                || bpf_xdp_store_bytes(ctx, quoted_at, quoted.cast_mut().cast(), 16) == 0)
    }
}

/// Writes address and port.
///
/// # Safety
/// `skb` is the program's context.
#[inline(always)]
unsafe fn store(skb: *mut __sk_buff, change: Change) -> bool {
    let address = change.address[1];
    let port = change.port[1];
    // SAFETY: the helper checks the range in the buffer; the sources are as long as they say.
    unsafe {
        if bpf_skb_store_bytes(
            skb.cast(),
            change.address_at,
            (&raw const address).cast(),
            4,
            u64::from(aya_ebpf::bindings::BPF_F_INVALIDATE_HASH),
        ) != 0
        {
            return false;
        }
        change.port_at == 0
            || bpf_skb_store_bytes(skb.cast(), change.port_at, (&raw const port).cast(), 2, 0) == 0
    }
}

/// The checksum of a transport header with a pseudo header.
#[inline(always)]
fn transport_checksum(skb: *mut __sk_buff, at: u32, flags: u64, change: Change) -> bool {
    let (from, to) = (u64::from(change.address[0]), u64::from(change.address[1]));
    // SAFETY: the context is the program's; the helper checks its range.
    unsafe {
        if bpf_l4_csum_replace(skb, at, from, to, PSEUDO | flags | 4) != 0 {
            return false;
        }
        let (from, to) = (u64::from(change.port[0]), u64::from(change.port[1]));
        change.port_at == 0 || bpf_l4_csum_replace(skb, at, from, to, flags | 2) == 0
    }
}

/// The checksum of an ICMP message, which covers no address.
#[inline(always)]
fn icmp_checksum(skb: *mut __sk_buff, at: u32, change: Change) -> bool {
    let (from, to) = (u64::from(change.port[0]), u64::from(change.port[1]));
    // SAFETY: as above.
    change.port_at == 0 || unsafe { bpf_l4_csum_replace(skb, at, from, to, 2) == 0 }
}

/// Translates the packet that an ICMP error carries: the other end of it than of the error, because it
/// went the other way. Its own checksums are put right where they are there, and the error's checksum,
/// which covers all of it.
#[inline(always)]
fn inner(skb: *mut __sk_buff, l4: u32, to: Rewrite, work: &Work) -> bool {
    let at = l4 + 8;
    let mut first = [0u8; 4];
    // SAFETY: the helper fills the array, or fails.
    if unsafe { bpf_skb_load_bytes(skb.cast(), at, first.as_mut_ptr().cast(), 4) } != 0 {
        return false;
    }
    let header = u32::from(first[0] & 0x0f) * 4;
    if header < ipv4::HEADER as u32 {
        return false;
    }
    let f = &work.other;
    // The error's destination is the inner packet's source, and the other way round.
    let source = to.side == Side::Destination;
    let old = if source { &f.src } else { &f.dst };
    let mut change = Change {
        address_at: at + if source { 12 } else { 16 },
        port_at: 0,
        address: [
            u32::from_ne_bytes([old[0], old[1], old[2], old[3]]),
            u32::from_ne_bytes(to.address),
        ],
        port: [0; 2],
    };
    let inner_l4 = at + header;
    if f.proto == icmp::PROTO_ICMP {
        change.port_at = inner_l4 + 4;
        change.port = [u16::from_ne_bytes(f.sport), u16::from_ne_bytes(to.port)];
    } else if f.has_ports() {
        change.port_at = inner_l4 + if source { 0 } else { 2 };
        let port = if source { f.sport } else { f.dport };
        change.port = [u16::from_ne_bytes(port), u16::from_ne_bytes(to.port)];
    }
    if change.port[0] == change.port[1] {
        change.port_at = 0;
    }
    let outer = l4 + ICMP_CHECKSUM;
    // The inner transport checksum, if it was quoted: eight bytes of a transport header always are,
    // a TCP checksum only where more is.
    let sum_at = match f.proto {
        transport::UDP | transport::UDPLITE => 6,
        transport::TCP => 16,
        icmp::PROTO_ICMP => 2,
        _ => 0,
    };
    if sum_at != 0 {
        let mut sum = [0u8; 2];
        // SAFETY: the helper fills the array, or fails where so much was not quoted.
        let there = unsafe {
            bpf_skb_load_bytes(skb.cast(), inner_l4 + sum_at, sum.as_mut_ptr().cast(), 2) == 0
        };
        let zero_udp = sum == [0, 0] && sum_at == 6;
        if there && !zero_udp {
            let before = u16::from_ne_bytes(sum);
            let mut after = before;
            if f.proto != icmp::PROTO_ICMP {
                after = replaced(after, change.address[0] as u16, change.address[1] as u16);
                after = replaced(
                    after,
                    (change.address[0] >> 16) as u16,
                    (change.address[1] >> 16) as u16,
                );
            }
            if change.port_at != 0 {
                after = replaced(after, change.port[0], change.port[1]);
            }
            if after == 0 && sum_at == 6 {
                // Zero would say that there is none (RFC 768).
                after = 0xffff;
            }
            // SAFETY: the context is the program's; the helpers check their ranges; the source is two bytes.
            let ok = unsafe {
                bpf_skb_store_bytes(skb.cast(), inner_l4 + sum_at, (&raw const after).cast(), 2, 0)
                    == 0
                    && bpf_l4_csum_replace(skb, outer, u64::from(before), u64::from(after), 2) == 0
            };
            if !ok {
                return false;
            }
        }
    }
    if change.port_at != 0 {
        let (from, new) = (u64::from(change.port[0]), u64::from(change.port[1]));
        // SAFETY: as above.
        if unsafe { bpf_l4_csum_replace(skb, outer, from, new, 2) } != 0 {
            return false;
        }
    }
    // The inner IP header's checksum changes by as much as its address, the other way: the error's sum
    // over both stays as it is.
    let (from, new) = (u64::from(change.address[0]), u64::from(change.address[1]));
    // SAFETY: as above.
    unsafe { bpf_l3_csum_replace(skb, at + IP_CHECKSUM, from, new, 4) == 0 && store(skb, change) }
}

/// A one's complement checksum after one word changed (RFC 1624, equation 3).
#[inline(always)]
fn replaced(sum: u16, from: u16, to: u16) -> u16 {
    let mut n = u32::from(!sum) + u32::from(!from) + u32::from(to);
    n = (n & 0xffff) + (n >> 16);
    n = (n & 0xffff) + (n >> 16);
    !(n as u16)
}
