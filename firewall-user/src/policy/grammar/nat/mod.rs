//! `nat NAME KIND CONDITION... => TARGET`, `nat NAME KIND on INTERFACE INSIDE <=> OUTSIDE`

mod meaning;
mod target;

use super::super::ast::{AddrRange, Nat};
use super::super::lex::Kind;
use super::super::span::{Span, Spanned};
use super::super::words::{self, TCP, UDP};
use super::clause::{Said, last_span, one_line, skip_clause};
use super::statement::{Draft, quoted};
use super::{
    Fault, Input, Parsed, at_line_end, at_word, bump, keyword, peek, peek_second, value, word,
};
use winnow::combinator::opt;
use winnow::prelude::*;

/// What is said of a translation beside its conditions, each with its place.
#[derive(Default)]
struct Extras {
    ports: Option<Spanned<(u16, u16)>>,
    endpoint_independent: Option<Span>,
    blocks: Option<Spanned<u16>>,
    hairpin: Option<Span>,
    target: Option<Target>,
    pair: Option<(Spanned<AddrRange>, Spanned<AddrRange>)>,
}

/// Behind `=>`.
struct Target {
    addrs: Option<Spanned<AddrRange>>,
    ports: Option<Spanned<(u16, u16)>>,
    span: Span,
}

/// What kind of translation is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Masquerade,
    Source,
    Destination,
    Redirect,
    Static,
    Prefix,
}

const KINDS: [(&str, What); 6] = [
    ("masquerade", What::Masquerade),
    ("source", What::Source),
    ("destination", What::Destination),
    ("redirect", What::Redirect),
    ("static", What::Static),
    ("prefix", What::Prefix),
];

impl What {
    /// The word.
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, what)| *what == self).map_or("", |(name, _)| name)
    }
    /// How one is written.
    const fn example(self) -> &'static str {
        match self {
            Self::Masquerade => "nat NAME masquerade on wan from 10.0.0.0/8",
            Self::Source => "nat NAME source on wan from 10.0.0.0/8 => 203.0.113.8",
            Self::Destination => "nat NAME destination on wan tcp to port 80 => 10.0.0.5",
            Self::Redirect => "nat NAME redirect on lan udp to port 53 => port 5353",
            Self::Static => "nat NAME static on wan 10.0.0.8/29 <=> 203.0.113.8/29",
            Self::Prefix => "nat NAME prefix on wan fd00:1::/48 <=> 2001:db8:1::/48",
        }
    }
    /// Whether it translates both ways.
    const fn both_ways(self) -> bool {
        matches!(self, Self::Static | Self::Prefix)
    }
    /// The extras it knows.
    const fn extras(self) -> &'static [&'static str] {
        match self {
            Self::Masquerade => &["ports", "endpoint-independent"],
            Self::Source => &["ports", "endpoint-independent", "blocks"],
            Self::Destination => &["hairpin"],
            Self::Redirect | Self::Static | Self::Prefix => &[],
        }
    }
}

/// Reads a translation into the draft. Every wrong part is reported; one with a mistake is left out.
pub fn nat(input: &mut Input<'_, '_>, draft: &mut Draft, text: &str) -> Parsed<()> {
    let start = peek(input).span;
    let faults = input.state.0.len();
    let disabled = opt(keyword("disabled")).parse_next(input)?;
    keyword("nat").parse_next(input)?;
    let name = nat_name(input)?;
    draft.broken.push(name.value.clone());
    let what = what(input)?;
    let (mut said, mut extras) = (Said::default(), Extras::default());
    while !at_line_end(input) {
        if let Err(fault) = part(input, what.value, &mut said, &mut extras) {
            input.state.0.push(fault);
            bump_arrow(input);
            skip_clause(input);
            // Around a pair nothing else stands that would make sense without it.
            while what.value.both_ways() && !at_line_end(input) {
                bump_arrow(input);
                skip_clause(input);
            }
        }
    }
    let span = start.to(last_span(input, start));
    // What a broken part would have said is missing now: that is no second mistake.
    if input.state.0.len() > faults {
        return Ok(());
    }
    let (mut when, _) = said.conditions(&[TCP, UDP])?;
    let translation = meaning::translation(what, &mut when, &extras)?;
    draft.broken.pop();
    draft.nats.push(Nat {
        name,
        enabled: disabled.is_none(),
        when,
        translation,
        span,
        text: one_line(span.of(text)),
    });
    Ok(())
}

fn nat_name(input: &mut Input<'_, '_>) -> Parsed<Spanned<String>> {
    let token = peek(input);
    let second = peek_second(input);
    let is_kind = |text: &str| words::NATS.contains(&text);
    let unnamed = is_kind(token.text) && !(second.kind == Kind::Word && is_kind(second.text));
    if token.kind == Kind::Word && unnamed {
        return Err(Fault::new("unnamed-nat", token.span, "this translation has no name")
            .expect("a name in front of the kind")
            .hint(Some(format!(
                "counters are kept by name, across changes of the policy: `nat NAME {} ...`",
                token.text
            ))));
    }
    value::name(input, "a name for the translation")
}

fn what(input: &mut Input<'_, '_>) -> Parsed<Spanned<What>> {
    let token = peek(input);
    let expected = words::one_of(&quoted(words::NATS));
    if token.kind != Kind::Word {
        return Err(Fault::unexpected(input).expect(expected));
    }
    match KINDS.iter().find(|(name, _)| *name == token.text) {
        Some((_, what)) => {
            bump(input);
            Ok(Spanned::new(*what, token.span))
        }
        None => {
            let message = format!("`{}` is no kind of translation", token.text);
            Err(Fault::new("unknown-nat", token.span, message)
                .expect(expected)
                .hint(words::hint(token.text, words::NATS)))
        }
    }
}

/// A part that begins with an arrow is skipped from behind it.
fn bump_arrow(input: &mut Input<'_, '_>) {
    if matches!(peek(input).kind, Kind::Arrow | Kind::BothWays) {
        bump(input);
    }
}

/// One clause, one extra, or what stands around an arrow.
fn part(input: &mut Input<'_, '_>, what: What, said: &mut Said, extras: &mut Extras) -> Parsed<()> {
    let token = peek(input);
    match token.kind {
        Kind::Arrow => return target::target(input, what, extras),
        Kind::BothWays => {
            return Err(if what.both_ways() {
                Fault::unexpected(input)
                    .expect("the prefix inside in front of it")
                    .hint(Some(format!("write `{}`", what.example())))
            } else {
                let message = format!("`{}` translates one way", what.name());
                Fault::new("bad-target", token.span, message)
                    .expect("`=>`")
                    .hint(Some(format!("write `{}`", what.example())))
            });
        }
        Kind::Word if words::NAT_EXTRAS.contains(&token.text) => {
            return extra(input, what, extras);
        }
        // An address that no `from` or `to` stands before: one side of a pair.
        Kind::Word if what.both_ways() && token.text.contains(['.', ':']) => {
            return target::pair(input, what, extras);
        }
        Kind::Word if matches!(token.text, "ipv6" | "icmpv6") && what != What::Prefix => {
            return Err(meaning::only_v4(what, token.span));
        }
        Kind::Word if token.text == "-" || token.text == "to-destination" => {
            return Err(Fault::unexpected(input)
                .expect("`=>`")
                .hint(Some(format!("write `{}`", what.example()))));
        }
        Kind::Word if matches!(token.text, "in" | "out") => {
            let way = if matches!(what, What::Destination | What::Redirect) {
                "it is done where packets come in"
            } else if what.both_ways() {
                "it is done both ways"
            } else {
                "it is done where packets leave"
            };
            let message = format!("`{}` has a direction of its own", what.name());
            return Err(Fault::new("bad-clause", token.span, message).hint(Some(way.into())));
        }
        Kind::Word if matches!(token.text, "flags" | "state" | "log") => {
            let message = format!("`{}` is for rules", token.text);
            return Err(Fault::new("bad-clause", token.span, message)
                .hint(Some("a translation is made once, when a flow begins".into())));
        }
        _ => {}
    }
    if what.both_ways() && token.kind == Kind::Word && words::NAT_CLAUSES.contains(&token.text) {
        if token.text != "on" {
            let message = format!("`{}` translates everything between the two", what.name());
            return Err(Fault::new("bad-clause", token.span, message)
                .hint(Some(format!("write `{}`", what.example()))));
        }
        said.read(input, words::NAT_CLAUSES);
        return Ok(());
    }
    let mut known: Vec<&str> =
        if what.both_ways() { vec!["on"] } else { words::NAT_CLAUSES.into() };
    if !(token.kind == Kind::Word && known.contains(&token.text)) {
        known.extend(what.extras());
        let arrow = match what {
            What::Static | What::Prefix => "a prefix and `<=>`",
            What::Masquerade => "the end of the line",
            _ => "`=>`",
        };
        let fault = match token.kind {
            Kind::Word => {
                let message = format!("unexpected `{}`", token.text);
                Fault::new("unknown-clause", token.span, message)
                    .hint(words::hint(token.text, &known))
            }
            _ => Fault::unexpected(input),
        };
        return Err(fault.expect(words::one_of(&quoted(&known))).expect(arrow));
    }
    said.read(input, &known);
    Ok(())
}

/// `ports A-B`, `endpoint-independent`, `blocks N`, `hairpin`.
fn extra(input: &mut Input<'_, '_>, what: What, extras: &mut Extras) -> Parsed<()> {
    let token = bump(input);
    if !what.extras().contains(&token.text) {
        let of: Vec<&str> = KINDS
            .iter()
            .filter(|(_, kind)| kind.extras().contains(&token.text))
            .map(|(name, _)| *name)
            .collect();
        let hint = if token.text == "ports" && matches!(what, What::Destination | What::Redirect) {
            "ports that are asked for stand behind `to port`, those they become behind `=>`".into()
        } else {
            format!("it is for {}", words::one_of(&quoted(&of)))
        };
        let message = format!("`{}` means nothing to `{}`", token.text, what.name());
        return Err(Fault::new("bad-clause", token.span, message).hint(Some(hint)));
    }
    let twice = match token.text {
        "ports" => {
            let word = word("a port or a range").parse_next(input)?;
            let ports = value::port_range(word, "a port or a range")?;
            if ports.0 == 0 {
                return Err(Fault::new("bad-port", word.span, "port 0 can't be given to a flow")
                    .expect("ports from 1 to 65535"));
            }
            extras.ports.replace(Spanned::new(ports, word.span)).is_some()
        }
        "blocks" => {
            let word = word("how many ports each host gets").parse_next(input)?;
            let size = word.text.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(|| {
                let message = format!("`{}` is not a number of ports", word.text);
                Fault::new("bad-number", word.span, message)
                    .expect("how many ports each host gets, from 1 to 65535")
            })?;
            extras.blocks.replace(Spanned::new(size, word.span)).is_some()
        }
        "hairpin" => extras.hairpin.replace(token.span).is_some(),
        _ => extras.endpoint_independent.replace(token.span).is_some(),
    };
    if twice {
        let message = format!("`{}` is said twice", token.text);
        return Err(Fault::new("said-twice", token.span, message));
    }
    Ok(())
}

/// Whether the next token may begin another part of the statement.
fn at_next_part(input: &Input<'_, '_>) -> bool {
    at_line_end(input) || words::NAT_EXTRAS.iter().any(|word| at_word(input, word))
}
