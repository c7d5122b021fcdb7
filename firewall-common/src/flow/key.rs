//! The canonical key: both directions of a flow meet one record.

use crate::abi::flow::{Key4, Key6};
use crate::wire::{Facts, facts::IcmpKind, icmp};

/// The two port fields of the key: ports, or the ICMP query's identifier in both, or zero. `icmp` is
/// the family's ICMP. Its messages that neither ask nor answer have no identifier and belong to no
/// flow, least of all to that of a query whose identifier is zero: they get two that differ, which no
/// flow has.
#[inline(always)]
fn ports(f: &Facts, icmp: u8) -> ([u8; 2], [u8; 2]) {
    if f.proto != icmp {
        (f.sport, f.dport)
    } else if matches!(f.icmp, IcmpKind::Query | IcmpKind::Answer) {
        (f.sport, f.sport)
    } else {
        ([0, 0], [0, 1])
    }
}

/// Writes the key of an IPv4 packet; whether its source is end `a`. Into place, because the kernel's
/// stack is short.
#[inline(always)]
pub fn key4(key: &mut Key4, f: &Facts) -> bool {
    let src = u32::from_be_bytes([f.src[0], f.src[1], f.src[2], f.src[3]]);
    let dst = u32::from_be_bytes([f.dst[0], f.dst[1], f.dst[2], f.dst[3]]);
    let (sp, dp) = ports(f, icmp::PROTO_ICMP);
    let src_is_a = src < dst || (src == dst && u16::from_be_bytes(sp) <= u16::from_be_bytes(dp));
    let (a, b, a_port, b_port) = if src_is_a { (src, dst, sp, dp) } else { (dst, src, dp, sp) };
    let (a_port, b_port) = (u16::from_ne_bytes(a_port), u16::from_ne_bytes(b_port));
    let ports = pair(u64::from(a_port), u64::from(b_port), 16);
    let words: &mut [[u8; 8]; 2] = bytemuck::must_cast_mut(key);
    // As words, because it is read as words: a processor can't hand on what was stored in smaller pieces.
    words[0] = pair(u64::from(a.to_be()), u64::from(b.to_be()), 32).to_ne_bytes();
    words[1] = pair(ports, protocol(f.proto), 32).to_ne_bytes();
    src_is_a
}

/// Two values of `bits` bits, one behind the other in memory.
#[inline(always)]
const fn pair(first: u64, second: u64, bits: u32) -> u64 {
    if cfg!(target_endian = "little") { first | second << bits } else { first << bits | second }
}

/// A protocol and three bytes of padding.
#[inline(always)]
const fn protocol(proto: u8) -> u64 {
    u32::from_ne_bytes([proto, 0, 0, 0]) as u64
}

/// Eight bytes of an address as one word, in memory order.
#[inline(always)]
fn half(address: &[u8; 16], at: usize) -> [u8; 8] {
    // SAFETY: `at` is 0 or 8; any bytes are a value.
    unsafe { address.as_ptr().add(at).cast::<u64>().read_unaligned() }.to_ne_bytes()
}

#[inline(always)]
fn halves(b: &[u8; 16]) -> (u64, u64) {
    (
        u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        u64::from_be_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
    )
}

/// Writes the key of an IPv6 packet; whether its source is end `a`.
#[inline(always)]
pub fn key6(key: &mut Key6, f: &Facts) -> bool {
    let (s_hi, s_lo) = halves(&f.src);
    let (d_hi, d_lo) = halves(&f.dst);
    let (sp, dp) = ports(f, icmp::PROTO_ICMPV6);
    let equal = s_hi == d_hi && s_lo == d_lo;
    let src_is_a = s_hi < d_hi
        || (s_hi == d_hi && s_lo < d_lo)
        || (equal && u16::from_be_bytes(sp) <= u16::from_be_bytes(dp));
    let (a, b, a_port, b_port) =
        if src_is_a { (&f.src, &f.dst, sp, dp) } else { (&f.dst, &f.src, dp, sp) };
    let (a_port, b_port) = (u16::from_ne_bytes(a_port), u16::from_ne_bytes(b_port));
    let ports = pair(u64::from(a_port), u64::from(b_port), 16);
    let words: &mut [[u8; 8]; 5] = bytemuck::must_cast_mut(key);
    words[0] = half(a, 0);
    words[1] = half(a, 8);
    words[2] = half(b, 0);
    words[3] = half(b, 8);
    words[4] = pair(ports, protocol(f.proto), 32).to_ne_bytes();
    src_is_a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made4(f: &Facts) -> (Key4, bool) {
        let mut key = Key4 { _pad: [9; 3], ..Key4::default() };
        let src_is_a = key4(&mut key, f);
        (key, src_is_a)
    }

    fn facts(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Facts {
        let mut f = Facts { family: 4, proto: 6, ..Facts::default() };
        f.src[..4].copy_from_slice(&src);
        f.dst[..4].copy_from_slice(&dst);
        f.sport = sport.to_be_bytes();
        f.dport = dport.to_be_bytes();
        f
    }

    #[test]
    fn both_directions_meet_and_know_their_side() {
        for (a, b) in
            [(([10, 0, 0, 1], 9), ([9, 255, 0, 1], 8)), (([10, 0, 0, 1], 9), ([10, 0, 0, 1], 8))]
        {
            let (there, one) = made4(&facts(a.0, a.1, b.0, b.1));
            let (back, two) = made4(&facts(b.0, b.1, a.0, a.1));
            assert_eq!(there, back);
            assert_ne!(one, two);
        }
    }

    #[test]
    fn v6_orders_by_the_whole_address() {
        let mut f = Facts { family: 6, proto: 17, ..Facts::default() };
        f.src[15] = 2;
        f.dst[15] = 1;
        let mut key = Key6::default();
        let src_is_a = key6(&mut key, &f);
        assert!(!src_is_a);
        assert_eq!(key.a[15], 1);
        f.src[0] = 0;
        f.dst[0] = 0x20;
        assert!(key6(&mut key, &f));
    }

    #[test]
    fn an_icmp_answer_meets_its_query() {
        let mut q = facts([1, 1, 1, 1], 77, [2, 2, 2, 2], 0x0800);
        q.proto = 1;
        q.icmp = IcmpKind::Query;
        let mut a = facts([2, 2, 2, 2], 77, [1, 1, 1, 1], 0);
        a.proto = 1;
        a.icmp = IcmpKind::Answer;
        assert_eq!(made4(&q).0, made4(&a).0);
    }
}
