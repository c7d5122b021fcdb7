//! Messages of DNS (RFC 1035): what is asked, and which addresses the answer gives it.

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, RCODE, rdata::RData};
use std::{
    collections::HashSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use thiserror::Error;

/// Bytes of a header; of the shortest record, which is a question.
const HEADER: usize = 12;
const RECORD: usize = 5;
/// Addresses of one answer that are taken.
const ADDRESSES: usize = 64;

/// Why a message tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DnsError {
    /// It isn't one, or only its beginning was seen.
    #[error("no message of DNS: {0}")]
    Malformed(String),
    /// A header that announces more than could be in it.
    #[error("{records} records in {bytes} bytes")]
    Crowded {
        /// As announced.
        records: usize,
        /// As seen.
        bytes: usize,
    },
    /// Not one question for something of the Internet.
    #[error("{0} questions, expected one of class IN")]
    Questions(usize),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The message's number.
    pub id: u16,
    /// Small letters, in presentation format, without the last dot.
    pub name: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What had been asked.
    pub question: Question,
    /// Addresses that the name has, and for how long, seconds.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Reads what is asked.
///
/// # Errors
/// It can't be read, or is no question.
pub fn question(message: &[u8]) -> Result<Question, DnsError> {
    let packet = parse(message)?;
    asked(&packet)
}

/// Reads an answer. Addresses count if they are the name's own, or those of what it is an alias for (CNAME).
///
/// # Errors
/// It can't be read. One that says that there is nothing has no addresses.
pub fn answer(message: &[u8]) -> Result<Answer, DnsError> {
    let packet = parse(message)?;
    let question = asked(&packet)?;
    let mut answer = Answer { question, addresses: Vec::new() };
    if !packet.has_flags(PacketFlag::RESPONSE) || packet.rcode() != RCODE::NoError {
        return Ok(answer);
    }
    let of_internet = || packet.answers.iter().filter(|record| record.class == CLASS::IN);
    let mut names = HashSet::from([answer.question.name.clone()]);
    // Aliases need not come in order. Each round finds one at least, or is the last.
    loop {
        let before = names.len();
        for record in of_internet() {
            if let RData::CNAME(target) = &record.rdata
                && names.contains(&text(&record.name))
            {
                names.insert(text(&target.0));
            }
        }
        if names.len() == before {
            break;
        }
    }
    for record in of_internet() {
        let address: IpAddr = match &record.rdata {
            RData::A(a) => Ipv4Addr::from_bits(a.address).into(),
            RData::AAAA(aaaa) => Ipv6Addr::from_bits(aaaa.address).into(),
            _ => continue,
        };
        if answer.addresses.len() < ADDRESSES && names.contains(&text(&record.name)) {
            answer.addresses.push((address, record.ttl));
        }
    }
    Ok(answer)
}

fn parse(message: &[u8]) -> Result<Packet<'_>, DnsError> {
    // The parser makes room for what the header announces.
    let counts = message.get(4..HEADER).unwrap_or_default().chunks_exact(2);
    let records = counts.map(|count| usize::from(u16::from_be_bytes([count[0], count[1]]))).sum();
    if HEADER + records * RECORD > message.len() {
        return Err(DnsError::Crowded { records, bytes: message.len() });
    }
    Packet::parse(message).map_err(|error| DnsError::Malformed(error.to_string()))
}

fn asked(packet: &Packet<'_>) -> Result<Question, DnsError> {
    let [question] = packet.questions.as_slice() else {
        return Err(DnsError::Questions(packet.questions.len()));
    };
    if question.qclass != QCLASS::CLASS(CLASS::IN) {
        return Err(DnsError::Questions(0));
    }
    Ok(Question { id: packet.id(), name: text(&question.qname) })
}

/// A name as people write it (RFC 1035, section 5.1), in small letters: whatever is in it, a terminal may show it.
fn text(name: &Name<'_>) -> String {
    let mut text = String::new();
    for label in name.as_bytes() {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte {
                b'.' | b'\\' => {
                    text.push('\\');
                    text.push(char::from(*byte));
                }
                b'!'..=b'~' => text.push(char::from(byte.to_ascii_lowercase())),
                // Writing to a string can't fail.
                other => _ = write!(text, "\\{other:03}"),
            }
        }
    }
    text
}
