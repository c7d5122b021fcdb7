//! Which rules ask for which set of values, for one field.

use super::super::super::ast::{AddrItem, Match};
use super::super::super::ranges::{AddrSet, Ranges};
use super::super::super::resolved::Resolved;
use super::bits::Bits;
use super::sweep::{Atom, Field};
use std::collections::HashMap;
use std::hash::Hash;

/// A set of values; the rules that match in it; the rules that match outside of it.
struct Asked<S> {
    set: S,
    with: Bits,
    without: Bits,
}

/// Gathers one field. Equal sets are one, so that a thousand rules over one big set cost what one
/// does.
pub struct Collector<S> {
    /// Rules that don't ask.
    pub any: Bits,
    /// Rules with `not`: they match where none of their sets does.
    negated: Bits,
    asked: Vec<Asked<S>>,
    by_value: HashMap<S, usize>,
    by_name: HashMap<String, usize>,
}

impl<S> Default for Collector<S> {
    fn default() -> Self {
        Self {
            any: Bits::default(),
            negated: Bits::default(),
            asked: Vec::new(),
            by_value: HashMap::new(),
            by_name: HashMap::new(),
        }
    }
}

impl<S: Clone + Eq + Hash> Collector<S> {
    /// `rule` asks for a set, or for everything else.
    pub fn add(&mut self, rule: usize, negated: bool, set: S) {
        let at = self.place(set);
        self.mark(at, rule, negated);
    }

    fn place(&mut self, set: S) -> usize {
        if let Some(at) = self.by_value.get(&set) {
            return *at;
        }
        let at = self.asked.len();
        self.by_value.insert(set.clone(), at);
        self.asked.push(Asked { set, with: Bits::default(), without: Bits::default() });
        at
    }

    fn mark(&mut self, at: usize, rule: usize, negated: bool) {
        if negated {
            self.negated.set(rule);
            self.asked[at].without.set(rule);
        } else {
            self.asked[at].with.set(rule);
        }
    }

    /// What was gathered, `ranges` picking the numbers out of a set.
    pub fn field<'c, T>(&'c self, ranges: impl Fn(&'c S) -> &'c Ranges<T>) -> Field<'c, T> {
        let atom =
            |a: &'c Asked<S>| Atom { ranges: ranges(&a.set), with: &a.with, without: &a.without };
        Field {
            any: self.any,
            negated: self.negated,
            mask: None,
            atoms: self.asked.iter().map(atom).collect(),
        }
    }
}

impl Collector<AddrSet> {
    /// `rule` asks for a list of addresses. Named sets stay whole; what else is in the list becomes
    /// one set.
    pub fn addresses(&mut self, rule: usize, list: &Match<AddrItem>, resolved: &Resolved) {
        let mut plain = Vec::new();
        for item in &list.items {
            match &item.value {
                AddrItem::Range(range) => plain.push(*range),
                AddrItem::Set(name) => {
                    let at = match self.by_name.get(name) {
                        Some(at) => *at,
                        None => {
                            let at =
                                self.place(resolved.addrs.get(name).cloned().unwrap_or_default());
                            self.by_name.insert(name.clone(), at);
                            at
                        }
                    };
                    self.mark(at, rule, list.negated);
                }
            }
        }
        if !plain.is_empty() {
            self.add(rule, list.negated, AddrSet::new(plain));
        }
    }
}
