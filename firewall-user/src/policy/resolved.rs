//! Sets and interface groups, expanded once for all who need them.

use super::ast::{AddrItem, AddrRange, Element, Match, Policy, PortItem};
use super::ranges::{AddrSet, Ranges};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What the names of a policy stand for.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Sets of addresses.
    pub addrs: HashMap<String, AddrSet>,
    /// Sets of ports.
    pub ports: HashMap<String, Ranges<u16>>,
    /// Interface groups.
    pub groups: HashMap<String, BTreeSet<String>>,
}

impl Resolved {
    /// Expands everything in a policy.
    pub fn new(policy: &Policy) -> Self {
        let sets: HashMap<&str, &[super::span::Spanned<Element>]> =
            policy.sets.iter().map(|s| (s.name.value.as_str(), s.elements.as_slice())).collect();
        let mut this = Self::default();
        for set in &policy.sets {
            let (mut addrs, mut ports) = (Vec::new(), Vec::new());
            gather(&set.name.value, &sets, &mut HashSet::new(), &mut addrs, &mut ports);
            this.addrs.insert(set.name.value.clone(), AddrSet::new(addrs));
            this.ports.insert(set.name.value.clone(), Ranges::new(ports));
        }
        for group in &policy.groups {
            let mut members = BTreeSet::new();
            expand(policy, &group.name.value, &mut members);
            this.groups.insert(group.name.value.clone(), members);
        }
        this
    }

    /// The interfaces that a list of interfaces and groups stands for.
    pub fn interfaces(&self, on: &Match<String>) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for item in &on.items {
            match self.groups.get(&item.value) {
                Some(members) => out.extend(members.iter().cloned()),
                None => {
                    out.insert(item.value.clone());
                }
            }
        }
        out
    }

    /// All addresses of a list, `not` left aside.
    pub fn addresses(&self, list: &Match<AddrItem>) -> AddrSet {
        let mut ranges = Vec::new();
        for item in &list.items {
            match &item.value {
                AddrItem::Range(range) => ranges.push(*range),
                AddrItem::Set(name) => {
                    if let Some(set) = self.addrs.get(name) {
                        if list.items.len() == 1 {
                            return set.clone();
                        }
                        ranges.extend(set.v4.as_slice().iter().map(|(a, b)| AddrRange::V4(*a, *b)));
                        ranges.extend(set.v6.as_slice().iter().map(|(a, b)| AddrRange::V6(*a, *b)));
                    }
                }
            }
        }
        AddrSet::new(ranges)
    }

    /// All ports of a list, `not` left aside.
    pub fn port_ranges(&self, list: &Match<PortItem>) -> Ranges<u16> {
        let mut ranges = Vec::new();
        for item in &list.items {
            match &item.value {
                PortItem::Range(a, b) => ranges.push((*a, *b)),
                PortItem::Set(name) => {
                    ranges.extend(
                        self.ports.get(name).into_iter().flat_map(|r| r.as_slice()).copied(),
                    );
                }
            }
        }
        Ranges::new(ranges)
    }
}

fn gather<'p>(
    name: &'p str,
    sets: &HashMap<&'p str, &'p [super::span::Spanned<Element>]>,
    seen: &mut HashSet<&'p str>,
    addrs: &mut Vec<AddrRange>,
    ports: &mut Vec<(u16, u16)>,
) {
    if !seen.insert(name) {
        return;
    }
    for element in sets.get(name).into_iter().flat_map(|e| e.iter()) {
        match &element.value {
            Element::Addr(range) => addrs.push(*range),
            Element::Ports(a, b) => ports.push((*a, *b)),
            Element::Set(other) => gather(other, sets, seen, addrs, ports),
        }
    }
}

fn expand<'p>(policy: &'p Policy, name: &'p str, out: &mut BTreeSet<String>) {
    let mut seen = HashSet::from([name]);
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        for member in policy.group(name).into_iter().flat_map(|g| &g.members) {
            // A group may bear the name of its only interface: then the name means the interface.
            if policy.group(&member.value).is_none() || member.value == name {
                out.insert(member.value.clone());
            } else if seen.insert(&member.value) {
                open.push(&member.value);
            }
        }
    }
}
