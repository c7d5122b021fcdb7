//! The SYN-ACK that carries a cookie, from the IP header on; addresses turned round.

use super::{
    Facts,
    answer::{ipv4_header, ipv6_header, put, sum},
    checksum::finish,
    transport,
};

/// Length of a TCP header with the MSS alone.
const SHORT: usize = 24;
/// Length with all options: what isn't offered is padded, so that there are two lengths only.
const LONG: usize = 40;

/// Length of a SYN-ACK over IPv4 with the MSS alone.
pub const SHORT4: usize = 20 + SHORT;
/// Over IPv4, with timestamps.
pub const LONG4: usize = 20 + LONG;
/// Over IPv6 with the MSS alone.
pub const SHORT6: usize = 40 + SHORT;
/// Over IPv6, with timestamps.
pub const LONG6: usize = 40 + LONG;

/// What the SYN-ACK says.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SynAck {
    /// Sequence number: the cookie.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Timestamp, in the long form.
    pub timestamp: u32,
    /// The client's timestamp.
    pub echo: u32,
    /// Window.
    pub window: u16,
    /// Our MSS.
    pub mss: u16,
    /// Our window scale, if `has_scale`; in the long form.
    pub scale: u8,
    /// Window scale is offered.
    pub has_scale: bool,
    /// SACK is permitted; in the long form.
    pub sack: bool,
}

#[inline(always)]
fn put32<const N: usize>(out: &mut [u8; N], at: usize, value: u32) {
    put(out, at, (value >> 16) as u16);
    put(out, at + 2, value as u16);
}

#[inline(always)]
fn tcp<const N: usize>(out: &mut [u8; N], at: usize, f: &Facts, a: &SynAck) {
    out[at] = f.dport[0];
    out[at + 1] = f.dport[1];
    out[at + 2] = f.sport[0];
    out[at + 3] = f.sport[1];
    put32(out, at + 4, a.seq);
    put32(out, at + 8, a.ack);
    out[at + 12] = (((N - at) / 4) << 4) as u8;
    out[at + 13] = transport::SYN | transport::ACK;
    put(out, at + 14, a.window);
    put(out, at + 20, 0x0204);
    put(out, at + 22, a.mss);
    if N - at == LONG {
        put(out, at + 24, if a.sack { 0x0402 } else { 0x0101 });
        put(out, at + 26, 0x080a);
        put32(out, at + 28, a.timestamp);
        put32(out, at + 32, a.echo);
        let scale = 0x0103_0300 | a.scale as u32;
        put32(out, at + 36, if a.has_scale { scale } else { 0x0101_0101 });
    }
}

/// Writes the SYN-ACK for `f` over IPv4: [`SHORT4`] or [`LONG4`] bytes.
#[inline(always)]
pub fn over4<const N: usize>(out: &mut [u8; N], f: &Facts, a: &SynAck) {
    const { assert!(N == SHORT4 || N == LONG4) };
    *out = [0; N];
    ipv4_header(out, f, transport::TCP);
    tcp(out, 20, f, a);
    let pseudo = sum(out, 12, 20) + u32::from(transport::TCP) + (N as u32 - 20);
    let check = finish(sum(out, 20, N) + pseudo);
    put(out, 36, check);
}

/// Writes the SYN-ACK for `f` over IPv6: [`SHORT6`] or [`LONG6`] bytes.
#[inline(always)]
pub fn over6<const N: usize>(out: &mut [u8; N], f: &Facts, a: &SynAck) {
    const { assert!(N == SHORT6 || N == LONG6) };
    *out = [0; N];
    ipv6_header(out, f, transport::TCP);
    tcp(out, 40, f, a);
    let pseudo = sum(out, 8, 40) + u32::from(transport::TCP) + (N as u32 - 40);
    let check = finish(sum(out, 40, N) + pseudo);
    put(out, 56, check);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        checksum::add,
        options::{self, Options},
    };

    fn said(bytes: &[u8]) -> Options {
        let mut room = [0; options::MAX];
        room[..bytes.len()].copy_from_slice(bytes);
        let mut out = Options::default();
        options::parse(&room, bytes.len(), &mut out);
        out
    }

    fn check(packet: &[u8], at: usize) {
        let addresses = if at == 20 { 12..20 } else { 8..40 };
        let body = &packet[at..];
        let pseudo = add(0, &packet[addresses]) + 6 + body.len() as u32;
        assert_eq!(finish(add(pseudo, body)), 0, "TCP checksum");
        assert_eq!(usize::from(packet[at + 12] >> 4) * 4, body.len(), "data offset");
    }

    #[test]
    fn options_and_checksums_hold_in_all_forms() {
        let mut f = Facts { family: 4, proto: 6, ..Facts::default() };
        f.src[..4].copy_from_slice(&[192, 0, 2, 1]);
        f.dst[..4].copy_from_slice(&[198, 51, 100, 7]);
        (f.sport, f.dport) = ([0x12, 0x34], [0, 80]);
        for (has_scale, sack) in [(true, true), (true, false), (false, true), (false, false)] {
            let a = SynAck {
                seq: 0xfedc_ba98,
                ack: 0x0102_0304,
                timestamp: 0xa1b2_c3d4,
                echo: 0x5566_7788,
                window: 14_600,
                mss: 1460,
                scale: 7,
                has_scale,
                sack,
            };
            let expected = Options {
                timestamp: a.timestamp,
                echo: a.echo,
                mss: a.mss,
                scale: if has_scale { 7 } else { 0 },
                has_scale,
                sack,
                has_timestamp: true,
            };
            let mut out = [0xff; LONG4];
            over4(&mut out, &f, &a);
            assert_eq!(finish(add(0, &out[..20])), 0, "IP checksum");
            check(&out, 20);
            assert_eq!(said(&out[40..]), expected);
            assert_eq!(out[24..32], [0xfe, 0xdc, 0xba, 0x98, 1, 2, 3, 4]);
            let mut out = [0xff; LONG6];
            over6(&mut out, &f, &a);
            check(&out, 40);
            assert_eq!(said(&out[60..]), expected);
            let short = Options { mss: 1460, ..Options::default() };
            let mut out = [0xff; SHORT4];
            over4(&mut out, &f, &a);
            check(&out, 20);
            assert_eq!(said(&out[40..]), short);
            let mut out = [0xff; SHORT6];
            over6(&mut out, &f, &a);
            check(&out, 40);
            assert_eq!(said(&out[60..]), short);
        }
    }
}
