//! The IPv6 twin of an IPv4 rule set: the same shape, bit by bit.
//!
//! Every bit of an IPv4 prefix becomes two (of the first 16) or five, so that /16 becomes /48, /24 /88 and /32
//! /128. The first of them is the bit, the others follow from all bits so far: prefixes that hold, cross or
//! miss each other still do, and no two become the same.

use super::{Detail, Prefix, Rule, proto};
use std::net::IpAddr;

/// Bits that all begin with: 2001::/16, so that no address is anything special.
const TOP: u128 = 0x2001;
const TOP_LEN: u8 = 16;

/// The twin of an IPv4 prefix; of IPv6, the prefix itself.
pub fn prefix(old: Prefix) -> Prefix {
    let IpAddr::V4(address) = old.address() else { return old };
    if old.is_any() {
        return Prefix::any(true);
    }
    let (mut bits, mut len) = (TOP, TOP_LEN);
    for i in 0..u32::from(old.length()) {
        let so_far = address.to_bits() >> (31 - i);
        let width = if i < 16 { 2 } else { 5 };
        // Any mixing will do: it only has to be a function of the bits so far.
        let noise = (so_far ^ i << 27).wrapping_mul(0x9e37_79b1) >> (33 - width);
        bits = bits << width | u128::from((so_far & 1) << (width - 1) | noise);
        len += width as u8;
    }
    Prefix::new(IpAddr::V6((bits << (128 - u32::from(len))).into()), len)
}

/// The ICMPv6 type that means the same where there is one.
fn icmp_type(old: u8) -> u8 {
    match old {
        0 => 129,
        3 => 1,
        8 => 128,
        11 => 3,
        other => other,
    }
}

/// The twin of a set.
pub fn twin(rules: &[Rule]) -> Vec<Rule> {
    let one = |rule: &Rule| Rule {
        src: prefix(rule.src),
        dst: prefix(rule.dst),
        proto: rule.proto.map(|number| if number == proto::ICMP { proto::ICMPV6 } else { number }),
        detail: rule.detail.map(|detail| match detail {
            Detail::IcmpType(kind) => Detail::IcmpType(icmp_type(kind)),
            flags @ Detail::Flags { .. } => flags,
        }),
        ..*rule
    };
    rules.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{prefix, twin};
    use crate::ruleset::{Prefix, random};

    #[test]
    fn lengths_grow() {
        let of = |text: &str, len| prefix(Prefix::new(text.parse().unwrap(), len));
        assert_eq!(
            [0, 8, 16, 24, 32].map(|len| of("10.20.30.40", len).length()),
            [0, 32, 48, 88, 128]
        );
        assert!(of("10.20.30.40", 8).to_string().starts_with("2001:"));
    }

    #[test]
    fn prefixes_keep_how_they_stand_to_each_other() {
        let old = random::classbench_like(300, 9);
        let new = twin(&old);
        for (i, a) in old.iter().enumerate() {
            for (k, b) in old.iter().enumerate() {
                assert_eq!(a.src.overlaps(&b.src), new[i].src.overlaps(&new[k].src));
                assert_eq!(a.src == b.src, new[i].src == new[k].src);
            }
        }
    }
}
