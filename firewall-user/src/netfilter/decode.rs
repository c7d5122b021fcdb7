//! Bytes of a netlink socket to entries. Total: any bytes give messages or an error, nothing panics.

use super::{
    attribute::{Attribute, Attributes},
    entry::{Count, Counters, EntryKey, Facts, NetfilterEntry, ProtoState, Status, Tuple},
    error::DecodeError,
};
use std::net::IpAddr;

/// Length of a netlink message's header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// Length of netfilter's own header behind it (`struct nfgenmsg`).
const FAMILY_HEADER: usize = 4;

/// Message types: subsystem in the upper byte.
const CT_NEW: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const CT_GET: u16 = CT_NEW | 1;
const CT_DELETE: u16 = CT_NEW | 2;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

/// Attributes of an entry (`enum ctattr_type`).
mod cta {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const COUNTERS_ORIG: u16 = 9;
    pub const COUNTERS_REPLY: u16 = 10;
    pub const ID: u16 = 12;
    pub const ZONE: u16 = 18;
    pub const TIMESTAMP: u16 = 20;
    /// In a tuple (`enum ctattr_tuple`).
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const TUPLE_ZONE: u16 = 3;
    /// In a tuple's addresses (`enum ctattr_ip`).
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const IP_V6_SRC: u16 = 3;
    pub const IP_V6_DST: u16 = 4;
    /// In a tuple's protocol part (`enum ctattr_l4proto`).
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const PROTO_ICMP_ID: u16 = 4;
    pub const PROTO_ICMP_TYPE: u16 = 5;
    pub const PROTO_ICMP_CODE: u16 = 6;
    pub const PROTO_ICMPV6_ID: u16 = 7;
    pub const PROTO_ICMPV6_TYPE: u16 = 8;
    pub const PROTO_ICMPV6_CODE: u16 = 9;
    /// In the protocol's state (`enum ctattr_protoinfo`).
    pub const PROTOINFO_TCP: u16 = 1;
    pub const PROTOINFO_SCTP: u16 = 3;
    /// In either of these two.
    pub const PROTOINFO_STATE: u16 = 1;
    /// In counters (`enum ctattr_counters`); the last two from very old kernels.
    pub const COUNTERS_PACKETS: u16 = 1;
    pub const COUNTERS_BYTES: u16 = 2;
    pub const COUNTERS32_PACKETS: u16 = 3;
    pub const COUNTERS32_BYTES: u16 = 4;
    /// In time stamps (`enum ctattr_tstamp`).
    pub const TIMESTAMP_START: u16 = 1;
    pub const TIMESTAMP_STOP: u16 = 2;
}

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An entry of a dump, or one that began.
    New(NetfilterEntry),
    /// An entry that changed.
    Update(NetfilterEntry),
    /// An entry that ended.
    Destroy(NetfilterEntry),
    /// The dump is complete, or broken off with an `errno`.
    Done(i32),
    /// The request was refused with this `errno`, or acknowledged (0).
    Error(i32),
    /// Something else.
    Other,
}

/// The messages in one answer of the socket, in order. A message with an entry that can't be
/// understood is an error of its own; a header that can't be is the last.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Over what one `recv` gave.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let seen = self.0.len();
        let Some((header, rest)) = self.0.split_first_chunk::<HEADER>() else {
            self.0 = &[];
            return Some(Err(DecodeError::Message { length: 0, seen }));
        };
        let [l0, l1, l2, l3, t0, t1, f0, f1, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = length.checked_sub(HEADER).and_then(|body| rest.get(..body)) else {
            self.0 = &[];
            return Some(Err(DecodeError::Message { length, seen }));
        };
        self.0 = rest.get(body.len().next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([t0, t1]);
        let flags = u16::from_ne_bytes([f0, f1]);
        Some(message(kind, flags, body))
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Result<Message, DecodeError> {
    let code = || body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    let entry = || {
        let attributes = body.get(FAMILY_HEADER..);
        entry(attributes.ok_or(DecodeError::Missing("netfilter header"))?)
    };
    // In a dump every entry is "new" without the flags of one that begins.
    let changed = flags & (libc::NLM_F_CREATE | libc::NLM_F_MULTI) as u16 == 0;
    match kind {
        CT_NEW if changed => entry().map(Message::Update),
        CT_NEW => entry().map(Message::New),
        CT_DELETE => entry().map(Message::Destroy),
        DONE => Ok(Message::Done(code().wrapping_neg())),
        ERROR => Ok(Message::Error(code().wrapping_neg())),
        _ => Ok(Message::Other),
    }
}

fn entry(bytes: &[u8]) -> Result<NetfilterEntry, DecodeError> {
    let (mut orig, mut reply, mut id, mut zone) = (None, None, None, None);
    let (mut there, mut back) = (None, None);
    let (mut status, mut state, mut timeout_s, mut mark) = (Status::default(), None, None, None);
    let (mut start_ns, mut stop_ns) = (None, None);
    for attribute in Attributes::new(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            cta::TUPLE_ORIG => orig = Some(tuple(&attribute)?),
            cta::TUPLE_REPLY => reply = Some(tuple(&attribute)?),
            cta::STATUS => status = Status(attribute.be32()?),
            cta::PROTOINFO => state = proto_state(&attribute)?.or(state),
            cta::TIMEOUT => timeout_s = Some(attribute.be32()?),
            cta::MARK => mark = Some(attribute.be32()?),
            cta::COUNTERS_ORIG => there = Some(count(&attribute)?),
            cta::COUNTERS_REPLY => back = Some(count(&attribute)?),
            cta::ID => id = Some(attribute.be32()?),
            cta::ZONE => zone = Some(attribute.be16()?),
            cta::TIMESTAMP => (start_ns, stop_ns) = times(&attribute)?,
            _ => {}
        }
    }
    let (orig, direction_zone) = orig.ok_or(DecodeError::Missing("original tuple"))?;
    let (reply, _) = reply.ok_or(DecodeError::Missing("reply tuple"))?;
    let zone = zone.or(direction_zone).unwrap_or(0);
    let id = id.ok_or(DecodeError::Missing("id"))?;
    let counters = there.zip(back).map(|(orig, reply)| Counters { orig, reply });
    Ok(NetfilterEntry {
        key: EntryKey { orig, zone, id },
        facts: Facts { reply, status, state, timeout_s, counters, start_ns, stop_ns, mark },
    })
}

/// A direction, and its zone where the directions have zones of their own.
fn tuple(attribute: &Attribute<'_>) -> Result<(Tuple, Option<u16>), DecodeError> {
    let (mut src, mut dst, mut zone) = (None, None, None);
    let (mut proto, mut sport, mut dport, mut icmp_type, mut icmp_code) = (None, 0, 0, 0, 0);
    for part in attribute.nested() {
        let part = part?;
        match part.kind {
            cta::TUPLE_IP => {
                for address in part.nested() {
                    let address = address?;
                    match address.kind {
                        cta::IP_V4_SRC => src = Some(IpAddr::from(address.array::<4>()?)),
                        cta::IP_V4_DST => dst = Some(IpAddr::from(address.array::<4>()?)),
                        cta::IP_V6_SRC => src = Some(IpAddr::from(address.array::<16>()?)),
                        cta::IP_V6_DST => dst = Some(IpAddr::from(address.array::<16>()?)),
                        _ => {}
                    }
                }
            }
            cta::TUPLE_PROTO => {
                for field in part.nested() {
                    let field = field?;
                    match field.kind {
                        cta::PROTO_NUM => proto = Some(field.u8()?),
                        cta::PROTO_SRC_PORT | cta::PROTO_ICMP_ID | cta::PROTO_ICMPV6_ID => {
                            sport = field.be16()?;
                        }
                        cta::PROTO_DST_PORT => dport = field.be16()?,
                        cta::PROTO_ICMP_TYPE | cta::PROTO_ICMPV6_TYPE => icmp_type = field.u8()?,
                        cta::PROTO_ICMP_CODE | cta::PROTO_ICMPV6_CODE => icmp_code = field.u8()?,
                        _ => {}
                    }
                }
            }
            cta::TUPLE_ZONE => zone = Some(part.be16()?),
            _ => {}
        }
    }
    let src = src.ok_or(DecodeError::Missing("source address"))?;
    let dst = dst.ok_or(DecodeError::Missing("destination address"))?;
    let proto = proto.ok_or(DecodeError::Missing("protocol"))?;
    Ok((Tuple { src, dst, sport, dport, proto, icmp_type, icmp_code }, zone))
}

fn proto_state(attribute: &Attribute<'_>) -> Result<Option<ProtoState>, DecodeError> {
    let mut state = None;
    for protocol in attribute.nested() {
        let protocol = protocol?;
        let make = match protocol.kind {
            cta::PROTOINFO_TCP => ProtoState::Tcp,
            cta::PROTOINFO_SCTP => ProtoState::Sctp,
            _ => continue,
        };
        for field in protocol.nested() {
            let field = field?;
            if field.kind == cta::PROTOINFO_STATE {
                state = Some(make(field.u8()?));
            }
        }
    }
    Ok(state)
}

fn count(attribute: &Attribute<'_>) -> Result<Count, DecodeError> {
    let mut count = Count::default();
    for field in attribute.nested() {
        let field = field?;
        match field.kind {
            cta::COUNTERS_PACKETS => count.packets = field.be64()?,
            cta::COUNTERS_BYTES => count.bytes = field.be64()?,
            cta::COUNTERS32_PACKETS => count.packets = field.be32()?.into(),
            cta::COUNTERS32_BYTES => count.bytes = field.be32()?.into(),
            _ => {}
        }
    }
    Ok(count)
}

/// Start and stop; zero is "never".
fn times(attribute: &Attribute<'_>) -> Result<(Option<u64>, Option<u64>), DecodeError> {
    let (mut start, mut stop) = (None, None);
    for field in attribute.nested() {
        let field = field?;
        match field.kind {
            cta::TIMESTAMP_START => start = Some(field.be64()?).filter(|ns| *ns != 0),
            cta::TIMESTAMP_STOP => stop = Some(field.be64()?).filter(|ns| *ns != 0),
            _ => {}
        }
    }
    Ok((start, stop))
}

/// The request for a dump of the whole table, both families.
pub fn dump_request(sequence: u32) -> [u8; HEADER + FAMILY_HEADER] {
    let mut request = [0; HEADER + FAMILY_HEADER];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[0..4].copy_from_slice(&((HEADER + FAMILY_HEADER) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&CT_GET.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
    // Port 0: the kernel fills it in. Family 0: any. Version 0, resource 0.
    request
}
