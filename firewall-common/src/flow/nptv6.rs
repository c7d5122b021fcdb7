//! IPv6 prefix translation (RFC 6296): one prefix in place of another, and one word adjusted so that
//! no checksum above notices. Without state: the other way round is the same with the other prefix.

use crate::abi::nat::NatRule;

#[inline(always)]
const fn word<const AT: usize>(address: &[u8; 16]) -> u16 {
    u16::from_be_bytes([address[AT], address[AT + 1]])
}

/// Sum in one's complement; never 0xffff, which would be a second zero.
#[inline(always)]
const fn add(a: u16, b: u16) -> u16 {
    let sum = a as u32 + b as u32;
    // 0xffff and what is beyond wrap once, and can't wrap twice.
    if sum >= 0xffff { (sum - 0xffff) as u16 } else { sum as u16 }
}

#[inline(always)]
const fn sum(prefix: &[u8; 16]) -> u16 {
    let upper = add(word::<0>(prefix), word::<2>(prefix));
    add(upper, add(word::<4>(prefix), word::<6>(prefix)))
}

/// What has to be added to a word of an address where prefix `to` comes in place of prefix `from`
/// (RFC 6296 section 3.1). No bit may be set behind the prefixes, which have up to 64.
#[inline(always)]
pub const fn adjustment(from: &[u8; 16], to: &[u8; 16]) -> u16 {
    add(sum(from), !sum(to))
}

/// Adds to one word, unless it is 0xffff: that one can't be told from zero on the way back.
#[inline(always)]
fn adjust<const AT: usize>(address: &mut [u8; 16], by: u16) -> bool {
    let old = word::<AT>(address);
    if old == 0xffff {
        return false;
    }
    let [high, low] = add(old, by).to_be_bytes();
    address[AT] = high;
    address[AT + 1] = low;
    true
}

/// Gives an address the rule's prefix. False, and the address as it was, if it is one that can't be
/// translated: subnet 0xffff (prefixes up to /48), or an interface identifier of ones (longer ones).
#[inline(always)]
pub fn translate(address: &mut [u8; 16], rule: &NatRule) -> bool {
    // The word to adjust lies behind the prefix, so that the order of the two steps doesn't matter:
    // up to /48 the subnet's, else the first of the interface identifier's that isn't all ones.
    let adjusted = if rule.prefix_len <= 48 {
        adjust::<6>(address, rule.adjust)
    } else {
        adjust::<8>(address, rule.adjust)
            || adjust::<10>(address, rule.adjust)
            || adjust::<12>(address, rule.adjust)
            || adjust::<14>(address, rule.adjust)
    };
    if !adjusted {
        return false;
    }
    let mut i = 0;
    while i < 8 {
        let bits = (rule.prefix_len as u32).saturating_sub(8 * i as u32);
        let bits = if bits > 8 { 8 } else { bits };
        let mask = !(0xffu32 >> bits) as u8;
        address[i] = rule.prefix[i] & mask | address[i] & !mask;
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn bytes(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().expect("an address").octets()
    }

    fn rule(from: &str, to: &str, len: u8) -> NatRule {
        let (from, to) = (bytes(from), bytes(to));
        let adjust = adjustment(&from, &to);
        NatRule { prefix: to, prefix_len: len, adjust, ..NatRule::default() }
    }

    fn translated(address: &str, rule: &NatRule) -> Option<String> {
        let mut address = bytes(address);
        translate(&mut address, rule).then(|| Ipv6Addr::from(address).to_string())
    }

    /// RFC 6296 section 3.6, erratum 3033 applied.
    #[test]
    fn the_example_of_the_rfc() {
        let (inside, outside) = ("fd01:203:405::", "2001:db8:1::");
        let (out, back) = (rule(inside, outside, 48), rule(outside, inside, 48));
        assert_eq!(out.adjust, 0xd54f);
        let there = translated("fd01:203:405:1::1234", &out);
        assert_eq!(there.as_deref(), Some("2001:db8:1:d550::1234"));
        let again = translated("2001:db8:1:d550::1234", &back);
        assert_eq!(again.as_deref(), Some("fd01:203:405:1::1234"));
    }

    #[test]
    fn there_and_back_is_the_same_and_sums_stay() {
        let whole =
            |a: &[u8; 16]| a.chunks(2).fold(0, |s, w| add(s, u16::from_be_bytes([w[0], w[1]])));
        let hosts = [
            "::1:0:0:0:1",
            "::ffff:0:0:1",
            "::fffe:1:2:3",
            "::ffff:ffff:ffff:1",
            "::",
            "::8000:0:0:0",
            "::ffff:ffff:0:ffff",
            "::a:d550:2ab0:ffff",
        ];
        for (inside, outside, len) in [
            ("fd00:1::", "2001:db8:1::", 48),
            ("fd00:1:2:3400::", "2001:db8:ffff:ff00::", 56),
            ("fd00:1:2:3::", "2001:db8:4:5::", 64),
            ("fd00::", "2001:db0::", 28),
            ("fd00::", "2001:db8::", 32),
            ("ffff:ffff:fffe::", "0:0:1::", 48),
        ] {
            let (out, back) = (rule(inside, outside, len), rule(outside, inside, len));
            for (host, subnet) in hosts.iter().flat_map(|h| [(h, 0u8), (h, 0x5a)]) {
                let mut address = bytes(host);
                for (a, p) in address.iter_mut().zip(bytes(inside)) {
                    *a |= p;
                }
                // A bit or two between the prefix and the identifier, where there is room.
                if len <= 56 {
                    address[7] |= subnet;
                }
                let mut seen = address;
                assert!(translate(&mut seen, &out), "{inside} {host}");
                let kept = |a: &[u8; 16], b: &[u8; 16]| {
                    (0..usize::from(len)).all(|i| (a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1 == 0)
                };
                assert!(kept(&seen, &bytes(outside)), "{inside} {host}");
                assert_eq!(whole(&seen), whole(&address), "{inside} {host}");
                assert!(translate(&mut seen, &back), "{inside} {host}");
                assert_eq!(seen, address, "{inside} {host}");
            }
        }
    }

    #[test]
    fn what_has_no_way_back_is_refused_and_left_alone() {
        let short = rule("fd00:1::", "2001:db8:1::", 48);
        assert_eq!(translated("fd00:1:0:ffff::1", &short), None);
        let long = rule("fd00:1::", "2001:db8:1::", 64);
        let ones = "fd00:1::ffff:ffff:ffff:ffff";
        let mut address = bytes(ones);
        assert!(!translate(&mut address, &long));
        assert_eq!(address, bytes(ones));
        assert!(translated("fd00:1:0:0:ffff:ffff:ffff:fffe", &long).is_some());
    }
}
