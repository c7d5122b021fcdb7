//! IPv4 (RFC 791).

use super::{Cursor, Facts, Fragment};
use crate::abi::reason::Reason;

/// Length of the header without options.
pub const HEADER: usize = 20;

/// Reads the header at `l3`.
#[inline(always)]
pub fn parse<C: Cursor>(c: &C, l3: usize, facts: &mut Facts) -> Result<(), Reason> {
    let Some(h) = c.load::<[u32; HEADER / 4]>(l3) else { return Err(Reason::TruncatedIpv4) };
    let first = u32::from_be(h[0]);
    if first >> 28 != 4 {
        return Err(Reason::BadIpv4Version);
    }
    let header = (first >> 24 & 0x0f) as usize * 4;
    if header < HEADER {
        return Err(Reason::BadIpv4HeaderLength);
    }
    if !c.holds(l3 + header) {
        return Err(Reason::TruncatedIpv4);
    }
    let mut total = (first & 0xffff) as usize;
    if c.aggregated() {
        // The buffer is longer than any packet: its own length counts (BIG TCP writes 0 here).
        total = c.len().saturating_sub(l3);
    }
    if total < header || !c.holds(l3 + total) {
        return Err(Reason::BadIpv4TotalLength);
    }
    facts.family = 4;
    facts.ip_len = total as u32;
    facts.l4 = (l3 + header) as u16;
    let third = u32::from_be(h[2]);
    facts.proto = (third >> 16) as u8;
    facts.ttl = (third >> 24) as u8;
    facts.src[..4].copy_from_slice(&h[3].to_ne_bytes());
    facts.dst[..4].copy_from_slice(&h[4].to_ne_bytes());
    let field = u32::from_be(h[1]) & 0xffff;
    if field & 0x3fff != 0 {
        let offset = (field & 0x1fff) as usize * 8;
        let id = h[1].to_ne_bytes();
        facts.frag_id[0] = id[0];
        facts.frag_id[1] = id[1];
        facts.fragment = if offset == 0 { Fragment::First } else { Fragment::Later };
        if header + offset + (total - header) > 65_535 {
            return Err(Reason::BadFragment);
        }
    }
    Ok(())
}
