//! Why a packet got its verdict, and why a flow ended. Append-only: a retired number keeps its place.

use super::numbers;

/// Size of map `REASON_COUNTERS`.
pub const REASONS: usize = 64;

numbers! {
    /// Each packet that meets a hook is counted under exactly one of these.
    Reason(u8) {
        /// Passed: no policy was ever installed.
        NoPolicy = 0 => "no-policy",
        /// A rule decided.
        Rule = 1 => "rule",
        /// No rule matched; the direction's default decided.
        Default = 2 => "default",
        /// Belongs to a known flow; the rules were skipped.
        Established = 3 => "established",
        /// ARP: passes, always.
        Arp = 4 => "arp",
        /// ICMPv6 neighbour discovery with hop limit 255 (RFC 4861): passes, always.
        NeighbourDiscovery = 5 => "neighbour-discovery",
        /// ICMP error about a known flow.
        Related = 6 => "related",
        /// Neither IPv4, IPv6 nor ARP; the policy's `ethertypes` default decided.
        UnknownEthertype = 7 => "unknown-ethertype",
        /// Shorter than an Ethernet header.
        TruncatedEthernet = 8 => "truncated-ethernet",
        /// Ends within a VLAN tag.
        TruncatedVlan = 9 => "truncated-vlan",
        /// A third VLAN tag.
        TooManyVlans = 10 => "too-many-vlans",
        /// Ends within the IPv4 header.
        TruncatedIpv4 = 11 => "truncated-ipv4",
        /// EtherType says IPv4, version field doesn't.
        BadIpv4Version = 12 => "bad-ipv4-version",
        /// Header length below 20 bytes.
        BadIpv4HeaderLength = 13 => "bad-ipv4-header-length",
        /// Total length below the header's, or past the frame's end.
        BadIpv4TotalLength = 14 => "bad-ipv4-total-length",
        /// Ends within the IPv6 header or one of its extension headers.
        TruncatedIpv6 = 15 => "truncated-ipv6",
        /// EtherType says IPv6, version field doesn't.
        BadIpv6Version = 16 => "bad-ipv6-version",
        /// Payload length past the frame's end.
        BadIpv6PayloadLength = 17 => "bad-ipv6-payload-length",
        /// More extension headers than the parser follows.
        TooManyExtensions = 18 => "too-many-extension-headers",
        /// Ends within the TCP header.
        TruncatedTcp = 19 => "truncated-tcp",
        /// Data offset below 5 words, or past the packet's end.
        BadTcpDataOffset = 20 => "bad-tcp-data-offset",
        /// Ends within the UDP header.
        TruncatedUdp = 21 => "truncated-udp",
        /// UDP length below 8, or past the packet's end.
        BadUdpLength = 22 => "bad-udp-length",
        /// Ends within the ICMP or ICMPv6 header.
        TruncatedIcmp = 23 => "truncated-icmp",
        /// A later fragment whose first was not seen.
        FragmentWithoutFirst = 24 => "fragment-without-first",
        /// A fragment that would reach past 65,535 bytes, or overlaps its own header.
        BadFragment = 25 => "bad-fragment",
        /// The flow table is full and the policy says `refuse`.
        FlowTableFull = 26 => "flow-table-full",
        /// The flow table is full and the policy says `untracked`: passed, not tracked.
        Untracked = 27 => "untracked",
        /// A flow ended: FIN seen both ways.
        Closed = 28 => "closed",
        /// A flow ended: RST.
        Reset = 29 => "reset",
        /// A flow ended: idle past its time-out.
        TimedOut = 30 => "timed-out",
        /// A flow ended: a newer policy doesn't allow it.
        PolicyChanged = 31 => "policy-changed",
        /// The interface isn't in map `IFACES`; passed.
        UnknownInterface = 32 => "unknown-interface",
        /// A reject was due but its rate limit was spent: dropped silently.
        RejectLimited = 33 => "reject-rate-limited",
        /// A reject was due but no answer may be sent to this packet (RFC 1122 section 3.2.2): dropped.
        RejectImpossible = 34 => "reject-impossible",
        /// A TCP segment without SYN and without a flow, where the policy says `strict`.
        NoSyn = 35 => "no-syn",
        /// A flow ended: a new one took its 5-tuple (SYN after close).
        Reused = 36 => "reused",
        /// A flow ended: removed by an operator.
        Killed = 37 => "killed",
        /// Ends within an SCTP or UDP-Lite header.
        TruncatedTransport = 38 => "truncated-transport",
        /// A TCP segment of a known flow whose numbers don't fit what both ends have sent and allowed
        /// (RFC 9293 section 3.10.7.4, RFC 5961 for RST).
        OutOfWindow = 39 => "out-of-window",
        /// No public port was left for a new mapping: dropped.
        NatExhausted = 40 => "nat-exhausted",
        /// A packet that has to be translated can't be: its protocol's checksum covers what would
        /// change (SCTP ports), or the interface has no address.
        NatImpossible = 41 => "nat-impossible",
        /// A source has as many flows as the policy grants it.
        SourceLimit = 42 => "source-limit",
        /// A flow ended: unanswered, it made room for a newer one.
        Evicted = 43 => "evicted",
        /// A SYN was answered with a cookie.
        CookieSent = 44 => "syn-cookie-sent",
        /// An ACK carried a good cookie; the flow begins.
        CookieGood = 45 => "syn-cookie-good",
        /// An ACK carried no good cookie while cookies are asked for.
        CookieBad = 46 => "syn-cookie-bad",
        /// Handed to an AF_XDP socket.
        Bypassed = 47 => "bypassed",
        /// Forwarded past the stack.
        FastPath = 48 => "fast-path",
        /// Let by without tracking, because a rule says so.
        NoTrack = 49 => "no-track",
        /// Two CPUs wanted one lock of the flow table for too long: judged, not tracked.
        TableBusy = 50 => "flow-table-busy",
        /// Every public port that was tried for a new mapping is a local socket's: dropped.
        NatLocalPort = 51 => "nat-local-port",
        /// A packet of a known flow that is over the limit of the rule that let the flow in: dropped.
        OverLimit = 52 => "over-limit",
    }
}
