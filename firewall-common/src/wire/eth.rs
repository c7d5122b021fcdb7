//! Ethernet II, IEEE 802.1Q and 802.1ad.

use super::{Cursor, Facts};
use crate::abi::reason::Reason;

/// Length of the header without tags.
pub const HEADER: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service tag (802.1ad).
pub const QINQ: u16 = 0x88a8;

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    ethertype == VLAN || ethertype == QINQ
}

/// Reads the Ethernet header and up to two tags; the offset of what follows.
#[inline(always)]
pub fn parse<C: Cursor>(c: &C, facts: &mut Facts) -> Result<usize, Reason> {
    let Some(head) = c.load::<[u16; HEADER / 2]>(0) else { return Err(Reason::TruncatedEthernet) };
    facts.group = head[0].to_ne_bytes()[0] & 1;
    let mut ethertype = u16::from_be(head[6]);
    if !is_tag(ethertype) {
        facts.ethertype = ethertype;
        facts.l3 = HEADER as u16;
        return Ok(HEADER);
    }
    let Some(tag) = c.bytes::<4>(HEADER) else { return Err(Reason::TruncatedVlan) };
    // A tag the driver took off counts as the outer one (the caller sets it before).
    if facts.vlan == 0 {
        facts.vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
    }
    ethertype = u16::from_be_bytes([tag[2], tag[3]]);
    let mut l3 = HEADER + 4;
    if is_tag(ethertype) {
        let Some(tag) = c.bytes::<4>(l3) else { return Err(Reason::TruncatedVlan) };
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        l3 += 4;
        if is_tag(ethertype) {
            return Err(Reason::TooManyVlans);
        }
    }
    facts.ethertype = ethertype;
    facts.l3 = l3 as u16;
    Ok(l3)
}
