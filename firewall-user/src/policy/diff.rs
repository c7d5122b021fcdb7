//! What a new policy changes, for `apply` to show first.

use super::ast::{FlowFull, Options, Policy};
use super::span::{Span, Spanned};
use super::units::show_ms;
use firewall_common::abi::table::{Direction, Timeout};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// `default in` or `default out`.
    Default {
        /// `in`, `out`.
        direction: String,
        /// Verdict so far.
        from: String,
        /// New verdict.
        to: String,
    },
    /// An option.
    Option {
        /// As it is written, `timeout udp-new` for example.
        name: String,
        /// Value so far, the built-in one if none was said.
        from: String,
        /// New value.
        to: String,
    },
    /// A set or interface group came, went or changed.
    List {
        /// `set`, `interface`.
        what: String,
        /// Its name.
        name: String,
        /// Elements that came.
        added: Vec<String>,
        /// Elements that went.
        removed: Vec<String>,
    },
    /// A rule came.
    RuleAdded {
        /// Its name.
        name: String,
        /// Its place, from 1.
        position: usize,
        /// The statement.
        text: String,
    },
    /// A rule went.
    RuleRemoved {
        /// Its name.
        name: String,
        /// Its place, from 1.
        position: usize,
        /// The statement.
        text: String,
    },
    /// A rule says something else, or is enabled or disabled.
    RuleChanged {
        /// Its name.
        name: String,
        /// Statement so far.
        from: String,
        /// New statement.
        to: String,
    },
    /// A rule stands elsewhere among those that were there before.
    RuleMoved {
        /// Its name.
        name: String,
        /// Place so far, from 1.
        from: usize,
        /// New place, from 1.
        to: usize,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { direction, from, to } => {
                write!(f, "~ default {direction} {from} -> {to}")
            }
            Self::Option { name, from, to } => write!(f, "~ option {name} {from} -> {to}"),
            Self::List { what, name, added, removed } => {
                write!(f, "~ {what} {name}:")?;
                for (sign, list) in [('+', added), ('-', removed)] {
                    for element in list.iter().take(8) {
                        write!(f, " {sign}{element}")?;
                    }
                    if list.len() > 8 {
                        write!(f, " ({sign}{} more)", list.len() - 8)?;
                    }
                }
                Ok(())
            }
            Self::RuleAdded { text, position, .. } => write!(f, "+ {position}: {text}"),
            Self::RuleRemoved { text, position, .. } => write!(f, "- {position}: {text}"),
            Self::RuleChanged { from, to, .. } => write!(f, "- {from}\n+ {to}"),
            Self::RuleMoved { name, from, to } => write!(f, "~ rule {name}: place {from} -> {to}"),
        }
    }
}

/// What has to change in `old` to get `new`; empty if they mean the same.
pub fn diff(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Vec::new();
    for direction in Direction::ALL {
        let of = |policy: &Policy| policy.defaults[direction.raw() as usize].name().to_owned();
        if of(old) != of(new) {
            changes.push(Change::Default {
                direction: direction.name().into(),
                from: of(old),
                to: of(new),
            });
        }
    }
    for ((name, from), (_, to)) in entries(&old.options).into_iter().zip(entries(&new.options)) {
        if from != to {
            changes.push(Change::Option { name, from, to });
        }
    }
    let groups = |policy: &Policy| -> Vec<(String, Vec<String>)> {
        let members = |g: &super::ast::Group| g.members.iter().map(|m| m.value.clone()).collect();
        policy.groups.iter().map(|g| (g.name.value.clone(), members(g))).collect()
    };
    let sets = |policy: &Policy| -> Vec<(String, Vec<String>)> {
        policy
            .sets
            .iter()
            .map(|s| (s.name.value.clone(), written(&s.elements, &policy.source)))
            .collect()
    };
    lists("interface", groups(old), groups(new), &mut changes);
    lists("set", sets(old), sets(new), &mut changes);
    rules(old, new, &mut changes);
    changes
}

fn written<T>(elements: &[Spanned<T>], source: &str) -> Vec<String> {
    elements.iter().map(|e| e.span).map(|s: Span| s.of(source).to_owned()).collect()
}

fn lists(
    what: &str,
    old: Vec<(String, Vec<String>)>,
    new: Vec<(String, Vec<String>)>,
    changes: &mut Vec<Change>,
) {
    let (before, after): (HashMap<_, _>, HashMap<_, _>) =
        (old.iter().cloned().collect(), new.iter().cloned().collect());
    let mut done = HashSet::new();
    for (name, _) in old.into_iter().chain(new) {
        if !done.insert(name.clone()) {
            continue;
        }
        let empty = Vec::new();
        let (from, to) = (before.get(&name).unwrap_or(&empty), after.get(&name).unwrap_or(&empty));
        let minus = |a: &[String], b: &[String]| -> Vec<String> {
            let b: HashSet<&String> = b.iter().collect();
            a.iter().filter(|e| !b.contains(e)).cloned().collect()
        };
        let (added, removed) = (minus(to, from), minus(from, to));
        let came_or_went = before.contains_key(&name) != after.contains_key(&name);
        if came_or_went || !added.is_empty() || !removed.is_empty() {
            changes.push(Change::List { what: what.into(), name, added, removed });
        }
    }
}

fn rules(old: &Policy, new: &Policy, changes: &mut Vec<Change>) {
    for (i, rule) in old.rules.iter().enumerate() {
        let name = rule.name.value.clone();
        match new.rule(&name) {
            None => {
                changes.push(Change::RuleRemoved { name, position: i + 1, text: rule.text.clone() })
            }
            Some((_, now)) if now.text != rule.text => {
                changes.push(Change::RuleChanged {
                    name,
                    from: rule.text.clone(),
                    to: now.text.clone(),
                });
            }
            Some(_) => {}
        }
    }
    for (i, rule) in new.rules.iter().enumerate() {
        if old.rule(&rule.name.value).is_none() {
            let name = rule.name.value.clone();
            changes.push(Change::RuleAdded { name, position: i + 1, text: rule.text.clone() });
        }
    }
    // Of the rules in both, the longest run that keeps its order stayed; the others moved.
    let before: HashMap<&str, usize> =
        old.rules.iter().enumerate().map(|(i, r)| (r.name.value.as_str(), i)).collect();
    let common: Vec<(usize, usize)> = new
        .rules
        .iter()
        .enumerate()
        .filter_map(|(i, r)| before.get(r.name.value.as_str()).map(|old| (*old, i)))
        .collect();
    let stayed = longest_ascending(&common);
    for (from, to) in common {
        if !stayed.contains(&from) {
            let name = new.rules[to].name.value.clone();
            changes.push(Change::RuleMoved { name, from: from + 1, to: to + 1 });
        }
    }
}

/// Old places of a longest subsequence in which they ascend.
fn longest_ascending(pairs: &[(usize, usize)]) -> HashSet<usize> {
    // Patience sorting: ends[k] is the index of the smallest end of an ascending run of length k + 1.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (i, (old, _)) in pairs.iter().enumerate() {
        let at = ends.partition_point(|end| pairs[*end].0 < *old);
        previous.push(at.checked_sub(1).map(|k| ends[k]));
        if at == ends.len() { ends.push(i) } else { ends[at] = i }
    }
    let mut out = HashSet::new();
    let mut at = ends.last().copied();
    while let Some(i) = at {
        out.insert(pairs[i].0);
        at = previous[i];
    }
    out
}

/// Every option as it is written: name and value.
pub fn entries(options: &Options) -> Vec<(String, String)> {
    let mut out = vec![
        ("tcp-pickup".to_owned(), if options.tcp_pickup { "on" } else { "off" }.to_owned()),
        ("malformed".to_owned(), options.malformed.name().to_owned()),
        ("ethertypes".to_owned(), options.ethertypes.name().to_owned()),
        ("fragments".to_owned(), options.fragments.name().to_owned()),
    ];
    let full = match options.flow_full {
        FlowFull::Refuse => "refuse",
        FlowFull::Untracked => "untracked",
    };
    out.push(("flow-table-full".to_owned(), full.to_owned()));
    for timeout in Timeout::ALL {
        let ms = options.timeouts[timeout.raw() as usize];
        out.push((format!("timeout {}", timeout.name()), show_ms(ms.into())));
    }
    out.push(("sample-rate".to_owned(), format!("{}/s", options.sample_rate)));
    out.push(("reject-rate".to_owned(), format!("{}/s", options.reject_rate)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    fn lines(old: &str, new: &str) -> Vec<String> {
        diff(&parse(old, "old").unwrap(), &parse(new, "new").unwrap())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn each_kind_of_change_has_its_line() {
        let old = "default in drop\noption timeout udp-new 30s\nset a = { 1, 2 }\nset gone = { 3 }\ninterface wan = eth0
rule one drop to port @a\nrule two drop to port @gone\nrule three drop on wan\nrule four drop";
        let new = "default in reject\noption timeout udp-new 1m30s\nset a = { 2, 4 }\ninterface wan = { eth0, eth1 }
rule four drop\nrule one   drop to port @a # same\nrule five allow\ndisabled rule three drop on wan";
        assert_eq!(
            lines(old, new),
            [
                "~ default in drop -> reject",
                "~ option timeout udp-new 30s -> 1m30s",
                "~ interface wan: +eth1",
                "~ set a: +4 -1",
                "~ set gone: -3",
                "- 2: rule two drop to port @gone",
                "- rule three drop on wan\n+ disabled rule three drop on wan",
                "+ 3: rule five allow",
                "~ rule four: place 4 -> 1",
            ]
        );
        assert_eq!(lines(old, old), [""; 0]);
        assert_eq!(lines("default in allow\n# x", "option malformed drop"), [""; 0]);
    }

    #[test]
    fn the_fewest_rules_move() {
        let text =
            |names: &str| names.chars().map(|c| format!("rule {c} drop\n")).collect::<String>();
        assert_eq!(lines(&text("abcdef"), &text("bcdefa")), ["~ rule a: place 1 -> 6"]);
        assert_eq!(lines(&text("abcdef"), &text("fabcde")), ["~ rule f: place 6 -> 1"]);
        assert_eq!(lines(&text("abc"), &text("cba")).len(), 2);
    }
}
