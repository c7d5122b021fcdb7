//! TCP (RFC 9293), UDP (RFC 768), and the ports of their relatives.

use super::{Cursor, Facts, Fragment, icmp};
use crate::abi::reason::Reason;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of GRE.
pub const GRE: u8 = 47;
/// IP protocol number of SCTP.
pub const SCTP: u8 = 132;
/// IP protocol number of UDP-Lite.
pub const UDPLITE: u8 = 136;

/// Length of a TCP header without options.
pub const TCP_HEADER: usize = 20;

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const PSH: u8 = 0x08;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// Whether the protocol's header begins with two ports.
#[inline(always)]
pub fn has_ports(proto: u8) -> bool {
    matches!(proto, TCP | UDP | SCTP | UDPLITE)
}

/// Reads the transport header at `facts.l4`.
#[inline(always)]
pub fn parse<C: Cursor>(c: &C, facts: &mut Facts) -> Result<(), Reason> {
    let l4 = facts.l4 as usize;
    let end = facts.l3 as usize + facts.ip_len as usize;
    match facts.proto {
        TCP => {
            if l4 + TCP_HEADER > end {
                return Err(Reason::TruncatedTcp);
            }
            let Some(h) = c.load::<[u32; 4]>(l4) else { return Err(Reason::TruncatedTcp) };
            let fourth = u32::from_be(h[3]);
            let header = (fourth >> 28) as usize * 4;
            if header < 20 || l4 + header > end {
                return Err(Reason::BadTcpDataOffset);
            }
            set_ports(facts, h[0]);
            facts.seq = u32::from_be(h[1]);
            facts.ack = u32::from_be(h[2]);
            facts.window = fourth as u16;
            facts.tcp_flags = (fourth >> 16) as u8;
            facts.l4_len = header as u8;
        }
        UDP => {
            if l4 + 8 > end {
                return Err(Reason::TruncatedUdp);
            }
            let Some(h) = c.load::<[u32; 2]>(l4) else { return Err(Reason::TruncatedUdp) };
            let len = (u32::from_be(h[1]) >> 16) as usize;
            let whole = facts.fragment == Fragment::Whole && !c.aggregated();
            if whole && (len < 8 || l4 + len > end) {
                return Err(Reason::BadUdpLength);
            }
            set_ports(facts, h[0]);
            facts.l4_len = 8;
        }
        SCTP | UDPLITE => {
            if l4 + 8 > end {
                return Err(Reason::TruncatedTransport);
            }
            let Some(ports) = c.load::<u32>(l4) else { return Err(Reason::TruncatedTransport) };
            set_ports(facts, ports);
        }
        icmp::PROTO_ICMP if facts.family == 4 => icmp::parse(c, end, facts)?,
        icmp::PROTO_ICMPV6 if facts.family == 6 => icmp::parse(c, end, facts)?,
        _ => {}
    }
    Ok(())
}

#[inline(always)]
fn set_ports(facts: &mut Facts, word: u32) {
    let p = word.to_ne_bytes();
    facts.sport = [p[0], p[1]];
    facts.dport = [p[2], p[3]];
}
