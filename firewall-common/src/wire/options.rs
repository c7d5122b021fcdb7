//! TCP options (RFC 9293 section 3.1) that matter on the way: maximum segment size, window scale, SACK
//! permitted, timestamps.

/// Most bytes of options that a header can carry.
pub const MAX: usize = 40;

/// Largest shift of a window (RFC 7323 section 2.3).
pub const MAX_SCALE: u8 = 14;

/// What the options of a SYN say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Options {
    /// Timestamp value, if `has_timestamp`.
    pub timestamp: u32,
    /// Timestamp that is echoed, if `has_timestamp`.
    pub echo: u32,
    /// Maximum segment size; 0: not said.
    pub mss: u16,
    /// Window scale, at most [`MAX_SCALE`], if `has_scale`.
    pub scale: u8,
    /// Window scale was there.
    pub has_scale: bool,
    /// SACK permitted.
    pub sack: bool,
    /// Timestamps were there.
    pub has_timestamp: bool,
}

/// What [`step`] returns at the end of the list.
pub const END: usize = MAX;

/// Reads the option at `at`; where the next one begins, or [`END`].
#[inline(always)]
pub fn step(bytes: &[u8; MAX], len: usize, at: usize, out: &mut Options) -> usize {
    let byte = |at: usize| if at < MAX { bytes[at] } else { 0 };
    if at >= len || at >= MAX {
        return END;
    }
    let kind = byte(at);
    if kind == 0 {
        return END;
    }
    if kind == 1 {
        return at + 1;
    }
    let size = byte(at + 1) as usize;
    if size < 2 || at + size > len {
        return END;
    }
    match (kind, size) {
        (2, 4) => out.mss = u16::from_be_bytes([byte(at + 2), byte(at + 3)]),
        (3, 3) => {
            let scale = byte(at + 2);
            out.scale = if scale > MAX_SCALE { MAX_SCALE } else { scale };
            out.has_scale = true;
        }
        (4, 2) => out.sack = true,
        (8, 10) => {
            let b = [byte(at + 2), byte(at + 3), byte(at + 4), byte(at + 5)];
            out.timestamp = u32::from_be_bytes(b);
            let b = [byte(at + 6), byte(at + 7), byte(at + 8), byte(at + 9)];
            out.echo = u32::from_be_bytes(b);
            out.has_timestamp = true;
        }
        _ => {}
    }
    at + size
}

/// Reads the first `len` of `bytes`. What is malformed ends the reading: what stood before counts, as in
/// the kernel's own parser (`tcp_parse_options`).
pub fn parse(bytes: &[u8; MAX], len: usize, out: &mut Options) {
    let mut at = 0;
    // An option takes a byte at least, so that this ends.
    while at < END {
        at = step(bytes, len, at, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[u8]) -> Options {
        let mut bytes = [0xee; MAX];
        bytes[..options.len()].copy_from_slice(options);
        let mut out = Options::default();
        parse(&bytes, options.len(), &mut out);
        out
    }

    #[test]
    fn what_linux_sends() {
        let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4, 1, 3, 3, 7];
        let seen = read(&syn);
        let expected = Options {
            mss: 1460,
            scale: 7,
            has_scale: true,
            sack: true,
            has_timestamp: true,
            timestamp: 0x102,
            echo: 0x304,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn lies_end_the_reading() {
        assert_eq!(read(&[3, 3, 200]).scale, MAX_SCALE);
        assert_eq!(read(&[2, 0, 5, 5]), Options::default(), "a length of zero");
        assert_eq!(read(&[2, 40, 5, 5]), Options::default(), "past the end");
        assert_eq!(read(&[0, 3, 3, 7]), Options::default(), "behind the end of the list");
        assert_eq!(read(&[1, 1, 1, 3]), Options::default(), "no length");
        assert!(read(&[200, 3, 9, 4, 2]).sack, "unknown ones are skipped");
    }
}
