//! Clauses: what a packet has to meet. Rules and translations share them.

use super::super::ast::{
    AddrItem, Adds, Conditions, Element, Endpoint, Family, FlagsMatch, IcmpMatch, Limit, Match,
    PortItem,
};
use super::super::lex::{Kind, Token, lex};
use super::super::span::{Span, Spanned};
use super::super::words::{
    self, ICMP, ICMP_TYPES, ICMPV6, ICMPV6_TYPES, PROTOCOLS, TCP, TCP_FLAGS, WITH_PORTS,
};
use super::owner::{self, Field};
use super::statement::quoted;
use super::{
    Fault, Input, Parsed, at_next_statement, at_word, bump, limit, list, live, peek, value, word,
};
use firewall_common::abi::table::{Direction, State};
use winnow::combinator::{dispatch, fail, peek as look};
use winnow::prelude::*;

/// One clause.
pub enum Clause {
    Direction(Direction),
    On(Match<String>),
    Family(Family),
    Protos(Vec<Spanned<u8>>),
    Icmp(IcmpMatch),
    From(Endpoint),
    To(Endpoint),
    Flags(FlagsMatch),
    States(Vec<State>),
    Owner(Field, Match<String>),
    NoTrack,
    SynCookies,
    Adds(Adds),
    Limit(Limit),
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
            Self::NoTrack => (8, "`no-track`"),
            Self::SynCookies => (9, "`syn-cookies`"),
            Self::Log => (10, "`log`"),
            Self::Owner(field, _) => (11 + *field as usize, field.said()),
            Self::Adds(Adds { destination: false, .. }) => (16, "what becomes of the source"),
            Self::Limit(_) => (18, "a limit"),
            Self::Adds(_) => (17, "what becomes of the destination"),
        }
    }
}

/// Clauses of one statement, each said once.
#[derive(Default)]
pub struct Said([Option<(Clause, Span)>; 19]);

impl Said {
    /// Reads one more clause; `known` are the words it may begin with. Mistakes go to the input's state.
    pub fn read(&mut self, input: &mut Input<'_, '_>, known: &[&str]) {
        let from = peek(input).span;
        match clause(input, known) {
            Ok(clause) => {
                let (slot, what) = clause.slot();
                if self.0[slot].is_some() {
                    let mut fault = Fault::new("said-twice", from, format!("{what} is said twice"));
                    if slot == 3 {
                        fault =
                            fault.hint(Some("several protocols are a list: `{ tcp, udp }`".into()));
                    }
                    input.state.0.push(fault);
                } else {
                    let end = last_span(input, from);
                    self.0[slot] = Some((clause, from.to(end)));
                }
            }
            Err(fault) => {
                input.state.0.push(fault);
                skip_clause(input);
            }
        }
    }

    /// What the clauses mean together. A statement that asks for ports and names no protocol means
    /// those `with_ports`.
    pub fn conditions(self, with_ports: &[u8]) -> Parsed<(Conditions, Marks)> {
        let (mut when, mut marks) = (Conditions::default(), Marks::default());
        let (mut flags_span, mut ports_span) = (Span::default(), None);
        for (clause, at) in self.0.into_iter().flatten() {
            match clause {
                Clause::Direction(direction) => when.direction = Some(direction),
                Clause::On(on) => when.on = Some(on),
                Clause::Family(family) => when.family = Some(family),
                Clause::Protos(protos) => {
                    let mut protos: Vec<u8> = protos.into_iter().map(|p| p.value).collect();
                    protos.sort_unstable();
                    protos.dedup();
                    when.protos = Some(protos);
                }
                Clause::Icmp(icmp) => {
                    when.protos = Some(vec![if icmp.v6 { ICMPV6 } else { ICMP }]);
                    when.icmp = Some(icmp);
                }
                Clause::From(end) => {
                    ports_span = end.ports.as_ref().map(|_| at).or(ports_span);
                    when.src = end;
                }
                Clause::To(end) => {
                    ports_span = end.ports.as_ref().map(|_| at).or(ports_span);
                    when.dst = end;
                }
                Clause::Flags(flags) => {
                    flags_span = at;
                    when.flags = Some(flags);
                }
                Clause::States(states) => when.states = Some(states),
                Clause::Owner(field, list) => owner::put(&mut when.owner, field, list),
                Clause::NoTrack => marks.no_track = Some(at),
                Clause::SynCookies => marks.syn_cookies = Some(at),
                Clause::Adds(adds) => marks.adds.push(adds),
                Clause::Limit(limit) => {
                    when.limit = Some(limit);
                    marks.limit = at;
                }
                Clause::Log => marks.log = true,
            }
        }
        if when.flags.is_some() {
            only_tcp(&mut when, flags_span, "flags")?;
        }
        if let Some(at) = marks.syn_cookies {
            only_tcp(&mut when, at, "syn-cookies")?;
        }
        if let Some(at) = ports_span {
            ports_of(&mut when, at, with_ports)?;
        }
        Ok((when, marks))
    }
}

/// Clauses that say what to do, not when.
#[derive(Default)]
pub struct Marks {
    /// `log`.
    pub log: bool,
    /// `no-track`.
    pub no_track: Option<Span>,
    /// `syn-cookies`.
    pub syn_cookies: Option<Span>,
    /// `add`, `update`.
    pub adds: Vec<Adds>,
    /// `limit`, `over`, if there is one.
    pub limit: Span,
}

/// Sees to it that a statement with this clause is about TCP.
fn only_tcp(when: &mut Conditions, at: Span, clause: &str) -> Parsed<()> {
    match &when.protos {
        None => when.protos = Some(vec![TCP]),
        Some(protos) if *protos == [TCP] => {}
        Some(_) => {
            let message = format!("`{clause}` is about TCP, and this rule isn't");
            return Err(Fault::new("not-tcp", at, message)
                .hint(Some("write `tcp` as the rule's only protocol".into())));
        }
    }
    Ok(())
}

/// Sees to it that a statement that asks for ports is about protocols that have them.
fn ports_of(when: &mut Conditions, at: Span, with_ports: &[u8]) -> Parsed<()> {
    let Some(protos) = &when.protos else {
        when.protos = Some(with_ports.to_vec());
        return Ok(());
    };
    let Some(without) = protos.iter().find(|p| !WITH_PORTS.contains(p)) else {
        return Ok(());
    };
    let hint = if [ICMP, ICMPV6].contains(without) {
        "ICMP has types: `icmp type echo-request`"
    } else {
        "ports are known of tcp, udp, sctp and udplite"
    };
    let message =
        format!("{} has no ports that a rule could ask for", words::protocol_name(*without));
    Err(Fault::new("no-ports", at, message).hint(Some(hint.into())))
}

/// Reads a clause that begins with one of `known`.
fn clause(input: &mut Input<'_, '_>, known: &[&str]) -> Parsed<Clause> {
    let token = peek(input);
    match token.kind {
        Kind::Open => return protocols(input),
        Kind::Word if known.contains(&token.text) => {}
        Kind::Word => {
            let hint = words::hint(token.text, known).or_else(|| {
                words::number(PROTOCOLS, token.text)
                    .map(|_| format!("write `proto {}`", token.text))
            });
            return Err(Fault::new(
                "unknown-clause",
                token.span,
                format!("unexpected `{}`", token.text),
            )
            .expect(words::one_of(&quoted(known)))
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
        "limit" | "over" => limit::limit.map(Clause::Limit),
        "add" | "update" => live::adds.map(Clause::Adds),
        "no-track" => one.map(|_| Clause::NoTrack),
        "syn-cookies" => one.map(|_| Clause::SynCookies),
        "on" => (one, |i: &mut Input<'_, '_>| list::negatable(i, value::interface)).map(|(_, m)| Clause::On(m)),
        "icmp" | "icmpv6" => icmp,
        "tcp" | "udp" | "sctp" | "udplite" => protocol.map(|p| Clause::Protos(vec![p])),
        "proto" => (one, protocols).map(|(_, c)| c),
        "from" => (one, endpoint).map(|(_, e)| Clause::From(e)),
        "to" => (one, endpoint).map(|(_, e)| Clause::To(e)),
        "flags" => (one, flags).map(|(_, f)| Clause::Flags(f)),
        "state" => (one, states).map(|(_, s)| Clause::States(s)),
        "process" => asked(Field::Process),
        "exe" => asked(Field::Exe),
        "user" => asked(Field::User),
        "unit" => asked(Field::Unit),
        "cgroup" => asked(Field::Cgroup),
        _ => fail,
    }
    .parse_next(input)
}

/// The keyword that `dispatch!` only looked at.
fn one<'s>(input: &mut Input<'_, 's>) -> Parsed<Token<'s>> {
    Ok(bump(input))
}

/// The word of an owner's field and its list.
fn asked<'t, 's>(field: Field) -> impl FnMut(&mut Input<'t, 's>) -> Parsed<Clause> {
    move |input| owner::owner(input, field).map(|list| Clause::Owner(field, list))
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
pub fn skip_clause(input: &mut Input<'_, '_>) {
    let mut depth = 0usize;
    loop {
        let token = peek(input);
        let clause = token.kind == Kind::Word && words::CLAUSES.contains(&token.text);
        let ends = matches!(token.kind, Kind::Newline | Kind::Arrow | Kind::BothWays);
        if at_next_statement(input) || depth == 0 && ends {
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

/// Where the last token taken ended.
pub fn last_span(input: &Input<'_, '_>, otherwise: Span) -> Span {
    input.input.previous_tokens().find(|t| t.kind != Kind::Newline).map_or(otherwise, |t| t.span)
}

/// The words of a statement on one line: as written, but for comments and blanks.
pub fn one_line(text: &str) -> String {
    // Most are written like that already.
    if !text.contains(['\n', '\r', '\t', '\u{c}', '#', '\\']) && !text.contains("  ") {
        return text.to_owned();
    }
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
