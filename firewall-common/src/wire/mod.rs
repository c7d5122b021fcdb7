//! Bytes to facts: one parser for the kernel, for unit tests and for a fuzzer.
//!
//! [`parse`] walks Ethernet, up to two VLAN tags, ARP, IPv4 (options, fragments), IPv6 (extension
//! headers, bounded), TCP, UDP, ICMP, ICMPv6; other protocols are known by number. It reads through a
//! [`Cursor`]: in the kernel each read is checked against the packet's end for the verifier, in user
//! space the same code reads a slice. It allocates nothing, loops are bounded, and whatever it can't
//! follow is a [`Reason`] of its own, never a silent pass.

pub mod answer;
pub mod checksum;
pub mod cursor;
pub mod eth;
pub mod facts;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod options;
pub mod synack;
pub mod transport;

pub use cursor::{Cursor, Slice};
pub use facts::{Facts, Fragment, Parsed};

use crate::abi::reason::Reason;

/// Parses a frame that begins with its Ethernet header into `facts` (which must be
/// [`Facts::default`]); what it is, or why it can't be told.
#[inline(always)]
pub fn parse<C: Cursor>(cursor: &C, facts: &mut Facts) -> Result<Parsed, Reason> {
    let l3 = eth::parse(cursor, facts)?;
    match facts.ethertype {
        eth::IPV4 => ipv4::parse(cursor, l3, facts)?,
        eth::IPV6 => ipv6::parse(cursor, l3, facts)?,
        eth::ARP => return Ok(Parsed::Arp),
        _ => return Ok(Parsed::OtherEthertype),
    }
    if facts.fragment != Fragment::Later {
        transport::parse(cursor, facts)?;
    }
    Ok(Parsed::Ip)
}

#[cfg(test)]
mod tests;
