//! IPv4 (RFC 791).

use super::{Cursor, Facts, Fragment};
use crate::abi::reason::Reason;

/// Length of the header without options.
pub const HEADER: usize = 20;

/// Reads the header at `l3`.
#[inline(always)]
pub fn parse<C: Cursor>(c: &C, l3: usize, facts: &mut Facts) -> Result<(), Reason> {
    let Some(h) = c.bytes::<HEADER>(l3) else { return Err(Reason::TruncatedIpv4) };
    if h[0] >> 4 != 4 {
        return Err(Reason::BadIpv4Version);
    }
    let header = ((h[0] & 0x0f) as usize) * 4;
    if header < HEADER {
        return Err(Reason::BadIpv4HeaderLength);
    }
    if !c.holds(l3 + header) {
        return Err(Reason::TruncatedIpv4);
    }
    let mut total = u16::from_be_bytes([h[2], h[3]]) as usize;
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
    facts.proto = h[9];
    facts.ttl = h[8];
    facts.src[..4].copy_from_slice(&[h[12], h[13], h[14], h[15]]);
    facts.dst[..4].copy_from_slice(&[h[16], h[17], h[18], h[19]]);
    let field = u16::from_be_bytes([h[6], h[7]]);
    if field & 0x3fff != 0 {
        let offset = (field & 0x1fff) as usize * 8;
        facts.frag_id[0] = h[4];
        facts.frag_id[1] = h[5];
        facts.fragment = if offset == 0 { Fragment::First } else { Fragment::Later };
        if header + offset + (total - header) > 65_535 {
            return Err(Reason::BadFragment);
        }
    }
    Ok(())
}
