//! A part of the rules as the kernel looks them up.

use super::super::ast::{AddrItem, Conditions, Family, FlagsMatch, Match};
use super::super::ranges::{AddrSet, Ranges};
use super::super::resolved::Resolved;
use super::arena::Words;
use super::axis::Axis;
use super::rows::{Rows, Shape};
use super::{Ask, icmp_ranges, trie};
use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::table::{Direction, Intervals, Part, RuleAction, STATES};
use firewall_common::classify::{KINDS, PLACES};
use std::collections::HashMap;

/// TCP's protocol number (RFC 9293).
const TCP: u8 = 6;

/// A rule of a part.
pub struct Member {
    /// Its place among all enabled rules.
    pub place: u32,
    /// What it does.
    pub action: RuleAction,
}

/// Writes a part. Returns it with the number of its rows. `answers`: how many the policy's gates may give.
pub fn write<'p>(
    members: &[Member],
    asks: &[&Ask<'p>],
    answers: usize,
    resolved: &'p Resolved,
    words: &mut Words,
) -> (Part, usize) {
    let shape = Shape::new(members.len(), asks.len() > members.len());
    let bit = |i: usize| {
        let nat = i.checked_sub(members.len());
        nat.map_or(i, |nat| shape.words * 64 + nat) as u32
    };
    let mut rows = Rows::new(shape);
    let mut part =
        Part { words: shape.words as u32, summaries: shape.summaries as u32, ..Part::default() };
    let terminal: Vec<u64> = members
        .chunks(64)
        .map(|chunk| {
            let decides = chunk.iter().enumerate().filter(|(_, m)| m.action.verdict() != 0);
            decides.fold(0, |bits, (i, _)| bits | 1 << i)
        })
        .collect();
    part.terminal = words.push(&terminal);
    let actions: Vec<u32> = members.iter().map(|member| member.action.0).collect();
    part.actions = words.push_halves(&actions);
    let order: Vec<u32> = members.iter().map(|member| member.place).collect();
    part.order = words.push_halves(&order);
    let mut field = Field { asks, bit: &bit, shape, rows: &mut rows, words };
    part.kind = field.kinds();
    part.place = field.places(answers);
    (part.sport, part.no_sport) = field.ports(|when, axis, bit| match &when.src.ports {
        None => axis.any(bit),
        Some(list) => {
            if list.negated {
                axis.negate(bit);
            }
            axis.add(bit, resolved.port_ranges(list));
        }
    });
    // The two don't mix: a rule that asks for ports names protocols with ports only, one that asks for types ICMP.
    (part.dport, part.no_dport) =
        field.ports(|when, axis, bit| match (&when.dst.ports, &when.icmp) {
            (Some(list), _) => {
                if list.negated {
                    axis.negate(bit);
                }
                axis.add(bit, resolved.port_ranges(list));
            }
            (None, Some(icmp)) => axis.add(bit, icmp_ranges(icmp)),
            (None, None) => axis.any(bit),
        });
    (part.src4, part.src6) = field.addresses(resolved, |when| when.src.addrs.as_ref());
    (part.dst4, part.dst6) = field.addresses(resolved, |when| when.dst.addrs.as_ref());
    (part, rows.len())
}

/// A field at work.
struct Field<'f, 'p> {
    asks: &'f [&'f Ask<'p>],
    bit: &'f dyn Fn(usize) -> u32,
    shape: Shape,
    rows: &'f mut Rows,
    words: &'f mut Words,
}

impl<'p> Field<'_, 'p> {
    /// Rows of a field with few values, each asked of each of the few different conditions that rules have.
    fn small<K: Eq + std::hash::Hash>(
        &mut self,
        values: usize,
        condition: impl Fn(&Ask<'p>) -> K,
        meets: impl Fn(&K, usize) -> bool,
    ) -> u32 {
        let mut groups: HashMap<K, Vec<u64>> = HashMap::new();
        for (i, ask) in self.asks.iter().enumerate() {
            let bit = (self.bit)(i) as usize;
            let empty = || vec![0; self.shape.bits()];
            groups.entry(condition(ask)).or_insert_with(empty)[bit / 64] |= 1 << (bit % 64);
        }
        let groups: Vec<(K, Vec<u64>)> = groups.into_iter().collect();
        let mut known: HashMap<Vec<bool>, u32> = HashMap::new();
        let rows: Vec<u32> = (0..values)
            .map(|value| {
                let met: Vec<bool> = groups.iter().map(|(key, _)| meets(key, value)).collect();
                if let Some(row) = known.get(&met) {
                    return *row;
                }
                let mut bits = vec![0; self.shape.bits()];
                for (_, group) in groups.iter().zip(&met).filter_map(|(g, met)| met.then_some(g)) {
                    bits.iter_mut().zip(group).for_each(|(bits, group)| *bits |= group);
                }
                let row = self.rows.intern(&bits, self.words);
                known.insert(met, row);
                row
            })
            .collect();
        self.words.push_halves(&rows)
    }

    fn kinds(&mut self) -> u32 {
        type Kind = (Option<Vec<u8>>, Option<FlagsMatch>);
        self.small(
            KINDS,
            |ask| -> Kind { (ask.when.protos.clone(), ask.when.flags) },
            |(protos, flags), value| {
                let (proto, seen) =
                    if value < 256 { (value as u8, None) } else { (TCP, Some(value as u8)) };
                protos.as_ref().is_none_or(|protos| protos.contains(&proto))
                    && flags.is_none_or(|f| seen.is_some_and(|seen| seen & f.mask == f.value))
            },
        )
    }

    fn places(&mut self, answers: usize) -> u32 {
        self.small(
            PLACES * answers,
            |ask| {
                let on = ask.on.as_ref().map(|on| (on.negated, on.slots));
                (ask.when.direction, on, ask.when.states.clone(), ask.gates)
            },
            |(direction, on, states, gates), value| {
                let (answer, value) = (value / PLACES, value % PLACES);
                let (at, state) = (value / STATES, (value % STATES) as u8);
                let (way, slot) = (at / IFACE_SLOTS, at % IFACE_SLOTS);
                direction.is_none_or(|d: Direction| usize::from(d.raw()) == way)
                    && on.is_none_or(|(negated, slots)| slots[slot] != negated)
                    && states.as_ref().is_none_or(|all| all.iter().any(|s| s.raw() == state))
                    && gates.are(answer)
            },
        )
    }

    /// The trie of a field of ports, and the row of packets without.
    fn ports(&mut self, gather: impl Fn(&'p Conditions, &mut Axis<'p, u16>, u32)) -> (u32, u32) {
        let mut axis = Axis::new(self.shape.bits());
        for (i, ask) in self.asks.iter().enumerate() {
            gather(ask.when, &mut axis, (self.bit)(i));
        }
        let none = axis.row_of_none(self.rows, self.words);
        let steps: Vec<(u32, u32)> = axis
            .sweep(self.rows, self.words)
            .into_iter()
            .map(|(start, row)| (u32::from(start) << 16, row))
            .collect();
        (trie::write(&steps, 16, self.words), none)
    }

    /// The trie of IPv4 addresses, and the intervals of IPv6's.
    fn addresses(
        &mut self,
        resolved: &'p Resolved,
        list: impl Fn(&'p Conditions) -> Option<&'p Match<AddrItem>>,
    ) -> (u32, Intervals) {
        let bits = self.shape.bits();
        let (mut v4, mut v6) = (Axis::new(bits), Axis::new(bits));
        for (i, ask) in self.asks.iter().enumerate() {
            let bit = (self.bit)(i);
            let list = list(ask.when);
            if ask.when.family != Some(Family::V6) {
                gather(&mut v4, bit, list, resolved, |set| &set.v4);
            }
            if ask.when.family != Some(Family::V4) {
                gather(&mut v6, bit, list, resolved, |set| &set.v6);
            }
        }
        let steps = v4.sweep(self.rows, self.words);
        let root = trie::write(&steps, 32, self.words);
        let steps = v6.sweep(self.rows, self.words);
        (root, intervals(&steps, self.words))
    }
}

/// What a rule asks of an address. Named sets stay whole; what else is in the list becomes one set.
fn gather<'p, T: super::super::ranges::Number>(
    axis: &mut Axis<'p, T>,
    bit: u32,
    list: Option<&'p Match<AddrItem>>,
    resolved: &'p Resolved,
    pick: impl Fn(&'p AddrSet) -> &'p Ranges<T>,
) where
    Ranges<T>: OfAddresses,
{
    let Some(list) = list else { return axis.any(bit) };
    if list.negated {
        axis.negate(bit);
    }
    let mut plain = Vec::new();
    for item in &list.items {
        match &item.value {
            AddrItem::Range(range) => plain.push(*range),
            AddrItem::Set(name) => {
                if let Some(set) = resolved.addrs.get(name) {
                    axis.add_named(bit, name, pick(set));
                }
            }
        }
    }
    if !plain.is_empty() {
        axis.add(bit, Ranges::<T>::of(AddrSet::new(plain)));
    }
}

/// The numbers of one family.
trait OfAddresses {
    fn of(set: AddrSet) -> Self;
}

impl OfAddresses for Ranges<u32> {
    fn of(set: AddrSet) -> Self {
        set.v4
    }
}

impl OfAddresses for Ranges<u128> {
    fn of(set: AddrSet) -> Self {
        set.v6
    }
}

/// Writes IPv6 intervals (start, value), the first from 0.
pub fn intervals(steps: &[(u128, u32)], words: &mut Words) -> Intervals {
    let len = steps.len().next_power_of_two();
    let last = steps.last().map_or(0, |(_, value)| *value);
    let padding = std::iter::repeat((u128::MAX, last));
    let padded: Vec<(u128, u32)> = steps.iter().copied().chain(padding).take(len).collect();
    let starts: Vec<u64> =
        padded.iter().flat_map(|(start, _)| [(start >> 64) as u64, *start as u64]).collect();
    let values: Vec<u32> = padded.iter().map(|(_, value)| *value).collect();
    Intervals {
        starts: words.push(&starts),
        values: words.push_halves(&values),
        step: (len / 2) as u32,
    }
}
