//! Points in time as people write them.

use crate::policy::units;
use jiff::Timestamp;
use thiserror::Error;

/// A time that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}`, column {column}: {seen}; expected {EXPECTED}")]
pub struct WhenError {
    text: String,
    column: usize,
    seen: String,
}

/// What can be written.
const EXPECTED: &str =
    "a time such as `2026-11-22T10:00:00Z` (RFC 3339), or how long ago such as `10m ago`, or `now`";

/// `2026-11-22T10:00:00Z`, `10m ago`, `now`, as ms since 1970.
///
/// # Errors
/// It is none of these; the message says where.
pub fn parse(text: &str, now_ms: i64) -> Result<i64, WhenError> {
    let trimmed = text.trim();
    let column = 1 + text.chars().take_while(|c| c.is_whitespace()).count();
    let wrong = |seen: String| WhenError { text: text.to_owned(), column, seen };
    if trimmed == "now" {
        return Ok(now_ms);
    }
    if let Some(duration) = trimmed.strip_suffix("ago") {
        let duration = duration.trim_end();
        let ms = units::duration_ms(duration).and_then(|ms| i64::try_from(ms).ok());
        return ms.map(|ms| now_ms.saturating_sub(ms)).ok_or_else(|| {
            wrong(format!("`{duration}` is no duration; units are ms, s, m, h, d, as in `2h30m`"))
        });
    }
    if units::duration_ms(trimmed).is_some() {
        return Err(wrong(format!("a duration alone; `{trimmed} ago`?")));
    }
    match trimmed.parse::<Timestamp>() {
        Ok(time) => Ok(time.as_millisecond()),
        Err(error) if trimmed.is_empty() => {
            log::trace!("{error}");
            Err(wrong("nothing is there".into()))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The same, and a duration alone, such as `1h`: so long ago.
///
/// # Errors
/// As [`parse`].
pub fn parse_back(text: &str, now_ms: i64) -> Result<i64, WhenError> {
    match units::duration_ms(text.trim()).and_then(|ms| i64::try_from(ms).ok()) {
        Some(ms) => Ok(now_ms.saturating_sub(ms)),
        None => parse(text, now_ms),
    }
}

/// RFC 3339, UTC, ms.
pub fn show(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_123;

    #[test]
    fn times() {
        assert_eq!(parse("2023-11-14T22:13:20.123Z", NOW), Ok(NOW));
        assert_eq!(parse("2023-11-14T23:13:20+01:00", NOW), Ok(NOW - 123));
        assert_eq!(parse("10m ago", NOW), Ok(NOW - 600_000));
        assert_eq!(parse(" 1h30m  ago ", NOW), Ok(NOW - 5_400_000));
        assert_eq!(parse("now", NOW), Ok(NOW));
        assert_eq!(parse_back("1h", NOW), Ok(NOW - 3_600_000));
        assert_eq!(parse_back("now", NOW), Ok(NOW));
        assert_eq!(show(NOW), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn mistakes_have_their_place_and_an_expectation() {
        for (text, seen) in [
            ("", "column 1: nothing"),
            ("10m", "column 1: a duration alone; `10m ago`?"),
            ("  ten ago", "column 3: `ten` is no duration"),
            ("2026-13-01T00:00:00Z", "column 1: "),
            ("2026-11-22T10:00:00", "column 1: "),
            ("yesterday", "column 1: "),
        ] {
            let error = parse(text, NOW).expect_err(text).to_string();
            assert!(error.contains(seen) && error.contains("RFC 3339"), "{text}: {error}");
        }
    }
}
