//! Descriptions to frames.

use super::Made;
use crate::policy::words;
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, Icmpv6Type, IpFragOffset,
    IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, SingleVlanHeader, TcpHeader, UdpHeader,
    VlanId, checksum,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of frames: locally administered (IEEE 802 bit 1), so that they are nobody's.
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Identification of fragments.
const DATAGRAM: u16 = 0x511c;

/// The frame that a description means, checksums right.
pub fn build(made: &Made) -> Vec<u8> {
    let mut packet = Vec::new();
    let ether_type = if made.arp {
        packet = arp(made);
        EtherType::ARP
    } else {
        let payload = transport(made);
        match (made.src, made.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(made, src, dst, &payload, &mut packet),
            (src, dst) => ipv6(made, wide(src), wide(dst), &payload, &mut packet),
        }
        if made.src.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 }
    };
    let mut types: Vec<EtherType> = match made.vlans.len() {
        0 => vec![ether_type],
        1 => vec![EtherType::VLAN_TAGGED_FRAME, ether_type],
        // IEEE 802.1ad: the outer tag is the provider's.
        _ => vec![EtherType::PROVIDER_BRIDGING, EtherType::VLAN_TAGGED_FRAME, ether_type],
    };
    let outer = types.remove(0);
    let ethernet = Ethernet2Header { source: FROM, destination: receiver(made), ether_type: outer };
    let mut frame = ethernet.to_bytes().to_vec();
    for (vlan, ether_type) in made.vlans.iter().zip(types) {
        let vlan_id = VlanId::try_new(*vlan).unwrap_or_default();
        let tag = SingleVlanHeader { vlan_id, ether_type, ..SingleVlanHeader::default() };
        frame.extend_from_slice(&tag.to_bytes());
    }
    frame.extend_from_slice(&packet);
    frame
}

fn wide(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// Group addresses of IP are those of Ethernet, too (RFC 1112 section 6.4, RFC 2464 section 7).
fn receiver(made: &Made) -> [u8; 6] {
    match made.dst {
        _ if made.arp => [0xff; 6],
        IpAddr::V4(dst) if dst.is_broadcast() => [0xff; 6],
        IpAddr::V4(dst) if dst.is_multicast() => {
            let [_, b, c, d] = dst.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(dst) if dst.is_multicast() => {
            let o = dst.octets();
            [0x33, 0x33, o[12], o[13], o[14], o[15]]
        }
        _ => TO,
    }
}

fn arp(made: &Made) -> Vec<u8> {
    let octets = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &FROM,
        &octets(made.src),
        &[0; 6],
        &octets(made.dst),
    );
    packet.map(|packet| packet.to_bytes().to_vec()).unwrap_or_default()
}

fn ipv4(made: &Made, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8], out: &mut Vec<u8>) {
    let mut header = Ipv4Header {
        time_to_live: made.ttl,
        protocol: IpNumber(made.proto),
        source: src.octets(),
        destination: dst.octets(),
        total_len: u16::try_from(payload.len() + Ipv4Header::MIN_LEN).unwrap_or(u16::MAX),
        ..Ipv4Header::default()
    };
    if let Some(piece) = made.fragment {
        header.identification = DATAGRAM;
        header.dont_fragment = false;
        header.more_fragments = piece.more;
        header.fragment_offset = offset(piece.offset);
    }
    header.header_checksum = header.calc_header_checksum();
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(payload);
}

fn offset(bytes: u16) -> IpFragOffset {
    IpFragOffset::try_new(bytes / 8).unwrap_or_default()
}

fn ipv6(made: &Made, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8], out: &mut Vec<u8>) {
    let fragment = made.fragment.map(|piece| {
        Ipv6FragmentHeader::new(
            IpNumber(made.proto),
            offset(piece.offset),
            piece.more,
            u32::from(DATAGRAM),
        )
    });
    let length = payload.len() + fragment.as_ref().map_or(0, |_| Ipv6FragmentHeader::LEN);
    let header = Ipv6Header {
        payload_length: u16::try_from(length).unwrap_or(u16::MAX),
        next_header: if fragment.is_some() {
            IpNumber::IPV6_FRAGMENTATION_HEADER
        } else {
            IpNumber(made.proto)
        },
        hop_limit: made.ttl,
        source: src.octets(),
        destination: dst.octets(),
        ..Ipv6Header::default()
    };
    out.extend_from_slice(&header.to_bytes());
    if let Some(fragment) = fragment {
        out.extend_from_slice(&fragment.to_bytes());
    }
    out.extend_from_slice(payload);
}

/// The transport header and what is behind it; later fragments have no header.
fn transport(made: &Made) -> Vec<u8> {
    let payload = vec![0; usize::from(made.length)];
    if made.fragment.is_some_and(|piece| piece.offset > 0) {
        return payload;
    }
    let (sport, dport) = made.ports;
    let mut out: Vec<u8> = match made.proto {
        words::TCP => {
            let mut header = TcpHeader::new(sport, dport, made.numbers.0, made.window);
            header.acknowledgment_number = made.numbers.1;
            let has = |bit: u8| made.flags & bit != 0;
            (header.fin, header.syn, header.rst, header.psh) = (has(1), has(2), has(4), has(8));
            (header.ack, header.urg, header.ece, header.cwr) =
                (has(16), has(32), has(64), has(128));
            header.checksum = match (made.src, made.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &payload)
                }
                (src, dst) => {
                    header.calc_checksum_ipv6_raw(wide(src).octets(), wide(dst).octets(), &payload)
                }
            }
            .unwrap_or_default();
            header.to_bytes().to_vec()
        }
        words::UDP => {
            let header = match (made.src, made.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => UdpHeader::with_ipv4_checksum(
                    sport,
                    dport,
                    &Ipv4Header {
                        source: src.octets(),
                        destination: dst.octets(),
                        ..Ipv4Header::default()
                    },
                    &payload,
                ),
                (src, dst) => UdpHeader::with_ipv6_checksum(
                    sport,
                    dport,
                    &Ipv6Header {
                        source: wide(src).octets(),
                        destination: wide(dst).octets(),
                        ..Ipv6Header::default()
                    },
                    &payload,
                ),
            };
            header.map(|header| header.to_bytes().to_vec()).unwrap_or_default()
        }
        words::ICMP => {
            let [high, low] = made.id.to_be_bytes();
            let head = [made.icmp.0, made.icmp.1, 0, 0, high, low, 0, 1];
            let sum = checksum::Sum16BitWords::new().add_slice(&head).add_slice(&payload);
            summed(head, sum.ones_complement())
        }
        words::ICMPV6 => {
            let [high, low] = made.id.to_be_bytes();
            let rest = [high, low, 0, 1];
            let kind =
                Icmpv6Type::Unknown { type_u8: made.icmp.0, code_u8: made.icmp.1, bytes5to8: rest };
            let (src, dst) = (wide(made.src).octets(), wide(made.dst).octets());
            let sum = kind.calc_checksum(src, dst, &payload).unwrap_or_default();
            summed([made.icmp.0, made.icmp.1, 0, 0, high, low, 0, 1], sum.to_be())
        }
        // SCTP's common header (RFC 9260 section 3.1); the gate looks at nothing behind the ports.
        132 => [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 8]].concat(),
        // UDP-Lite (RFC 3828 section 3.1): a coverage of 0 is all of it.
        136 => [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 4]].concat(),
        _ => Vec::new(),
    };
    out.extend_from_slice(&payload);
    out
}

/// An ICMP header with its checksum, whose bytes lie as on the wire.
fn summed(mut head: [u8; 8], sum: u16) -> Vec<u8> {
    head[2..4].copy_from_slice(&sum.to_ne_bytes());
    head.to_vec()
}
