//! Lists in braces, and `not` in front of them.

use super::super::ast::Match;
use super::super::lex::Kind;
use super::super::span::Spanned;
use super::{Fault, Input, Parsed, at_next_statement, at_word, bump, kind, peek};
use winnow::prelude::*;

/// One element, or a list of them in braces that may span lines. A wrong element is reported and
/// the list goes on behind it; `Err` only where the list as a whole can't be read.
///
pub fn list<'t, 's, T>(
    input: &mut Input<'t, 's>,
    mut element: impl FnMut(&mut Input<'t, 's>) -> Parsed<Spanned<T>>,
    may_be_empty: bool,
) -> Parsed<Vec<Spanned<T>>> {
    if peek(input).kind != Kind::Open {
        let one = element(input)?;
        return match peek(input).kind {
            Kind::Comma => {
                let comma = peek(input);
                Err(Fault::new("list-braces", comma.span, "unexpected `,`")
                    .hint(Some("a list is written in braces: `{ a, b }`".into())))
            }
            _ => Ok(vec![one]),
        };
    }
    let open = kind(Kind::Open, "`{`").parse_next(input)?;
    let mut items = Vec::new();
    let faults = input.state.0.len();
    loop {
        while peek(input).kind == Kind::Newline && !at_next_statement(input) {
            bump(input);
        }
        let token = peek(input);
        if token.kind == Kind::Close {
            bump(input);
            break;
        }
        if at_next_statement(input) {
            return Err(Fault::new("unclosed-list", open.span, "this list is never closed")
                .hint(Some("write `}` behind its last element".into())));
        }
        match element(input) {
            Ok(item) => items.push(item),
            Err(fault) => {
                input.state.0.push(fault);
                skip_element(input);
            }
        }
        while peek(input).kind == Kind::Newline && !at_next_statement(input) {
            bump(input);
        }
        match peek(input).kind {
            Kind::Comma => {
                bump(input);
            }
            Kind::Close => {}
            _ if at_next_statement(input) => {}
            Kind::Word | Kind::SetRef => {
                // Most likely a forgotten comma: say so once and go on as if it were there.
                let token = peek(input);
                input.state.0.push(
                    Fault::new("list-comma", token.span, format!("unexpected {}", token.seen()))
                        .expect("`,`")
                        .expect("`}`")
                        .hint(Some("elements of a list are separated by commas".into())),
                );
            }
            _ => {
                let fault = Fault::unexpected(input).expect("`,`").expect("`}`");
                input.state.0.push(fault);
                skip_element(input);
            }
        }
    }
    if items.is_empty() && !may_be_empty && input.state.0.len() == faults {
        return Err(Fault::new("empty-list", open.span, "this list is empty")
            .hint(Some("leave the clause out to match everything".into())));
    }
    Ok(items)
}

/// A list that `not` may precede.
pub fn negatable<'t, 's, T>(
    input: &mut Input<'t, 's>,
    element: impl FnMut(&mut Input<'t, 's>) -> Parsed<Spanned<T>>,
) -> Parsed<Match<T>> {
    let negated = at_word(input, "not");
    if negated {
        bump(input);
    }
    Ok(Match { negated, items: list(input, element, false)? })
}

/// Skips what is left of a wrong element.
fn skip_element(input: &mut Input<'_, '_>) {
    while !matches!(peek(input).kind, Kind::Comma | Kind::Close | Kind::Newline | Kind::End) {
        bump(input);
    }
}
