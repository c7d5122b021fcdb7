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
    /// The source line and a line with carets below it, both behind the line number's margin. A long
    /// line is cut around the place, with `...` where something was left out.
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
            snippet: at.snippet(),
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
        let margin = " ".repeat(self.line.to_string().len());
        // The source may hold a `|`; the first one ends the margin.
        let split = |line: &'_ str| {
            let at = line.find('|').map_or(0, |at| at + 1);
            (line[..at].to_owned(), line[at..].to_owned())
        };
        let (source, carets) = self.snippet.split_once('\n').unwrap_or((&self.snippet, ""));
        let ((number, source), (blank, carets)) = (split(source), split(carets));
        let label = self.expected.as_ref().map(|e| format!(" expected {e}")).unwrap_or_default();
        let mut out = String::new();
        let _ = writeln!(out, "{head}{}{end}{bold}: {}{end}", self.severity.name(), self.message);
        let _ = writeln!(out, "{margin}{rail}-->{end} {}:{}:{}", self.file, self.line, self.column);
        let _ = writeln!(out, "{margin} {rail}|{end}");
        let _ = writeln!(out, "{rail}{number}{end}{source}");
        let _ = writeln!(out, "{rail}{blank}{end}{head}{carets}{label}{end}");
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
    source: &'t str,
}

/// Longest part of a source line that is shown.
const WINDOW: usize = 160;

impl<'t> Place<'t> {
    fn of(text: &'t str, span: Span) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let source = text[line_start..line_end].trim_end_matches('\r');
        let end = floor(text, span.end).clamp(start, (line_start + source.len()).max(start));
        let line = text[..line_start].bytes().filter(|b| *b == b'\n').count() + 1;
        Self {
            line: line as u32,
            column: text[line_start..start].chars().count() as u32 + 1,
            length: (text[start..end].chars().count() as u32).max(1),
            source,
        }
    }

    fn snippet(&self) -> String {
        let at = self.column as usize - 1;
        let all = self.source.chars().count();
        let first = if all <= WINDOW { 0 } else { at.saturating_sub(WINDOW / 2).min(all - WINDOW) };
        // A control character would move the cursor away from where the caret points.
        let show = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let shown: String = self.source.chars().skip(first).take(WINDOW).map(show).collect();
        let (lead, tail) =
            (if first > 0 { "..." } else { "" }, if first + WINDOW < all { "..." } else { "" });
        let before = self.source.chars().skip(first).take(at - first);
        let before: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets =
            "^".repeat((self.length as usize).min((first + WINDOW).saturating_sub(at).max(1)));
        let number = self.line.to_string();
        let (margin, gap) = (" ".repeat(number.len()), " ".repeat(lead.len()));
        format!("{number} | {lead}{shown}{tail}\n{margin} | {gap}{before}{carets}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}bad{}", "é ".repeat(300), " x".repeat(300));
        let at = text.find("bad").unwrap();
        let found =
            Diagnostic::new(Severity::Error, "c", "f", &text, Span::new(at, at + 3), "message");
        let (source, carets) = found.snippet.split_once('\n').unwrap();
        let column = |line: &str, what: &str| line.find(what).map(|i| line[..i].chars().count());
        assert_eq!(column(source, "bad"), column(carets, "^^^"));
        assert!(source.starts_with("1 | ...") && source.ends_with("..."), "{source}");
        assert_eq!((found.column, source.chars().count()), (601, 170));
    }

    #[test]
    fn tabs_and_controls_keep_the_caret_in_its_column() {
        let text = "a\n\tset\u{7} x|y\r\n";
        let at = text.find("x|y").unwrap();
        let found =
            Diagnostic::new(Severity::Warning, "c", "f", text, Span::new(at, at + 3), "message");
        assert_eq!(found.snippet, "2 | \tset\u{fffd} x|y\n  | \t     ^^^");
        assert!(found.render(false).contains("\n2 | \tset\u{fffd} x|y\n  | \t     ^^^\n"));
    }
}
