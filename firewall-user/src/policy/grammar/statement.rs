//! Statements: one a line.

use super::super::ast::{
    Element, FlowFull, Group, HalfOpenFull, LiveSet, Nat, Options, Rule, SynCookies, TcpWindow,
};
use super::super::lex::Kind;
use super::super::span::{Span, Spanned};
use super::super::words;
use super::{
    Fault, Input, Parsed, at_line_end, at_word, bump, keyword, kind, list, live, nat, peek,
    peek_second, rule, skip_statement, value, word,
};
use firewall_common::abi::table::{Direction, Timeout, Verdict};
use std::collections::HashMap;
use winnow::combinator::alt;
use winnow::prelude::*;

/// A policy before its names are checked.
#[derive(Default)]
pub struct Draft {
    /// `interface`.
    pub groups: Vec<Group>,
    /// `set`.
    pub sets: Vec<(Spanned<String>, Vec<Spanned<Element>>)>,
    /// `set NAME live`.
    pub live: Vec<LiveSet>,
    /// `default`.
    pub defaults: [Option<Verdict>; 2],
    /// `option`.
    pub options: Options,
    /// `rule`.
    pub rules: Vec<Rule>,
    /// `nat`.
    pub nats: Vec<Nat>,
    /// Names of rules, sets and groups that were said but could not be read to the end: whoever uses
    /// them is not told that they don't exist.
    pub broken: Vec<String>,
    /// Options and defaults said so far, and where.
    said: HashMap<String, Span>,
}

/// The whole file. Mistakes go to the input's state.
pub fn policy(input: &mut Input<'_, '_>, text: &str) -> Draft {
    let mut draft = Draft::default();
    loop {
        match peek(input).kind {
            Kind::End => return draft,
            Kind::Newline => {
                bump(input);
            }
            _ => {
                let faults = input.state.0.len();
                if let Err(fault) = statement(input, &mut draft, text) {
                    input.state.0.push(fault);
                    skip_statement(input);
                } else if !at_line_end(input) {
                    // What follows a list that was closed twice, and the like.
                    if input.state.0.len() == faults {
                        let fault = Fault::unexpected(input).expect("the end of the line");
                        input.state.0.push(fault);
                    }
                    skip_statement(input);
                }
            }
        }
    }
}

fn statement(input: &mut Input<'_, '_>, draft: &mut Draft, text: &str) -> Parsed<()> {
    let token = peek(input);
    match (token.kind, token.text) {
        (Kind::Word, "interface") => group(input, draft),
        (Kind::Word, "set") => set(input, draft),
        (Kind::Word, "default") => default(input, draft),
        (Kind::Word, "option") => option(input, draft),
        (Kind::Word, "nat") => nat::nat(input, draft, text),
        (Kind::Word, "disabled") if peek_second(input).text == "nat" => {
            nat::nat(input, draft, text)
        }
        (Kind::Word, "rule" | "disabled") => rule::rule(input, draft, text),
        (Kind::Word, seen) => {
            let hint = if words::ACTIONS.contains(&seen) {
                Some(format!(
                    "a rule begins with `rule NAME`: `rule web {seen} in tcp to port 443`"
                ))
            } else if peek_second(input).kind == Kind::Equals {
                Some(format!("did you mean `set {seen} = ...` or `interface {seen} = ...`?"))
            } else {
                words::hint(seen, words::STATEMENTS)
            };
            Err(Fault::new(
                "unknown-statement",
                token.span,
                format!("`{seen}` begins no statement"),
            )
            .expect(words::one_of(&quoted(words::STATEMENTS)))
            .hint(hint))
        }
        _ => Err(Fault::unexpected(input).expect(words::one_of(&quoted(words::STATEMENTS)))),
    }
}

/// `interface NAME = NAME` or `interface NAME = { NAME, ... }`.
fn group(input: &mut Input<'_, '_>, draft: &mut Draft) -> Parsed<()> {
    keyword("interface").parse_next(input)?;
    let name = value::name(input, "a name for the interfaces")?;
    draft.broken.push(name.value.clone());
    kind(Kind::Equals, "`=`").parse_next(input)?;
    let faults = input.state.0.len();
    let members = list::list(input, value::interface, false)?;
    if input.state.0.len() == faults {
        draft.broken.pop();
    }
    draft.groups.push(Group { name, members });
    Ok(())
}

/// `set NAME = { ... }`, `set NAME live ...`.
fn set(input: &mut Input<'_, '_>, draft: &mut Draft) -> Parsed<()> {
    keyword("set").parse_next(input)?;
    let token = peek(input);
    if token.kind == Kind::SetRef {
        return Err(Fault::unexpected(input).expect("a name for the set").hint(Some(format!(
            "`@` is for where a set is used: `set {} = ...`",
            &token.text[1..]
        ))));
    }
    let name = value::name(input, "a name for the set")?;
    draft.broken.push(name.value.clone());
    let faults = input.state.0.len();
    if at_word(input, "live") {
        live::set(input, draft, name)?;
        if input.state.0.len() == faults {
            draft.broken.pop();
        }
        return Ok(());
    }
    kind(Kind::Equals, "`=` or `live`").parse_next(input)?;
    let elements = list::list(input, value::element, true)?;
    if input.state.0.len() == faults {
        draft.broken.pop();
    }
    draft.sets.push((name, elements));
    Ok(())
}

/// `default in|out allow|drop|reject`.
fn default(input: &mut Input<'_, '_>, draft: &mut Draft) -> Parsed<()> {
    keyword("default").parse_next(input)?;
    let direction = direction(input)?;
    let verdict = choice(
        input,
        &[("allow", Verdict::Allow), ("drop", Verdict::Drop), ("reject", Verdict::Reject)],
        "a verdict",
    )?;
    said_once(draft, &format!("default {}", direction.value.name()), direction.span)?;
    draft.defaults[direction.value.raw() as usize] = Some(verdict.value);
    Ok(())
}

/// `in` or `out`.
fn direction(input: &mut Input<'_, '_>) -> Parsed<Spanned<Direction>> {
    let token = peek(input);
    alt((keyword("in").value(Direction::In), keyword("out").value(Direction::Out)))
        .map(|d| Spanned::new(d, token.span))
        .parse_next(input)
        .map_err(|fault| fault.hint(words::hint(token.text, &["in", "out"])))
}

/// `option NAME VALUE`.
fn option(input: &mut Input<'_, '_>, draft: &mut Draft) -> Parsed<()> {
    keyword("option").parse_next(input)?;
    let name = word("the name of an option").parse_next(input)?;
    let switch = [("on", true), ("off", false)];
    let verdicts = [("allow", Verdict::Allow), ("drop", Verdict::Drop)];
    let mut key = name.text.to_owned();
    let mut options = draft.options.clone();
    match name.text {
        "tcp-pickup" => options.tcp_pickup = choice(input, &switch, "a value")?.value,
        "tcp-window" => {
            let values = [
                ("strict", TcpWindow::Strict),
                ("liberal", TcpWindow::Liberal),
                ("off", TcpWindow::Off),
            ];
            options.tcp_window = choice(input, &values, "a value")?.value;
        }
        "malformed" => options.malformed = choice(input, &verdicts, "a verdict")?.value,
        "ethertypes" => options.ethertypes = choice(input, &verdicts, "a verdict")?.value,
        "fragments" => options.fragments = choice(input, &verdicts, "a verdict")?.value,
        "flow-table-full" => {
            let values = [("refuse", FlowFull::Refuse), ("untracked", FlowFull::Untracked)];
            options.flow_full = choice(input, &values, "a value")?.value;
        }
        "half-open-full" => {
            let values = [("evict", HalfOpenFull::Evict), ("refuse", HalfOpenFull::Refuse)];
            options.half_open_full = choice(input, &values, "a value")?.value;
        }
        "source-flows" => {
            let off = at_word(input, "off");
            options.source_flows = if off { None } else { Some(value::flows(input)?) };
            if off {
                bump(input);
            }
        }
        "syn-cookies" => {
            let values = [
                ("off", Some(SynCookies::Off)),
                ("always", Some(SynCookies::Always)),
                ("above", None),
            ];
            let token = peek(input);
            let rate = token.text.ends_with("/s").then(|| format!("write `above {}`", token.text));
            let value = choice(input, &values, "a value").map_err(|fault| fault.hint(rate))?;
            options.syn_cookies = match value.value {
                Some(value) => value,
                None => SynCookies::Above(value::rate(input)?),
            };
        }
        "fast-path" => options.fast_path = choice(input, &switch, "a value")?.value,
        "timeout" => {
            let names: Vec<(&str, Timeout)> = Timeout::ALL.iter().map(|t| (t.name(), *t)).collect();
            let timeout = choice(input, &names, "a time-out")?;
            key = format!("timeout {}", timeout.value.name());
            options.timeouts[timeout.value.raw() as usize] = value::duration(input)?;
        }
        "sample-rate" => options.sample_rate = value::rate(input)?,
        "reject-rate" => options.reject_rate = value::rate(input)?,
        "new-rate" => options.new_rate = value::rate(input)?,
        other => {
            let hint = words::hint(other, words::OPTIONS).or_else(|| {
                Timeout::from_name(other).map(|_| format!("here that is `option timeout {other}`"))
            });
            return Err(Fault::new(
                "unknown-option",
                name.span,
                format!("there is no option `{other}`"),
            )
            .expect(words::one_of(&quoted(words::OPTIONS)))
            .hint(hint));
        }
    }
    said_once(draft, &format!("option {key}"), name.span)?;
    draft.options = options;
    Ok(())
}

/// One of some words.
fn choice<T: Copy>(
    input: &mut Input<'_, '_>,
    values: &[(&str, T)],
    what: &'static str,
) -> Parsed<Spanned<T>> {
    let names: Vec<&str> = values.iter().map(|(n, _)| *n).collect();
    let expected = words::one_of(&quoted(&names));
    let token = peek(input);
    if token.kind != Kind::Word {
        return Err(Fault::unexpected(input).expect(expected));
    }
    match values.iter().find(|(n, _)| *n == token.text) {
        Some((_, value)) => {
            bump(input);
            Ok(Spanned::new(*value, token.span))
        }
        None => {
            Err(Fault::new("unknown-word", token.span, format!("`{}` is not {what}", token.text))
                .expect(expected)
                .hint(words::hint(token.text, &names)))
        }
    }
}

/// Refuses a second statement about the same thing.
fn said_once(draft: &mut Draft, what: &str, span: Span) -> Parsed<()> {
    if draft.said.insert(what.to_owned(), span).is_some() {
        return Err(Fault::new("said-twice", span, format!("`{what}` is said twice"))
            .hint(Some("keep one of the two: which one counts would not be clear".into())));
    }
    Ok(())
}

/// Words in backquotes.
pub fn quoted(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| format!("`{w}`")).collect()
}
