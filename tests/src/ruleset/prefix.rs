//! An address prefix of either family.

use std::fmt::{self, Display};
use std::net::IpAddr;

/// Addresses whose first `len` bits are the same. Bits behind are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl Prefix {
    /// The prefix of `len` bits that `address` is in; `len` is cut to the family's.
    pub fn new(address: IpAddr, len: u8) -> Self {
        let (number, width) = bits(address);
        let len = len.min(width);
        Self::of_bits(number & !host_mask(width, len), width, len)
    }

    fn of_bits(number: u128, width: u8, len: u8) -> Self {
        Self { address: address(number, width), len }
    }

    /// Every address of a family.
    pub fn any(v6: bool) -> Self {
        Self::of_bits(0, if v6 { 128 } else { 32 }, 0)
    }

    /// First address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Number of bits that are the same.
    pub fn length(&self) -> u8 {
        self.len
    }

    /// Whether it holds every address of its family.
    pub fn is_any(&self) -> bool {
        self.len == 0
    }

    /// Whether it is of IPv6.
    pub fn is_v6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether it is one address.
    pub fn is_host(&self) -> bool {
        self.len == bits(self.address).1
    }

    /// Whether the address is in it; none of the other family is.
    pub fn holds(&self, address: IpAddr) -> bool {
        let ((ours, width), (theirs, other)) = (bits(self.address), bits(address));
        width == other && theirs & !host_mask(width, self.len) == ours
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (wide, narrow) = if self.len <= other.len { (self, other) } else { (other, self) };
        wide.holds(narrow.address)
    }

    /// The address in it whose bits behind the prefix are the last of `noise`.
    pub fn with_host(&self, noise: u128) -> IpAddr {
        let (number, width) = bits(self.address);
        address(number | noise & host_mask(width, self.len), width)
    }
}

/// Ones where a prefix of `len` of `width` bits leaves the choice.
fn host_mask(width: u8, len: u8) -> u128 {
    match width - len {
        0 => 0,
        free => u128::MAX >> (128 - u32::from(free)),
    }
}

fn address(number: u128, width: u8) -> IpAddr {
    if width == 32 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Prefix;
    use std::net::IpAddr;

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), len.parse().unwrap())
    }

    #[test]
    fn bits_behind_the_length_are_taken_off() {
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("2001:db8::1/32").to_string(), "2001:db8::/32");
        assert_eq!(prefix("10.1.2.3/0"), Prefix::any(false));
        assert!(prefix("10.1.2.3/32").is_host() && !prefix("10.1.2.3/32").is_any());
    }

    #[test]
    fn holds_what_begins_so() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(prefix("10.0.0.0/8").holds(address("10.255.0.1")));
        assert!(!prefix("10.0.0.0/8").holds(address("11.0.0.0")));
        assert!(
            Prefix::any(true).holds(address("::1")) && !Prefix::any(true).holds(address("1.2.3.4"))
        );
        assert_eq!(prefix("10.0.0.0/24").with_host(u128::MAX), address("10.0.0.255"));
        assert_eq!(prefix("10.0.0.7/32").with_host(u128::MAX), address("10.0.0.7"));
    }

    #[test]
    fn prefixes_overlap_where_one_holds_the_other() {
        assert!(prefix("10.0.0.0/8").overlaps(&prefix("10.9.0.0/16")));
        assert!(prefix("10.9.0.0/16").overlaps(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.9.0.0/16").overlaps(&prefix("10.8.0.0/16")));
    }
}
