//! Filter text to tokens.

use std::ops::Range;
use winnow::LocatingSlice;
use winnow::ascii::multispace0;
use winnow::combinator::{alt, delimited, preceded, repeat};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::token::{any, take_while};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A field, value or `and`, `or`, `not`, `in`.
    Word,
    /// A value in double quotes.
    Quoted,
    /// `=`, `!=`, `<`, `<=`, `>`, `>=`, `~`, `!`, `&&`, `||`.
    Sign,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// Anything else.
    Stray,
    /// The end; always the last.
    End,
}

/// A piece of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'s> {
    /// What it is.
    pub sort: Sort,
    /// Its text; without the quotes.
    pub text: &'s str,
    /// Its bytes.
    pub span: Range<usize>,
}

impl Token<'_> {
    /// In words.
    pub fn seen(&self) -> String {
        match self.sort {
            Sort::End => "the end".into(),
            Sort::Quoted => format!("`\"{}\"`", self.text),
            _ => format!("`{}`", self.text),
        }
    }
}

type Text<'s> = LocatingSlice<&'s str>;
type Lexed<T> = Result<T, EmptyError>;

/// All tokens, the last being [`Sort::End`].
pub fn lex(text: &str) -> Vec<Token<'_>> {
    let mut input = LocatingSlice::new(text);
    let tokens: Lexed<Vec<Token<'_>>> =
        repeat(0.., preceded(multispace0, token)).parse_next(&mut input);
    let mut tokens = tokens.unwrap_or_default();
    tokens.push(Token { sort: Sort::End, text: "", span: text.len()..text.len() });
    tokens
}

fn token<'s>(input: &mut Text<'s>) -> Lexed<Token<'s>> {
    let sort = |sort: Sort| move |text: &'s str| (sort, text);
    alt((
        delimited('"', take_while(0.., |c| c != '"'), '"').map(sort(Sort::Quoted)),
        '('.take().map(sort(Sort::Open)),
        ')'.take().map(sort(Sort::Close)),
        ','.take().map(sort(Sort::Comma)),
        alt((alt(("==", "!=", "<=", ">=", "&&", "||")), alt(("=", "<", ">", "~", "!"))))
            .map(sort(Sort::Sign)),
        take_while(1.., is_word).map(sort(Sort::Word)),
        any.take().map(sort(Sort::Stray)),
    ))
    .with_span()
    .map(|((sort, text), span)| Token { sort, text, span })
    .parse_next(input)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '+' | '%' | '@' | '*')
}
