//! Frames from a small builder language.
//!
//! ```text
//! Packet::new().vlan(5).ipv4("10.0.0.1", "10.0.0.2").tcp(4000, 80).flags(SYN).build()
//! ```
//!
//! Lengths and checksums come out right unless a `lie_*` method says otherwise; `truncate` cuts the
//! finished frame. Integers are host-endian numbers, written big-endian.

pub mod checksum;
mod fragment;
mod inspect;
mod lies;
mod verify;

pub use inspect::{Answer, inspect, verify_checksums};
pub use verify::{assemble, verify_all};

use std::net::{Ipv4Addr, Ipv6Addr};

/// TCP flags.
pub mod tcp {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Synchronise.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// Acknowledgement field is valid.
    pub const ACK: u8 = 16;
    /// Urgent pointer is valid.
    pub const URG: u8 = 32;
}

/// Source MAC of built frames.
pub const SRC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Destination MAC of built frames.
pub const DST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The network layer under construction.
#[derive(Clone, Debug)]
enum Net {
    /// Nothing: the payload follows the Ethernet header.
    Raw(u16),
    V4(V4),
    V6(V6),
}

#[derive(Clone, Debug)]
struct V4 {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    tos: u8,
    id: u16,
    /// Fragment word: flags and offset in units of 8 bytes.
    frag: u16,
    options: Vec<u8>,
    version: u8,
    ihl: Option<u8>,
    total_len: Option<u16>,
    checksum: Option<u16>,
}

#[derive(Clone, Debug)]
struct V6 {
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    version: u8,
    payload_len: Option<u16>,
    /// Extension headers in order: their type, and their bytes with the first (next header) open.
    extensions: Vec<(u8, Vec<u8>)>,
}

/// The transport layer under construction.
#[derive(Clone, Debug)]
enum Transport {
    /// The payload alone, under this protocol number.
    Raw(u8),
    Tcp {
        sport: u16,
        dport: u16,
        seq: u32,
        ack: u32,
        flags: u8,
        window: u16,
        offset: Option<u8>,
        options: Vec<u8>,
    },
    Udp {
        sport: u16,
        dport: u16,
        len: Option<u16>,
        no_checksum: bool,
    },
    /// ICMP and ICMPv6: type, code, the four bytes after the checksum.
    Icmp {
        proto: u8,
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
}

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Packet {
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    /// (TPID, id) from the outermost tag inwards.
    vlans: Vec<(u16, u16)>,
    net: Net,
    transport: Transport,
    transport_checksum: Option<u16>,
    payload: Vec<u8>,
    /// Bytes after the IP packet (Ethernet padding).
    trailer: usize,
    truncate: Option<usize>,
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl Packet {
    /// An Ethernet frame from [`SRC_MAC`] to [`DST_MAC`].
    pub fn new() -> Self {
        Self {
            src_mac: SRC_MAC,
            dst_mac: DST_MAC,
            vlans: Vec::new(),
            net: Net::Raw(0x88b5),
            transport: Transport::Raw(253),
            transport_checksum: None,
            payload: Vec::new(),
            trailer: 0,
            truncate: None,
        }
    }

    /// Other MAC addresses.
    pub fn macs(mut self, src: [u8; 6], dst: [u8; 6]) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// One more 802.1Q tag inside those there are.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(0x8100, id)
    }

    /// One more tag with TPID `tpid` (0x8100 or 0x88a8).
    pub fn tag(mut self, tpid: u16, id: u16) -> Self {
        self.vlans.push((tpid, id));
        self
    }

    /// No IP: the payload under this EtherType.
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.net = Net::Raw(ethertype);
        self
    }

    /// An ARP request: `src` asks who has `dst`.
    pub fn arp(mut self, src: &str, dst: &str) -> Self {
        let (src, dst): (Ipv4Addr, Ipv4Addr) = (address(src), address(dst));
        let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
        body.extend(self.src_mac);
        body.extend(src.octets());
        body.extend([0; 6]);
        body.extend(dst.octets());
        self.payload = body;
        self.ethertype(0x0806)
    }

    /// An IPv4 header.
    pub fn ipv4(mut self, src: &str, dst: &str) -> Self {
        self.net = Net::V4(V4 {
            src: address(src),
            dst: address(dst),
            ttl: 64,
            tos: 0,
            id: 0x1234,
            frag: 0x4000,
            options: Vec::new(),
            version: 4,
            ihl: None,
            total_len: None,
            checksum: None,
        });
        self
    }

    /// An IPv6 header.
    pub fn ipv6(mut self, src: &str, dst: &str) -> Self {
        self.net = Net::V6(V6 {
            src: address(src),
            dst: address(dst),
            hop_limit: 64,
            version: 6,
            payload_len: None,
            extensions: Vec::new(),
        });
        self
    }

    /// IPv4 or IPv6, by the look of the addresses.
    pub fn ip(self, src: &str, dst: &str) -> Self {
        if src.contains(':') { self.ipv6(src, dst) } else { self.ipv4(src, dst) }
    }

    fn v4(mut self, change: impl FnOnce(&mut V4)) -> Self {
        match &mut self.net {
            Net::V4(header) => change(header),
            _ => panic!("an IPv4 knob on a packet that isn't IPv4"),
        }
        self
    }

    fn v6(mut self, change: impl FnOnce(&mut V6)) -> Self {
        match &mut self.net {
            Net::V6(header) => change(header),
            _ => panic!("an IPv6 knob on a packet that isn't IPv6"),
        }
        self
    }

    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        match &mut self.net {
            Net::V4(header) => header.ttl = ttl,
            Net::V6(header) => header.hop_limit = ttl,
            Net::Raw(_) => panic!("a hop limit needs an IP header"),
        }
        self
    }

    /// IPv4 type of service.
    pub fn tos(self, tos: u8) -> Self {
        self.v4(|h| h.tos = tos)
    }

    /// IPv4 identification.
    pub fn id(self, id: u16) -> Self {
        self.v4(|h| h.id = id)
    }

    /// IPv4 options; padded to whole words with end-of-list.
    pub fn options(self, options: &[u8]) -> Self {
        self.v4(|h| {
            h.options = options.to_vec();
            h.options.resize(options.len().div_ceil(4) * 4, 0);
        })
    }

    /// Makes it an IPv4 fragment at `offset` (units of 8 bytes), with more to come or not.
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.v4(|h| h.frag = offset | if more { 0x2000 } else { 0 })
    }

    /// IPv6 hop-by-hop options (8 bytes of padding options).
    pub fn hop_by_hop(self) -> Self {
        self.extension(0, &[0, 0, 1, 4, 0, 0, 0, 0])
    }

    /// IPv6 destination options (16 bytes).
    pub fn destination_options(self) -> Self {
        self.extension(60, &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// IPv6 routing header of type 4 with no segments (8 bytes).
    pub fn routing(self) -> Self {
        self.extension(43, &[0, 0, 4, 0, 0, 0, 0, 0])
    }

    /// IPv6 fragment header: offset in units of 8 bytes.
    pub fn fragment6(self, id: u32, offset: u16, more: bool) -> Self {
        let word = (offset << 3 | u16::from(more)).to_be_bytes();
        let id = id.to_be_bytes();
        self.extension(44, &[0, 0, word[0], word[1], id[0], id[1], id[2], id[3]])
    }

    /// Any IPv6 extension header: its number and bytes; the first byte is overwritten.
    pub fn extension(self, number: u8, bytes: &[u8]) -> Self {
        self.v6(|h| h.extensions.push((number, bytes.to_vec())))
    }

    /// TCP, flags SYN, unless [`Packet::flags`] says otherwise.
    pub fn tcp(mut self, sport: u16, dport: u16) -> Self {
        self.transport = Transport::Tcp {
            sport,
            dport,
            seq: 1000,
            ack: 0,
            flags: tcp::SYN,
            window: 65_000,
            offset: None,
            options: Vec::new(),
        };
        self
    }

    /// TCP flags.
    pub fn flags(mut self, new: u8) -> Self {
        match &mut self.transport {
            Transport::Tcp { flags, .. } => *flags = new,
            _ => panic!("flags need a TCP header"),
        }
        self
    }

    /// TCP sequence and acknowledgement numbers.
    pub fn seq(mut self, new_seq: u32, new_ack: u32) -> Self {
        match &mut self.transport {
            Transport::Tcp { seq, ack, .. } => (*seq, *ack) = (new_seq, new_ack),
            _ => panic!("sequence numbers need a TCP header"),
        }
        self
    }

    /// TCP window.
    pub fn window(mut self, new: u16) -> Self {
        match &mut self.transport {
            Transport::Tcp { window, .. } => *window = new,
            _ => panic!("a window needs a TCP header"),
        }
        self
    }

    /// TCP options, padded to whole words.
    pub fn tcp_options(mut self, new: &[u8]) -> Self {
        match &mut self.transport {
            Transport::Tcp { options, .. } => {
                *options = new.to_vec();
                options.resize(new.len().div_ceil(4) * 4, 0);
            }
            _ => panic!("TCP options need a TCP header"),
        }
        self
    }

    /// UDP.
    pub fn udp(mut self, sport: u16, dport: u16) -> Self {
        self.transport = Transport::Udp { sport, dport, len: None, no_checksum: false };
        self
    }

    /// UDP checksum 0, "none was made" (IPv4 only).
    pub fn no_udp_checksum(mut self) -> Self {
        match &mut self.transport {
            Transport::Udp { no_checksum, .. } => *no_checksum = true,
            _ => panic!("a UDP knob on a packet that isn't UDP"),
        }
        self
    }

    /// ICMP or ICMPv6, whichever the IP header wants; `rest` are the four bytes after the checksum.
    pub fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        let proto = if matches!(self.net, Net::V6(_)) { 58 } else { 1 };
        self.transport = Transport::Icmp { proto, kind, code, rest };
        self
    }

    /// An echo request with this identifier.
    pub fn ping(self, id: u16) -> Self {
        let kind = if matches!(self.net, Net::V6(_)) { 128 } else { 8 };
        self.icmp(kind, 0, [(id >> 8) as u8, id as u8, 0, 1])
    }

    /// An echo reply with this identifier.
    pub fn pong(self, id: u16) -> Self {
        let kind = if matches!(self.net, Net::V6(_)) { 129 } else { 0 };
        self.icmp(kind, 0, [(id >> 8) as u8, id as u8, 0, 1])
    }

    /// A protocol by number; the payload follows the IP header.
    pub fn proto(mut self, number: u8) -> Self {
        self.transport = Transport::Raw(number);
        self
    }

    /// Payload of the innermost layer.
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// `n` bytes of payload.
    pub fn fill(mut self, n: usize) -> Self {
        self.payload = (0..n).map(|i| i as u8).collect();
        self
    }

    /// `n` bytes after the end of the IP packet.
    pub fn trailer(mut self, n: usize) -> Self {
        self.trailer = n;
        self
    }

    /// Cuts the finished frame to `n` bytes.
    pub fn truncate(mut self, n: usize) -> Self {
        self.truncate = Some(n);
        self
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = self.link_header();
        frame.extend(self.ip_packet());
        frame.resize(frame.len() + self.trailer, 0);
        if let Some(n) = self.truncate {
            frame.truncate(n);
        }
        frame
    }

    fn link_header(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.dst_mac);
        frame.extend(self.src_mac);
        for (tpid, id) in &self.vlans {
            frame.extend(tpid.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let ethertype: u16 = match &self.net {
            Net::Raw(ethertype) => *ethertype,
            Net::V4(_) => 0x0800,
            Net::V6(_) => 0x86dd,
        };
        frame.extend(ethertype.to_be_bytes());
        frame
    }

    /// The packet from the IP header on (for frames without IP, the payload): what an ICMP error
    /// quotes.
    pub fn ip_packet(&self) -> Vec<u8> {
        match &self.net {
            Net::Raw(_) => self.payload.clone(),
            Net::V4(header) => {
                let (proto, segment) = self.segment(&header.src.octets(), &header.dst.octets());
                header.bytes(proto, &segment)
            }
            Net::V6(header) => {
                let (proto, segment) = self.segment(&header.src.octets(), &header.dst.octets());
                header.bytes(proto, &segment)
            }
        }
    }

    /// The transport segment, and its protocol number.
    fn segment(&self, src: &[u8], dst: &[u8]) -> (u8, Vec<u8>) {
        let mut out = Vec::new();
        let (proto, checksum_at) = match &self.transport {
            Transport::Raw(proto) => {
                out.extend(&self.payload);
                return (*proto, out);
            }
            Transport::Tcp { sport, dport, seq, ack, flags, window, offset, options } => {
                out.extend(sport.to_be_bytes());
                out.extend(dport.to_be_bytes());
                out.extend(seq.to_be_bytes());
                out.extend(ack.to_be_bytes());
                out.push(offset.unwrap_or(5 + (options.len() / 4) as u8) << 4);
                out.push(*flags);
                out.extend(window.to_be_bytes());
                out.extend([0; 4]);
                out.extend(options);
                (6, 16)
            }
            Transport::Udp { sport, dport, len, .. } => {
                out.extend(sport.to_be_bytes());
                out.extend(dport.to_be_bytes());
                out.extend(len.unwrap_or((8 + self.payload.len()) as u16).to_be_bytes());
                out.extend([0; 2]);
                (17, 6)
            }
            Transport::Icmp { proto, kind, code, rest } => {
                out.extend([*kind, *code, 0, 0]);
                out.extend(rest);
                (*proto, 2)
            }
        };
        out.extend(&self.payload);
        let right = match proto {
            1 => checksum::internet(&out),
            // RFC 768: a sum that comes out as 0 is sent as all ones.
            17 => match checksum::transport(src, dst, proto, &out) {
                0 => 0xffff,
                sum => sum,
            },
            _ => checksum::transport(src, dst, proto, &out),
        };
        let none = matches!(self.transport, Transport::Udp { no_checksum: true, .. });
        let written = self.transport_checksum.unwrap_or(if none { 0 } else { right });
        out[checksum_at..checksum_at + 2].copy_from_slice(&written.to_be_bytes());
        (proto, out)
    }
}

impl V4 {
    fn bytes(&self, proto: u8, segment: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total = (header_len + segment.len()).min(0xffff) as u16;
        let mut out =
            vec![self.version << 4 | self.ihl.unwrap_or((header_len / 4) as u8), self.tos];
        out.extend(self.total_len.unwrap_or(total).to_be_bytes());
        out.extend(self.id.to_be_bytes());
        out.extend(self.frag.to_be_bytes());
        out.extend([self.ttl, proto, 0, 0]);
        out.extend(self.src.octets());
        out.extend(self.dst.octets());
        out.extend(&self.options);
        let sum = self.checksum.unwrap_or(checksum::internet(&out));
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend(segment);
        out
    }
}

impl V6 {
    fn bytes(&self, proto: u8, segment: &[u8]) -> Vec<u8> {
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let len = (extensions + segment.len()).min(0xffff) as u16;
        let mut out = vec![self.version << 4, 0, 0, 0];
        out.extend(self.payload_len.unwrap_or(len).to_be_bytes());
        out.push(self.extensions.first().map_or(proto, |(number, _)| *number));
        out.push(self.hop_limit);
        out.extend(self.src.octets());
        out.extend(self.dst.octets());
        for (i, (_, bytes)) in self.extensions.iter().enumerate() {
            let start = out.len();
            out.extend(bytes);
            out[start] = self.extensions.get(i + 1).map_or(proto, |(number, _)| *number);
        }
        out.extend(segment);
        out
    }
}

/// An address from text; panics on what isn't one (a mistake in the test itself).
fn address<A: std::str::FromStr>(text: &str) -> A {
    text.parse().unwrap_or_else(|_| panic!("`{text}` isn't an address of the family asked for"))
}

/// Lower-case hex, for reports.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
