//! `rule NAME ACTION [in|out] CLAUSE...`

use super::super::ast::{
    Action, AddrItem, Element, Endpoint, Family, FlagsMatch, IcmpMatch, Match, PortItem, Rule,
};
use super::super::lex::{Kind, Token, lex};
use super::super::span::{Span, Spanned};
use super::super::words::{
    self, ICMP, ICMP_TYPES, ICMPV6, ICMPV6_TYPES, PROTOCOLS, TCP, TCP_FLAGS, WITH_PORTS,
};
use super::statement::{Draft, quoted};
use super::{
    Fault, Input, Parsed, at_line_end, at_next_statement, at_word, bump, keyword, list, peek,
    value, word,
};
use firewall_common::abi::table::{Direction, State};
use winnow::combinator::{dispatch, fail, opt, peek as look};
use winnow::prelude::*;

/// One clause.
enum Clause {
    Direction(Direction),
    On(Match<String>),
    Family(Family),
    Protos(Vec<Spanned<u8>>),
    Icmp(IcmpMatch),
    From(Endpoint),
    To(Endpoint),
    Flags(FlagsMatch),
    States(Vec<State>),
    Log,
}

impl Clause {
    /// What can be said once only.
    const fn slot(&self) -> (usize, &'static str) {
        match self {
            Self::Direction(_) => (0, "the direction"),
            Self::On(_) => (1, "`on`"),
            Self::Family(_) => (2, "the IP version"),
            Self::Protos(_) | Self::Icmp(_) => (3, "the protocol"),
            Self::From(_) => (4, "`from`"),
            Self::To(_) => (5, "`to`"),
            Self::Flags(_) => (6, "`flags`"),
            Self::States(_) => (7, "`state`"),
            Self::Log => (8, "`log`"),
        }
    }
}

/// Reads a rule into the draft. Every wrong clause is reported; a rule with one is left out.
pub fn rule(input: &mut Input<'_, '_>, draft: &mut Draft, text: &str) -> Parsed<()> {
    let start = peek(input).span;
    let faults = input.state.0.len();
    let disabled = opt(keyword("disabled")).parse_next(input)?;
    keyword("rule").parse_next(input)?;
    let name = rule_name(input)?;
    draft.broken.push(name.value.clone());
    let action = action(input)?;
    let mut clauses: [Option<(Clause, Span)>; 9] = Default::default();
    while !at_line_end(input) {
        let from = peek(input).span;
        match clause(input) {
            Ok(clause) => {
                let (slot, what) = clause.slot();
                if clauses[slot].is_some() {
                    let mut fault = Fault::new("said-twice", from, format!("{what} is said twice"));
                    if slot == 3 {
                        fault =
                            fault.hint(Some("several protocols are a list: `{ tcp, udp }`".into()));
                    }
                    input.state.0.push(fault);
                } else {
                    let end = last_span(input, from);
                    clauses[slot] = Some((clause, from.to(end)));
                }
            }
            Err(fault) => {
                input.state.0.push(fault);
                skip_clause(input);
            }
        }
    }
    let span = start.to(last_span(input, start));
    let rule = assemble(name, disabled.is_none(), action, clauses, span, text);
    match rule {
        Ok(rule) if input.state.0.len() == faults => {
            draft.broken.pop();
            draft.rules.push(rule);
        }
        Ok(_) => {}
        Err(fault) => input.state.0.push(fault),
    }
    Ok(())
}

/// Where the last token taken ended.
fn last_span(input: &Input<'_, '_>, otherwise: Span) -> Span {
    input.input.previous_tokens().find(|t| t.kind != Kind::Newline).map_or(otherwise, |t| t.span)
}

fn rule_name(input: &mut Input<'_, '_>) -> Parsed<Spanned<String>> {
    let token = peek(input);
    let second = super::peek_second(input);
    let second_is_action = second.kind == Kind::Word && words::ACTIONS.contains(&second.text);
    if token.kind == Kind::Word && words::ACTIONS.contains(&token.text) && !second_is_action {
        return Err(Fault::new("unnamed-rule", token.span, "this rule has no name")
            .expect("a name in front of the action")
            .hint(Some(format!(
                "counters are kept by name, across changes of the policy: `rule NAME {} ...`",
                token.text
            ))));
    }
    value::name(input, "a name for the rule")
}

fn action(input: &mut Input<'_, '_>) -> Parsed<(Action, bool)> {
    let token = peek(input);
    let known = match (token.kind, token.text) {
        (Kind::Word, "allow") => Some((Action::Allow, false)),
        (Kind::Word, "drop") => Some((Action::Drop, false)),
        (Kind::Word, "reject") => Some((Action::Reject, false)),
        (Kind::Word, "count") => Some((Action::Count, false)),
        (Kind::Word, "log") => Some((Action::Count, true)),
        _ => None,
    };
    if let Some(action) = known {
        bump(input);
        return Ok(action);
    }
    let expected = words::one_of(&quoted(words::ACTIONS));
    if token.kind != Kind::Word {
        return Err(Fault::unexpected(input).expect(expected));
    }
    let fault = if words::CLAUSES.contains(&token.text) {
        Fault::new("no-action", token.span, "this rule doesn't say what to do")
            .expect(expected)
            .hint(Some("the action stands right behind the name: `rule NAME allow in ...`".into()))
    } else {
        bump(input);
        Fault::new("unknown-action", token.span, format!("`{}` is not an action", token.text))
            .expect(expected)
            .hint(words::hint(token.text, words::ACTIONS))
    };
    // The clauses can still be read, and their mistakes reported.
    input.state.0.push(fault);
    Ok((Action::Drop, false))
}

fn clause(input: &mut Input<'_, '_>) -> Parsed<Clause> {
    let token = peek(input);
    match token.kind {
        Kind::Open => return protocols(input),
        Kind::Word if words::CLAUSES.contains(&token.text) => {}
        Kind::Word => {
            let hint = words::hint(token.text, words::CLAUSES).or_else(|| {
                words::number(PROTOCOLS, token.text)
                    .map(|_| format!("write `proto {}`", token.text))
            });
            return Err(Fault::new(
                "unknown-clause",
                token.span,
                format!("unexpected `{}`", token.text),
            )
            .expect(words::one_of(&quoted(words::CLAUSES)))
            .hint(hint));
        }
        Kind::Comma => {
            return Err(Fault::unexpected(input).expect("a clause or the end of the line").hint(
                Some(
                    "clauses are separated by spaces; a list is written in braces: `{ a, b }`"
                        .into(),
                ),
            ));
        }
        _ => return Err(Fault::unexpected(input).expect("a clause or the end of the line")),
    }
    dispatch! {look(word("a clause").map(|t: Token<'_>| t.text));
        "in" => one.map(|_| Clause::Direction(Direction::In)),
        "out" => one.map(|_| Clause::Direction(Direction::Out)),
        "ipv4" => one.map(|_| Clause::Family(Family::V4)),
        "ipv6" => one.map(|_| Clause::Family(Family::V6)),
        "log" => one.map(|_| Clause::Log),
        "on" => (one, |i: &mut Input<'_, '_>| list::negatable(i, value::interface)).map(|(_, m)| Clause::On(m)),
        "icmp" | "icmpv6" => icmp,
        "tcp" | "udp" | "sctp" | "udplite" => protocol.map(|p| Clause::Protos(vec![p])),
        "proto" => (one, protocols).map(|(_, c)| c),
        "from" => (one, endpoint).map(|(_, e)| Clause::From(e)),
        "to" => (one, endpoint).map(|(_, e)| Clause::To(e)),
        "flags" => (one, flags).map(|(_, f)| Clause::Flags(f)),
        "state" => (one, states).map(|(_, s)| Clause::States(s)),
        _ => fail,
    }
    .parse_next(input)
}

/// The keyword that `dispatch!` only looked at.
fn one<'s>(input: &mut Input<'_, 's>) -> Parsed<Token<'s>> {
    Ok(bump(input))
}

fn protocol(input: &mut Input<'_, '_>) -> Parsed<Spanned<u8>> {
    value::byte(input, PROTOCOLS, "a protocol")
}

fn protocols(input: &mut Input<'_, '_>) -> Parsed<Clause> {
    list::list(input, protocol, false).map(Clause::Protos)
}

/// `icmp [type T [code C]]`, `icmpv6 [type T [code C]]`.
fn icmp(input: &mut Input<'_, '_>) -> Parsed<Clause> {
    let v6 = at_word(input, "icmpv6");
    let token = bump(input);
    if !at_word(input, "type") {
        let proto = if v6 { ICMPV6 } else { ICMP };
        return Ok(Clause::Protos(vec![Spanned::new(proto, token.span)]));
    }
    bump(input);
    let (table, what) =
        if v6 { (ICMPV6_TYPES, "an ICMPv6 type") } else { (ICMP_TYPES, "an ICMP type") };
    let types = list::list(input, |i| value::byte(i, table, what), false)?;
    let codes = if at_word(input, "code") {
        bump(input);
        Some(list::list(input, |i| value::byte(i, &[], "a code"), false)?)
    } else {
        None
    };
    let plain = |list: Vec<Spanned<u8>>| list.into_iter().map(|s| s.value).collect::<Vec<u8>>();
    Ok(Clause::Icmp(IcmpMatch { v6, types: plain(types), codes: codes.map(plain) }))
}

/// `[not] ADDRESSES [port [not] PORTS]` or `port [not] PORTS`.
fn endpoint(input: &mut Input<'_, '_>) -> Parsed<Endpoint> {
    let mut end = Endpoint::default();
    let any = at_word(input, "any");
    if any {
        bump(input);
    } else if !at_word(input, "port") {
        let Match { negated, items } = list::negatable(input, value::addr)?;
        let items = items.into_iter().filter_map(|s| match s.value {
            Element::Addr(range) => Some(Spanned::new(AddrItem::Range(range), s.span)),
            Element::Set(name) => Some(Spanned::new(AddrItem::Set(name), s.span)),
            Element::Ports(..) => None,
        });
        end.addrs = Some(Match { negated, items: items.collect() });
    }
    if at_word(input, "port") {
        bump(input);
        let Match { negated, items } = list::negatable(input, value::port)?;
        let items = items.into_iter().filter_map(|s| match s.value {
            Element::Ports(a, b) => Some(Spanned::new(PortItem::Range(a, b), s.span)),
            Element::Set(name) => Some(Spanned::new(PortItem::Set(name), s.span)),
            Element::Addr(_) => None,
        });
        end.ports = Some(Match { negated, items: items.collect() });
    }
    Ok(end)
}

/// `syn,ack` (both set), `syn/syn,ack` (of the two, only SYN), `none`.
fn flags(input: &mut Input<'_, '_>) -> Parsed<FlagsMatch> {
    let (mut value, mut mask, mut behind_slash) = (0, 0, false);
    loop {
        let token = word("a TCP flag").parse_next(input)?;
        for (i, part) in token.text.split('/').enumerate() {
            if i > 0 && std::mem::replace(&mut behind_slash, true) {
                return Err(Fault::new("bad-flags", token.span, "a second `/`")
                    .expect("flags as in `syn/syn,ack`"));
            }
            if part.is_empty() {
                // `syn / syn,ack`: the slash stands alone.
                continue;
            }
            let bit = match part {
                "none" if !behind_slash => 0,
                "all" => 0xff,
                _ => words::number(TCP_FLAGS, part).ok_or_else(|| {
                    let names: Vec<&str> = TCP_FLAGS.iter().map(|(n, _)| *n).collect();
                    Fault::new("unknown-flag", token.span, format!("`{part}` is not a TCP flag"))
                        .expect(words::one_of(&names))
                        .hint(words::hint(part, &names).or_else(|| {
                            Some("flags are words separated by commas: `syn,ack`".into())
                        }))
                })?,
            };
            if behind_slash { mask |= bit } else { value |= bit }
        }
        let next = peek(input);
        if next.kind == Kind::Comma {
            bump(input);
        } else if !(next.kind == Kind::Word
            && (next.text.starts_with('/') || token.text.ends_with('/')))
        {
            let span = token.span;
            return finish_flags(value, mask, behind_slash, span);
        }
    }
}

fn finish_flags(value: u8, mask: u8, masked: bool, span: Span) -> Parsed<FlagsMatch> {
    if !masked {
        // `none` alone looks at all flags.
        return Ok(FlagsMatch { mask: if value == 0 { 0xff } else { value }, value });
    }
    if value & !mask != 0 {
        let missing: Vec<&str> =
            TCP_FLAGS.iter().filter(|(_, b)| value & !mask & b != 0).map(|(n, _)| *n).collect();
        return Err(Fault::new(
            "bad-flags",
            span,
            format!("{} isn't among the flags looked at", missing.join(", ")),
        )
        .hint(Some(
            "before the `/` stand those that are set, behind it all that are looked at".into(),
        )));
    }
    Ok(FlagsMatch { mask, value })
}

/// `new`, `new,established` or a list in braces.
fn states(input: &mut Input<'_, '_>) -> Parsed<Vec<State>> {
    let names: Vec<&str> = State::ALL.iter().map(|s| s.name()).collect();
    let state = |input: &mut Input<'_, '_>| -> Parsed<Spanned<State>> {
        let token = word("a state").parse_next(input)?;
        State::from_name(token.text).map(|s| Spanned::new(s, token.span)).ok_or_else(|| {
            Fault::new("unknown-state", token.span, format!("`{}` is not a state", token.text))
                .expect(words::one_of(&names))
                .hint(words::hint(token.text, &names))
        })
    };
    if peek(input).kind == Kind::Open {
        return Ok(list::list(input, state, false)?.into_iter().map(|s| s.value).collect());
    }
    let mut states = vec![state(input)?.value];
    while peek(input).kind == Kind::Comma {
        bump(input);
        states.push(state(input)?.value);
    }
    Ok(states)
}

/// Skips to where a clause may begin again, or to the end of the statement.
fn skip_clause(input: &mut Input<'_, '_>) {
    let mut depth = 0usize;
    loop {
        let token = peek(input);
        let clause = token.kind == Kind::Word && words::CLAUSES.contains(&token.text);
        if at_next_statement(input) || depth == 0 && token.kind == Kind::Newline {
            return;
        }
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        bump(input);
        // The token that was wrong may itself be a clause's first word; never stay on it.
        let next = peek(input);
        let at_clause = next.kind == Kind::Word && words::CLAUSES.contains(&next.text);
        if depth == 0 && at_clause && !(clause && next == token) {
            return;
        }
    }
}

/// Clauses to rule: what they mean together.
fn assemble(
    name: Spanned<String>,
    enabled: bool,
    (action, mut log): (Action, bool),
    clauses: [Option<(Clause, Span)>; 9],
    span: Span,
    text: &str,
) -> Parsed<Rule> {
    let mut rule = Rule {
        name,
        enabled,
        action,
        log,
        direction: None,
        on: None,
        family: None,
        protos: None,
        icmp: None,
        src: Endpoint::default(),
        dst: Endpoint::default(),
        flags: None,
        states: None,
        span,
        text: one_line(span.of(text)),
    };
    let (mut flags_span, mut ports_span) = (span, None);
    for (clause, at) in clauses.into_iter().flatten() {
        match clause {
            Clause::Direction(direction) => rule.direction = Some(direction),
            Clause::On(on) => rule.on = Some(on),
            Clause::Family(family) => rule.family = Some(family),
            Clause::Protos(protos) => {
                let mut protos: Vec<u8> = protos.into_iter().map(|p| p.value).collect();
                protos.sort_unstable();
                protos.dedup();
                rule.protos = Some(protos);
            }
            Clause::Icmp(icmp) => {
                rule.protos = Some(vec![if icmp.v6 { ICMPV6 } else { ICMP }]);
                rule.icmp = Some(icmp);
            }
            Clause::From(end) => {
                ports_span = end.ports.as_ref().map(|_| at).or(ports_span);
                rule.src = end;
            }
            Clause::To(end) => {
                ports_span = end.ports.as_ref().map(|_| at).or(ports_span);
                rule.dst = end;
            }
            Clause::Flags(flags) => {
                flags_span = at;
                rule.flags = Some(flags);
            }
            Clause::States(states) => rule.states = Some(states),
            Clause::Log => log = true,
        }
    }
    rule.log = log;
    if rule.flags.is_some() {
        match &rule.protos {
            None => rule.protos = Some(vec![TCP]),
            Some(protos) if *protos == [TCP] => {}
            Some(_) => {
                return Err(Fault::new(
                    "not-tcp",
                    flags_span,
                    "`flags` is about TCP, and this rule isn't",
                )
                .hint(Some("write `tcp` as the rule's only protocol".into())));
            }
        }
    }
    if let Some(at) = ports_span {
        match &rule.protos {
            None => rule.protos = Some(WITH_PORTS.to_vec()),
            Some(protos) => {
                if let Some(without) = protos.iter().find(|p| !WITH_PORTS.contains(p)) {
                    let hint = if [ICMP, ICMPV6].contains(without) {
                        "ICMP has types: `icmp type echo-request`"
                    } else {
                        "ports are known of tcp, udp, sctp and udplite"
                    };
                    let name = words::protocol_name(*without);
                    let message = format!("{name} has no ports that a rule could ask for");
                    return Err(Fault::new("no-ports", at, message).hint(Some(hint.into())));
                }
            }
        }
    }
    Ok(rule)
}

/// The words of a statement on one line: as written, but for comments and blanks.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for token in lex(text) {
        if matches!(token.kind, Kind::Newline | Kind::End) {
            continue;
        }
        if token.span.start > end && !out.is_empty() {
            out.push(' ');
        }
        out.push_str(token.text);
        end = token.span.end;
    }
    out
}
