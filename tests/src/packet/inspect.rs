//! Reading a frame that came back: enough to check an answer (RST, ICMP unreachable) field by field.

use super::checksum;

/// The facts of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// VLAN ids from the outermost inwards.
    pub vlans: Vec<u16>,
    /// 4 or 6, 0 where it isn't IP.
    pub family: u8,
    /// Source address, 4 or 16 bytes.
    pub src: Vec<u8>,
    /// Destination address.
    pub dst: Vec<u8>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol.
    pub proto: u8,
    /// The transport segment, to the end that the IP header gives.
    pub segment: Vec<u8>,
    /// Length of the frame.
    pub frame_len: usize,
}

impl Answer {
    /// 16 bits of the segment at `at`, big-endian.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.segment[at], self.segment[at + 1]])
    }

    /// 32 bits of the segment at `at`, big-endian.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at + 2))
    }
}

/// Reads a frame without extension headers. `None` where it isn't whole.
pub fn inspect(frame: &[u8]) -> Option<Answer> {
    let mut answer = Answer {
        dst_mac: frame.get(0..6)?.try_into().ok()?,
        src_mac: frame.get(6..12)?.try_into().ok()?,
        frame_len: frame.len(),
        ..Answer::default()
    };
    let mut at = 12;
    let mut ethertype = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    while matches!(ethertype, 0x8100 | 0x88a8) {
        answer.vlans.push(u16::from_be_bytes(frame.get(at + 2..at + 4)?.try_into().ok()?) & 0xfff);
        at += 4;
        ethertype = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    }
    let ip = frame.get(at + 2..)?;
    match ethertype {
        0x0800 => {
            let header = usize::from(ip.first()? & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            answer.family = 4;
            (answer.ttl, answer.proto) = (*ip.get(8)?, *ip.get(9)?);
            (answer.src, answer.dst) = (ip.get(12..16)?.to_vec(), ip.get(16..20)?.to_vec());
            answer.segment = ip.get(header..total)?.to_vec();
        }
        0x86dd => {
            let payload = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            answer.family = 6;
            (answer.proto, answer.ttl) = (*ip.get(6)?, *ip.get(7)?);
            (answer.src, answer.dst) = (ip.get(8..24)?.to_vec(), ip.get(24..40)?.to_vec());
            answer.segment = ip.get(40..40 + payload)?.to_vec();
        }
        _ => {}
    }
    Some(answer)
}

/// Checks the IPv4 header checksum and the transport checksum of an unfragmented frame.
pub fn verify_checksums(frame: &[u8]) -> Result<(), String> {
    let answer = inspect(frame).ok_or("the frame isn't whole")?;
    let ip = 14 + 4 * answer.vlans.len();
    if answer.family == 4 {
        let header = usize::from(frame[ip] & 15) * 4;
        if checksum::internet(&frame[ip..ip + header]) != 0 {
            return Err("the IPv4 header checksum is wrong".into());
        }
    }
    let wrong = match (answer.family, answer.proto) {
        (4, 1) => checksum::internet(&answer.segment) != 0,
        (4, 17) if answer.u16(6) == 0 => false,
        (_, 6 | 17 | 58) => {
            checksum::transport(&answer.src, &answer.dst, answer.proto, &answer.segment) != 0
        }
        _ => false,
    };
    if wrong { Err(format!("the checksum of protocol {} is wrong", answer.proto)) } else { Ok(()) }
}
