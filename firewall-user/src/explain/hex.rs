//! Hex dumps.

use crate::policy::span::Span;

/// Longest frame, bytes: an IP packet of the largest size with its Ethernet header and two tags.
pub const LONGEST: usize = 65_535 + 22;

/// The bytes of a hex dump: pairs of digits, spaced as one likes, `0x` before them or not, offsets that end in a
/// colon before each line (`tcpdump -xx`, `xxd`) passed over. An error is what is wrong, and where in `text`.
pub fn bytes(text: &str) -> Result<Vec<u8>, (String, Span)> {
    let mut out = Vec::new();
    let mut at = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let begin = at;
        at += word.len();
        let word = word.trim_end();
        if word.is_empty() || word.ends_with(':') {
            continue;
        }
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let begin = begin + word.len() - digits.len();
        if let Some((i, c)) = digits.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
            let span = Span::new(begin + i, begin + i + c.len_utf8());
            return Err((format!("`{c}` is no hexadecimal digit"), span));
        }
        let whole = Span::new(begin, begin + digits.len());
        if !digits.len().is_multiple_of(2) {
            return Err((format!("`{digits}` has half a byte at its end"), whole));
        }
        let pairs = (0..digits.len()).step_by(2);
        out.extend(pairs.filter_map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()));
        if out.len() > LONGEST {
            return Err((format!("more than {LONGEST} bytes"), whole));
        }
    }
    Ok(out)
}

/// Bytes as pairs of digits.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
