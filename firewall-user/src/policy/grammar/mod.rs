//! Tokens to syntax tree, with recovery: a mistake is reported and reading goes on at the next
//! element of the list, the next clause of the rule, or the next line.

mod clause;
mod limit;
mod list;
mod live;
mod nat;
pub mod owner;
mod rule;
mod statement;
mod value;

pub(super) use statement::Draft;

use super::ast::Policy;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::lex::{Kind, Token, lex};
use super::resolve;
use super::span::Span;
use super::words;
use std::collections::BTreeSet;
use winnow::error::ParserError;
use winnow::stream::{Stateful, Stream, TokenSlice};

/// What the grammar reads. The faults that were recovered from ride along as state.
pub(super) type Input<'t, 's> = Stateful<TokenSlice<'t, Token<'s>>, Faults>;
/// A parser's result; the error becomes a diagnostic.
pub(super) type Parsed<T> = Result<T, Fault>;

/// Faults recovered from so far.
#[derive(Debug, Default)]
pub(super) struct Faults(pub Vec<Fault>);

/// An error on its way to becoming a [`Diagnostic`]. Boxed: it travels through every `Result`.
#[derive(Clone, Debug)]
pub(super) struct Fault(Box<FaultBody>);

#[derive(Clone, Debug)]
struct FaultBody {
    span: Span,
    code: &'static str,
    message: String,
    expected: Vec<String>,
    hint: Option<String>,
}

impl Fault {
    /// An error about the text at `span`.
    pub fn new(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self(Box::new(FaultBody {
            span,
            code,
            message: message.into(),
            expected: Vec::new(),
            hint: None,
        }))
    }

    /// The token that comes next isn't one that may stand here.
    pub fn unexpected(input: &Input<'_, '_>) -> Self {
        let token = peek(input);
        let fault = Self::new("syntax", token.span, format!("unexpected {}", token.seen()));
        if token.kind == Kind::Quoted {
            return fault
                .hint("only names of owners (`exe`, `process`, ...) may be quoted".to_owned());
        }
        if token.kind != Kind::Stray {
            return fault;
        }
        fault.hint(match token.text.chars().next() {
            Some('!') => Some("write `not` in front of what must not match".into()),
            Some(';') => Some("a statement ends with its line; no `;` is needed".into()),
            Some('"') => Some("a quoted name ends with `\"` on the same line".into()),
            Some('\'') => Some("names are written without quotes".into()),
            Some('(' | '[' | ')' | ']') => Some("lists are written in braces: `{ a, b }`".into()),
            Some('<' | '>') => Some("a range is written `1024-65535`".into()),
            Some('$') => Some("a set is used as `@name`, an interface group as `name`".into()),
            _ => None,
        })
    }

    /// Adds a thing that might have stood here.
    #[must_use]
    pub fn expect(mut self, what: impl Into<String>) -> Self {
        self.0.expected.push(what.into());
        self
    }

    /// Adds a hint, unless there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        if self.0.hint.is_none() {
            self.0.hint = hint.into();
        }
        self
    }

    /// As people see it.
    pub fn diagnostic(self, file: &str, text: &str) -> Diagnostic {
        let expected = (!self.0.expected.is_empty()).then(|| words::one_of(&self.0.expected));
        Diagnostic::new(Severity::Error, self.0.code, file, text, self.0.span, self.0.message)
            .expected(expected)
            .hint(self.0.hint)
    }
}

impl<'t, 's> ParserError<Input<'t, 's>> for Fault {
    type Inner = Self;

    fn from_input(input: &Input<'t, 's>) -> Self {
        Self::unexpected(input)
    }

    /// Of two branches of an `alt`, the one that got further knows better; at the same place, both
    /// say what they expected.
    fn or(mut self, other: Self) -> Self {
        match self.0.span.start.cmp(&other.0.span.start) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => {
                self.0.expected.extend(other.0.expected);
                self.hint(other.0.hint)
            }
        }
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

/// The next token, which stays.
pub(super) fn peek<'s>(input: &Input<'_, 's>) -> Token<'s> {
    let end = Token { kind: Kind::End, text: "", span: Span::default() };
    input.input.first().copied().unwrap_or(end)
}

/// The token after the next, which stays.
pub(super) fn peek_second<'s>(input: &Input<'_, 's>) -> Token<'s> {
    input.input.get(1).copied().unwrap_or_else(|| peek(input))
}

/// Takes the next token; the end of the text stays where it is.
pub(super) fn bump<'s>(input: &mut Input<'_, 's>) -> Token<'s> {
    let token = peek(input);
    if token.kind != Kind::End {
        input.input.next_token();
    }
    token
}

/// A token of this kind.
pub(super) fn kind<'t, 's>(
    wanted: Kind,
    what: &'static str,
) -> impl FnMut(&mut Input<'t, 's>) -> Parsed<Token<'s>> {
    move |input| {
        if peek(input).kind == wanted {
            Ok(bump(input))
        } else {
            Err(Fault::unexpected(input).expect(what))
        }
    }
}

/// Any word; `what` names what it stands for.
pub(super) fn word<'t, 's>(
    what: &'static str,
) -> impl FnMut(&mut Input<'t, 's>) -> Parsed<Token<'s>> {
    kind(Kind::Word, what)
}

/// This word.
pub(super) fn keyword<'t, 's>(
    text: &'static str,
) -> impl FnMut(&mut Input<'t, 's>) -> Parsed<Token<'s>> {
    move |input| {
        let token = peek(input);
        if token.kind == Kind::Word && token.text == text {
            Ok(bump(input))
        } else {
            Err(Fault::unexpected(input)
                .expect(format!("`{text}`"))
                .hint(words::hint(token.text, &[text])))
        }
    }
}

/// Whether the next token is this word.
pub(super) fn at_word(input: &Input<'_, '_>, text: &str) -> bool {
    let token = peek(input);
    token.kind == Kind::Word && token.text == text
}

/// Whether the next token ends a statement.
pub(super) fn at_line_end(input: &Input<'_, '_>) -> bool {
    matches!(peek(input).kind, Kind::Newline | Kind::End)
}

/// Whether the next token is a line end behind which a statement begins: there even an open list
/// ends, so that one missing `}` doesn't swallow the rest of the file.
pub(super) fn at_next_statement(input: &Input<'_, '_>) -> bool {
    if peek(input).kind != Kind::Newline {
        return peek(input).kind == Kind::End;
    }
    let next = input.input.iter().find(|t| t.kind != Kind::Newline);
    next.is_none_or(|t| {
        t.kind == Kind::End || t.kind == Kind::Word && words::STATEMENTS.contains(&t.text)
    })
}

/// Skips to the end of the statement, lists that span lines included, and takes the line end.
pub(super) fn skip_statement(input: &mut Input<'_, '_>) {
    let mut depth = 0usize;
    while !(at_line_end(input) && depth == 0 || at_next_statement(input)) {
        match bump(input).kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if peek(input).kind == Kind::Newline {
        bump(input);
    }
}

/// Reads a policy.
///
/// # Errors
/// All mistakes found, in the order of the text.
pub fn parse(text: &str, file: &str) -> Result<Policy, Diagnostics> {
    let tokens = lex(text);
    let mut input = Input { input: TokenSlice::new(&tokens), state: Faults::default() };
    let draft = statement::policy(&mut input, text);
    let mut faults = std::mem::take(&mut input.state.0);
    let policy = resolve::resolve(draft, file, text, &mut faults);
    if faults.is_empty() {
        return Ok(policy);
    }
    // A mistake may be met twice on two ways to the same place.
    faults.sort_by_key(|f| f.0.span.start);
    let mut seen = BTreeSet::new();
    faults.retain(|f| seen.insert((f.0.span.start, f.0.message.clone())));
    let more = faults.len().saturating_sub(Diagnostics::LIMIT);
    faults.truncate(Diagnostics::LIMIT);
    let items = faults.into_iter().map(|f| f.diagnostic(file, text)).collect();
    Err(Diagnostics { items, more })
}
