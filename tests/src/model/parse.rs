//! The oracle's own reading of a frame, written from the RFCs and the list of reasons, the plain
//! way: copy what a header covers, look at it, go on with the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// ARP.
    Arp,
    /// Neither IP nor ARP.
    Other,
    /// IPv4 or IPv6.
    Ip(Ip),
}

/// Where in a datagram a packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment.
    First,
    /// A fragment without transport header.
    Later,
}

/// What an ICMP message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Begins a flow.
    Query,
    /// Answers one.
    Answer,
    /// Tells of another packet.
    Error,
    /// None of these.
    Other,
}

/// Ends and protocol of a flow, as one packet shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: u8,
    /// Source port, or ICMP identifier, or 0.
    pub sport: u16,
    /// Destination port, or ICMP identifier, or 0.
    pub dport: u16,
}

/// The facts of an IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Addresses, protocol and ports.
    pub ends: Ends,
    /// TTL or hop limit.
    pub ttl: u8,
    /// From the IP header to the end of the packet, bytes.
    pub len: usize,
    /// From the IP header to the transport header, bytes.
    pub header: usize,
    /// Fragmentation.
    pub part: Part,
    /// Identification, for fragments.
    pub id: u32,
    /// TCP flags.
    pub flags: u8,
    /// TCP numbers, where the header is there.
    pub segment: Option<Segment>,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// ICMP role.
    pub role: Role,
    /// What an ICMP error quotes, as far as it says who talked to whom.
    pub quoted: Option<Ends>,
}

/// A TCP segment's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, as written.
    pub window: u16,
    /// Bytes of data.
    pub data: u32,
    /// Window scale, if the options have one.
    pub scale: Option<u8>,
}

type Bad = &'static str;

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) * 256 + u16::from(bytes[at + 1])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

/// Reads a frame; where it can't be understood, the name of the reason.
///
/// # Errors
/// The reason's name.
pub fn read(frame: &[u8]) -> Result<Frame, Bad> {
    if frame.len() < 14 {
        return Err("truncated-ethernet");
    }
    let (mut kind, mut rest) = (be16(frame, 12), &frame[14..]);
    let mut tags = 0;
    while kind == 0x8100 || kind == 0x88a8 {
        if tags == 2 {
            return Err("too-many-vlans");
        }
        if rest.len() < 4 {
            return Err("truncated-vlan");
        }
        tags += 1;
        (kind, rest) = (be16(rest, 2), &rest[4..]);
    }
    match kind {
        0x0806 => Ok(Frame::Arp),
        0x0800 => v4(rest).map(Frame::Ip),
        0x86dd => v6(rest).map(Frame::Ip),
        _ => Ok(Frame::Other),
    }
}

fn v4(data: &[u8]) -> Result<Ip, Bad> {
    if data.len() < 20 {
        return Err("truncated-ipv4");
    }
    if data[0] / 16 != 4 {
        return Err("bad-ipv4-version");
    }
    let header = usize::from(data[0] % 16) * 4;
    if header < 20 {
        return Err("bad-ipv4-header-length");
    }
    if data.len() < header {
        return Err("truncated-ipv4");
    }
    let total = usize::from(be16(data, 2));
    if total < header || total > data.len() {
        return Err("bad-ipv4-total-length");
    }
    let v4_at =
        |at: usize| IpAddr::V4(Ipv4Addr::new(data[at], data[at + 1], data[at + 2], data[at + 3]));
    let (more, offset) = (data[6] & 0x20 != 0, usize::from(be16(data, 6) & 0x1fff) * 8);
    let part = match (offset, more) {
        (0, false) => Part::Whole,
        (0, true) => Part::First,
        _ => Part::Later,
    };
    if part != Part::Whole && offset + total > 65_535 {
        return Err("bad-fragment");
    }
    let mut ip = Ip {
        ends: Ends { src: v4_at(12), dst: v4_at(16), proto: data[9], sport: 0, dport: 0 },
        ttl: data[8],
        len: total,
        header,
        part,
        id: u32::from(be16(data, 4)),
        flags: 0,
        segment: None,
        icmp: None,
        role: Role::Other,
        quoted: None,
    };
    transport(&mut ip, &data[header..total], &data[header..])?;
    Ok(ip)
}

fn v6(data: &[u8]) -> Result<Ip, Bad> {
    // The version can be told from the first eight bytes on; the rest needs the whole header.
    if data.len() < 8 {
        return Err("truncated-ipv6");
    }
    if data[0] / 16 != 6 {
        return Err("bad-ipv6-version");
    }
    if data.len() < 40 {
        return Err("truncated-ipv6");
    }
    let payload = usize::from(be16(data, 4));
    if data.len() < 40 + payload {
        return Err("bad-ipv6-payload-length");
    }
    let v6_at = |at: usize| {
        let octets: [u8; 16] = data[at..at + 16].try_into().expect("16 bytes of 40");
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let mut ip = Ip {
        ends: Ends { src: v6_at(8), dst: v6_at(24), proto: data[6], sport: 0, dport: 0 },
        ttl: data[7],
        len: 40 + payload,
        header: 40,
        part: Part::Whole,
        id: 0,
        flags: 0,
        segment: None,
        icmp: None,
        role: Role::Other,
        quoted: None,
    };
    let mut rest = &data[40..40 + payload];
    let mut seen = 0;
    while [0, 43, 44, 51, 60, 135, 139, 140].contains(&ip.ends.proto) {
        if seen == 8 {
            return Err("too-many-extension-headers");
        }
        seen += 1;
        if rest.len() < 8 {
            return Err("truncated-ipv6");
        }
        let this = ip.ends.proto;
        ip.ends.proto = rest[0];
        let len = match this {
            44 => 8,
            51 => (usize::from(rest[1]) + 2) * 4,
            _ => (usize::from(rest[1]) + 1) * 8,
        };
        if this == 44 {
            let (offset, more) = (usize::from(be16(rest, 2) / 8) * 8, rest[3] & 1 != 0);
            if offset != 0 || more {
                ip.id = u32::from(be16(rest, 4)) << 16 | u32::from(be16(rest, 6));
                if offset + rest.len() - 8 > 65_535 {
                    return Err("bad-fragment");
                }
                ip.part = if offset == 0 { Part::First } else { Part::Later };
            }
        }
        if rest.len() < len {
            return Err("truncated-ipv6");
        }
        rest = &rest[len..];
        if ip.part == Part::Later {
            break;
        }
    }
    ip.header = 40 + payload - rest.len();
    let beyond = &data[40 + payload - rest.len()..];
    transport(&mut ip, rest, beyond)?;
    Ok(ip)
}

/// Reads the transport header in `body`; `beyond` is the same start, to the end of the frame.
fn transport(ip: &mut Ip, body: &[u8], beyond: &[u8]) -> Result<(), Bad> {
    if ip.part == Part::Later {
        return Ok(());
    }
    let v6 = ip.ends.src.is_ipv6();
    match ip.ends.proto {
        6 => {
            if body.len() < 20 {
                return Err("truncated-tcp");
            }
            let header = usize::from(body[12] / 16) * 4;
            if header < 20 || header > body.len() {
                return Err("bad-tcp-data-offset");
            }
            ip.flags = body[13];
            ip.segment = Some(Segment {
                flags: body[13],
                seq: be32(body, 4),
                ack: be32(body, 8),
                window: be16(body, 14),
                data: (body.len() - header) as u32,
                scale: scale(&body[20..header]),
            });
        }
        17 => {
            if body.len() < 8 {
                return Err("truncated-udp");
            }
            let len = usize::from(be16(body, 4));
            // The length of a fragmented datagram is more than its first fragment holds.
            if ip.part == Part::Whole && (len < 8 || len > body.len()) {
                return Err("bad-udp-length");
            }
        }
        132 | 136 => {
            if body.len() < 8 {
                return Err("truncated-transport");
            }
        }
        1 | 58 if v6 == (ip.ends.proto == 58) => {
            if body.len() < 8 {
                return Err("truncated-icmp");
            }
            ip.icmp = Some((body[0], body[1]));
            ip.role = role(v6, body[0]);
            if matches!(ip.role, Role::Query | Role::Answer) {
                (ip.ends.sport, ip.ends.dport) = (be16(body, 4), be16(body, 4));
            }
            if ip.role == Role::Error {
                ip.quoted = quoted(&beyond[8..], v6);
            }
            return Ok(());
        }
        _ => return Ok(()),
    }
    (ip.ends.sport, ip.ends.dport) = (be16(body, 0), be16(body, 2));
    Ok(())
}

/// The window scale among TCP options (RFC 9293 section 3.1, RFC 7323 section 2.2): at most 14; the last
/// one counts; options that make no sense end the list.
fn scale(mut options: &[u8]) -> Option<u8> {
    let mut found = None;
    while let [kind, rest @ ..] = options {
        match (kind, rest) {
            (0, _) => break,
            (1, _) => options = rest,
            (_, [len, ..]) if (2..=options.len()).contains(&usize::from(*len)) => {
                if (*kind, *len) == (3, 3) {
                    found = Some(options[2].min(14));
                }
                options = &options[usize::from(*len)..];
            }
            _ => break,
        }
    }
    found
}

/// RFC 792, 950, 8335; RFC 4443.
fn role(v6: bool, kind: u8) -> Role {
    match (v6, kind) {
        (false, 8 | 13 | 15 | 17 | 42) | (true, 128 | 160) => Role::Query,
        (false, 0 | 14 | 16 | 18 | 43) | (true, 129 | 161) => Role::Answer,
        (false, 3 | 4 | 5 | 11 | 12) | (true, 0..=127) => Role::Error,
        _ => Role::Other,
    }
}

/// The ends of the packet that an ICMP error quotes: its IP header and eight bytes more.
fn quoted(data: &[u8], v6: bool) -> Option<Ends> {
    let (src, dst, proto, rest) = if v6 {
        let octets = |at: usize| -> Option<IpAddr> {
            let bytes: [u8; 16] = data.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::V6(bytes.into()))
        };
        let ends = (octets(8)?, octets(24)?);
        if data[0] / 16 != 6 {
            return None;
        }
        (ends.0, ends.1, data[6], data.get(40..)?)
    } else {
        let octets = |at: usize| -> Option<IpAddr> {
            let bytes: [u8; 4] = data.get(at..at + 4)?.try_into().ok()?;
            Some(IpAddr::V4(bytes.into()))
        };
        let ends = (octets(12)?, octets(16)?);
        let header = usize::from(data[0] % 16) * 4;
        if data[0] / 16 != 4 || header < 20 || be16(data, 6) & 0x1fff != 0 {
            return None;
        }
        (ends.0, ends.1, data[9], data.get(header..)?)
    };
    if rest.len() < 8 {
        return None;
    }
    let (sport, dport) = match proto {
        6 | 17 | 132 | 136 => (be16(rest, 0), be16(rest, 2)),
        1 | 58 if matches!(role(v6, rest[0]), Role::Query | Role::Answer) => {
            (be16(rest, 4), be16(rest, 4))
        }
        // Other ICMP messages belong to no flow.
        1 | 58 if v6 == (proto == 58) => return None,
        _ => (0, 0),
    };
    Some(Ends { src, dst, proto, sport, dport })
}
