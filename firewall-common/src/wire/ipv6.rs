//! IPv6 (RFC 8200) and its extension headers.

use super::{Cursor, Facts, Fragment};
use crate::abi::reason::Reason;

/// Length of the fixed header.
pub const HEADER: usize = 40;
/// Extension headers that are followed; RFC 8504 section 5.3 lets a node set such a limit.
pub const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Reads the header at `l3` and walks the extension headers.
#[inline(always)]
pub fn parse<C: Cursor>(c: &C, l3: usize, facts: &mut Facts) -> Result<(), Reason> {
    let Some(h) = c.bytes::<8>(l3) else { return Err(Reason::TruncatedIpv6) };
    if h[0] >> 4 != 6 {
        return Err(Reason::BadIpv6Version);
    }
    let (Some(src), Some(dst)) = (c.bytes::<16>(l3 + 8), c.bytes::<16>(l3 + 24)) else {
        return Err(Reason::TruncatedIpv6);
    };
    let mut total = HEADER + u16::from_be_bytes([h[4], h[5]]) as usize;
    if c.aggregated() {
        total = c.len().saturating_sub(l3);
    }
    if !c.holds(l3 + total) {
        return Err(Reason::BadIpv6PayloadLength);
    }
    facts.family = 6;
    facts.ip_len = total as u32;
    facts.ttl = h[7];
    facts.src = src;
    facts.dst = dst;
    extensions(c, l3, h[6], facts)
}

/// Walks from the fixed header's `next` on; sets protocol, transport offset and fragment facts.
#[inline(always)]
fn extensions<C: Cursor>(c: &C, l3: usize, next: u8, facts: &mut Facts) -> Result<(), Reason> {
    let end = l3 + facts.ip_len as usize;
    let mut next = next;
    let mut at = l3 + HEADER;
    let mut left = MAX_EXTENSIONS;
    while matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6
    ) {
        if left == 0 {
            return Err(Reason::TooManyExtensions);
        }
        left -= 1;
        if at + 8 > end {
            return Err(Reason::TruncatedIpv6);
        }
        let Some(e) = c.bytes::<8>(at) else { return Err(Reason::TruncatedIpv6) };
        if next == FRAGMENT {
            let field = u16::from_be_bytes([e[2], e[3]]);
            let offset = (field & 0xfff8) as usize;
            if field & 0xfff9 != 0 {
                facts.frag_id = [e[4], e[5], e[6], e[7]];
                if offset + (end - at - 8) > 65_535 {
                    return Err(Reason::BadFragment);
                }
                facts.fragment = if offset == 0 { Fragment::First } else { Fragment::Later };
            }
            at += 8;
            next = e[0];
            if facts.fragment == Fragment::Later {
                // What follows is the middle of something.
                break;
            }
            continue;
        }
        let len = if next == AUTHENTICATION {
            (e[1] as usize + 2) * 4 // RFC 4302 section 2.2
        } else {
            (e[1] as usize + 1) * 8
        };
        at += len;
        if at > end {
            return Err(Reason::TruncatedIpv6);
        }
        next = e[0];
    }
    facts.proto = next;
    facts.l4 = at as u16;
    Ok(())
}
