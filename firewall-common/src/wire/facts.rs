//! What the parser found out.

/// What kind of frame it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// IPv4 or IPv6, understood to the transport header (later fragments: to the IP header).
    Ip,
    /// ARP (RFC 826).
    Arp,
    /// Any other EtherType.
    OtherEthertype,
}

/// Place of the packet in a fragmented datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Fragment {
    /// Not fragmented (IPv6 "atomic fragments", RFC 6946, count as that).
    #[default]
    Whole = 0,
    /// Offset zero, more to come: has the transport header.
    First = 1,
    /// Offset above zero: no transport header.
    Later = 2,
}

/// Role of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum IcmpKind {
    /// Not ICMP, or a message that is neither of the below (e.g. router advertisement).
    #[default]
    Other = 0,
    /// Asks (echo request, timestamp, ...): begins a flow.
    Query = 1,
    /// Answers a query.
    Answer = 2,
    /// Reports an error about another packet, whose header it carries.
    Error = 3,
}

/// Facts about one frame. Byte arrays are as on the wire. (Aligned so that clearing it is eight stores.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Facts {
    /// Source address; IPv4 in the first four bytes, the rest zero.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port; ICMP queries and answers: identifier; else zero.
    pub sport: [u8; 2],
    /// Destination port; ICMP: type, code; else zero.
    pub dport: [u8; 2],
    /// EtherType behind the VLAN tags (values below 0x0600 are 802.3 lengths).
    pub ethertype: u16,
    /// Outer VLAN id, 0 if untagged.
    pub vlan: u16,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header; of the payload for later fragments.
    pub l4: u16,
    /// Length from the IP header on to the end of the packet (not of link padding), bytes.
    pub ip_len: u32,
    /// TCP sequence number.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// Fragment identification (IPv4: first two bytes).
    pub frag_id: [u8; 4],
    /// TCP window, as written (not scaled).
    pub window: u16,
    /// 4, 6, or 0 if not IP.
    pub family: u8,
    /// IP protocol; for IPv6 the one behind the extension headers.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags byte (CWR..FIN), 0 if not TCP.
    pub tcp_flags: u8,
    /// See [`Fragment`].
    pub fragment: Fragment,
    /// See [`IcmpKind`].
    pub icmp: IcmpKind,
    /// Transport header's length, bytes; 0 if unknown.
    pub l4_len: u8,
    /// Frame carries a group address (multicast, broadcast) as its Ethernet destination.
    pub group: u8,
}

impl Facts {
    /// Sequence numbers that a TCP segment takes up: payload, and one each for SYN and FIN (RFC 9293
    /// section 3.4).
    #[inline(always)]
    pub fn segment_len(&self) -> u32 {
        let head = u32::from(self.l4 - self.l3) + u32::from(self.l4_len);
        let flags = self.tcp_flags;
        self.ip_len.wrapping_sub(head)
            + u32::from(flags & super::transport::SYN != 0)
            + u32::from(flags & super::transport::FIN != 0)
    }
    /// Whether the classifier may ask for ports.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        super::transport::has_ports(self.proto)
    }
    /// ICMPv6 neighbour discovery that nobody beyond the link can have sent (RFC 4861 section 6.1.1,
    /// 7.1: hop limit 255).
    #[inline(always)]
    pub fn is_neighbour_discovery(&self) -> bool {
        self.family == 6
            && self.proto == super::icmp::PROTO_ICMPV6
            && self.ttl == 255
            && self.fragment == Fragment::Whole
            && matches!(self.dport[0], 133..=137)
    }
}

/// Writes an IPv6 address, two words in memory order. Into place: as an array it would pass over the kernel's
/// short stack, byte by byte.
#[inline(always)]
pub fn set_wide(address: &mut [u8; 16], first: u64, second: u64) {
    let words = address.as_mut_ptr().cast::<u64>();
    // SAFETY: two words are 16 bytes.
    unsafe {
        words.write_unaligned(first);
        words.add(1).write_unaligned(second);
    }
}
