//! Text to tokens. Nothing fails here: what can't be part of a policy becomes a [`Kind::Stray`],
//! which the grammar reports where it stands.

use super::span::Span;
use winnow::LocatingSlice;
use winnow::ascii::{line_ending, space0, till_line_ending};
use winnow::combinator::{alt, opt, preceded, repeat};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::stream::Location as _;
use winnow::token::{any, one_of, take_while};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword, name, number, address, range.
    Word,
    /// `"a name of a process's or a file's"`: whatever is in it but quotes and ends of lines.
    Quoted,
    /// `@name`.
    SetRef,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `,`
    Comma,
    /// `=`
    Equals,
    /// `=>`
    Arrow,
    /// `<=>`
    BothWays,
    /// End of a line, and of all blank ones below it.
    Newline,
    /// A character that means nothing here.
    Stray,
    /// End of the text. Always the last token, and never consumed.
    End,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'s> {
    /// What it is.
    pub kind: Kind,
    /// How it is written.
    pub text: &'s str,
    /// Where.
    pub span: Span,
}

impl Token<'_> {
    /// What an error says was seen.
    pub fn seen(&self) -> String {
        match self.kind {
            Kind::Newline => "the end of the line".into(),
            Kind::End => "the end of the file".into(),
            _ => format!("`{}`", self.text),
        }
    }
}

type Text<'s> = LocatingSlice<&'s str>;
type Lexed<T> = Result<T, EmptyError>;

/// All tokens of a text, the last being [`Kind::End`].
pub fn lex(text: &str) -> Vec<Token<'_>> {
    let mut input = LocatingSlice::new(text);
    let _: Lexed<()> = repeat(0.., '\u{feff}').parse_next(&mut input);
    // A token of a rule is some five bytes long.
    let mut tokens: Vec<Token<'_>> = Vec::with_capacity(text.len() / 5);
    while let Some(next) =
        plain_word(&mut input).or_else(|| preceded(blank, token).parse_next(&mut input).ok())
    {
        let is_newline = |token: &Token<'_>| token.kind == Kind::Newline;
        // Blank lines mean nothing; one token for all of them keeps looking ahead over them cheap.
        if !(is_newline(&next) && tokens.last().is_some_and(is_newline)) {
            tokens.push(next);
        }
    }
    tokens.push(Token { kind: Kind::End, text: "", span: Span::new(text.len(), text.len()) });
    tokens
}

/// What most tokens are, found byte by byte: a word of ASCII behind spaces. [`token`] would find the same.
fn plain_word<'s>(input: &mut Text<'s>) -> Option<Token<'s>> {
    let bytes = input.as_bytes();
    let spaces = bytes.iter().take_while(|byte| **byte == b' ').count();
    let rest = &bytes[spaces..];
    let is_plain = |byte: &u8| byte.is_ascii() && is_word(char::from(*byte));
    let len = rest.iter().take_while(|byte| is_plain(byte)).count();
    // Behind it a letter of another script may belong to the word.
    if len == 0 || rest.get(len).is_some_and(|next| !next.is_ascii()) {
        return None;
    }
    input.next_slice(spaces);
    let start = input.current_token_start();
    let text = input.next_slice(len);
    Some(Token { kind: Kind::Word, text, span: Span::new(start, start + len) })
}

/// Spaces, comments, and line ends that a backslash hides.
fn blank(input: &mut Text<'_>) -> Lexed<()> {
    repeat(
        0..,
        alt((
            take_while(1.., [' ', '\t', '\u{c}']).void(),
            ('#', till_line_ending).void(),
            ('\\', space0, opt(('#', till_line_ending)), line_ending).void(),
        )),
    )
    .parse_next(input)
}

fn token<'s>(input: &mut Text<'s>) -> Lexed<Token<'s>> {
    alt((
        line_ending.value(Kind::Newline),
        '{'.value(Kind::Open),
        '}'.value(Kind::Close),
        ','.value(Kind::Comma),
        alt(("<=>".value(Kind::BothWays), "=>".value(Kind::Arrow), '='.value(Kind::Equals))),
        ('@', take_while(1.., is_word)).value(Kind::SetRef),
        take_while(1.., is_word).value(Kind::Word),
        ('"', take_while(1.., is_quotable), '"').value(Kind::Quoted),
        alt(((one_of(is_stray), take_while(0.., is_stray)).void(), any.void())).value(Kind::Stray),
    ))
    .with_taken()
    .with_span()
    .map(|((kind, text), span)| Token { kind, text, span: Span::new(span.start, span.end) })
    .parse_next(input)
}

/// What names, numbers, addresses, ranges, durations and rates are made of. Letters of any script
/// are taken into the word, so that the error about a name can show it whole.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '+' | '%' | '*' | '[' | ']')
}

/// What a quoted name may have in it.
fn is_quotable(c: char) -> bool {
    c != '"' && !c.is_control()
}

/// Punctuation that belongs to no token.
fn is_stray(c: char) -> bool {
    !is_word(c)
        && !c.is_whitespace()
        && !c.is_control()
        && !matches!(c, '{' | '}' | ',' | '=' | '@' | '#' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        lex(text).into_iter().map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn a_line_is_words_and_signs() {
        use Kind::{Close, Comma, End, Equals, Newline, Open, SetRef, Word};
        assert_eq!(
            kinds("set a = {10.0.0.0/8, @b} # x\r\nflags syn/syn,ack"),
            [
                (Word, "set"),
                (Word, "a"),
                (Equals, "="),
                (Open, "{"),
                (Word, "10.0.0.0/8"),
                (Comma, ","),
                (SetRef, "@b"),
                (Close, "}"),
                (Newline, "\r\n"),
                (Word, "flags"),
                (Word, "syn/syn"),
                (Comma, ","),
                (Word, "ack"),
                (End, ""),
            ]
        );
    }

    proptest! {
        /// The quick way and the whole grammar see the same tokens.
        #[test]
        fn plain_words_are_tokens_as_others_are(text in "[ab1é./:@{},= \t\n\r#\\\\\"!<>-]{0,60}") {
            let mut input = LocatingSlice::new(text.as_str());
            let all: Lexed<Vec<Token<'_>>> = repeat(0.., preceded(blank, token)).parse_next(&mut input);
            let mut all = all.unwrap();
            all.dedup_by(|next, token| next.kind == Kind::Newline && token.kind == Kind::Newline);
            let mut seen = lex(&text);
            prop_assert_eq!(seen.pop().map(|token| token.kind), Some(Kind::End));
            prop_assert_eq!(seen, all);
        }
    }

    #[test]
    fn arrows_are_not_equals() {
        use Kind::{Arrow, BothWays, End, Equals, Stray, Word};
        assert_eq!(
            kinds("a=>b<=>c = > <d"),
            [
                (Word, "a"),
                (Arrow, "=>"),
                (Word, "b"),
                (BothWays, "<=>"),
                (Word, "c"),
                (Equals, "="),
                (Stray, ">"),
                (Stray, "<"),
                (Word, "d"),
                (End, ""),
            ]
        );
    }

    #[test]
    fn a_backslash_hides_the_line_end_and_spans_are_bytes() {
        assert_eq!(kinds("a \\\n b"), [(Kind::Word, "a"), (Kind::Word, "b"), (Kind::End, "")]);
        assert_eq!(kinds("a \\ # why\n b").len(), 3);
        let tokens = lex("\u{feff}é \u{0}; x");
        assert_eq!(tokens[0].span, Span::new(3, 5));
        assert_eq!(tokens.last().map(|t| t.kind), Some(Kind::End));
        assert!(tokens.iter().any(|t| t.kind == Kind::Stray && t.text == ";"));
    }
}
