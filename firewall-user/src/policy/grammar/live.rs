//! Live sets: `set NAME live ...`, and the clause that adds to one.

use super::super::ast::{Adds, LiveSet};
use super::super::lex::Kind;
use super::super::span::Spanned;
use super::super::units;
use super::statement::Draft;
use super::{Fault, Input, Parsed, at_line_end, at_word, bump, keyword, list, peek, value, word};
use crate::sets::{self, Entry, SetKind};
use std::path::{Component, Path};
use winnow::prelude::*;

/// What may stand behind `live`.
const EXPECTED: &str = "`addresses`, `pairs`, `ports`, `size N`, `timeout T`, `file \"NAME\"`, `= { ... }` \
                        or the end of the line";

/// `live [addresses|pairs|ports] [size N] [timeout T] [file "NAME"] [= { ENTRY [timeout T], ... }]`.
pub fn set(input: &mut Input<'_, '_>, draft: &mut Draft, name: Spanned<String>) -> Parsed<()> {
    bump(input);
    let (mut kind, mut size, mut timeout, mut file) = (None, None, None, None);
    let mut entries = Vec::new();
    while !at_line_end(input) {
        let token = peek(input);
        let once = |again: bool| {
            if again {
                let message = format!("`{}` is said twice", token.text);
                return Err(Fault::new("said-twice", token.span, message));
            }
            Ok(())
        };
        match (token.kind, token.text) {
            (Kind::Word, "addresses" | "pairs" | "ports") => {
                if kind.is_some() {
                    let message = "a set holds things of one kind";
                    return Err(Fault::new("said-twice", token.span, message));
                }
                bump(input);
                kind = SetKind::from_name(token.text);
            }
            (Kind::Word, "size") => {
                once(size.is_some())?;
                bump(input);
                size = Some(number(input)?);
            }
            (Kind::Word, "timeout") => {
                once(timeout.is_some())?;
                bump(input);
                timeout = Some(Spanned::new(u64::from(value::duration(input)?), token.span));
            }
            (Kind::Word, "file") => {
                once(file.is_some())?;
                bump(input);
                file = Some(path(input)?);
            }
            (Kind::Equals, _) => {
                bump(input);
                let kind = kind.unwrap_or(SetKind::Addresses);
                let read = list::list(input, |input| entry(input, kind), true)?;
                entries = read.into_iter().flat_map(|some| some.value).collect();
                break;
            }
            _ => return Err(Fault::unexpected(input).expect(EXPECTED)),
        }
    }
    let kind = kind.unwrap_or(SetKind::Addresses);
    if let (SetKind::Ports, Some(at)) = (kind, &timeout) {
        return Err(Fault::new("live-set", at.span, "ports have no time-out")
            .hint(Some("they stay until they are deleted".into())));
    }
    let timeout = timeout.map(|timeout| timeout.value);
    draft.live.push(LiveSet { name, kind, size, timeout, file, entries });
    Ok(())
}

fn number(input: &mut Input<'_, '_>) -> Parsed<u32> {
    let token = word("a number of entries such as `10000` or `1M`").parse_next(input)?;
    let number = units::count(token.text).and_then(|n| u32::try_from(n).ok());
    number.filter(|n| *n > 0).ok_or_else(|| {
        let message = format!("`{}` is not a number of entries", token.text);
        Fault::new("bad-number", token.span, message)
            .expect("a number of entries such as `10000` or `1M`")
    })
}

/// A file below the daemon's folder for sets.
fn path(input: &mut Input<'_, '_>) -> Parsed<String> {
    const WHAT: &str = "the name of a file such as `\"drop.txt\"`";
    let token = peek(input);
    let text = match token.kind {
        Kind::Quoted => bump(input).text.trim_matches('"'),
        _ => word(WHAT).parse_next(input)?.text,
    };
    let within = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    if !within {
        return Err(Fault::new("bad-file", token.span, format!("`{text}` leads elsewhere"))
            .expect("a name below the folder for sets, without `/` in front and without `..`"));
    }
    Ok(text.to_owned())
}

type Entries = Vec<(Entry, Option<u64>)>;

/// `ENTRY [timeout T]`; a range of addresses is the prefixes that make it up.
fn entry(input: &mut Input<'_, '_>, kind: SetKind) -> Parsed<Spanned<Entries>> {
    let token = peek(input);
    if token.kind == Kind::SetRef {
        return Err(Fault::new("live-set", token.span, "a live set holds no other sets")
            .expect(sets::expected(kind)));
    }
    let token = word(sets::expected(kind)).parse_next(input)?;
    let mut found = Vec::new();
    sets::parse(token.text.as_bytes(), Some(kind), &mut |entry| found.push(entry))
        .map_err(|error| Fault::new("bad-entry", token.span, error.to_string()))?;
    let mut timeout = None;
    if at_word(input, "timeout") {
        let at = bump(input).span;
        timeout = Some(u64::from(value::duration(input)?));
        if kind == SetKind::Ports {
            return Err(Fault::new("live-set", at, "ports have no time-out")
                .hint(Some("they stay until they are deleted".into())));
        }
    }
    let entries = found.into_iter().map(|entry| (entry, timeout)).collect();
    Ok(Spanned::new(entries, token.span))
}

/// `add|update source|destination to @NAME [timeout T]`.
pub fn adds(input: &mut Input<'_, '_>) -> Parsed<Adds> {
    let renew = bump(input).text == "update";
    let token = peek(input);
    let destination = match (token.kind, token.text) {
        (Kind::Word, "source") => false,
        (Kind::Word, "destination") => true,
        _ => return Err(Fault::unexpected(input).expect("`source` or `destination`")),
    };
    bump(input);
    keyword("to").parse_next(input)?;
    let token = peek(input);
    if token.kind != Kind::SetRef {
        return Err(Fault::unexpected(input).expect("a live set such as `@scanners`"));
    }
    bump(input);
    let name = Spanned::new(token.text[1..].to_owned(), token.span);
    let mut timeout = None;
    if at_word(input, "timeout") {
        bump(input);
        timeout = Some(value::duration(input)?);
    }
    Ok(Adds { name, destination, pair: false, renew, timeout })
}
