//! The skips that are known: `tests/expected-skips.txt`.
//!
//! Each line is `TEST: REASON`; `*` in either stands for anything, `#` begins a comment.

use super::tally::Skip;

/// The list, read.
#[derive(Debug, Default)]
pub struct Expected {
    lines: Vec<(String, String)>,
}

impl Expected {
    /// Reads the list; a line without a reason is an error that names it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (test, reason) = line.split_once(": ").ok_or_else(|| {
                format!("line {}: expected `TEST: REASON`, seen `{line}`", number + 1)
            })?;
            lines.push((test.trim().to_owned(), reason.trim().to_owned()));
        }
        Ok(Self { lines })
    }

    /// Is this skip on the list?
    pub fn covers(&self, skip: &Skip) -> bool {
        self.lines
            .iter()
            .any(|(test, reason)| matches(test, &skip.test) && matches(reason, &skip.reason))
    }
}

/// Does `text` fit a pattern in which `*` stands for anything?
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("a*c", "abc"));
        assert!(matches("*", ""));
        assert!(matches("no *: *", "no room: x"));
        assert!(!matches("a", "ab"));
        assert!(!matches("a*b*c", "acb"));
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn the_reason_must_fit_too() {
        let list = Expected::parse("# known\nvlan_*: no VLAN device*   # kernel\n\n").unwrap();
        let skip = |test: &str, reason: &str| Skip { test: test.into(), reason: reason.into() };
        assert!(list.covers(&skip("vlan_device", "no VLAN device in this kernel")));
        assert!(!list.covers(&skip("vlan_device", "not root")));
        assert!(!list.covers(&skip("other", "no VLAN device")));
    }

    #[test]
    fn a_line_without_a_reason_is_named() {
        let error = Expected::parse("\nvlan\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }
}
