//! Headers that don't tell the truth.

use super::{Net, Packet, Transport};

impl Packet {
    /// Lies about the IP version.
    pub fn lie_version(mut self, version: u8) -> Self {
        match &mut self.net {
            Net::V4(header) => header.version = version,
            Net::V6(header) => header.version = version,
            Net::Raw(_) => panic!("a version needs an IP header"),
        }
        self
    }

    /// Lies about the IPv4 header length (words).
    pub fn lie_ihl(self, words: u8) -> Self {
        self.v4(|h| h.ihl = Some(words))
    }

    /// Lies about the IPv4 total length (bytes).
    pub fn lie_total_len(self, bytes: u16) -> Self {
        self.v4(|h| h.total_len = Some(bytes))
    }

    /// Lies about the IPv4 header checksum.
    pub fn lie_ip_checksum(self, checksum: u16) -> Self {
        self.v4(|h| h.checksum = Some(checksum))
    }

    /// Lies about the IPv6 payload length (bytes).
    pub fn lie_payload_len(self, bytes: u16) -> Self {
        self.v6(|h| h.payload_len = Some(bytes))
    }

    /// Lies about the TCP data offset (words).
    pub fn lie_data_offset(mut self, words: u8) -> Self {
        match &mut self.transport {
            Transport::Tcp { offset, .. } => *offset = Some(words),
            _ => panic!("a data offset needs a TCP header"),
        }
        self
    }

    /// Lies about the UDP length (bytes).
    pub fn lie_udp_len(mut self, bytes: u16) -> Self {
        match &mut self.transport {
            Transport::Udp { len, .. } => *len = Some(bytes),
            _ => panic!("a UDP length needs a UDP header"),
        }
        self
    }

    /// Lies about the transport checksum.
    pub fn lie_checksum(mut self, checksum: u16) -> Self {
        self.transport_checksum = Some(checksum);
        self
    }
}
