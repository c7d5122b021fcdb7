//! What rules ask of live sets is told apart from what their rows know: the policy's rows are made once, and a live set
//! changes.

use super::super::ast::{AddrItem, Adds, Endpoint, InSet, LiveSet, Match, PortItem, Rule};
use super::super::grammar::Fault;
use super::super::span::{Span, Spanned};
use super::super::suggest;
use super::super::words::{self, WITH_PORTS};
use crate::sets::SetKind;
use std::collections::{HashMap, HashSet};

/// The live sets of a draft.
pub struct LiveSets<'d> {
    kinds: HashMap<&'d str, SetKind>,
    /// Sets that aren't live.
    plain: HashSet<&'d str>,
    broken: HashSet<&'d str>,
}

impl<'d> LiveSets<'d> {
    pub fn new(
        live: &'d [LiveSet],
        plain: impl Iterator<Item = &'d str>,
        broken: &'d [String],
    ) -> Self {
        let kinds = live.iter().map(|set| (set.name.value.as_str(), set.kind)).collect();
        let broken = broken.iter().map(String::as_str).collect();
        Self { kinds, plain: plain.collect(), broken }
    }

    /// Whether a set is live.
    pub fn has(&self, name: &str) -> bool {
        self.kinds.contains_key(name)
    }

    /// All of them, sorted.
    pub fn names(&self) -> Vec<&'d str> {
        let mut names: Vec<&str> = self.kinds.keys().copied().collect();
        names.sort_unstable();
        names
    }

    /// Moves what a rule asks of live sets from its lists to where it stands by itself, and finds out how its `add`s are
    /// meant.
    pub fn tell_apart(&self, rule: &mut Rule, faults: &mut Vec<Fault>) {
        let owner = rule.when.owner.is_asked();
        let mut pair = None;
        for end in [&mut rule.when.src, &mut rule.when.dst] {
            self.end(end, owner, &mut pair, faults);
        }
        for adds in &mut rule.adds {
            self.adds(adds, faults);
        }
        if let Some((name, span)) = pair {
            // Whoever asks for ports is about packets that have them.
            let protos = rule.when.protos.get_or_insert_with(|| WITH_PORTS.to_vec());
            if let Some(without) = protos.iter().find(|proto| !WITH_PORTS.contains(proto)) {
                let message = format!(
                    "`@{name}` holds addresses with ports, and {} has none",
                    words::protocol_name(*without)
                );
                let hint = "ports are known of tcp, udp, sctp and udplite".to_owned();
                faults.push(Fault::new("no-ports", span, message).hint(Some(hint)));
            }
        }
    }

    fn end(
        &self,
        end: &mut Endpoint,
        owner: bool,
        pair: &mut Option<(String, Span)>,
        faults: &mut Vec<Fault>,
    ) {
        let name_of = |item: &AddrItem| match item {
            AddrItem::Set(name) => Some(name.clone()),
            AddrItem::Range(_) => None,
        };
        if let Some((name, negated, kind)) = self.alone(&mut end.addrs, name_of, owner, faults) {
            if kind == SetKind::Ports {
                let hint = format!("a set of ports stands behind `port`: `port @{}`", name.value);
                faults.push(wrong(&name, kind, "a set of addresses, or of pairs", hint));
            }
            let is_pair = kind == SetKind::Pairs;
            if is_pair {
                *pair = Some((name.value.clone(), name.span));
            }
            if is_pair && let Some(list) = &end.ports {
                let span = list.items.first().map_or(name.span, |item| item.span);
                let message = format!("`@{}` holds the port, too", name.value);
                faults.push(Fault::new("live-set", span, message).hint(Some(
                    "leave `port` out, or write a rule that asks for it above".to_owned(),
                )));
            }
            end.live = Some(InSet { name, negated, pair: is_pair });
        }
        let name_of = |item: &PortItem| match item {
            PortItem::Set(name) => Some(name.clone()),
            PortItem::Range(..) => None,
        };
        if let Some((name, negated, kind)) = self.alone(&mut end.ports, name_of, owner, faults) {
            if kind != SetKind::Ports {
                let hint = format!("it stands right behind `from` or `to`: `to @{}`", name.value);
                faults.push(wrong(&name, kind, "a set of ports", hint));
            }
            end.live_ports = Some(InSet { name, negated, pair: false });
        }
    }

    /// Takes a list's live set out of it, with the list.
    fn alone<T>(
        &self,
        list: &mut Option<Match<T>>,
        name_of: impl Fn(&T) -> Option<String>,
        owner: bool,
        faults: &mut Vec<Fault>,
    ) -> Option<(Spanned<String>, bool, SetKind)> {
        let items = &list.as_ref()?.items;
        let found = items.iter().find_map(|item| {
            let name = name_of(&item.value)?;
            let kind = *self.kinds.get(name.as_str())?;
            Some((Spanned::new(name, item.span), kind))
        });
        let (name, kind) = found?;
        let negated = list.take().is_some_and(|list| {
            if list.items.len() > 1 {
                let message =
                    format!("`@{}` is a live set, and stands in a list alone", name.value);
                faults.push(Fault::new("live-set", name.span, message).hint(Some(
                    "write a rule for each, or put the others into the set".to_owned(),
                )));
            }
            list.negated
        });
        if owner {
            let message = "a rule that asks for an owner can't ask a live set";
            let hint =
                format!("a set that stands in the policy will do: `set {} = ...`", name.value);
            faults.push(Fault::new("owner-clause", name.span, message).hint(Some(hint)));
        }
        Some((name, negated, kind))
    }

    fn adds(&self, adds: &mut Adds, faults: &mut Vec<Fault>) {
        let name = &adds.name;
        let Some(kind) = self.kinds.get(name.value.as_str()) else {
            if self.broken.contains(name.value.as_str()) {
                return;
            }
            let names = self.names();
            let fault = if self.plain.contains(name.value.as_str()) {
                let message = format!("`@{}` isn't a live set", name.value);
                let hint = format!("`set {} live` can be added to", name.value);
                Fault::new("live-set", name.span, message).hint(Some(hint))
            } else {
                let hint = suggest::hint(&name.value, "live sets", &names, "@")
                    .or_else(|| Some(format!("define it: `set {} live`", name.value)));
                let message = format!("there is no live set `@{}`", name.value);
                Fault::new("unknown-set", name.span, message).hint(hint)
            };
            faults.push(fault);
            return;
        };
        adds.pair = *kind == SetKind::Pairs;
        if *kind == SetKind::Ports {
            let hint = "rules add addresses, or addresses with ports".to_owned();
            faults.push(wrong(name, *kind, "a live set of addresses, or of pairs", hint));
        }
    }
}

fn wrong(name: &Spanned<String>, kind: SetKind, expected: &str, hint: String) -> Fault {
    Fault::new("wrong-kind", name.span, format!("`@{}` holds {}", name.value, kind.name()))
        .expect(expected)
        .hint(Some(hint))
}

/// What to say of a live set where only others will do.
pub fn refused(name: &str, span: Span, where_: &str) -> Fault {
    let message = format!("`@{name}` is a live set, which {where_} can't ask");
    let hint = format!("a set that stands in the policy will do: `set {name} = ...`");
    Fault::new("live-set", span, message).hint(Some(hint))
}
