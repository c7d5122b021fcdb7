//! Names: each is said once, each that is used exists and is of the right kind, and nothing
//! includes itself.

use super::ast::{AddrItem, Element, Policy, PortItem, Rule, Set, SetKind};
use super::grammar::{Draft, Fault};
use super::span::{Span, Spanned};
use super::suggest;
use firewall_common::abi::table::Verdict;
use std::collections::{HashMap, HashSet};

/// Checks a draft; every fault is added to `faults`.
pub fn resolve(draft: Draft, file: &str, text: &str, faults: &mut Vec<Fault>) -> Policy {
    once(draft.rules.iter().map(|r| &r.name), "rule", text, faults);
    once(draft.sets.iter().map(|(n, _)| n), "set", text, faults);
    once(draft.groups.iter().map(|g| &g.name), "interface", text, faults);

    let broken: HashSet<&str> = draft.broken.iter().map(String::as_str).collect();
    let mut kinds = Kinds { sets: HashMap::new(), broken: &broken, known: HashMap::new() };
    for (name, elements) in &draft.sets {
        kinds.sets.entry(&name.value).or_insert(elements);
    }
    let names: Vec<&str> = draft.sets.iter().map(|(n, _)| n.value.as_str()).collect();
    for name in &names {
        kinds.of(name, &mut Vec::new(), faults);
    }
    for rule in &draft.rules {
        check_rule(rule, &kinds, faults);
    }
    check_groups(&draft, faults);

    let known = kinds.known;
    let sets = draft
        .sets
        .iter()
        .map(|(name, elements)| Set {
            name: name.clone(),
            kind: known.get(name.value.as_str()).copied().flatten(),
            elements: elements.clone(),
        })
        .collect();
    Policy {
        file: file.to_owned(),
        source: text.to_owned(),
        groups: draft.groups,
        sets,
        defaults: draft.defaults.map(|d| d.unwrap_or(Verdict::Allow)),
        options: draft.options,
        rules: draft.rules,
    }
}

/// Refuses a name that was said before.
fn once<'d>(
    names: impl Iterator<Item = &'d Spanned<String>>,
    what: &str,
    text: &str,
    faults: &mut Vec<Fault>,
) {
    let mut first: HashMap<&str, Span> = HashMap::new();
    for name in names {
        if let Some(before) = first.get(name.value.as_str()) {
            let line = text[..before.start].bytes().filter(|b| *b == b'\n').count() + 1;
            faults.push(
                Fault::new(
                    "duplicate-name",
                    name.span,
                    format!("there is a {what} `{}` already", name.value),
                )
                .hint(Some(format!(
                    "the first is on line {line}; each {what} needs a name of its own"
                ))),
            );
        } else {
            first.insert(&name.value, name.span);
        }
    }
}

/// What each set holds.
struct Kinds<'d> {
    sets: HashMap<&'d str, &'d [Spanned<Element>]>,
    broken: &'d HashSet<&'d str>,
    known: HashMap<&'d str, Option<SetKind>>,
}

impl<'d> Kinds<'d> {
    /// The kind of a set; `path` holds the sets on the way to it.
    fn of(
        &mut self,
        name: &'d str,
        path: &mut Vec<&'d str>,
        faults: &mut Vec<Fault>,
    ) -> Option<SetKind> {
        if let Some(kind) = self.known.get(name) {
            return *kind;
        }
        let elements = *self.sets.get(name)?;
        path.push(name);
        let mut kind: Option<SetKind> = None;
        for element in elements {
            let this = match &element.value {
                Element::Addr(_) => Some(SetKind::Addresses),
                Element::Ports(..) => Some(SetKind::Ports),
                Element::Set(other) if path.contains(&other.as_str()) => {
                    let mut round: Vec<String> = path.iter().map(|n| format!("@{n}")).collect();
                    round.push(format!("@{other}"));
                    faults.push(
                        Fault::new("set-cycle", element.span, format!("`@{name}` includes itself"))
                            .hint(Some(format!("the way round is {}", round.join(" -> ")))),
                    );
                    None
                }
                Element::Set(other) => {
                    self.check_exists(other, element.span, faults);
                    let other = self.sets.get_key_value(other.as_str()).map(|(k, _)| *k);
                    other.and_then(|other| self.of(other, path, faults))
                }
            };
            match (kind, this) {
                (Some(kind), Some(this)) if kind != this => faults.push(
                    Fault::new(
                        "mixed-set",
                        element.span,
                        format!("`@{name}` holds {}, and this is {}", kind.name(), one(this)),
                    )
                    .expect(one(kind))
                    .hint(Some("addresses and ports need a set each".into())),
                ),
                _ => kind = kind.or(this),
            }
        }
        path.pop();
        self.known.insert(name, kind);
        kind
    }

    /// Refuses a set that nobody defined.
    fn check_exists(&self, name: &str, span: Span, faults: &mut Vec<Fault>) {
        if self.sets.contains_key(name) || self.broken.contains(name) {
            return;
        }
        let mut names: Vec<&str> = self.sets.keys().copied().collect();
        names.sort_unstable();
        let hint = suggest::hint(name, "sets", &names, "@")
            .or_else(|| Some(format!("define it: `set {name} = {{ ... }}`")));
        faults
            .push(Fault::new("unknown-set", span, format!("there is no set `@{name}`")).hint(hint));
    }

    /// Refuses a set that holds something else than `wanted`.
    fn check_use(&self, name: &str, wanted: SetKind, span: Span, faults: &mut Vec<Fault>) {
        self.check_exists(name, span, faults);
        if let Some(Some(kind)) = self.known.get(name)
            && *kind != wanted
        {
            let hint = match kind {
                SetKind::Ports => format!("a set of ports stands behind `port`: `port @{name}`"),
                SetKind::Addresses => {
                    format!("a set of addresses stands right behind `from` or `to`: `to @{name}`")
                }
            };
            faults.push(
                Fault::new("wrong-kind", span, format!("`@{name}` holds {}", kind.name()))
                    .expect(format!("a set of {}", wanted.name()))
                    .hint(Some(hint)),
            );
        }
    }
}

/// One element of a kind, in words.
const fn one(kind: SetKind) -> &'static str {
    match kind {
        SetKind::Addresses => "an address",
        SetKind::Ports => "a port",
    }
}

fn check_rule(rule: &Rule, kinds: &Kinds<'_>, faults: &mut Vec<Fault>) {
    for end in [&rule.src, &rule.dst] {
        for item in end.addrs.iter().flat_map(|m| &m.items) {
            if let AddrItem::Set(name) = &item.value {
                kinds.check_use(name, SetKind::Addresses, item.span, faults);
            }
        }
        for item in end.ports.iter().flat_map(|m| &m.items) {
            if let PortItem::Set(name) = &item.value {
                kinds.check_use(name, SetKind::Ports, item.span, faults);
            }
        }
    }
}

/// Groups may include groups, but not themselves (a group of one interface may bear its name).
fn check_groups(draft: &Draft, faults: &mut Vec<Fault>) {
    let groups: HashMap<&str, &[Spanned<String>]> =
        draft.groups.iter().map(|g| (g.name.value.as_str(), g.members.as_slice())).collect();
    for group in &draft.groups {
        for member in &group.members {
            if member.value != group.name.value
                && reaches(&member.value, &group.name.value, &groups, 0)
            {
                faults.push(Fault::new(
                    "group-cycle",
                    member.span,
                    format!("interface group `{}` includes itself", group.name.value),
                ));
            }
        }
    }
}

fn reaches(from: &str, to: &str, groups: &HashMap<&str, &[Spanned<String>]>, depth: usize) -> bool {
    depth <= groups.len()
        && groups.get(from).is_some_and(|members| {
            members.iter().any(|m| {
                m.value == to || m.value != from && reaches(&m.value, to, groups, depth + 1)
            })
        })
}
