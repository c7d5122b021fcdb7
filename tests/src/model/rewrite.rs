//! Rewriting a frame, the plain way: write what is to be written, and put every checksum right that was
//! right before, from all the bytes it covers. One that can't be computed from what is there (a fragment, a
//! quotation) is changed by as much as its bytes were.

use super::nat::Plan;
use crate::packet::checksum;
use std::net::IpAddr;

/// Where the parts of an IP packet are.
struct Layout {
    /// The IP header.
    ip: usize,
    v6: bool,
    /// The transport header.
    l4: usize,
    /// Behind the last byte.
    end: usize,
    proto: u8,
    /// There is a transport header here.
    first: bool,
    /// All of it is here.
    whole: bool,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1])
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Reads the layout of the packet at `ip`, which may be cut short at the end of the bytes.
fn layout(bytes: &[u8], ip: usize, v6: bool) -> Layout {
    if !v6 {
        let fragment = be16(bytes, ip + 6);
        let end = ip + usize::from(be16(bytes, ip + 2));
        return Layout {
            ip,
            v6,
            l4: ip + usize::from(bytes[ip] & 15) * 4,
            end: end.min(bytes.len()),
            proto: bytes[ip + 9],
            first: fragment & 0x1fff == 0,
            whole: fragment & 0x3fff == 0 && end <= bytes.len(),
        };
    }
    let end = ip + 40 + usize::from(be16(bytes, ip + 4));
    let (mut proto, mut l4) = (bytes[ip + 6], ip + 40);
    let (mut first, mut whole) = (true, end <= bytes.len());
    while [0, 43, 44, 51, 60, 135, 139, 140].contains(&proto) && l4 + 8 <= bytes.len() && first {
        let len = match proto {
            44 => 8,
            51 => (usize::from(bytes[l4 + 1]) + 2) * 4,
            _ => (usize::from(bytes[l4 + 1]) + 1) * 8,
        };
        if proto == 44 {
            first = be16(bytes, l4 + 2) & 0xfff8 == 0;
            whole &= be16(bytes, l4 + 2) & 0xfff9 == 0;
        }
        proto = bytes[l4];
        l4 += len;
    }
    Layout { ip, v6, l4, end: end.min(bytes.len()), proto, first, whole }
}

impl Layout {
    /// Place of an address and its length.
    fn address(&self, source: bool) -> (usize, usize) {
        match (self.v6, source) {
            (false, true) => (self.ip + 12, 4),
            (false, false) => (self.ip + 16, 4),
            (true, true) => (self.ip + 8, 16),
            (true, false) => (self.ip + 24, 16),
        }
    }

    /// Place of the port, or of a query's identifier.
    fn port(&self, bytes: &[u8], source: bool) -> Option<usize> {
        if !self.first {
            return None;
        }
        let at = match self.proto {
            6 | 17 | 132 | 136 => self.l4 + if source { 0 } else { 2 },
            1 if matches!(bytes.get(self.l4)?, 0 | 8 | 13..=18 | 42 | 43) => self.l4 + 4,
            58 if matches!(bytes.get(self.l4)?, 128 | 129 | 160 | 161) => self.l4 + 4,
            _ => return None,
        };
        (at + 2 <= bytes.len()).then_some(at)
    }

    /// Place of the transport checksum, if it is there and means something.
    fn sum_at(&self, bytes: &[u8]) -> Option<usize> {
        let at = match self.proto {
            6 => self.l4 + 16,
            17 | 136 => self.l4 + 6,
            1 | 58 => self.l4 + 2,
            _ => return None,
        };
        let there = self.first && at + 2 <= self.end;
        let none = matches!(self.proto, 17 | 136) && there && be16(bytes, at) == 0;
        (there && !none).then_some(at)
    }

    /// Whether the transport checksum covers the addresses.
    fn pseudo(&self) -> bool {
        self.proto != 1
    }

    /// Sum over everything that the transport checksum covers: 0 where it is right.
    fn transport(&self, bytes: &[u8]) -> u16 {
        // UDP-Lite says itself how much is covered (RFC 3828); all of it here.
        let segment = &bytes[self.l4..self.end];
        if !self.pseudo() {
            return checksum::internet(segment);
        }
        let part = |source| {
            let (at, len) = self.address(source);
            &bytes[at..at + len]
        };
        checksum::transport(part(true), part(false), self.proto, segment)
    }
}

/// A checksum after some of the bytes under it changed (RFC 1624, equation 3).
fn changed(sum: u16, old: &[u8], new: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> Vec<u16> { bytes.chunks(2).map(|pair| be16(pair, 0)).collect() };
    let mut total = u64::from(!sum);
    total += words(old).iter().map(|word| u64::from(!word)).sum::<u64>();
    total += words(new).iter().map(|word| u64::from(*word)).sum::<u64>();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// Writes one end of one packet, with its own checksums.
fn write(bytes: &mut [u8], ip: usize, v6: bool, plan: &Plan) {
    let before = bytes.to_vec();
    let at = layout(&before, ip, v6);
    let (address_at, len) = at.address(plan.source);
    let octets = match plan.address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes[address_at..address_at + len].copy_from_slice(&octets);
    let port = plan.port.and_then(|port| at.port(&before, plan.source).map(|at| (at, port)));
    if let Some((place, port)) = port {
        put16(bytes, place, port);
    }
    if !v6 {
        let right = checksum::internet(&before[ip..at.l4.min(before.len())]) == 0;
        let sum = if right {
            put16(bytes, ip + 10, 0);
            checksum::internet(&bytes[ip..at.l4])
        } else {
            changed(be16(&before, ip + 10), &before[address_at..address_at + 4], &octets)
        };
        put16(bytes, ip + 10, sum);
    }
    let Some(sum_at) = at.sum_at(&before) else { return };
    if v6 && plan.port.is_none() {
        // A prefix is changed so that no checksum notices.
        return;
    }
    let sum = if at.whole && at.transport(&before) == 0 {
        put16(bytes, sum_at, 0);
        let sum = at.transport(bytes);
        if sum == 0 && matches!(at.proto, 17 | 136) { 0xffff } else { sum }
    } else {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        if at.pseudo() {
            old.extend(&before[address_at..address_at + len]);
            new.extend(&octets);
        }
        if let Some((place, _)) = port {
            old.extend(&before[place..place + 2]);
            new.extend(&bytes[place..place + 2]);
        }
        let sum = changed(be16(&before, sum_at), &old, &new);
        if sum == 0 && matches!(at.proto, 17 | 136) { 0xffff } else { sum }
    };
    put16(bytes, sum_at, sum);
}

/// The frame, rewritten as planned. An ICMP error carries a packet that went the other way: its other end
/// is the same one.
pub fn frame(frame: &[u8], plan: &Plan) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let mut ip = 14;
    while matches!(be16(frame, ip - 2), 0x8100 | 0x88a8) {
        ip += 4;
    }
    let v6 = be16(frame, ip - 2) == 0x86dd;
    let at = layout(frame, ip, v6);
    let kind = frame.get(at.l4).copied().unwrap_or(0);
    let error = at.first
        && match at.proto {
            1 => !v6 && matches!(kind, 3..=5 | 11 | 12),
            58 => v6 && kind < 128,
            _ => false,
        };
    if !error {
        write(&mut bytes, ip, v6, plan);
        return bytes;
    }
    let right = at.whole && at.transport(frame) == 0;
    // IPv6 prefixes: the quoted address is translated by itself.
    let inner =
        Plan { source: !plan.source, address: plan.quoted.unwrap_or(plan.address), ..plan.clone() };
    let quoted = at.l4 + 8;
    let end = at.end;
    let trailer = bytes.split_off(end);
    if !v6 || plan.quoted.is_some() {
        write(&mut bytes, quoted, v6, &inner);
    }
    // The outer header has no port, and its checksum is made anew below.
    let (sum_at, old) = (at.l4 + 2, frame[quoted..end].to_vec());
    let sum = be16(&bytes, sum_at);
    write(&mut bytes, ip, v6, &Plan { port: None, ..plan.clone() });
    if right {
        put16(&mut bytes, sum_at, 0);
        let after = layout(&bytes, ip, v6).transport(&bytes);
        put16(&mut bytes, sum_at, after);
    } else {
        let pad = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            bytes
        };
        let after = changed(sum, &pad(&old), &pad(&bytes[quoted..end]));
        put16(&mut bytes, sum_at, after);
    }
    bytes.extend(trailer);
    bytes
}
