//! `limit COUNT UNIT [burst N] [per source]`, `over ...`.

use super::super::ast::{Action, Conditions, Limit, LimitUnit};
use super::super::span::Span;
use super::super::units;
use super::clause::Marks;
use super::{Fault, Input, Parsed, at_word, bump, keyword, word};
use winnow::prelude::*;

const UNITS: &str = "`new/s`, `packets/s`, `bits/s` (or `/m`, `/h`) or `connections`";

pub fn limit(input: &mut Input<'_, '_>) -> Parsed<Limit> {
    let begin = bump(input);
    let over = begin.text == "over";
    let count = number(input)?;
    let (unit, per_ms) = unit(input)?;
    let mut burst = None;
    if at_word(input, "burst") {
        let at = bump(input).span;
        burst = Some(number(input)?);
        if unit == LimitUnit::Connections {
            return Err(Fault::new("limit", at, "connections have no burst")
                .hint(Some("how many there may be at once is what is limited".into())));
        }
    }
    let per_source = at_word(input, "per");
    if per_source {
        bump(input);
        keyword("source").parse_next(input)?;
    }
    if unit == LimitUnit::Connections && !per_source {
        return Err(Fault::new("limit", begin.span, "connections are limited by source")
            .hint(Some(format!("write `{} {count} connections per source`", begin.text))));
    }
    Ok(Limit { over, count, unit, per_ms, burst, per_source })
}

fn number(input: &mut Input<'_, '_>) -> Parsed<u64> {
    let token = word("a number such as `100` or `10M`").parse_next(input)?;
    let number = units::count(token.text).filter(|n| (1..=1_000_000_000_000).contains(n));
    number.ok_or_else(|| {
        let unit =
            token.text.contains('/').then(|| "write number and unit apart: `100 new/s`".into());
        Fault::new("bad-number", token.span, format!("`{}` is not a number", token.text))
            .expect("a number from 1 to 1,000,000,000,000, such as `100` or `10M`")
            .hint(unit)
    })
}

fn unit(input: &mut Input<'_, '_>) -> Parsed<(LimitUnit, u64)> {
    let token = word(UNITS).parse_next(input)?;
    if token.text == "connections" {
        return Ok((LimitUnit::Connections, 1000));
    }
    let (what, time) = token.text.split_once('/').unwrap_or((token.text, ""));
    let unit = match what {
        "new" => Some(LimitUnit::New),
        "packets" => Some(LimitUnit::Packets),
        "bits" => Some(LimitUnit::Bits),
        _ => None,
    };
    let per_ms = match time {
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    unit.zip(per_ms).ok_or_else(|| {
        let hint = match (what, time) {
            ("new" | "packets" | "bits", "") => Some(format!("say the time: `{what}/s`")),
            (_, "") => None,
            ("bytes", _) => Some("count bits: eight for each byte".to_owned()),
            ("connection" | "connections" | "conn", _) => {
                Some(format!("here that is `new/{time}`"))
            }
            _ => None,
        };
        Fault::new("limit", token.span, format!("`{}` is nothing that is limited", token.text))
            .expect(UNITS)
            .hint(hint)
    })
}

/// What can't be limited, for now or ever.
pub fn check(
    input: &mut Input<'_, '_>,
    action: Action,
    when: &Conditions,
    marks: &Marks,
    at: Span,
) {
    let Some(limit) = when.limit else { return };
    let mut refuse = |message: String, hint: &str| {
        input.state.0.push(Fault::new("limit", at, message).hint(Some(hint.to_owned())));
    };
    let flows = matches!(action, Action::Allow | Action::Bypass) && marks.no_track.is_none();
    if flows && limit.over && matches!(limit.unit, LimitUnit::Packets | LimitUnit::Bits) {
        refuse(
            format!("`{limit}` on a rule whose packets begin flows"),
            "what is over can't be let in and be over: say `limit`, or refuse what is `over`",
        );
    }
    if when.owner.is_asked() {
        refuse(
            "a rule that asks for an owner can't have a limit".to_owned(),
            "it is judged where a process calls for the network, before there is a packet",
        );
    }
}
