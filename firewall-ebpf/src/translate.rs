//! Rewriting a packet's address and port, with every checksum that covers them.
//!
//! At TC the kernel's helpers do it: they know whether a checksum is whole or partial (a packet that a
//! local socket sent, or that came over a veth, carries only the pseudo header's sum until a device adds
//! the rest). A partial sum can't be told from a whole one in XDP, so there only frames off a wire are
//! rewritten.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_common::{
    abi::table::Direction,
    wire::{Fragment, facts::IcmpKind, icmp, ipv4, transport},
};

use crate::{
    mapping::{Rewrite, Side},
    medium::{KEEP_ZERO, Medium, PSEUDO, replaced},
    work::Work,
};

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
pub fn skb(skb: *mut __sk_buff, work: &Work, to: Rewrite) -> bool {
    rewrite(skb, work, to)
}

/// Rewrites a frame whose checksums are whole, as `work.rewrite` says; `false` as above.
#[inline(never)]
pub fn frame(frame: *mut xdp_md, work: &Work) -> bool {
    rewrite(frame, work, work.rewrite)
}

/// Offsets of TTL and hop limit.
const TTL: u32 = 8;
const HOP_LIMIT: u32 = 7;

/// Makes a socket buffer's packet what it is behind the egress hook: both translations, one hop less.
#[inline(always)]
pub fn next_hop(buffer: *mut __sk_buff, work: &Work) -> bool {
    let f = &work.facts;
    let l3 = u32::from(f.l3);
    let ttl = f.ttl.wrapping_sub(1);
    if f.family == 6 {
        return buffer.store(l3 + HOP_LIMIT, [ttl]);
    }
    if work.rewrite.side == Side::Destination && !skb(buffer, work, work.rewrite) {
        return false;
    }
    if work.across.side == Side::Source && !skb(buffer, work, work.across) {
        return false;
    }
    // The TTL's word holds the protocol, too.
    let (from, to) = ([f.ttl, f.proto, 0, 0], [ttl, f.proto, 0, 0]);
    buffer.network_sum(l3 + IP_CHECKSUM, u32::from_ne_bytes(from), u32::from_ne_bytes(to))
        && buffer.store(l3 + TTL, [ttl])
}

#[inline(always)]
fn rewrite<M: Medium>(packet: M, work: &Work, to: Rewrite) -> bool {
    let f = &work.facts;
    if f.family == 6 {
        return prefixes(packet, work);
    }
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
    if whole && f.icmp == IcmpKind::Error && is_icmp && !inner(packet, l4, to, work) {
        return false;
    }
    if whole {
        let ok = match checksum_of(f.proto) {
            Some((at, flags)) => transport_checksum(packet, l4 + at, flags, change),
            None if is_icmp => icmp_checksum(packet, l4 + ICMP_CHECKSUM, change),
            None => true,
        };
        if !ok {
            return false;
        }
    }
    packet.network_sum(l3 + IP_CHECKSUM, change.address[0], change.address[1])
        && store(packet, change)
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
fn prefixes<M: Medium>(packet: M, work: &Work) -> bool {
    let (at, quoted_at) = places(work);
    (work.rewrite.side == Side::Nothing || packet.store(at, work.rewrite.prefix))
        && (!work.rewrite.quotes || packet.store(quoted_at, work.rewrite.quoted))
}

/// Writes address and port.
#[inline(always)]
fn store<M: Medium>(packet: M, change: Change) -> bool {
    packet.store(change.address_at, change.address[1].to_ne_bytes())
        && (change.port_at == 0 || packet.store(change.port_at, change.port[1].to_ne_bytes()))
}

/// The checksum of a transport header with a pseudo header.
#[inline(always)]
fn transport_checksum<M: Medium>(packet: M, at: u32, flags: u64, change: Change) -> bool {
    packet.sum4(at, change.address[0], change.address[1], PSEUDO | flags)
        && (change.port_at == 0 || packet.sum2(at, change.port[0], change.port[1], flags))
}

/// The checksum of an ICMP message, which covers no address.
#[inline(always)]
fn icmp_checksum<M: Medium>(packet: M, at: u32, change: Change) -> bool {
    change.port_at == 0 || packet.sum2(at, change.port[0], change.port[1], 0)
}

/// Translates the packet that an ICMP error carries: the other end of it than of the error, because it
/// went the other way. Its own checksums are put right where they are there, and the error's checksum,
/// which covers all of it.
#[inline(always)]
fn inner<M: Medium>(packet: M, l4: u32, to: Rewrite, work: &Work) -> bool {
    let at = l4 + 8;
    let Some(first) = packet.load::<4>(at) else { return false };
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
    // Where less is quoted there is none.
    if sum_at != 0
        && let Some(sum) = packet.load::<2>(inner_l4 + sum_at)
    {
        let zero_udp = sum == [0, 0] && sum_at == 6;
        if !zero_udp {
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
            let ok = packet.store(inner_l4 + sum_at, after.to_ne_bytes())
                && packet.sum2(outer, before, after, 0);
            if !ok {
                return false;
            }
        }
    }
    if change.port_at != 0 && !packet.sum2(outer, change.port[0], change.port[1], 0) {
        return false;
    }
    // The inner IP header's checksum changes by as much as its address, the other way: the error's sum
    // over both stays as it is.
    packet.network_sum(at + IP_CHECKSUM, change.address[0], change.address[1])
        && store(packet, change)
}
