//! Frames out of capture files (pcap and pcapng).

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use std::io::Read;
use thiserror::Error;

/// A captured packet, as a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What was captured of it, with an Ethernet header.
    pub bytes: Vec<u8>,
    /// Length of the frame on the wire, bytes.
    pub length: usize,
}

/// Why a capture can't be used.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// It is none, or broken.
    #[error("packet {after}: {what}")]
    Broken {
        /// The last packet that could be read.
        after: u64,
        /// In words.
        what: String,
    },
    /// Packets of another kind.
    #[error(
        "packet {number} has link type {linktype}; expected Ethernet (1) or raw IP (12, 14, 101, 228, 229)"
    )]
    LinkType {
        /// Which packet.
        number: u64,
        /// LINKTYPE_ number (https://www.tcpdump.org/linktypes.html).
        linktype: i32,
    },
}

/// Longest block of a file that is read, bytes.
const BLOCK: usize = 1 << 20;
const ETHERNET: i32 = 1;
/// LINKTYPE_RAW, what some systems call it, LINKTYPE_IPV4 and LINKTYPE_IPV6.
const RAW_IP: [i32; 5] = [12, 14, 101, 228, 229];

/// Gives `each` every packet of a capture, in order, until it says false.
///
/// # Errors
/// The file isn't a capture, breaks off, or has packets that are neither Ethernet frames nor bare IP.
pub fn read<E: From<CaptureError>>(
    file: impl Read + Send,
    mut each: impl FnMut(Captured) -> Result<bool, E>,
) -> Result<(), E> {
    let mut number = 0;
    let broken = |after, what: String| CaptureError::Broken { after, what };
    let mut reader = create_reader(BLOCK, file)
        .map_err(|error| broken(0, format!("no capture file (pcap or pcapng): {error}")))?;
    let mut links: Vec<Linktype> = Vec::new();
    loop {
        match reader.next() {
            Ok((consumed, block)) => {
                let mut found = None;
                match block {
                    PcapBlockOwned::LegacyHeader(header) => links = vec![header.network],
                    // Interfaces are counted within their section.
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(about)) => {
                        links.push(about.linktype);
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        let length = packet.origlen as usize;
                        found = Some((0, packet.data.to_vec(), length));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        let data = &packet.data[..packet.data.len().min(packet.caplen as usize)];
                        let length = packet.origlen as usize;
                        found = Some((packet.if_id as usize, data.to_vec(), length));
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                        let length = packet.origlen as usize;
                        let data = &packet.data[..packet.data.len().min(length)];
                        found = Some((0, data.to_vec(), length));
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(consumed);
                if let Some((link, data, length)) = found {
                    number += 1;
                    let linktype = links.get(link).map_or(ETHERNET, |link| link.0);
                    if !each(frame(number, linktype, data, length)?)? {
                        return Ok(());
                    }
                }
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                if reader.reader_exhausted() {
                    return Err(broken(number, "the file ends within a packet".to_owned()).into());
                }
                reader.refill().map_err(|error| broken(number, error.to_string()))?;
            }
            Err(PcapError::UnexpectedEof) => {
                return Err(broken(number, "the file ends within a packet".to_owned()).into());
            }
            Err(error) => return Err(broken(number, error.to_string()).into()),
        }
    }
}

fn frame(
    number: u64,
    linktype: i32,
    data: Vec<u8>,
    length: usize,
) -> Result<Captured, CaptureError> {
    let length = length.max(data.len());
    if linktype == ETHERNET {
        return Ok(Captured { number, bytes: data, length });
    }
    if !RAW_IP.contains(&linktype) {
        return Err(CaptureError::LinkType { number, linktype });
    }
    let six = data.first().is_some_and(|byte| byte >> 4 == 6);
    let ether_type: [u8; 2] = if six { [0x86, 0xdd] } else { [8, 0] };
    let head = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &ether_type].concat();
    let length = length + head.len();
    Ok(Captured { number, bytes: [head, data].concat(), length })
}
