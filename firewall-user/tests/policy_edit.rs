//! Edits in any order leave a policy with the rules one expects, in the order one expects, and every
//! comment line, blank line and other statement still there.

use firewall_user::policy::edit::{self, EditError, Place};
use firewall_user::policy::{Policy, parse};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Line {
    Comment,
    Blank,
    Set,
    Rule { commented: bool, disabled: bool, indented: bool, long: bool },
}

#[derive(Clone, Debug)]
enum Op {
    Add(usize, usize),
    Delete(usize),
    Move(usize, usize, usize),
    Enable(usize),
    Disable(usize),
}

fn line() -> impl Strategy<Value = Line> {
    let rule = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(commented, disabled, indented, long)| Line::Rule { commented, disabled, indented, long },
    );
    prop_oneof![3 => rule, 1 => Just(Line::Comment), 1 => Just(Line::Blank), 1 => Just(Line::Set)]
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0usize..12;
    prop_oneof![
        (n(), 0usize..4).prop_map(|(i, how)| Op::Add(i, how)),
        n().prop_map(Op::Delete),
        (n(), n(), 0usize..4).prop_map(|(i, j, how)| Op::Move(i, j, how)),
        n().prop_map(Op::Enable),
        n().prop_map(Op::Disable),
    ]
}

fn write(lines: &[Line], ends: bool) -> String {
    let mut out = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        out.push(match line {
            Line::Comment => format!("# comment {i}"),
            Line::Blank => String::new(),
            Line::Set => format!("set s{i} = {{ {i} }}   # set {i}"),
            Line::Rule { commented, disabled, indented, long } => format!(
                "{}{}rule r{i}  drop tcp{}{}",
                if *indented { "  " } else { "" },
                if *disabled { "disabled   " } else { "" },
                if *long { " to port {\n    80, # eighty\n    443\n}" } else { "" },
                if *commented { "  # says r" } else { "" },
            ),
        });
    }
    out.join("\n") + if ends { "\n" } else { "" }
}

/// Names and whether they are enabled, in order.
fn rules(policy: &Policy) -> Vec<(String, bool)> {
    policy.rules.iter().map(|r| (r.name.value.clone(), r.enabled)).collect()
}

/// Lines that no edit may touch.
fn kept(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> =
        text.lines().filter(|l| l.starts_with('#') || l.starts_with("set ")).collect();
    lines.sort_unstable();
    lines
}

/// The place, and where a rule put there stands among `others`.
fn place(others: &[(String, bool)], at: usize, how: usize) -> (Place, usize) {
    match how {
        0 => (Place::Last, others.len()),
        1 if !others.is_empty() => {
            let at = at % others.len();
            (Place::Before(others[at].0.clone()), at)
        }
        2 if !others.is_empty() => {
            let at = at % others.len();
            (Place::After(others[at].0.clone()), at + 1)
        }
        _ => {
            let at = at % (others.len() + 1);
            (Place::At(at + 1), at)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_do_what_they_say_and_nothing_else(
        lines in proptest::collection::vec(line(), 0..10),
        ends in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..8),
    ) {
        let text = write(&lines, ends);
        let mut policy = parse(&text, "edited").map_err(|e| TestCaseError::fail(e.to_string()))?;
        let comments: Vec<String> = kept(&text).into_iter().map(str::to_owned).collect();
        let mut model = rules(&policy);
        for (n, op) in ops.into_iter().enumerate() {
            let name = |i: usize| model.get(i % model.len().max(1)).map_or("none".to_owned(), |(n, _)| n.clone());
            let result = match &op {
                Op::Add(at, how) => {
                    let (place, at) = place(&model, *at, *how);
                    model.insert(at, (format!("new{n}"), true));
                    edit::add(&policy, &format!("rule new{n} allow in # added"), &place)
                }
                Op::Delete(i) => {
                    let name = name(*i);
                    model.retain(|(n, _)| *n != name);
                    edit::delete(&policy, &name)
                }
                Op::Move(i, at, how) => {
                    let name = name(*i);
                    if let Some(from) = model.iter().position(|(n, _)| *n == name) {
                        let moved = model.remove(from);
                        let (place, at) = place(&model, *at, *how);
                        model.insert(at, moved);
                        edit::move_to(&policy, &name, &place)
                    } else {
                        edit::move_to(&policy, &name, &Place::Last)
                    }
                }
                Op::Enable(i) | Op::Disable(i) => {
                    let name = name(*i);
                    let on = matches!(op, Op::Enable(_));
                    model.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, enabled)| *enabled = on);
                    if on { edit::enable(&policy, &name) } else { edit::disable(&policy, &name) }
                }
            };
            match result {
                Ok(edited) => policy = edited,
                Err(EditError::UnknownRule { .. }) if model.is_empty() => continue,
                Err(error) => return Err(TestCaseError::fail(format!("{op:?}\n{}\n{error}", policy.source))),
            }
            prop_assert_eq!(rules(&policy), model.clone(), "{:?}\n{}", op, policy.source);
            prop_assert_eq!(kept(&policy.source), comments.clone(), "{:?}\n{}", op, policy.source);
        }
    }
}
