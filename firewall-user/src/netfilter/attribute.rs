//! Netlink attributes: type, length, value, padded to four bytes.

use super::error::DecodeError;

/// Length of an attribute's header.
const HEADER: usize = 4;
/// The two bits of the type that say how the value is laid out, not what it is.
const TYPE_MASK: u16 = 0x3fff;

/// The attributes in a run of bytes, in order. Ends at the first one that doesn't fit, with an error.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Over the bytes of a message behind its headers, or of a nested attribute.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Less than a header can only be padding.
        let (header, rest) = self.0.split_first_chunk::<HEADER>()?;
        let [l0, l1, t0, t1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([t0, t1]) & TYPE_MASK;
        let value = length.checked_sub(HEADER).and_then(|value| rest.get(..value));
        let Some(value) = value else {
            self.0 = &[];
            return Some(Err(DecodeError::Attribute { kind, length }));
        };
        self.0 = rest.get(value.len().next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Attribute { kind, value }))
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// What it is; the numbers depend on what it stands in.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    /// A value of exactly this size.
    ///
    /// # Errors
    /// It has another.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| DecodeError::Length {
            kind: self.kind,
            expected: N,
            seen: self.value.len(),
        })
    }

    /// A byte.
    ///
    /// # Errors
    /// The value has another size.
    pub fn u8(&self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number in network order.
    ///
    /// # Errors
    /// The value has another size.
    pub fn be16(&self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number in network order.
    ///
    /// # Errors
    /// The value has another size.
    pub fn be32(&self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number in network order.
    ///
    /// # Errors
    /// The value has another size.
    pub fn be64(&self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_and_lengths_are_checked() {
        // be16 80 in 6 bytes and padding, a nested one with its flag, and one that claims too much.
        let mut bytes = Vec::new();
        for (length, kind, value) in
            [(6u16, 2u16, &[0, 80, 9, 9][..]), (8, 0x8003, &[4, 0, 7, 0]), (40, 5, &[1, 2])]
        {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        }
        let mut attributes = Attributes::new(&bytes);
        let port = attributes.next().unwrap().unwrap();
        assert_eq!((port.kind, port.be16().unwrap()), (2, 80));
        assert_eq!(port.be32(), Err(DecodeError::Length { kind: 2, expected: 4, seen: 2 }));
        let nested = attributes.next().unwrap().unwrap();
        assert_eq!(nested.kind, 3);
        assert_eq!(nested.nested().next().unwrap().unwrap(), Attribute { kind: 7, value: &[] });
        assert_eq!(attributes.next(), Some(Err(DecodeError::Attribute { kind: 5, length: 40 })));
        assert_eq!(attributes.next(), None, "nothing is read behind what doesn't fit");
        // Shorter than its own header.
        let mut short = Attributes::new(&[2, 0, 1, 0, 0, 0, 0, 0]);
        assert!(short.next().unwrap().is_err());
    }
}
