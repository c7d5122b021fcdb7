//! Tokens to expression: `or` binds weakest, then `and`, then `not`.

use super::Filter;
use super::error::FilterError;
use super::expr::{Expr, Literal, Op};
use super::field::{Field, Kind};
use super::lex::{Sort, Token, lex};
use super::subject::SubjectKind;
use std::ops::Range;
use winnow::combinator::{opt, preceded, repeat, separated};
use winnow::error::ParserError;
use winnow::prelude::*;
use winnow::stream::{Stateful, Stream, TokenSlice};

/// Deepest nesting of parentheses and `not`: a filter comes from the network too.
const MAX_DEPTH: usize = 50;

#[derive(Debug)]
struct Reading<'s> {
    text: &'s str,
    kind: Option<SubjectKind>,
    fields: Vec<(Field, Range<usize>)>,
    depth: usize,
}

type Input<'t, 's> = Stateful<TokenSlice<'t, Token<'s>>, Reading<'s>>;
type Parsed<T> = Result<T, Fault>;

/// An error, and whether other branches may still be tried: once a field was read they may not.
#[derive(Debug)]
struct Fault {
    error: Box<FilterError>,
    last_word: bool,
}

impl<'t, 's> ParserError<Input<'t, 's>> for Fault {
    type Inner = Self;
    fn from_input(input: &Input<'t, 's>) -> Self {
        fault(input, "a condition")
    }
    fn is_backtrack(&self) -> bool {
        !self.last_word
    }
    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

fn peek<'s>(input: &Input<'_, 's>) -> Token<'s> {
    let end = || Token { sort: Sort::End, text: "", span: 0..0 };
    input.input.first().cloned().unwrap_or_else(end)
}

fn bump<'s>(input: &mut Input<'_, 's>) -> Token<'s> {
    let token = peek(input);
    if token.sort != Sort::End {
        input.input.next_token();
    }
    token
}

fn fault(input: &Input<'_, '_>, expected: &str) -> Fault {
    let token = peek(input);
    let error = FilterError::new(input.state.text, token.span.clone(), token.seen(), expected);
    let hint = match (token.sort, token.text) {
        (Sort::Stray, "\"") => Some("the quote is never closed".to_owned()),
        (Sort::Stray, "&") => Some("write `and`".to_owned()),
        (Sort::Stray, "|") => Some("write `or`".to_owned()),
        (Sort::Stray, "'") => Some("texts are quoted with `\"`".to_owned()),
        (Sort::Stray, "{" | "[" | "}" | "]") => Some("a list is written `in (a, b)`".to_owned()),
        _ => None,
    };
    Fault { error: Box::new(error.hint(hint)), last_word: false }
}

fn cut(mut fault: Fault) -> Fault {
    fault.last_word = true;
    fault
}

fn last(error: FilterError) -> Fault {
    Fault { error: Box::new(error), last_word: true }
}

/// One of these words or signs.
fn sign<'t, 's: 't>(
    texts: &'static [&'static str],
    expected: &'static str,
) -> impl Parser<Input<'t, 's>, (), Fault> {
    move |input: &mut Input<'t, 's>| {
        let token = peek(input);
        if matches!(token.sort, Sort::Word | Sort::Sign) && texts.contains(&token.text) {
            bump(input);
            Ok(())
        } else {
            Err(fault(input, expected))
        }
    }
}

fn sort<'t, 's: 't>(
    wanted: Sort,
    expected: &'static str,
) -> impl Parser<Input<'t, 's>, Token<'s>, Fault> {
    move |input: &mut Input<'t, 's>| {
        if peek(input).sort == wanted { Ok(bump(input)) } else { Err(fault(input, expected)) }
    }
}

/// Reads a filter, for one kind of subject or for any.
pub fn parse(text: &str, kind: Option<SubjectKind>) -> Result<Filter, FilterError> {
    let tokens = lex(text);
    let state = Reading { text, kind, fields: Vec::new(), depth: 0 };
    let mut input = Input { input: TokenSlice::new(&tokens), state };
    if peek(&input).sort == Sort::End {
        return Ok(Filter::all());
    }
    let expr = or(&mut input).map_err(|f| *f.error)?;
    let next = peek(&input);
    if next.sort != Sort::End {
        let mut error = *fault(&input, "`and`, `or` or the end").error;
        if next.sort == Sort::Close {
            error.hint = Some("this parenthesis was never opened".into());
        } else if next.sort == Sort::Comma {
            error.hint = Some("several values are a list: `port in (22, 80)`".into());
        } else if next.sort == Sort::Word
            && error.hint.is_none()
            && Field::from_name(next.text).is_some()
        {
            error.hint = Some("join conditions with `and` or `or`".into());
        }
        return Err(error);
    }
    Ok(Filter { text: text.to_owned(), expr, fields: input.state.fields })
}

fn or(input: &mut Input<'_, '_>) -> Parsed<Expr> {
    let first = and(input)?;
    let mut all = vec![first];
    let more: Vec<Expr> =
        repeat(0.., preceded(sign(&["or", "||"], "`or`"), must(and))).parse_next(input)?;
    all.extend(more);
    Ok(if all.len() == 1 { all.remove(0) } else { Expr::Or(all) })
}

fn and(input: &mut Input<'_, '_>) -> Parsed<Expr> {
    let first = unary(input)?;
    let mut all = vec![first];
    let more: Vec<Expr> =
        repeat(0.., preceded(sign(&["and", "&&"], "`and`"), must(unary))).parse_next(input)?;
    all.extend(more);
    Ok(if all.len() == 1 { all.remove(0) } else { Expr::And(all) })
}

/// What has to follow: its error is final.
fn must<'t, 's: 't, T>(
    mut parser: impl FnMut(&mut Input<'t, 's>) -> Parsed<T>,
) -> impl FnMut(&mut Input<'t, 's>) -> Parsed<T> {
    move |input| parser(input).map_err(cut)
}

fn unary(input: &mut Input<'_, '_>) -> Parsed<Expr> {
    let token = peek(input);
    if input.state.depth >= MAX_DEPTH {
        let error = FilterError::new(
            input.state.text,
            token.span,
            "a condition nested this deep",
            "at most 50 levels",
        );
        return Err(last(error));
    }
    input.state.depth += 1;
    let expr = match (token.sort, token.text) {
        (Sort::Word, "not") | (Sort::Sign, "!") => {
            bump(input);
            unary(input).map(|e| Expr::Not(Box::new(e))).map_err(cut)
        }
        (Sort::Open, _) => {
            bump(input);
            let inner = or(input).map_err(cut)?;
            sort(Sort::Close, "`)`, `and` or `or`").parse_next(input).map_err(cut)?;
            Ok(inner)
        }
        _ => comparison(input).map_err(cut),
    };
    input.state.depth -= 1;
    expr
}

fn comparison(input: &mut Input<'_, '_>) -> Parsed<Expr> {
    let token = sort(Sort::Word, "a condition such as `proto=tcp`").parse_next(input)?;
    let text = input.state.text;
    let Some(field) = Field::from_name(token.text) else {
        let mut error = FilterError::no_such_field(text, token.span.clone(), input.state.kind);
        if let Some(guess) = guess(token.text) {
            error.hint = Some(format!("did you mean `{guess}`?"));
        }
        return Err(last(error));
    };
    input.state.fields.push((field, token.span));
    let negated = opt(sign(&["not"], "`in`")).parse_next(input)?.is_some();
    if peek(input).sort == Sort::Word && peek(input).text == "in" {
        bump(input);
        sort(Sort::Open, "`(`").parse_next(input).map_err(|mut fault: Fault| {
            let next = peek(input);
            if next.sort == Sort::Word {
                fault.error.hint =
                    Some(format!("write `{}={}` or `in ({})`", field.name(), next.text, next.text));
            }
            fault
        })?;
        let one = |input: &mut Input<'_, '_>| value(input, field, Op::Equal);
        let list: Vec<Literal> =
            separated(1.., one, sort(Sort::Comma, "`,` or `)`")).parse_next(input)?;
        sort(Sort::Close, "`,` or `)`").parse_next(input)?;
        let test = Expr::Test(field, Op::Equal, list);
        return Ok(if negated { Expr::Not(Box::new(test)) } else { test });
    }
    if negated {
        return Err(fault(input, "`in`"));
    }
    let ordered = matches!(field.kind(), Kind::Number | Kind::Duration);
    let token = peek(input);
    let op = match (token.sort, token.text) {
        (Sort::Sign, "=" | "==" | "!=") => Op::Equal,
        (Sort::Sign, "~") => Op::Holds,
        (Sort::Sign, "<") if ordered => Op::Less,
        (Sort::Sign, "<=") if ordered => Op::LessOrEqual,
        (Sort::Sign, ">") if ordered => Op::Greater,
        (Sort::Sign, ">=") if ordered => Op::GreaterOrEqual,
        _ => {
            let signs = if ordered {
                "`=`, `!=`, `<`, `<=`, `>`, `>=`, `~` or `in`"
            } else {
                "`=`, `!=`, `~` or `in`"
            };
            let mut fault = fault(input, &format!("{signs} after `{}`", field.name()));
            if matches!(token.sort, Sort::Word | Sort::Quoted) && fault.error.hint.is_none() {
                fault.error.hint = Some(format!("write `{}={}`", field.name(), token.text));
            }
            return Err(fault);
        }
    };
    bump(input);
    let test = Expr::Test(field, op, vec![value(input, field, op)?]);
    Ok(if token.text == "!=" { Expr::Not(Box::new(test)) } else { test })
}

fn value(input: &mut Input<'_, '_>, field: Field, op: Op) -> Parsed<Literal> {
    let token = peek(input);
    if !matches!(token.sort, Sort::Word | Sort::Quoted) {
        let mut fault = fault(input, &format!("a value for `{}`", field.name()));
        if token.sort == Sort::Open && fault.error.hint.is_none() {
            fault.error.hint = Some(format!("a list follows `in`: `{} in (a, b)`", field.name()));
        }
        return Err(cut(fault));
    }
    bump(input);
    let of = input.state.kind;
    Literal::read(field, of, op, token.text).ok_or_else(|| {
        last(FilterError::bad_value(input.state.text, token.span, token.text, field, of))
    })
}

/// What somebody may have meant by a word that isn't a field.
fn guess(word: &str) -> Option<String> {
    let lower = word.to_lowercase();
    let field = match lower.as_str() {
        "tcp" | "udp" | "icmp" | "icmpv6" | "sctp" => return Some(format!("proto={lower}")),
        "allow" | "drop" | "reject" => return Some(format!("verdict={lower}")),
        "in" | "out" | "forward" => return Some(format!("direction={lower}")),
        "new" | "established" | "closed" => {
            return Some(format!("state={lower}` or `class={lower}"));
        }
        "host" | "ip" | "net" | "address" => "addr",
        "saddr" | "source" | "from" => "src",
        "daddr" | "destination" | "to" => "dst",
        "protocol" => "proto",
        "interface" | "dev" => "iface",
        "flags" => "tcp_flags",
        "len" | "length" | "size" => "frame_len",
        "event" | "type" => "class",
        "dir" => "direction",
        _ if lower.parse::<std::net::IpAddr>().is_ok() => return Some(format!("addr={lower}")),
        _ => return Field::nearest(word).map(str::to_owned),
    };
    Some(field.to_owned())
}
