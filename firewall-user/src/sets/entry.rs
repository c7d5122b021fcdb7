//! An entry of a live set, and how it is written.

use super::SetKind;
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};
use thiserror::Error;

/// An entry. Addresses are host-endian numbers; bits of a prefix below its length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// An IPv4 prefix, and its length.
    Prefix4(u32, u8),
    /// An IPv6 prefix, and its length.
    Prefix6(u128, u8),
    /// An IPv4 address and a port.
    Pair4(u32, u16),
    /// An IPv6 address and a port.
    Pair6(u128, u16),
    /// Ports from the first to the second, both included.
    Ports(u16, u16),
}

/// Why a text is no entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It is nothing that any set holds.
    #[error("`{seen}` is no entry{}; expected {expected}", hinted(.hint))]
    Unreadable {
        /// The text.
        seen: String,
        /// What would be right.
        expected: &'static str,
        /// What may be wrong with it.
        hint: Option<&'static str>,
    },
    /// It is an entry, but of another kind of set.
    #[error("`{seen}` is {}; expected {}", a_kind(*.is), expected(*.of))]
    Kind {
        /// The text.
        seen: String,
        /// What it would be.
        is: SetKind,
        /// What the set holds.
        of: SetKind,
    },
    /// The prefix is longer than an address.
    #[error("`{seen}` has no prefix length that is one; expected a number from 0 to {width}")]
    Length {
        /// The text.
        seen: String,
        /// Bits of an address.
        width: u8,
    },
    /// Bits are set behind the prefix.
    #[error(
        "`{seen}` has bits set behind its prefix; expected `{network}` for the network, or `{}` for the one host",
        .seen.split('/').next().unwrap_or_default()
    )]
    HostBits {
        /// The text.
        seen: String,
        /// The prefix without them.
        network: Entry,
    },
    /// A range that ends before it begins, or in another family.
    #[error("`{seen}` is no range; expected its lower end first, and both ends of one kind")]
    Range {
        /// The text.
        seen: String,
    },
    /// One entry was wanted, and a range is several.
    #[error("`{seen}` is a range of {count} prefixes; expected one entry")]
    Several {
        /// The text.
        seen: String,
        /// How many.
        count: usize,
    },
}

fn hinted(hint: &Option<&'static str>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

fn a_kind(kind: SetKind) -> &'static str {
    match kind {
        SetKind::Addresses => "an address without a port",
        SetKind::Pairs => "an address with a port",
        SetKind::Ports => "a port",
    }
}

/// What a set of a kind holds, with an example.
pub const fn expected(kind: SetKind) -> &'static str {
    match kind {
        SetKind::Addresses => {
            "an address, a prefix or a range of addresses, such as `192.0.2.7`, `2001:db8::/32` or \
             `192.0.2.0-192.0.2.9`"
        }
        SetKind::Pairs => "an address and a port, such as `192.0.2.1:443` or `[2001:db8::1]:53`",
        SetKind::Ports => "a port or a range of ports, such as `80` or `1000-2000`",
    }
}

const ANY: &str = "an address, a prefix, an address with a port, or a port";
/// Bytes of a text that an error repeats.
const SHOWN: usize = 60;

impl Entry {
    /// The kind of set that holds it.
    pub const fn kind(self) -> SetKind {
        match self {
            Self::Prefix4(..) | Self::Prefix6(..) => SetKind::Addresses,
            Self::Pair4(..) | Self::Pair6(..) => SetKind::Pairs,
            Self::Ports(..) => SetKind::Ports,
        }
    }

    /// An IPv4 prefix; `None` where bits are set behind it, or it is longer than an address.
    pub const fn prefix4(address: u32, len: u8) -> Option<Self> {
        if len > 32 || address & low4(len) != 0 { None } else { Some(Self::Prefix4(address, len)) }
    }

    /// As [`Self::prefix4`].
    pub const fn prefix6(address: u128, len: u8) -> Option<Self> {
        if len > 128 || address & low6(len) != 0 { None } else { Some(Self::Prefix6(address, len)) }
    }

    /// Whether this one is the other, or a part of it.
    pub const fn within(self, other: Self) -> bool {
        match (self, other) {
            (Self::Prefix4(a, n), Self::Prefix4(b, m)) => m <= n && a & !low4(m) == b,
            (Self::Prefix6(a, n), Self::Prefix6(b, m)) => m <= n && a & !low6(m) == b,
            (Self::Pair4(a, _), Self::Prefix4(b, m)) => a & !low4(m) == b,
            (Self::Pair6(a, _), Self::Prefix6(b, m)) => a & !low6(m) == b,
            (Self::Pair4(a, p), Self::Pair4(b, q)) => a == b && p == q,
            (Self::Pair6(a, p), Self::Pair6(b, q)) => a == b && p == q,
            (Self::Ports(a, b), Self::Ports(c, d)) => c <= a && b <= d,
            _ => false,
        }
    }
}

/// The bits behind a prefix.
const fn low4(len: u8) -> u32 {
    if len >= 32 { 0 } else { u32::MAX >> len }
}

const fn low6(len: u8) -> u128 {
    if len >= 128 { 0 } else { u128::MAX >> len }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Prefix4(address, 32) => write!(f, "{}", Ipv4Addr::from(address)),
            Self::Prefix4(address, len) => write!(f, "{}/{len}", Ipv4Addr::from(address)),
            Self::Prefix6(address, 128) => write!(f, "{}", Ipv6Addr::from(address)),
            Self::Prefix6(address, len) => write!(f, "{}/{len}", Ipv6Addr::from(address)),
            Self::Pair4(address, port) => write!(f, "{}:{port}", Ipv4Addr::from(address)),
            Self::Pair6(address, port) => write!(f, "[{}]:{port}", Ipv6Addr::from(address)),
            Self::Ports(first, last) if first == last => write!(f, "{first}"),
            Self::Ports(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        let (mut only, mut count) = (None, 0);
        parse(text.as_bytes(), None, &mut |entry| {
            only.get_or_insert(entry);
            count += 1;
        })?;
        only.filter(|_| count == 1)
            .ok_or_else(|| EntryError::Several { seen: shown(text.as_bytes()), count })
    }
}

/// Reads one text: `each` gets the entry, or each prefix of a range of addresses. With a `kind`, only what a set of that
/// kind holds is right.
///
/// # Errors
/// What is wrong with it.
pub fn parse(
    text: &[u8],
    kind: Option<SetKind>,
    each: &mut impl FnMut(Entry),
) -> Result<(), EntryError> {
    let read = read(text)?;
    let is = match read {
        Read::One(entry) => entry.kind(),
        Read::Range4(..) | Read::Range6(..) => SetKind::Addresses,
    };
    if let Some(of) = kind.filter(|of| *of != is) {
        return Err(EntryError::Kind { seen: shown(text), is, of });
    }
    match read {
        Read::One(entry) => each(entry),
        Read::Range4(first, last) => {
            split(first.into(), last.into(), 32, &mut |at, len| {
                each(Entry::Prefix4(at as u32, len));
            });
        }
        Read::Range6(first, last) => {
            split(first, last, 128, &mut |at, len| each(Entry::Prefix6(at, len)))
        }
    }
    Ok(())
}

enum Read {
    One(Entry),
    Range4(u32, u32),
    Range6(u128, u128),
}

/// The prefixes that make up a range, from its lower end on.
fn split(first: u128, last: u128, width: u8, each: &mut impl FnMut(u128, u8)) {
    let mut at = first;
    loop {
        // As large as the alignment of its beginning allows, and as what is left does.
        let aligned = at.trailing_zeros().min(u32::from(width));
        let left = (last - at).checked_add(1).map_or(128, u128::ilog2);
        let bits = aligned.min(left);
        each(at, width - bits as u8);
        // The last one ends with the range, which may be where addresses end.
        let size_less_one = if bits == 128 { u128::MAX } else { (1u128 << bits) - 1 };
        match at.checked_add(size_less_one) {
            Some(end) if end < last => at = end + 1,
            _ => return,
        }
    }
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

fn read(text: &[u8]) -> Result<Read, EntryError> {
    if let Some((address, rest)) = address4(text) {
        return read4(text, address, rest);
    }
    if let Some(inner) = text.strip_prefix(b"[") {
        let pair = || {
            let end = inner.iter().position(|byte| *byte == b']')?;
            let port = inner[end + 1..].strip_prefix(b":")?;
            Some(Entry::Pair6(address6(&inner[..end])?, number(port)?))
        };
        return pair().map(Read::One).ok_or_else(|| unreadable(text));
    }
    if text.contains(&b':') {
        return read6(text);
    }
    let mut ends = text.splitn(2, |byte| *byte == b'-');
    let first = ends.next().and_then(number).ok_or_else(|| unreadable(text))?;
    let last = ends.next().map_or(Some(first), number).ok_or_else(|| unreadable(text))?;
    if last < first {
        return Err(EntryError::Range { seen: shown(text) });
    }
    Ok(Read::One(Entry::Ports(first, last)))
}

fn read4(text: &[u8], address: u32, rest: &[u8]) -> Result<Read, EntryError> {
    let Some((sign, rest)) = rest.split_first() else {
        return Ok(Read::One(Entry::Prefix4(address, 32)));
    };
    match sign {
        b'/' => {
            let len = number(rest)
                .filter(|len| *len <= 32)
                .ok_or_else(|| EntryError::Length { seen: shown(text), width: 32 })?
                as u8;
            Entry::prefix4(address, len).map(Read::One).ok_or_else(|| EntryError::HostBits {
                seen: shown(text),
                network: Entry::Prefix4(address & !low4(len), len),
            })
        }
        b':' => number(rest)
            .map(|port| Read::One(Entry::Pair4(address, port)))
            .ok_or_else(|| unreadable(text)),
        b'-' => match address4(rest) {
            Some((last, b"")) if address <= last => Ok(Read::Range4(address, last)),
            _ => Err(EntryError::Range { seen: shown(text) }),
        },
        _ => Err(unreadable(text)),
    }
}

fn read6(text: &[u8]) -> Result<Read, EntryError> {
    let at = text.iter().position(|byte| matches!(byte, b'/' | b'-')).unwrap_or(text.len());
    let (address, rest) = text.split_at(at);
    let address = address6(address).ok_or_else(|| unreadable(text))?;
    let Some((sign, rest)) = rest.split_first() else {
        return Ok(Read::One(Entry::Prefix6(address, 128)));
    };
    if *sign == b'-' {
        return match address6(rest) {
            Some(last) if address <= last => Ok(Read::Range6(address, last)),
            _ => Err(EntryError::Range { seen: shown(text) }),
        };
    }
    let len = number(rest)
        .filter(|len| *len <= 128)
        .ok_or_else(|| EntryError::Length { seen: shown(text), width: 128 })? as u8;
    Entry::prefix6(address, len).map(Read::One).ok_or_else(|| EntryError::HostBits {
        seen: shown(text),
        network: Entry::Prefix6(address & !low6(len), len),
    })
}

/// A whole text that is a number of up to 65,535, without zeros in front.
fn number(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.len() > 5 || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    let mut value = 0u32;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    u16::try_from(value).ok()
}

/// An IPv4 address at the beginning of a text, and what is behind it.
fn address4(text: &[u8]) -> Option<(u32, &[u8])> {
    let mut rest = text;
    let mut address = 0u32;
    for octet in 0..4 {
        if octet > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let mut value = 0u32;
        let mut digits = 0;
        while let Some(digit) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0'))
            && digit <= 9
        {
            // With a zero in front, some read it as octal.
            if digits == 3 || (digits == 1 && value == 0) {
                return None;
            }
            value = value * 10 + u32::from(digit);
            digits += 1;
        }
        if digits == 0 || value > 255 {
            return None;
        }
        address = address << 8 | value;
        rest = &rest[digits..];
    }
    Some((address, rest))
}

fn address6(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<Ipv6Addr>().ok().map(u128::from)
}

fn unreadable(text: &[u8]) -> EntryError {
    let numeric = |octet: &[u8]| !octet.is_empty() && octet.iter().all(u8::is_ascii_digit);
    let octets = || text.split(|byte| matches!(byte, b'.')).collect::<Vec<_>>();
    let hint = if text.is_empty() {
        Some("it is empty")
    } else if numeric(text) {
        Some("the largest port is 65535, and zeros don't stand in front")
    } else if text.contains(&b'%') {
        Some("zones are not part of an address")
    } else if octets().len() > 1 && octets().iter().all(|octet| numeric(octet)) {
        Some("an IPv4 address is four numbers of up to 255, without zeros in front")
    } else if text.contains(&b'.')
        && !text.contains(&b':')
        && text.iter().any(u8::is_ascii_alphabetic)
    {
        Some("names are not looked up")
    } else if text.contains(&b':') && !text.starts_with(b"[") {
        Some("an IPv6 address has eight groups, or fewer around one `::`")
    } else {
        None
    };
    EntryError::Unreadable { seen: shown(text), expected: ANY, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Result<Vec<String>, EntryError> {
        let mut found = Vec::new();
        parse(text.as_bytes(), None, &mut |entry| found.push(entry.to_string()))?;
        Ok(found)
    }

    #[test]
    fn each_kind_is_read_and_written() {
        for text in [
            "192.0.2.7",
            "192.0.2.0/24",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::/0",
            "::ffff:192.0.2.1",
            "2001:db8::1",
            "192.0.2.1:443",
            "[2001:db8::1]:53",
            "80",
            "0",
            "1000-2000",
        ] {
            assert_eq!(all(text), Ok(vec![text.to_owned()]));
        }
        assert_eq!(all("192.0.2.1/32"), Ok(vec!["192.0.2.1".to_owned()]));
        assert_eq!(all("443-443"), Ok(vec!["443".to_owned()]));
    }

    #[test]
    fn ranges_of_addresses_become_prefixes() {
        assert_eq!(
            all("192.0.2.1-192.0.2.6").unwrap(),
            ["192.0.2.1", "192.0.2.2/31", "192.0.2.4/31", "192.0.2.6"]
        );
        assert_eq!(all("0.0.0.0-255.255.255.255").unwrap(), ["0.0.0.0/0"]);
        assert_eq!(all("255.255.255.254-255.255.255.255").unwrap(), ["255.255.255.254/31"]);
        assert_eq!(all("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").unwrap(), ["::/0"]);
        assert_eq!(all("2001:db8::-2001:db8::1").unwrap(), ["2001:db8::/127"]);
        assert!(matches!(
            "192.0.2.1-192.0.2.6".parse::<Entry>(),
            Err(EntryError::Several { count: 4, .. })
        ));
    }

    #[test]
    fn mistakes_say_what_was_seen_and_expected() {
        for (text, words) in [
            ("192.0.2.300", ["192.0.2.300", "up to 255"]),
            ("192.0.02.3", ["192.0.02.3", "zeros in front"]),
            ("192.0.2.0/33", ["192.0.2.0/33", "from 0 to 32"]),
            ("2001:db8::/129", ["2001:db8::/129", "from 0 to 128"]),
            ("192.0.2.0/255.255.255.0", ["/255.255.255.0", "from 0 to 32"]),
            ("192.0.2.7/24", ["`192.0.2.0/24`", "`192.0.2.7`"]),
            ("2001:db8::1/32", ["`2001:db8::/32`", "`2001:db8::1`"]),
            ("192.0.2.9-192.0.2.1", ["192.0.2.9-192.0.2.1", "lower end first"]),
            ("192.0.2.9-2001:db8::1", ["2001:db8::1", "of one kind"]),
            ("9-1", ["9-1", "lower end first"]),
            ("65536", ["65536", "65535"]),
            ("example.org", ["example.org", "not looked up"]),
            ("fe80::1%eth0", ["%eth0", "zones"]),
            ("[2001:db8::1]", ["[2001:db8::1]", "an address with a port"]),
            ("192.0.2.1:99999", ["99999", "an address with a port"]),
            ("1:2:3", ["1:2:3", "eight groups"]),
            ("", ["empty", "expected"]),
        ] {
            let error = all(text).expect_err(text).to_string();
            for word in words {
                assert!(error.contains(word), "{text}: `{word}` is missing in: {error}");
            }
        }
        let kind = parse(b"80", Some(SetKind::Addresses), &mut |_| {}).unwrap_err().to_string();
        assert!(kind.contains("`80` is a port; expected an address"), "{kind}");
        let long = "x".repeat(100_000);
        assert!(all(&long).unwrap_err().to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(address: u32, six: u128, len in 0u8..=128, a: u16, b: u16) {
            let len4 = len.min(32);
            for entry in [
                Entry::Prefix4(address & !low4(len4), len4),
                Entry::Prefix6(six & !low6(len), len),
                Entry::Pair4(address, a),
                Entry::Pair6(six, b),
                Entry::Ports(a.min(b), a.max(b)),
            ] {
                prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
            }
        }

        #[test]
        fn a_range_is_covered_once(first: u32, last: u32) {
            let (first, last) = (first.min(last), first.max(last));
            let mut next = u64::from(first);
            split(first.into(), last.into(), 32, &mut |at, len| {
                assert_eq!(at as u64, next);
                assert_eq!(at as u32 & low4(len), 0);
                next += 1 << (32 - len);
            });
            prop_assert_eq!(next, u64::from(last) + 1);
        }

        #[test]
        fn anything_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&text, None, &mut |_| {});
        }
    }
}
