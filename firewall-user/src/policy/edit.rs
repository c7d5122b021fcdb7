//! Changes to a policy's text that leave all else in it as it was: comments, blank lines, order,
//! spelling. Each works on the source and parses the result again, so that what comes out is a
//! policy, or the reason why it isn't.
//!
//! What is said of rules here holds for translations (`nat`) too: the two share one space of names,
//! and each kind counts its own places.
//!
//! A comment on the rule's own line goes where the rule goes. Comment lines right above a rule that
//! stands alone below them are taken to be about that rule: they move with it. Above several rules
//! they are a heading, and stay. Deleting leaves comment lines where they are.

use super::ast::Policy;
use super::diagnostic::Diagnostics;
use super::lex::{Kind, lex};
use super::suggest;
use super::{parse, span::Span};
use std::ops::Range;

/// A rule or translation, as far as edits need to know it.
#[derive(Clone, Copy)]
struct Item<'p> {
    what: &'static str,
    name: &'p str,
    enabled: bool,
    span: Span,
}

/// All rules, then all translations.
fn items(policy: &Policy) -> impl Iterator<Item = Item<'_>> {
    let rules = policy.rules.iter().map(|r| Item {
        what: "rule",
        name: &r.name.value,
        enabled: r.enabled,
        span: r.span,
    });
    rules.chain(policy.nats.iter().map(|n| Item {
        what: "nat",
        name: &n.name.value,
        enabled: n.enabled,
        span: n.span,
    }))
}

/// Where a rule goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind the last rule.
    Last,
    /// So that it is the n-th rule, from 1.
    At(usize),
    /// Right above this rule.
    Before(String),
    /// Right below this rule.
    After(String),
}

/// Why an edit was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No rule has this name.
    #[error("there is no rule `{name}`{}", hint.as_ref().map(|h| format!(": {h}")).unwrap_or_default())]
    UnknownRule {
        /// The name.
        name: String,
        /// The nearest name, or all.
        hint: Option<String>,
    },
    /// The text is something else than one rule.
    #[error(
        "`{text}` is not one rule: expected `rule NAME ACTION ...` or `nat NAME KIND ...` on a line of its own"
    )]
    NotOneRule {
        /// The text.
        text: String,
    },
    /// The place doesn't exist.
    #[error("there is no place {seen}: the policy has places 1 to {last}")]
    NoSuchPlace {
        /// The place asked for.
        seen: usize,
        /// The last there is.
        last: usize,
    },
    /// The text that would come out is not a policy.
    #[error("{0}")]
    Broken(Diagnostics),
}

/// Adds a rule, given as its statement.
///
/// # Errors
/// If the text isn't exactly one rule, if the place doesn't exist, or if the result isn't a policy
/// (a name used twice, an unknown set, ...).
pub fn add(policy: &Policy, text: &str, place: &Place) -> Result<Policy, EditError> {
    let text = text.trim();
    let not_one = || EditError::NotOneRule { text: text.to_owned() };
    let tokens = lex(text);
    let mut words = tokens.iter().filter(|t| t.kind != Kind::Newline).map(|t| t.text);
    let what = match words.next() {
        Some("disabled") => words.next(),
        first => first,
    };
    let Some(what) = ["rule", "nat"].into_iter().find(|known| Some(*known) == what) else {
        return Err(not_one());
    };
    let (at, lines) = inserted(policy, what, text, place)?;
    let mut source = policy.source.clone();
    source.insert_str(at, &lines);
    let edited = reparse(policy, source)?;
    let same_rest = edited.sets.len() == policy.sets.len()
        && edited.live.len() == policy.live.len()
        && edited.groups.len() == policy.groups.len()
        && edited.options == policy.options
        && edited.defaults == policy.defaults;
    let counts = |p: &Policy| (p.rules.len(), p.nats.len());
    let (rules, nats) = counts(policy);
    let one_more = if what == "rule" { (rules + 1, nats) } else { (rules, nats + 1) };
    if counts(&edited) != one_more || !same_rest {
        return Err(not_one());
    }
    Ok(edited)
}

/// Next to which rule another one goes, by its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Right above it.
    Above(usize),
    /// Right below it.
    Below(usize),
    /// Behind the last rule.
    Last,
}

/// What adding the rule there would put into the text, and where; whether it is a rule nobody has looked. `None`: there is
/// no such rule.
pub(super) fn insertion(policy: &Policy, text: &str, spot: Spot) -> Option<(usize, String)> {
    let item = |index: usize| {
        policy.rules.get(index).map(|rule| Item {
            what: "rule",
            name: &rule.name.value,
            enabled: rule.enabled,
            span: rule.span,
        })
    };
    let below = |item: &Item<'_>| lines(&policy.source, item.span).end;
    let last = policy.rules.len().checked_sub(1).and_then(item);
    let (at, neighbour) = match spot {
        Spot::Above(index) => (block(policy, &item(index)?).start, item(index.saturating_sub(1))),
        Spot::Below(index) => (below(&item(index)?), item(index)),
        Spot::Last => (last.as_ref().map_or(policy.source.len(), below), last),
    };
    let indent = neighbour_indent(policy, neighbour.as_slice(), at);
    let gap = gap(&policy.source[..at]);
    Some((at, format!("{gap}{indent}{text}\n")))
}

fn inserted(
    policy: &Policy,
    what: &str,
    text: &str,
    place: &Place,
) -> Result<(usize, String), EditError> {
    let others: Vec<Item<'_>> = items(policy).filter(|item| item.what == what).collect();
    let at = offset(policy, &others, place)?;
    let indent = neighbour_indent(policy, &others, at);
    let gap = gap(&policy.source[..at]);
    Ok((at, format!("{gap}{indent}{text}\n")))
}

/// Deletes a rule: its lines, and nothing else.
///
/// # Errors
/// If there is no such rule.
pub fn delete(policy: &Policy, name: &str) -> Result<Policy, EditError> {
    let rule = find(policy, name)?;
    let mut source = policy.source.clone();
    source.replace_range(lines(&policy.source, rule.span), "");
    reparse(policy, source)
}

/// Moves a rule.
///
/// # Errors
/// If there is no such rule or place.
pub fn move_to(policy: &Policy, name: &str, place: &Place) -> Result<Policy, EditError> {
    let rule = find(policy, name)?;
    let others: Vec<Item<'_>> =
        items(policy).filter(|item| item.what == rule.what && item.name != name).collect();
    if matches!(place, Place::Before(other) | Place::After(other) if other == name) {
        return Ok(policy.clone());
    }
    let at = offset(policy, &others, place)?;
    let cut = block(policy, &rule);
    let source = &policy.source;
    if cut.contains(&at) || at == cut.end {
        return Ok(policy.clone());
    }
    let mut moved = source[cut.clone()].to_owned();
    if !moved.ends_with('\n') {
        moved.push('\n');
    }
    let edited = if at < cut.start {
        let rest = format!("{}{}", &source[..cut.start], &source[cut.end..]);
        insert(&rest, at, &moved)
    } else {
        let without = insert(source, at, &moved);
        format!("{}{}", &without[..cut.start], &without[cut.end..])
    };
    let edited = reparse(policy, edited)?;
    let order = |p: &Policy| items(p).map(|item| item.name.to_owned()).collect::<Vec<_>>();
    // It stands there already: then not even a comment should shift.
    Ok(if order(&edited) == order(policy) { policy.clone() } else { edited })
}

/// Lets a rule take part. One that does already stays as it is.
///
/// # Errors
/// If there is no such rule.
pub fn enable(policy: &Policy, name: &str) -> Result<Policy, EditError> {
    let rule = find(policy, name)?;
    if rule.enabled {
        return Ok(policy.clone());
    }
    // From `disabled` to `rule` or `nat`: the two words and whatever blanks are between them.
    let keyword = lex(rule.span.of(&policy.source)).into_iter().find(|t| t.text == rule.what);
    let skip = keyword.map_or(0, |t| t.span.start);
    let mut source = policy.source.clone();
    source.replace_range(rule.span.start..rule.span.start + skip, "");
    reparse(policy, source)
}

/// Keeps a rule in the file, but out of the game. Its counters are kept.
///
/// # Errors
/// If there is no such rule.
pub fn disable(policy: &Policy, name: &str) -> Result<Policy, EditError> {
    let rule = find(policy, name)?;
    if !rule.enabled {
        return Ok(policy.clone());
    }
    let mut source = policy.source.clone();
    source.insert_str(rule.span.start, "disabled ");
    reparse(policy, source)
}

fn find<'p>(policy: &'p Policy, name: &str) -> Result<Item<'p>, EditError> {
    items(policy).find(|item| item.name == name).ok_or_else(|| {
        let names: Vec<&str> = items(policy).map(|item| item.name).collect();
        EditError::UnknownRule {
            name: name.to_owned(),
            hint: suggest::hint(name, "rules", &names, ""),
        }
    })
}

fn reparse(policy: &Policy, source: String) -> Result<Policy, EditError> {
    parse(&source, &policy.file).map_err(EditError::Broken)
}

/// Puts text in front of the byte at `at`, which begins a line or ends the text.
fn insert(source: &str, at: usize, text: &str) -> String {
    let (before, after) = source.split_at(at);
    format!("{before}{}{text}{after}", gap(before))
}

/// What has to stand between a text and a line below it.
fn gap(before: &str) -> &'static str {
    if before.is_empty() || before.ends_with('\n') { "" } else { "\n" }
}

/// Where in the source a place is, `others` being the rules that stay.
fn offset(policy: &Policy, others: &[Item<'_>], place: &Place) -> Result<usize, EditError> {
    let below = |rule: &Item<'_>| lines(&policy.source, rule.span).end;
    let above = |rule: &Item<'_>| block(policy, rule).start;
    let last = others.last().map_or(policy.source.len(), below);
    Ok(match place {
        Place::Last => last,
        Place::At(n) if *n == 0 || *n > others.len() + 1 => {
            return Err(EditError::NoSuchPlace { seen: *n, last: others.len() + 1 });
        }
        Place::At(n) => others.get(n - 1).map_or(last, above),
        Place::Before(name) => above(&find(policy, name)?),
        Place::After(name) => below(&find(policy, name)?),
    })
}

/// The whole lines that a statement stands on, the last line end included.
pub(super) fn lines(source: &str, span: Span) -> Range<usize> {
    let start = source[..span.start].rfind('\n').map_or(0, |i| i + 1);
    let end = source[span.end..].find('\n').map_or(source.len(), |i| span.end + i + 1);
    start..end
}

/// A rule's lines, and the comment lines above them if they are about this rule alone.
fn block(policy: &Policy, rule: &Item<'_>) -> Range<usize> {
    let source = &policy.source;
    let own = lines(source, rule.span);
    let next = source[own.end..].lines().next().unwrap_or("").trim();
    if !(next.is_empty() || next.starts_with('#')) {
        return own;
    }
    let mut start = own.start;
    for line in source[..own.start].split_inclusive('\n').rev() {
        if !line.trim_start().starts_with('#') {
            break;
        }
        start -= line.len();
    }
    start..own.end
}

/// The indentation of the rule next to an offset.
fn neighbour_indent<'p>(policy: &'p Policy, others: &[Item<'_>], at: usize) -> &'p str {
    let neighbour = others.iter().rev().find(|r| r.span.start < at).or(others.first());
    neighbour.map_or("", |rule| {
        let start = lines(&policy.source, rule.span).start;
        &policy.source[start..rule.span.start]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# The gate.
default in drop

# ssh, for admins
rule ssh allow in tcp to port 22   # keep!

# web
rule web  allow in tcp to port {
    80, 443   # both
}
rule old allow in tcp to port 8080

# the rest
rule rest drop in log
";

    fn policy(text: &str) -> Policy {
        parse(text, "test").unwrap_or_else(|e| panic!("{e}"))
    }
    fn names(policy: &Policy) -> Vec<&str> {
        policy.rules.iter().map(|r| r.name.value.as_str()).collect()
    }

    #[test]
    fn adding_touches_one_line() {
        let p = policy(TEXT);
        let text = "rule dns allow in udp to port 53 # new";
        let added = |place: Place| add(&p, text, &place).unwrap();
        for (place, order) in [
            (Place::Last, ["ssh", "web", "old", "rest", "dns"]),
            (Place::At(1), ["dns", "ssh", "web", "old", "rest"]),
            (Place::At(5), ["ssh", "web", "old", "rest", "dns"]),
            (Place::Before("old".into()), ["ssh", "web", "dns", "old", "rest"]),
            (Place::After("web".into()), ["ssh", "web", "dns", "old", "rest"]),
            (Place::Before("rest".into()), ["ssh", "web", "old", "dns", "rest"]),
        ] {
            let edited = added(place.clone());
            assert_eq!(names(&edited), order, "{place:?}");
            assert_eq!(edited.source.replace(&format!("{text}\n"), ""), TEXT, "{place:?}");
        }
        // Above the comment that is about the rule, below the heading of several.
        assert!(added(Place::At(1)).source.contains("53 # new\n# ssh, for admins\nrule ssh"));
        assert!(added(Place::Before("web".into())).source.contains("# web\nrule dns"));
        let empty = add(&policy(""), text, &Place::Last).unwrap();
        assert_eq!(empty.source, format!("{text}\n"));
        let open = add(&policy("  rule a drop"), text, &Place::Last).unwrap();
        assert_eq!(open.source, format!("  rule a drop\n  {text}\n"));
    }

    #[test]
    fn what_is_not_one_rule_is_refused() {
        let p = policy(TEXT);
        for text in [
            "",
            "# x",
            "default out drop",
            "rule a drop\nrule b drop",
            "rule a drop\noption malformed allow",
            "ssh",
        ] {
            let error = add(&p, text, &Place::Last).unwrap_err();
            assert!(matches!(error, EditError::NotOneRule { .. }), "{text}: {error}");
        }
        assert!(matches!(add(&p, "rule ssh drop", &Place::Last), Err(EditError::Broken(_))));
        assert!(matches!(
            add(&p, "rule x drop from @nix", &Place::Last),
            Err(EditError::Broken(_))
        ));
        assert!(matches!(
            add(&p, "rule x drop", &Place::At(6)),
            Err(EditError::NoSuchPlace { seen: 6, last: 5 })
        ));
        let error = delete(&p, "shs").unwrap_err().to_string();
        assert_eq!(error, "there is no rule `shs`: did you mean `ssh`?");
    }

    #[test]
    fn deleting_leaves_comments_and_takes_all_lines_of_the_rule() {
        let p = policy(TEXT);
        let edited = delete(&p, "web").unwrap();
        assert_eq!(names(&edited), ["ssh", "old", "rest"]);
        assert!(edited.source.contains("# web\nrule old"));
        assert!(!delete(&p, "ssh").unwrap().source.contains("keep"));
    }

    #[test]
    fn moving_takes_the_rules_own_comment_along() {
        let p = policy(TEXT);
        let edited = move_to(&p, "rest", &Place::At(1)).unwrap();
        assert_eq!(names(&edited), ["rest", "ssh", "web", "old"]);
        assert!(
            edited
                .source
                .contains("# the rest\nrule rest drop in log\n# ssh, for admins\nrule ssh")
        );
        let edited = move_to(&p, "web", &Place::Last).unwrap();
        assert_eq!(names(&edited), ["ssh", "old", "rest", "web"]);
        assert!(edited.source.contains("# web\nrule old"), "a heading stays:\n{}", edited.source);
        let edited = move_to(&p, "ssh", &Place::After("old".into())).unwrap();
        assert_eq!(names(&edited), ["web", "old", "ssh", "rest"]);
        for (name, n) in [("ssh", 1), ("web", 2), ("rest", 4)] {
            assert_eq!(move_to(&p, name, &Place::At(n)).unwrap().source, TEXT, "{name}");
        }
        assert_eq!(move_to(&p, "web", &Place::Before("web".into())).unwrap().source, TEXT);
        for n in 1..=4 {
            for name in ["ssh", "web", "old", "rest"] {
                let moved = move_to(&p, name, &Place::At(n)).unwrap();
                assert_eq!(moved.rule(name).map(|(i, _)| i + 1), Some(n));
                assert_eq!(moved.source.len(), TEXT.len());
            }
        }
        assert!(
            move_to(&policy("rule a drop\nrule b drop"), "b", &Place::At(1))
                .unwrap()
                .source
                .starts_with("rule b drop\nrule a drop")
        );
    }

    #[test]
    fn translations_are_edited_like_rules_and_count_their_own_places() {
        let text = "\
rule a allow
# out
nat all masquerade on wan   # keep!

rule b drop
# forwards
nat web destination on wan tcp to port {
    80, 443   # both
} => 10.0.0.5
";
        let p = policy(text);
        let nats =
            |p: &Policy| -> Vec<String> { p.nats.iter().map(|n| n.name.value.clone()).collect() };
        let dns = "nat dns redirect on lan udp to port 53 => port 5353";
        for (place, order) in [
            (Place::Last, ["all", "web", "dns"]),
            (Place::At(1), ["dns", "all", "web"]),
            (Place::Before("web".into()), ["all", "dns", "web"]),
            (Place::After("a".into()), ["dns", "all", "web"]),
        ] {
            let edited = add(&p, dns, &place).unwrap();
            assert_eq!(
                (nats(&edited), names(&edited)),
                (order.map(String::from).into(), vec!["a", "b"])
            );
            assert_eq!(edited.source.replace(&format!("{dns}\n"), ""), text, "{place:?}");
        }
        assert!(matches!(add(&p, dns, &Place::At(4)), Err(EditError::NoSuchPlace { last: 3, .. })));
        assert!(matches!(add(&p, "rule web drop", &Place::Last), Err(EditError::Broken(_))));
        let two = format!("{dns}\nrule c drop");
        assert!(matches!(add(&p, &two, &Place::Last), Err(EditError::NotOneRule { .. })));
        let off = disable(&p, "all").unwrap();
        assert!(off.source.contains("disabled nat all masquerade on wan   # keep!"));
        assert_eq!(enable(&off, "all").unwrap().source, text);
        let moved = move_to(&p, "web", &Place::At(1)).unwrap();
        assert_eq!(nats(&moved), ["web", "all"]);
        assert!(moved.source.starts_with("rule a allow\n# forwards\nnat web"), "{}", moved.source);
        let gone = delete(&p, "web").unwrap();
        assert_eq!(nats(&gone), ["all"]);
        assert!(gone.source.ends_with("rule b drop\n# forwards\n"));
    }

    #[test]
    fn disabling_and_enabling_come_back_to_the_same_text() {
        let p = policy(TEXT);
        let off = disable(&p, "web").unwrap();
        assert!(off.source.contains("disabled rule web  allow") && !off.rules[1].enabled);
        assert_eq!(disable(&off, "web").unwrap().source, off.source);
        assert_eq!(enable(&off, "web").unwrap().source, TEXT);
        assert_eq!(enable(&p, "web").unwrap().source, TEXT);
    }
}
