//! What is wrong with a filter, and where.

use super::field::{Field, Kind};
use super::subject::SubjectKind;
use crate::policy::{suggest, units, words};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// A mistake in a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilterError {
    /// The filter.
    pub text: String,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters to underline, at least 1.
    pub length: u32,
    /// What stands there, in words.
    pub seen: String,
    /// What should.
    pub expected: String,
    /// What to do, where that isn't plain.
    pub hint: Option<String>,
}

impl FilterError {
    /// A mistake at a place (bytes) of the text.
    pub fn new(
        text: &str,
        span: Range<usize>,
        seen: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        let count = |range: Range<usize>| text.get(range).map_or(0, |t| t.chars().count()) as u32;
        Self {
            text: text.to_owned(),
            column: count(0..span.start) + 1,
            length: count(span).max(1),
            seen: seen.into(),
            expected: expected.into(),
            hint: None,
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// A field that no subject has, or not this kind of subject.
    pub fn no_such_field(text: &str, span: Range<usize>, kind: Option<SubjectKind>) -> Self {
        let seen = text[span.clone()].to_owned();
        let fields = Field::ALL.iter().filter(|f| kind.is_none_or(|kind| f.of(kind)));
        let names: Vec<&str> = fields.map(|f| f.name()).collect();
        let hint = suggest::nearest(&seen, names.iter().copied())
            .map(|name| format!("did you mean `{name}`?"));
        let of = kind.map(|kind| format!(" of {}", kind.name())).unwrap_or_default();
        let expected = format!("a field{of}: {}", names.join(", "));
        Self::new(text, span, format!("`{seen}`"), expected).hint(hint)
    }

    /// A value that a field of this kind can't have.
    pub fn bad_value(
        text: &str,
        span: Range<usize>,
        seen: &str,
        field: Field,
        of: Option<SubjectKind>,
    ) -> Self {
        let vocabulary = field.vocabulary(of);
        let (expected, hint) = match field.kind() {
            Kind::Word => (
                format!("one of {}", vocabulary.join(", ")),
                suggest::nearest(seen, vocabulary.iter().copied())
                    .map(|n| format!("did you mean `{n}`?")),
            ),
            Kind::Text | Kind::Proto => ("a text".into(), None),
            Kind::Number => (
                "a number such as 1500, 10k or 2.5M, or a range a-b".into(),
                number_hint(seen, field),
            ),
            Kind::Duration => ("a duration such as 500ms, 30s or 2h".into(), {
                let bare = !seen.is_empty() && seen.bytes().all(|b| b.is_ascii_digit());
                bare.then(|| format!("say the unit: `{seen}s`"))
            }),
            Kind::Addr => ("an address, a prefix or a range a-b".into(), {
                let name = seen.bytes().any(|b| b.is_ascii_alphabetic()) && !seen.contains(':');
                name.then(|| "names are not looked up: write the address".into())
            }),
            Kind::Bool => ("true or false".into(), None),
        };
        Self::new(text, span, format!("`{seen}`"), format!("{expected} for `{}`", field.name()))
            .hint(hint)
    }

    /// For a terminal: the message, the filter, a caret, the hint. Ends with a line feed.
    pub fn render(&self) -> String {
        let mut out = format!("error: bad filter: {self}\n");
        // A filter is one line; what came as several is shown as one.
        let line: String =
            self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let margin = " ".repeat(self.column as usize - 1);
        out.push_str(&format!("  | {line}\n  | {margin}{}\n", "^".repeat(self.length as usize)));
        if let Some(hint) = &self.hint {
            out.push_str(&format!("  = hint: {hint}\n"));
        }
        out
    }
}

/// What somebody may have meant by a text where a number has to stand.
fn number_hint(seen: &str, field: Field) -> Option<String> {
    let port = matches!(field, Field::Port | Field::Sport | Field::Dport);
    if let (true, Some(number)) = (port, words::service(seen)) {
        return Some(format!("ports are numbers: `{number}`"));
    }
    let (a, b) = seen.split_once('-')?;
    match (units::count(a), units::count(b)) {
        (Some(from), Some(to)) if from > to => Some(format!("write `{b}-{a}`")),
        (Some(_), Some(_)) => Some("a range can only be compared with `=`, `!=` and `in`".into()),
        _ => None,
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: saw {}, expected {}", self.column, self.seen, self.expected)
    }
}

impl std::error::Error for FilterError {}
