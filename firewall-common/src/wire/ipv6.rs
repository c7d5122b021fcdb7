//! IPv6 (RFC 8200) and its extension headers.

use super::{Cursor, Facts, Fragment, facts};
use crate::abi::reason::Reason;

/// Length of the fixed header.
pub const HEADER: usize = 40;
/// Extension headers that are followed; RFC 8504 section 5.3 lets a node set such a limit.
pub const MAX_EXTENSIONS: usize = 8;

/// How far extension headers may reach into a frame: one less than a power of two, which bounds an
/// offset in a way that the kernel's verifier sees.
const REACH: usize = 0x3fff;

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
    let Some(h) = c.load::<u64>(l3) else { return Err(Reason::TruncatedIpv6) };
    let h = u64::from_be(h);
    if h >> 60 != 6 {
        return Err(Reason::BadIpv6Version);
    }
    let Some([s0, s1, d0, d1]) = c.load::<[u64; 4]>(l3 + 8) else {
        return Err(Reason::TruncatedIpv6);
    };
    let mut total = HEADER + (h >> 16 & 0xffff) as usize;
    if c.aggregated() {
        total = c.len().saturating_sub(l3);
    }
    if !c.holds(l3 + total) {
        return Err(Reason::BadIpv6PayloadLength);
    }
    facts.family = 6;
    facts.ip_len = total as u32;
    facts.ttl = h as u8;
    facts::set_wide(&mut facts.src, s0, s1);
    facts::set_wide(&mut facts.dst, d0, d1);
    extensions(c, l3, (h >> 8) as u8, facts)
}

/// Walks from the fixed header's `next` on; sets protocol, transport offset and fragment facts.
#[inline(always)]
fn extensions<C: Cursor>(c: &C, l3: usize, next: u8, facts: &mut Facts) -> Result<(), Reason> {
    let end = l3 + facts.ip_len as usize;
    facts.proto = next;
    facts.l4 = (l3 + HEADER) as u16;
    let mut left = MAX_EXTENSIONS;
    loop {
        // Where the walk stands is kept in the facts and read anew each time: in the kernel they are a
        // map's memory, of which the verifier knows nothing, so that it walks each turn once and not once
        // for each way that leads there.
        // SAFETY: references are valid for reads.
        let (next, at) = unsafe {
            let at = (&raw const facts.l4).read_volatile() as usize;
            ((&raw const facts.proto).read_volatile(), at & REACH)
        };
        if !matches!(
            next,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6
        ) {
            return Ok(());
        }
        if left == 0 {
            return Err(Reason::TooManyExtensions);
        }
        left -= 1;
        if at + 8 > end {
            return Err(Reason::TruncatedIpv6);
        }
        let Some([e, id]) = c.load::<[u32; 2]>(at) else { return Err(Reason::TruncatedIpv6) };
        let e = u32::from_be(e);
        let len = (e >> 16 & 0xff) as usize;
        if next == FRAGMENT {
            let field = e & 0xffff;
            let offset = (field & 0xfff8) as usize;
            if field & 0xfff9 != 0 {
                facts.frag_id = id.to_ne_bytes();
                if offset + (end - at - 8) > 65_535 {
                    return Err(Reason::BadFragment);
                }
                facts.fragment = if offset == 0 { Fragment::First } else { Fragment::Later };
            }
            facts.l4 = (at + 8) as u16;
            facts.proto = (e >> 24) as u8;
            if facts.fragment == Fragment::Later {
                // What follows is the middle of something.
                return Ok(());
            }
            continue;
        }
        let len = if next == AUTHENTICATION {
            (len + 2) * 4 // RFC 4302 section 2.2
        } else {
            (len + 1) * 8
        };
        if at + len > end {
            return Err(Reason::TruncatedIpv6);
        }
        if at + len > REACH {
            return Err(Reason::TooManyExtensions);
        }
        facts.l4 = (at + len) as u16;
        facts.proto = (e >> 24) as u8;
    }
}
