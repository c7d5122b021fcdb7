//! ICMP (RFC 792) and ICMPv6 (RFC 4443).

use super::{
    Cursor, Facts,
    facts::{self, IcmpKind},
    ipv4, ipv6, transport,
};
use crate::abi::reason::Reason;

/// IP protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const PROTO_ICMPV6: u8 = 58;

/// Role of a type. Queries: echo, timestamp, information, address mask, extended echo (RFC 8335).
#[inline(always)]
pub fn kind(family: u8, icmp_type: u8) -> IcmpKind {
    if family == 4 {
        match icmp_type {
            8 | 13 | 15 | 17 | 42 => IcmpKind::Query,
            0 | 14 | 16 | 18 | 43 => IcmpKind::Answer,
            3 | 4 | 5 | 11 | 12 => IcmpKind::Error,
            _ => IcmpKind::Other,
        }
    } else {
        match icmp_type {
            128 | 160 => IcmpKind::Query,
            129 | 161 => IcmpKind::Answer,
            0..=127 => IcmpKind::Error, // RFC 4443 section 2.1: the high bit tells errors
            _ => IcmpKind::Other,
        }
    }
}

/// Reads the message at `facts.l4`, which ends at `end`.
#[inline(always)]
pub fn parse<C: Cursor>(c: &C, end: usize, facts: &mut Facts) -> Result<(), Reason> {
    let l4 = facts.l4 as usize;
    if l4 + 8 > end {
        return Err(Reason::TruncatedIcmp);
    }
    let Some(h) = c.load::<[u16; 4]>(l4) else { return Err(Reason::TruncatedIcmp) };
    facts.dport = h[0].to_ne_bytes();
    facts.icmp = kind(facts.family, facts.dport[0]);
    facts.l4_len = 8;
    if matches!(facts.icmp, IcmpKind::Query | IcmpKind::Answer) {
        facts.sport = h[2].to_ne_bytes();
    }
    Ok(())
}

/// Reads the packet that an ICMP error at `error.l4` carries: family, addresses, protocol, and what
/// the transport header tells in its first bytes. `false` where that can't be read, or where the
/// packet is a later fragment: then the error belongs to nobody.
#[inline(always)]
pub fn embedded<C: Cursor>(c: &C, error: &Facts, inner: &mut Facts) -> bool {
    let at = error.l4 as usize + 8;
    inner.family = error.family;
    let l4;
    if error.family == 4 {
        let Some(h) = c.load::<[u32; ipv4::HEADER / 4]>(at) else { return false };
        let first = u32::from_be(h[0]);
        let header = (first >> 24 & 0x0f) as usize * 4;
        let later = u32::from_be(h[1]) & 0x1fff != 0;
        if first >> 28 != 4 || header < ipv4::HEADER || later {
            return false;
        }
        inner.proto = (u32::from_be(h[2]) >> 16) as u8;
        inner.src[..4].copy_from_slice(&h[3].to_ne_bytes());
        inner.dst[..4].copy_from_slice(&h[4].to_ne_bytes());
        l4 = at + header;
    } else {
        let Some(h) = c.load::<u64>(at) else { return false };
        let h = u64::from_be(h);
        let Some([s0, s1, d0, d1]) = c.load::<[u64; 4]>(at + 8) else { return false };
        if h >> 60 != 6 {
            return false;
        }
        inner.proto = (h >> 8) as u8;
        facts::set_wide(&mut inner.src, s0, s1);
        facts::set_wide(&mut inner.dst, d0, d1);
        l4 = at + ipv6::HEADER;
    }
    let Some(h) = c.load::<[u16; 4]>(l4) else { return false };
    if transport::has_ports(inner.proto) {
        inner.sport = h[0].to_ne_bytes();
        inner.dport = h[1].to_ne_bytes();
    } else if inner.proto == PROTO_ICMP || inner.proto == PROTO_ICMPV6 {
        inner.dport = h[0].to_ne_bytes();
        inner.icmp = kind(inner.family, inner.dport[0]);
        inner.sport = h[2].to_ne_bytes();
    }
    true
}
