//! What is wrong with a policy, where, and what to do about it.

use super::span::Span;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy can't be used.
    Error,
    /// The policy can be used, but hardly means what it says.
    Warning,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
    const fn colour(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31m",
            Self::Warning => "\x1b[1;33m",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name of the kind of finding, such as `unknown-set` or `ssh-lockout`.
    pub code: Cow<'static, str>,
    /// The file as it was named to the parser.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters to underline; at least 1, never past the line's end.
    pub length: u32,
    /// What was seen.
    pub message: String,
    /// What was expected there.
    pub expected: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The source line, whole.
    pub snippet: String,
}

impl Diagnostic {
    /// A finding at `span` of `text`.
    pub fn new(
        severity: Severity,
        code: &'static str,
        file: &str,
        text: &str,
        span: Span,
        message: impl Into<String>,
    ) -> Self {
        let at = Place::of(text, span);
        Self {
            severity,
            code: Cow::Borrowed(code),
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            length: at.length,
            message: message.into(),
            expected: None,
            hint: None,
            snippet: at.snippet.to_owned(),
        }
    }

    /// Adds what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<Option<String>>) -> Self {
        self.expected = expected.into();
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The finding for a terminal: message, place, source line, caret, hint. Ends with a line feed.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &'static str| if colour { code } else { "" };
        let (head, bold, rail, end) = (
            paint(self.severity.colour()),
            paint("\x1b[1m"),
            paint("\x1b[1;34m"),
            paint("\x1b[0m"),
        );
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let before: String = self
            .snippet
            .chars()
            .take(self.column.saturating_sub(1) as usize)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.length as usize);
        let label = self.expected.as_ref().map(|e| format!(" expected {e}")).unwrap_or_default();
        let mut out = String::new();
        let _ = writeln!(out, "{head}{}{end}{bold}: {}{end}", self.severity.name(), self.message);
        let _ = writeln!(out, "{margin}{rail}-->{end} {}:{}:{}", self.file, self.line, self.column);
        let _ = writeln!(out, "{margin} {rail}|{end}");
        let _ = writeln!(out, "{rail}{number} |{end} {}", self.snippet);
        let _ = writeln!(out, "{margin} {rail}|{end} {before}{head}{carets}{label}{end}");
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{margin} {rail}={end} {bold}hint{end}: {hint}");
        }
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// What a parse found: at least one error, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// The findings.
    pub items: Vec<Diagnostic>,
    /// How many more there were past the limit of one report.
    pub more: usize,
}

impl Diagnostics {
    /// Findings in one report; a file of another format would fill pages otherwise.
    pub const LIMIT: usize = 100;

    /// Sorts by place and cuts at [`Self::LIMIT`].
    pub fn new(mut items: Vec<Diagnostic>) -> Self {
        items.sort_by_key(|d| (d.line, d.column));
        let more = items.len().saturating_sub(Self::LIMIT);
        items.truncate(Self::LIMIT);
        Self { items, more }
    }

    /// All findings for a terminal, and a closing line that counts them.
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for item in &self.items {
            out.push_str(&item.render(colour));
            out.push('\n');
        }
        let total = self.items.len() + self.more;
        let _ = write!(out, "{total} error{}", if total == 1 { "" } else { "s" });
        if self.more > 0 {
            let _ = write!(out, ", the first {} shown", self.items.len());
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// A span in lines and columns.
struct Place<'t> {
    line: u32,
    column: u32,
    length: u32,
    snippet: &'t str,
}

impl<'t> Place<'t> {
    fn of(text: &'t str, span: Span) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let snippet = text[line_start..line_end].trim_end_matches('\r');
        let end = floor(text, span.end).clamp(start, (line_start + snippet.len()).max(start));
        let line = text[..line_start].bytes().filter(|b| *b == b'\n').count() + 1;
        Self {
            line: line as u32,
            column: text[line_start..start].chars().count() as u32 + 1,
            length: (text[start..end].chars().count() as u32).max(1),
            snippet,
        }
    }
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
