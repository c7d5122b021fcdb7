//! Names: each is said once, each that is used exists and is of the right kind, and nothing
//! includes itself.

mod live;

use self::live::LiveSets;
use super::ast::{AddrItem, Conditions, Element, Policy, PortItem, Set, SetKind};
use super::grammar::{Draft, Fault};
use super::span::{Span, Spanned};
use super::suggest;
use firewall_common::abi::table::Verdict;
use std::collections::{HashMap, HashSet};

/// Sets within sets within sets: as deep as anyone needs, and no deeper than a stack is.
const MAX_NESTING: usize = 32;
/// Faults from which on hints are not worth looking for: nobody reads that far.
const MANY: usize = 200;

/// Checks a draft; every fault is added to `faults`.
pub fn resolve(mut draft: Draft, file: &str, text: &str, faults: &mut Vec<Fault>) -> Policy {
    // Rules and translations own counters by name, so that no two of them may share one.
    let rules = draft.rules.iter().map(|r| ("rule", &r.name));
    let mut owners: Vec<_> = rules.chain(draft.nats.iter().map(|n| ("nat", &n.name))).collect();
    owners.sort_by_key(|(_, name)| name.span.start);
    once(owners, text, faults);
    let plain = draft.sets.iter().map(|(n, _)| ("set", n));
    let mut sets: Vec<_> = plain.chain(draft.live.iter().map(|s| ("set", &s.name))).collect();
    sets.sort_by_key(|(_, name)| name.span.start);
    once(sets, text, faults);
    once(draft.groups.iter().map(|g| ("interface", &g.name)), text, faults);

    let broken: HashSet<&str> = draft.broken.iter().map(String::as_str).collect();
    let plain = draft.sets.iter().map(|(name, _)| name.value.as_str());
    let live = LiveSets::new(&draft.live, plain, &draft.broken);
    for rule in &mut draft.rules {
        live.tell_apart(rule, faults);
    }
    let mut kinds =
        Kinds { sets: HashMap::new(), live: &live, broken: &broken, known: HashMap::new() };
    for (name, elements) in &draft.sets {
        kinds.sets.entry(&name.value).or_insert(elements);
    }
    let names: Vec<&str> = draft.sets.iter().map(|(n, _)| n.value.as_str()).collect();
    for name in &names {
        kinds.of(name, &mut Vec::new(), faults);
    }
    let nats = draft.nats.iter().map(|n| &n.when);
    for when in draft.rules.iter().map(|r| &r.when).chain(nats) {
        check_sets(when, &kinds, faults);
    }
    check_groups(&draft, faults);

    let known = kinds.known;
    let sets = draft
        .sets
        .iter()
        .map(|(name, elements)| Set {
            name: name.clone(),
            kind: known.get(name.value.as_str()).and_then(|(kind, _)| *kind),
            elements: elements.clone(),
        })
        .collect();
    Policy {
        file: file.to_owned(),
        source: text.to_owned(),
        groups: draft.groups,
        sets,
        live: draft.live,
        defaults: draft.defaults.map(|d| d.unwrap_or(Verdict::Allow)),
        options: draft.options,
        rules: draft.rules,
        nats: draft.nats,
    }
}

/// Refuses a name that was said before.
fn once<'d>(
    names: impl IntoIterator<Item = (&'static str, &'d Spanned<String>)>,
    text: &str,
    faults: &mut Vec<Fault>,
) {
    let mut first: HashMap<&str, (&str, Span)> = HashMap::new();
    for (what, name) in names {
        if let Some((before, at)) = first.get(name.value.as_str()) {
            let hint = (faults.len() < MANY).then(|| {
                let line = text[..at.start].bytes().filter(|b| *b == b'\n').count() + 1;
                if before == &what {
                    format!("the first is on line {line}; each {what} needs a name of its own")
                } else {
                    format!("it is on line {line}; counters are kept by name, of rules and of nats")
                }
            });
            let message = format!("there is a {before} `{}` already", name.value);
            faults.push(Fault::new("duplicate-name", name.span, message).hint(hint));
        } else {
            first.insert(&name.value, (what, name.span));
        }
    }
}

/// What each set holds.
struct Kinds<'d> {
    sets: HashMap<&'d str, &'d [Spanned<Element>]>,
    live: &'d LiveSets<'d>,
    broken: &'d HashSet<&'d str>,
    /// Kind and depth of nesting of those looked at.
    known: HashMap<&'d str, (Option<SetKind>, usize)>,
}

impl<'d> Kinds<'d> {
    /// The kind of a set, and how deep sets are nested in it; `path` holds the sets on the way to it.
    fn of(
        &mut self,
        name: &'d str,
        path: &mut Vec<&'d str>,
        faults: &mut Vec<Fault>,
    ) -> (Option<SetKind>, usize) {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let elements = self.sets.get(name).copied().unwrap_or_default();
        path.push(name);
        let (mut kind, mut depth): (Option<SetKind>, usize) = (None, 0);
        for element in elements {
            let this = match &element.value {
                Element::Addr(_) => Some(SetKind::Addresses),
                Element::Ports(..) => Some(SetKind::Ports),
                Element::Set(other) if path.contains(&other.as_str()) => {
                    let round = path.iter().skip_while(|n| *n != other).map(|n| format!("@{n}"));
                    let mut round: Vec<String> = round.collect();
                    round.push(format!("@{other}"));
                    faults.push(
                        Fault::new("set-cycle", element.span, format!("`@{name}` includes itself"))
                            .hint(Some(format!("the way round is {}", round.join(" -> ")))),
                    );
                    None
                }
                Element::Set(other) => {
                    if self.live.has(other) {
                        faults.push(live::refused(other, element.span, "another set"));
                        continue;
                    }
                    self.check_exists(other, element.span, faults);
                    let inner = match self.sets.get_key_value(other.as_str()).map(|(k, _)| *k) {
                        Some(inner) if path.len() <= MAX_NESTING => self.of(inner, path, faults),
                        Some(_) => (None, MAX_NESTING),
                        None => (None, 0),
                    };
                    if inner.1 >= MAX_NESTING && depth < MAX_NESTING {
                        let message = format!("sets are nested more than {MAX_NESTING} deep here");
                        faults.push(Fault::new("set-nesting", element.span, message));
                    }
                    depth = depth.max(inner.1 + 1);
                    inner.0
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
        self.known.insert(name, (kind, depth));
        (kind, depth)
    }

    /// Refuses a set that nobody defined.
    fn check_exists(&self, name: &str, span: Span, faults: &mut Vec<Fault>) {
        if self.sets.contains_key(name) || self.broken.contains(name) {
            return;
        }
        let mut names: Vec<&str> = Vec::new();
        if faults.len() < MANY {
            names.extend(self.sets.keys());
            names.extend(self.live.names());
            names.sort_unstable();
        }
        let hint = suggest::hint(name, "sets", &names, "@")
            .or_else(|| Some(format!("define it: `set {name} = {{ ... }}`")));
        faults
            .push(Fault::new("unknown-set", span, format!("there is no set `@{name}`")).hint(hint));
    }

    /// Refuses a set that holds something else than `wanted`.
    fn check_use(&self, name: &str, wanted: SetKind, span: Span, faults: &mut Vec<Fault>) {
        if self.live.has(name) {
            // Rules' were taken out before.
            return faults.push(live::refused(name, span, "a translation"));
        }
        self.check_exists(name, span, faults);
        if let Some((Some(kind), _)) = self.known.get(name)
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

fn check_sets(when: &Conditions, kinds: &Kinds<'_>, faults: &mut Vec<Fault>) {
    for end in [&when.src, &when.dst] {
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
        let name = group.name.value.as_str();
        for member in group.members.iter().filter(|m| m.value != name) {
            if reaches(&member.value, name, &groups) {
                let message = format!("interface group `{name}` includes itself");
                faults.push(Fault::new("group-cycle", member.span, message));
            }
        }
    }
}

fn reaches(from: &str, to: &str, groups: &HashMap<&str, &[Spanned<String>]>) -> bool {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for member in groups.get(name).copied().unwrap_or_default() {
            if member.value == to {
                return true;
            }
            if seen.insert(&member.value) {
                open.push(&member.value);
            }
        }
    }
    false
}
