//! Frames out of capture files (pcap and pcapng), with the link type each was taken on.

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use std::io::Cursor;
use std::path::Path;

/// One captured packet.
#[derive(Clone, Debug)]
pub struct Captured {
    /// LINKTYPE_ number (1: Ethernet, 101: raw IP).
    pub linktype: i32,
    /// The bytes that were captured.
    pub bytes: Vec<u8>,
}

impl Captured {
    /// The packet as a frame: raw IP gets an Ethernet header put before it, everything else is taken
    /// as it is, right or not.
    pub fn frame(&self) -> Vec<u8> {
        // 12 is what some systems call raw IP (LINKTYPE_RAW is 101).
        if !matches!(self.linktype, 12 | 14 | 101 | 228 | 229) {
            return self.bytes.clone();
        }
        let ethertype: [u8; 2] =
            if self.bytes.first().is_some_and(|b| b >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
        [&crate::packet::DST_MAC[..], &crate::packet::SRC_MAC, &ethertype, &self.bytes].concat()
    }
}

/// Every packet of a file, up to where the file itself ends or breaks: several of the corpus's files
/// are cut short or malformed on purpose, and what can be read of them counts.
///
/// # Errors
/// In words, where the file can't be read or isn't a capture at all.
pub fn read(path: &Path) -> Result<Vec<Captured>, String> {
    let data = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let size = data.len().max(24);
    let mut packets = Vec::new();
    let mut linktype = Linktype(1);
    let mut reader = create_reader(size * 2, Cursor::new(data))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                let found = match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        linktype = header.network;
                        None
                    }
                    PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                        linktype = description.linktype;
                        None
                    }
                    PcapBlockOwned::Legacy(packet) => Some(packet.data),
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        Some(&packet.data[..packet.data.len().min(packet.caplen as usize)])
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => Some(packet.data),
                    PcapBlockOwned::NG(_) => None,
                };
                if let Some(bytes) = found {
                    packets.push(Captured { linktype: linktype.0, bytes: bytes.to_vec() });
                }
                reader.consume(offset);
            }
            Err(PcapError::Incomplete(_)) => {
                if reader.refill().is_err() || reader.reader_exhausted() {
                    return Ok(packets);
                }
            }
            Err(_) => return Ok(packets),
        }
    }
}
