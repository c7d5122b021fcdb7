//! Cutting a packet into fragments, as a router (IPv4) or the sender (IPv6) does.

use super::{Net, Packet, Transport};

impl Packet {
    /// Fragments whose payloads are `piece` bytes (a multiple of 8) at most, in order. The transport
    /// checksum is that of the whole packet. IPv6 fragments carry `id` in a fragment header.
    pub fn fragments(&self, piece: usize, id: u32) -> Vec<Packet> {
        assert!(piece > 0 && piece.is_multiple_of(8), "fragments are cut at multiples of 8 bytes");
        let (proto, segment) = match &self.net {
            Net::V4(h) => self.segment(&h.src.octets(), &h.dst.octets()),
            Net::V6(h) => self.segment(&h.src.octets(), &h.dst.octets()),
            Net::Raw(_) => panic!("only IP packets can be fragmented"),
        };
        let count = segment.len().div_ceil(piece);
        segment
            .chunks(piece)
            .enumerate()
            .map(|(i, part)| {
                let mut packet = self.clone();
                packet.transport = Transport::Raw(proto);
                packet.payload = part.to_vec();
                let (offset, more) = ((i * piece / 8) as u16, i + 1 < count);
                match packet.net {
                    Net::V4(_) => packet.id(id as u16).fragment(offset, more),
                    _ => packet.fragment6(id, offset, more),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Packet;

    #[test]
    fn pieces_cover_the_segment() {
        let parts = Packet::new().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2).fill(100).fragments(48, 7);
        let frames: Vec<_> = parts.iter().map(Packet::build).collect();
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [34 + 48, 34 + 48, 34 + 12]);
        let words: Vec<_> = frames.iter().map(|f| u16::from_be_bytes([f[20], f[21]])).collect();
        assert_eq!(words, [0x2000, 0x2006, 0x000c]);
    }
}
