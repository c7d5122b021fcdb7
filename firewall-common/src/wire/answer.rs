//! What a rejected packet gets back: a TCP RST, or an ICMP port unreachable. From the IP header on,
//! without options; addresses turned round.

use super::{Facts, checksum::finish, icmp, transport};

/// TTL and hop limit of an answer.
const TTL: u8 = 64;

/// Sum of the sixteen-bit words from `from` to `to`. Out of line and rolled: answers are rare, and the
/// kernel's stack is short.
#[inline(never)]
pub(super) fn sum<const N: usize>(bytes: &[u8; N], from: usize, to: usize) -> u32 {
    let mut total = 0u32;
    let mut i = from;
    while i + 1 < to && i + 1 < N {
        total += u32::from(u16::from_be_bytes([bytes[i], bytes[i + 1]]));
        i += 2;
    }
    total
}

#[inline(always)]
pub(super) fn put<const N: usize>(out: &mut [u8; N], at: usize, value: u16) {
    let [hi, lo] = value.to_be_bytes();
    out[at] = hi;
    out[at + 1] = lo;
}

/// Fields of the rejected TCP segment that the RST needs.
#[derive(Clone, Copy, Default)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Bytes of payload.
    pub payload: u32,
}

/// Writes the RST for `f` at `at` (RFC 9293 section 3.10.7.1: an ACK's number becomes our sequence
/// number; otherwise we acknowledge everything that came).
#[inline(always)]
fn rst<const N: usize>(out: &mut [u8; N], at: usize, f: &Facts, s: Segment) {
    let (seq, ack, flags) = if f.tcp_flags & transport::ACK != 0 {
        (s.ack, 0, transport::RST)
    } else {
        let syn = (f.tcp_flags & transport::SYN != 0) as u32;
        let fin = (f.tcp_flags & transport::FIN != 0) as u32;
        let ack = s.seq.wrapping_add(s.payload).wrapping_add(syn).wrapping_add(fin);
        (0, ack, transport::RST | transport::ACK)
    };
    out[at] = f.dport[0];
    out[at + 1] = f.dport[1];
    out[at + 2] = f.sport[0];
    out[at + 3] = f.sport[1];
    put(out, at + 4, (seq >> 16) as u16);
    put(out, at + 6, seq as u16);
    put(out, at + 8, (ack >> 16) as u16);
    put(out, at + 10, ack as u16);
    out[at + 12] = 0x50;
    out[at + 13] = flags;
}

#[inline(always)]
pub(super) fn ipv4_header<const N: usize>(out: &mut [u8; N], f: &Facts, proto: u8) {
    out[0] = 0x45;
    put(out, 2, N as u16);
    out[6] = 0x40; // don't fragment: then the identification may be zero (RFC 6864)
    out[8] = TTL;
    out[9] = proto;
    let mut i = 0;
    while i < 4 {
        out[12 + i] = f.dst[i];
        out[16 + i] = f.src[i];
        i += 1;
    }
    put(out, 10, finish(sum(out, 0, 20)));
}

#[inline(always)]
pub(super) fn ipv6_header<const N: usize>(out: &mut [u8; N], f: &Facts, next: u8) {
    out[0] = 0x60;
    put(out, 4, (N - 40) as u16);
    out[6] = next;
    out[7] = TTL;
    let mut i = 0;
    while i < 16 {
        out[8 + i] = f.dst[i];
        out[24 + i] = f.src[i];
        i += 1;
    }
}

/// RST over IPv4.
#[inline(always)]
pub fn rst4(out: &mut [u8; 40], f: &Facts, s: Segment) {
    *out = [0; 40];
    ipv4_header(out, f, transport::TCP);
    rst(out, 20, f, s);
    let pseudo = sum(out, 12, 20) + u32::from(transport::TCP) + 20;
    let check = finish(sum(out, 20, 40) + pseudo);
    put(out, 36, check);
}

/// RST over IPv6.
#[inline(always)]
pub fn rst6(out: &mut [u8; 60], f: &Facts, s: Segment) {
    *out = [0; 60];
    ipv6_header(out, f, transport::TCP);
    rst(out, 40, f, s);
    let pseudo = sum(out, 8, 40) + u32::from(transport::TCP) + 20;
    let check = finish(sum(out, 40, 60) + pseudo);
    put(out, 56, check);
}

/// ICMP destination unreachable, port (RFC 792: the original header and eight bytes more). `original`
/// stands at the end of `out` already: there is no room on the kernel's stack to hand it over.
#[inline(always)]
pub fn unreachable4(out: &mut [u8; 56], f: &Facts) {
    out[..28].copy_from_slice(&[0; 28]);
    ipv4_header(out, f, icmp::PROTO_ICMP);
    out[20] = 3;
    out[21] = 3;
    let check = finish(sum(out, 20, 56));
    put(out, 22, check);
}

/// ICMPv6 destination unreachable, port (RFC 4443 section 3.1), with the original's first 48 bytes, which
/// stand at the end of `out` already.
#[inline(always)]
pub fn unreachable6(out: &mut [u8; 96], f: &Facts) {
    out[..48].copy_from_slice(&[0; 48]);
    ipv6_header(out, f, icmp::PROTO_ICMPV6);
    out[40] = 1;
    out[41] = 4;
    let pseudo = sum(out, 8, 40) + u32::from(icmp::PROTO_ICMPV6) + 56;
    let check = finish(sum(out, 40, 96) + pseudo);
    put(out, 42, check);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::add;

    fn facts() -> Facts {
        let mut f = Facts { family: 4, proto: 6, ..Facts::default() };
        f.src[..4].copy_from_slice(&[192, 0, 2, 1]);
        f.dst[..4].copy_from_slice(&[198, 51, 100, 7]);
        f.sport = 4242u16.to_be_bytes();
        f.dport = 22u16.to_be_bytes();
        f
    }

    /// Verifies with a separate sum: header, and pseudo-header with payload.
    fn check4(packet: &[u8]) {
        assert_eq!(finish(add(0, &packet[..20])), 0, "header");
        let body = &packet[20..];
        let pseudo =
            if packet[9] == 6 { add(0, &packet[12..20]) + 6 + body.len() as u32 } else { 0 };
        assert_eq!(finish(add(pseudo, body)), 0, "body");
    }

    fn check6(packet: &[u8]) {
        let body = &packet[40..];
        let pseudo = add(0, &packet[8..40]) + u32::from(packet[6]) + body.len() as u32;
        assert_eq!(finish(add(pseudo, body)), 0);
    }

    #[test]
    fn a_syn_is_acknowledged() {
        let mut f = facts();
        f.tcp_flags = transport::SYN;
        let mut out = [0xff; 40];
        rst4(&mut out, &f, Segment { seq: 0xffff_ffff, ack: 7, payload: 0 });
        check4(&out);
        assert_eq!(out[12..16], [198, 51, 100, 7]);
        assert_eq!(out[24..32], [0, 0, 0, 0, 0, 0, 0, 0]); // seq 0, ack wraps to 0
        assert_eq!(out[33], transport::RST | transport::ACK);
    }

    #[test]
    fn an_ack_lends_its_number() {
        let mut f = facts();
        f.tcp_flags = transport::ACK;
        let mut out = [0xff; 40];
        rst4(&mut out, &f, Segment { seq: 1, ack: 0x0102_0304, payload: 10 });
        check4(&out);
        assert_eq!(out[24..28], [1, 2, 3, 4]);
        assert_eq!(out[33], transport::RST);
    }

    #[test]
    fn all_checksums_hold() {
        let mut f = facts();
        let mut out = [0xff; 56];
        unreachable4(&mut out, &f);
        check4(&out);
        assert_eq!(out[28..], [0xff; 28], "the original is left alone");
        f.family = 6;
        f.src = [0xfe; 16];
        f.dst = [0x20; 16];
        f.tcp_flags = transport::SYN;
        let mut out = [0xff; 60];
        rst6(&mut out, &f, Segment { seq: 5, ack: 0, payload: 3 });
        check6(&out);
        let mut out = [0xff; 96];
        unreachable6(&mut out, &f);
        check6(&out);
    }
}
