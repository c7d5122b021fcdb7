//! `rule NAME ACTION CLAUSE... [=> xsk]`

use super::super::ast::{Action, Rule};
use super::super::lex::Kind;
use super::super::span::{Span, Spanned};
use super::super::words::{self, WITH_PORTS};
use super::clause::{Marks, Said, last_span, one_line};
use super::statement::{Draft, quoted};
use super::{Fault, Input, Parsed, at_line_end, at_word, bump, keyword, limit, owner, peek, value};
use firewall_common::abi::table::Direction;
use winnow::prelude::*;

/// Reads a rule into the draft. Every wrong clause is reported; a rule with one is left out.
pub fn rule(input: &mut Input<'_, '_>, draft: &mut Draft, text: &str) -> Parsed<()> {
    let start = peek(input).span;
    let faults = input.state.0.len();
    // Asked first: a keyword that isn't there makes an error with hints, which takes longer than the rest of the rule.
    let disabled = at_word(input, "disabled").then(|| bump(input));
    keyword("rule").parse_next(input)?;
    let name = rule_name(input)?;
    draft.broken.push(name.value.clone());
    let action_span = peek(input).span;
    let (action, log) = action(input)?;
    let mut said = Said::default();
    while !(at_line_end(input) || matches!(peek(input).kind, Kind::Arrow | Kind::BothWays)) {
        said.read(input, words::CLAUSES);
    }
    if peek(input).kind == Kind::BothWays {
        return Err(Fault::unexpected(input).expect("a clause or the end of the line"));
    }
    let xsk = peek(input).kind == Kind::Arrow;
    if xsk {
        socket(input, action)?;
    } else if action == Action::Bypass {
        input.state.0.push(
            Fault::new("bypass", action_span, "this rule doesn't say where its packets go")
                .hint(Some("end it with `=> xsk`: the AF_XDP socket of their queue".into())),
        );
    }
    let span = start.to(last_span(input, start));
    let (when, marks) = match said.conditions(WITH_PORTS) {
        Ok(read) => read,
        Err(fault) => {
            input.state.0.push(fault);
            return Ok(());
        }
    };
    check_marks(input, action, when.direction, &marks, action_span);
    owner::check(input, action, &when, &marks, action_span);
    limit::check(input, action, &when, &marks, marks.limit);
    if input.state.0.len() == faults {
        draft.broken.pop();
        draft.rules.push(Rule {
            name,
            enabled: disabled.is_none(),
            action,
            log: log || marks.log,
            no_track: marks.no_track.is_some(),
            syn_cookies: marks.syn_cookies.is_some(),
            adds: marks.adds,
            when,
            span,
            text: one_line(span.of(text)),
        });
    }
    Ok(())
}

/// `=> xsk`.
fn socket(input: &mut Input<'_, '_>, action: Action) -> Parsed<()> {
    let arrow = bump(input);
    if action != Action::Bypass {
        return Err(Fault::new("bypass", arrow.span, "only `bypass` sends packets elsewhere")
            .hint(Some(
                "`rule NAME bypass in ... => xsk` hands them to a program, \
                 `nat NAME destination ... => ADDRESS` to another address"
                    .into(),
            )));
    }
    keyword("xsk").parse_next(input).map(drop)
}

/// What may be done to the packets of which rules.
fn check_marks(
    input: &mut Input<'_, '_>,
    action: Action,
    direction: Option<Direction>,
    marks: &Marks,
    action_span: Span,
) {
    let mut refuse = |span, message: &str, hint: &str| {
        input.state.0.push(Fault::new("bad-clause", span, message).hint(Some(hint.to_owned())));
    };
    if let Some(at) = marks.no_track
        && action != Action::Allow
    {
        refuse(at, "`no-track` is for rules that allow", "nothing else enters a flow");
    }
    if let Some(at) = marks.syn_cookies {
        if action != Action::Allow {
            refuse(at, "`syn-cookies` is for rules that allow", "nothing else is answered");
        } else if direction == Some(Direction::Out) {
            refuse(
                at,
                "`syn-cookies` is for packets that come in",
                "a cookie is the answer to a SYN from outside: write `in`",
            );
        } else if marks.no_track.is_some() {
            refuse(at, "a cookie begins a flow, and this rule tracks none", "drop one of the two");
        }
    }
    if action == Action::Bypass && direction != Some(Direction::In) {
        refuse(
            action_span,
            "`bypass` is for packets that come in",
            "write `in`: they go to the socket of the queue they came in at",
        );
    }
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
        (Kind::Word, "bypass") => Some((Action::Bypass, false)),
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
