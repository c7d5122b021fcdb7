//! What a new policy changes, for `apply` to show first.

use super::ast::{FlowFull, HalfOpenFull, Options, Policy, SynCookies, TcpWindow};
use super::span::{Span, Spanned};
use super::units;
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
    /// A rule or translation came.
    RuleAdded {
        /// `rule`, `nat`.
        what: String,
        /// Its name.
        name: String,
        /// Its place among its kind, from 1.
        position: usize,
        /// The statement.
        text: String,
    },
    /// A rule or translation went.
    RuleRemoved {
        /// `rule`, `nat`.
        what: String,
        /// Its name.
        name: String,
        /// Its place among its kind, from 1.
        position: usize,
        /// The statement.
        text: String,
    },
    /// A rule or translation says something else, or is enabled or disabled.
    RuleChanged {
        /// `rule`, `nat`.
        what: String,
        /// Its name.
        name: String,
        /// Statement so far.
        from: String,
        /// New statement.
        to: String,
    },
    /// A rule or translation stands elsewhere among those of its kind that were there before.
    RuleMoved {
        /// `rule`, `nat`.
        what: String,
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
            Self::RuleMoved { what, name, from, to } => {
                write!(f, "~ {what} {name}: place {from} -> {to}")
            }
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
        let plain = policy.sets.iter();
        let plain = plain.map(|s| (s.name.value.clone(), written(&s.elements, &policy.source)));
        plain.chain(policy.live.iter().map(|s| (s.name.value.clone(), s.written()))).collect()
    };
    lists("interface", groups(old), groups(new), &mut changes);
    lists("set", sets(old), sets(new), &mut changes);
    let rules = |policy: &Policy| -> Vec<(String, String)> {
        policy.rules.iter().map(|r| (r.name.value.clone(), r.text.clone())).collect()
    };
    let nats = |policy: &Policy| -> Vec<(String, String)> {
        policy.nats.iter().map(|n| (n.name.value.clone(), n.text.clone())).collect()
    };
    ordered("nat", &nats(old), &nats(new), &mut changes);
    ordered("rule", &rules(old), &rules(new), &mut changes);
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

/// Statements whose order counts, as name and text.
fn ordered(
    what: &str,
    old: &[(String, String)],
    new: &[(String, String)],
    changes: &mut Vec<Change>,
) {
    let places = |list: &[(String, String)]| -> HashMap<String, usize> {
        list.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect()
    };
    let (before, after) = (places(old), places(new));
    for (i, (name, text)) in old.iter().enumerate() {
        let (what, name) = (what.to_owned(), name.clone());
        match after.get(&name).map(|i| &new[*i].1) {
            None => {
                let text = text.clone();
                changes.push(Change::RuleRemoved { what, name, position: i + 1, text });
            }
            Some(now) if now != text => {
                let (from, to) = (text.clone(), now.clone());
                changes.push(Change::RuleChanged { what, name, from, to });
            }
            Some(_) => {}
        }
    }
    for (i, (name, text)) in new.iter().enumerate() {
        if !before.contains_key(name) {
            let (what, name, text) = (what.to_owned(), name.clone(), text.clone());
            changes.push(Change::RuleAdded { what, name, position: i + 1, text });
        }
    }
    // Of those in both, the longest run that keeps its order stayed; the others moved.
    let common: Vec<(usize, usize)> = new
        .iter()
        .enumerate()
        .filter_map(|(i, (name, _))| before.get(name).map(|old| (*old, i)))
        .collect();
    let stayed = longest_ascending(&common);
    for (from, to) in common {
        if !stayed.contains(&from) {
            let (what, name) = (what.to_owned(), new[to].0.clone());
            changes.push(Change::RuleMoved { what, name, from: from + 1, to: to + 1 });
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
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    let window = match options.tcp_window {
        TcpWindow::Strict => "strict",
        TcpWindow::Liberal => "liberal",
        TcpWindow::Off => "off",
    };
    let full = match options.flow_full {
        FlowFull::Refuse => "refuse",
        FlowFull::Untracked => "untracked",
    };
    let half_open = match options.half_open_full {
        HalfOpenFull::Evict => "evict",
        HalfOpenFull::Refuse => "refuse",
    };
    let cookies = match options.syn_cookies {
        SynCookies::Off => "off".to_owned(),
        SynCookies::Always => "always".to_owned(),
        SynCookies::Above(rate) => format!("above {rate}/s"),
    };
    let plain = [
        ("tcp-pickup", switch(options.tcp_pickup)),
        ("tcp-window", window.to_owned()),
        ("malformed", options.malformed.name().to_owned()),
        ("ethertypes", options.ethertypes.name().to_owned()),
        ("fragments", options.fragments.name().to_owned()),
        ("flow-table-full", full.to_owned()),
        ("half-open-full", half_open.to_owned()),
        ("source-flows", options.source_flows.map_or_else(|| "off".to_owned(), |n| n.to_string())),
        ("syn-cookies", cookies),
        ("fast-path", switch(options.fast_path)),
        ("sample-rate", format!("{}/s", options.sample_rate)),
        ("reject-rate", format!("{}/s", options.reject_rate)),
        ("new-rate", format!("{}/s", options.new_rate)),
    ];
    let mut out: Vec<(String, String)> =
        plain.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for timeout in Timeout::ALL {
        let ms = options.timeouts[timeout.raw() as usize];
        out.push((format!("timeout {}", timeout.name()), units::show_ms(ms.into())));
    }
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
    fn translations_are_told_apart_from_rules() {
        let old = "nat a masquerade on wan\nnat b redirect on lan udp to port 53 => port 5353\nnat c masquerade on w2";
        let new = "nat c masquerade on w2\nnat a masquerade on wan tcp # now\nrule b allow udp\noption fast-path on";
        assert_eq!(
            lines(old, new),
            [
                "~ option fast-path off -> on",
                "- nat a masquerade on wan\n+ nat a masquerade on wan tcp",
                "- 2: nat b redirect on lan udp to port 53 => port 5353",
                "~ nat c: place 3 -> 1",
                "+ 1: rule b allow udp",
            ]
        );
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
