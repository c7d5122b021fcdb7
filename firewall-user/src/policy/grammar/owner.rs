//! `process`, `exe`, `user`, `unit`, `cgroup`: whose traffic a rule is about.

use super::super::ast::{Action, Conditions, Match, OwnerMatch};
use super::super::lex::{Kind, Token, lex};
use super::super::span::{Span, Spanned};
use super::clause::Marks;
use super::{Fault, Input, Parsed, at_word, bump, list, peek};
use firewall_common::abi::{owner::UNIT_NAME, table::Direction};

/// Bytes of a process's name that the kernel keeps (TASK_COMM_LEN without its zero).
const COMM: usize = 15;
/// Endings of units that processes are in. (A slice is a cgroup of units.)
const ENDINGS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// One of the five clauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Process,
    Exe,
    User,
    Unit,
    Cgroup,
}

impl Field {
    /// Its word, as errors have it.
    pub const fn said(self) -> &'static str {
        match self {
            Self::Process => "`process`",
            Self::Exe => "`exe`",
            Self::User => "`user`",
            Self::Unit => "`unit`",
            Self::Cgroup => "`cgroup`",
        }
    }
}

/// `any`, or a list that `not` may precede.
pub fn owner(input: &mut Input<'_, '_>, field: Field) -> Parsed<Match<String>> {
    bump(input);
    if at_word(input, "any") {
        bump(input);
        return Ok(Match { negated: true, items: Vec::new() });
    }
    list::negatable(input, |input| one(input, field))
}

/// One owner. Names may have an `@` in them, which elsewhere begins a set; in quotes they may have blanks, too.
fn one(input: &mut Input<'_, '_>, field: Field) -> Parsed<Spanned<String>> {
    let what = match field {
        Field::Process => "the name of a process",
        Field::Exe => "the path of an executable",
        Field::User => "a user",
        Field::Unit => "a unit",
        Field::Cgroup => "the path of a cgroup",
    };
    let first = peek(input);
    if first.kind == Kind::Quoted {
        let token = bump(input);
        let text = token.text.trim_matches('"').to_owned();
        return checked(field, text, token.span).map(|text| Spanned::new(text, token.span));
    }
    if first.kind != Kind::Word {
        return Err(Fault::unexpected(input).expect(what));
    }
    let mut text = String::new();
    let mut span = first.span;
    loop {
        let token = bump(input);
        text.push_str(token.text);
        span = Span::new(span.start, token.span.end);
        let next = peek(input);
        if !(matches!(next.kind, Kind::Word | Kind::SetRef) && next.span.start == span.end) {
            break;
        }
    }
    checked(field, text, span).map(|text| Spanned::new(text, span))
}

/// An owner's name as a policy has it: in quotes where it needs them. `None`: no policy can name it.
pub fn written(name: &str) -> Option<String> {
    let bare = |token: &Token<'_>| matches!(token.kind, Kind::Word | Kind::SetRef);
    let tokens = lex(name);
    // The last one is the end.
    let (_, words) = tokens.split_last()?;
    if !matches!(name, "any" | "not")
        && words.first().is_some_and(|token| token.kind == Kind::Word)
        && words.iter().all(bare)
        && words.iter().map(|token| token.text.len()).sum::<usize>() == name.len()
    {
        return Some(name.to_owned());
    }
    let quoted = format!("\"{name}\"");
    matches!(lex(&quoted).as_slice(), [Token { kind: Kind::Quoted, .. }, _]).then_some(quoted)
}

fn checked(field: Field, mut text: String, span: Span) -> Parsed<String> {
    let bad = |message: String, hint: String| {
        Err(Fault::new("bad-owner", span, message).hint(Some(hint)))
    };
    match field {
        Field::Process if text.contains('/') => bad(
            format!("`{text}` is a path, and a process has a name"),
            format!("write `exe {text}`"),
        ),
        Field::Process if text.len() > COMM => {
            let end = (0..=COMM).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            bad(
                format!(
                    "the kernel keeps {COMM} bytes of a process's name, and this has {}",
                    text.len()
                ),
                format!("write `process {}`", &text[..end]),
            )
        }
        Field::Exe if !text.starts_with('/') => bad(
            format!("`{text}` isn't the whole path of an executable"),
            format!("write `exe /usr/bin/{text}`, or `process {text}` for whatever has that name"),
        ),
        Field::Cgroup if !text.starts_with('/') => bad(
            format!("`{text}` isn't the path of a cgroup"),
            "it begins at the root of cgroup v2: `cgroup /system.slice`; a unit is `unit NAME`"
                .into(),
        ),
        Field::Cgroup => {
            text.truncate(text.trim_end_matches('/').len());
            if text.is_empty() {
                return bad(
                    "every process is in the cgroup `/`".into(),
                    "write `process any`".into(),
                );
            }
            Ok(text)
        }
        Field::Unit if text.contains('/') => bad(
            format!("`{text}` is a path, and a unit has a name"),
            format!("write `cgroup {text}`"),
        ),
        Field::Unit if text.ends_with(".slice") => bad(
            format!("`{text}` is a slice: other units are in it"),
            format!("write its cgroup: `cgroup /{text}`"),
        ),
        Field::Unit => {
            if !ENDINGS.iter().any(|ending| text.ends_with(ending)) {
                text.push_str(".service");
            }
            if text.len() >= UNIT_NAME {
                return bad(
                    format!("this name of a unit has {} bytes", text.len()),
                    format!("at most {} can be matched: write its cgroup", UNIT_NAME - 1),
                );
            }
            Ok(text)
        }
        Field::Process | Field::Exe | Field::User => Ok(text),
    }
}

/// What a rule that asks for an owner can't ask for: it is judged before there is a packet.
pub fn check(
    input: &mut Input<'_, '_>,
    action: Action,
    when: &Conditions,
    marks: &Marks,
    at: Span,
) {
    if !when.owner.is_asked() {
        return;
    }
    let mut refuse = |span: Option<Span>, what: &str, hint: &str| {
        let message = format!("a rule that asks for an owner can't ask for {what}");
        input.state.0.push(
            Fault::new("owner-clause", span.unwrap_or(at), message).hint(Some(hint.to_owned())),
        );
    };
    let called = "it is judged where a process calls for the network, before there is a packet";
    if let Some(on) = &when.on {
        let span = on.items.first().map(|item| item.span);
        refuse(span, "an interface", "the way isn't known when a process calls; `to ADDRESS` is");
    }
    if when.flags.is_some() {
        refuse(None, "flags", called);
    }
    if when.states.is_some() {
        refuse(None, "a state", "connections that are there are never judged by their owners");
    }
    if when.icmp.is_some() {
        refuse(None, "an ICMP type", "write `icmp` alone");
    }
    if marks.no_track.is_some() || marks.syn_cookies.is_some() {
        refuse(marks.no_track.or(marks.syn_cookies), "what becomes of packets", called);
    }
    if action == Action::Bypass {
        refuse(None, "`bypass`", called);
    }
    if let Some(adds) = marks.adds.first() {
        refuse(Some(adds.name.span), "something to be added to a set", called);
    }
    let from = when.src.addrs.is_some() || when.src.ports.is_some();
    if from && when.direction != Some(Direction::In) {
        let span = when.src.addrs.as_ref().and_then(|m| m.items.first()).map(|item| item.span);
        refuse(
            span,
            "`from`, unless it says `in`",
            "where a process calls from isn't known when it calls: say `in`, or `to`",
        );
    }
}

/// The clauses together.
pub fn put(owner: &mut OwnerMatch, field: Field, list: Match<String>) {
    let place = match field {
        Field::Process => &mut owner.processes,
        Field::Exe => &mut owner.exes,
        Field::User => &mut owner.users,
        Field::Unit => &mut owner.units,
        Field::Cgroup => &mut owner.cgroups,
    };
    *place = Some(list);
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for name in ["nginx", "/usr/sbin/nginx", "app@1.service", "/opt/a-b_c+d/x"] {
            assert_eq!(written(name).as_deref(), Some(name));
        }
        for name in [
            "Web Content",
            "/opt/My App/bin/app",
            "a#b",
            "@set",
            "a,b",
            "{x}",
            "any more",
            "any",
            "not",
        ] {
            assert_eq!(written(name), Some(format!("\"{name}\"")), "{name}");
        }
        for name in ["", "a\"b", "two\nlines"] {
            assert_eq!(written(name), None, "{name:?}");
        }
    }
}
