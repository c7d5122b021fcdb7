//! The Internet checksum (RFC 1071), the plain way: sum 16-bit words, fold, complement.

/// Sum of the 16-bit big-endian words of `bytes`, an odd last byte padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Checksum over `bytes`. Over bytes that hold a right checksum it is 0.
pub fn internet(bytes: &[u8]) -> u16 {
    fold(sum(bytes))
}

/// Checksum of a transport segment with the pseudo-header of `src`, `dst` (4 or 16 bytes each) and
/// `proto` (RFC 9293 3.1, RFC 8200 8.1).
pub fn transport(src: &[u8], dst: &[u8], proto: u8, segment: &[u8]) -> u16 {
    fold(sum(src) + sum(dst) + u64::from(proto) + segment.len() as u64 + sum(segment))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rfc_1071_example() {
        assert_eq!(super::internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn an_odd_byte_counts_as_the_upper_half() {
        assert_eq!(super::internet(&[0x12]), !0x1200);
    }
}
