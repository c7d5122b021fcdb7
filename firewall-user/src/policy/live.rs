//! A policy that is live, as far as changes of single rules need to know its tables: where each rule stands, and the extra
//! parts ([`extra`]) that rules joined since.
//!
//! A change is a [`Patch`]: it takes effect by one store of one word, so that every packet is judged by the policy before it
//! or the one behind it. The extra part that holds all that joined is written anew for each one more, elsewhere, and asked
//! beside the one before it for a moment: that the same rules are asked twice changes nothing. A program that asks the new
//! one too early must not ask the old one too late: the old one is asked first, or a grace period lies between.

use super::ast::{Policy, Rule};
use super::compile::{Compiled, Extra, GAP, Seat, extra, room};
use super::slots::Slots;

/// A rule of the policy.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Its place among all that packets are judged by, and what lets it decide; `None`: it takes no part there.
    stands: Option<(u32, Seat)>,
}

/// What an extra part is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    /// Its rules are asked.
    Asked,
    /// They were, and programs may still look: free behind a grace period.
    Left,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Live {
    rows: Vec<Row>,
    /// Word of the arena behind which extra parts stand.
    extras: u32,
    /// Parts that every packet is asked for without any.
    always: u32,
    uses: Vec<Use>,
}

/// What has to be done to the live tables, in this order.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// A part to be written where nobody looks: its number among the policy's parts, and what it is.
    pub write: Option<(usize, Extra)>,
    /// Parts that every packet is asked for from before the change on.
    pub always: u32,
    /// Words of the arena to be stored one by one. The first is the change.
    pub store: Vec<(u32, u64)>,
    /// Between the first of them and the others a grace period has to pass.
    pub wait: bool,
    /// A bit of the arena to be cleared: the change, where there is no word to be stored.
    pub clear: Option<Seat>,
    /// Parts that every packet is asked for behind it.
    pub always_then: u32,
    /// Extra part that is free once nobody looks there any more: see [`Live::free`].
    pub left: Option<usize>,
}

impl Live {
    /// Of a policy that was compiled to this. `None` where single rules can't join it or leave it.
    pub fn of(policy: &Policy, compiled: &Compiled) -> Option<Self> {
        let room = room(compiled);
        if compiled.gap != GAP || room == 0 {
            return None;
        }
        let mut seats =
            compiled.seats.iter().zip(0u32..).map(|(seat, i)| (i * GAP + GAP - 1, *seat));
        let judged = |rule: &Rule| rule.enabled && !rule.when.owner.is_asked();
        let rows = policy.rules.iter().map(|rule| {
            let stands = if judged(rule) { seats.next() } else { None };
            Row { stands }
        });
        Some(Self {
            rows: rows.collect(),
            extras: compiled.extras,
            always: compiled.table.always,
            uses: vec![Use::Free; room],
        })
    }

    /// One more rule, the one number `index` (from 0) from then on. `policy` is the one without it; `slots` know its name.
    /// What will be live, and how to get there; `None` where only a whole policy can take it in.
    pub fn join(
        &self,
        policy: &Policy,
        index: usize,
        rule: &Rule,
        slots: &Slots,
    ) -> Option<(Self, Patch)> {
        let place = self.between(index)?;
        let asked = self.asked();
        let free = |from: usize| (from..self.uses.len()).find(|i| self.uses[*i] == Use::Free);
        let new = asked.and_then(free).or_else(|| free(0))?;
        let word = |extra: usize| self.extras + extra as u32;
        let mut next = self.clone();
        let here = Seat { word: word(new), bit: 0 };
        next.rows.insert(index, Row { stands: Some((place, here)) });
        // In the policy's order: the first of a part that is met decides.
        let rest = policy.rules.get(index..)?;
        let all = policy.rules[..index].iter().chain([rule]).chain(rest);
        let mut rules: Vec<(&Rule, u32)> = Vec::new();
        for (row, rule) in next.rows.iter_mut().zip(all) {
            if let Some((place, seat)) = &mut row.stands
                && (seat.word == word(new) || asked.is_some_and(|old| seat.word == word(old)))
            {
                *seat = Seat { word: word(new), bit: rules.len() as u8 };
                rules.push((rule, *place));
            }
        }
        let part = extra(&rules, new, self.extras, slots)?;
        let mut store = vec![(word(new), u64::MAX >> (64 - rules.len()))];
        next.uses[new] = Use::Asked;
        if let Some(old) = asked {
            store.push((word(old), 0));
            next.uses[old] = Use::Left;
        }
        let upto = |extra: usize| self.always + extra as u32 + 1;
        let patch = Patch {
            write: Some((self.always as usize + new, part)),
            always: upto(asked.map_or(new, |old| old.max(new))),
            store,
            // Others may see two stores, or make two loads, in another order.
            wait: asked.is_some_and(|old| new < old || !cfg!(target_arch = "x86_64")),
            clear: None,
            always_then: upto(new),
            left: asked,
        };
        Some((next, patch))
    }

    /// Rule number `index` less.
    pub fn leave(&self, index: usize) -> Option<(Self, Patch)> {
        let (_, seat) = self.rows.get(index)?.stands?;
        let mut next = self.clone();
        next.rows.remove(index);
        let asked = self.asked();
        let always = self.always + asked.map_or(0, |extra| extra as u32 + 1);
        let mut patch =
            Patch { always, clear: Some(seat), always_then: always, ..Patch::default() };
        if let Some(extra) = asked
            && !next.rows.iter().any(|row| row.stands.is_some_and(|(_, at)| at.word == seat.word))
            && seat.word == self.extras + extra as u32
        {
            next.uses[extra] = Use::Left;
            patch.always_then = self.always;
            patch.left = Some(extra);
        }
        Some((next, patch))
    }

    /// Whether one more rule would have to wait until programs look no more at what was left.
    pub fn is_full(&self) -> bool {
        !self.uses.contains(&Use::Free) && self.uses.contains(&Use::Left)
    }

    /// Nobody looks any more at what was left up to now.
    pub fn free_all(&mut self) {
        (0..self.uses.len()).for_each(|index| self.free(index));
    }

    /// Nobody looks at extra part `index` any more.
    pub fn free(&mut self, index: usize) {
        if let Some(used) = self.uses.get_mut(index).filter(|used| **used == Use::Left) {
            *used = Use::Free;
        }
    }

    fn asked(&self) -> Option<usize> {
        self.uses.iter().position(|used| *used == Use::Asked)
    }

    /// A place between the rules before and from `index` on.
    fn between(&self, index: usize) -> Option<u32> {
        let place = |row: &Row| row.stands.map(|(place, _)| place);
        let before = self.rows.get(..index)?.iter().rev().find_map(place).unwrap_or(0);
        let behind = self.rows[index..].iter().find_map(place);
        let behind = behind.or_else(|| before.checked_add(2 * GAP))?;
        let middle = before + (behind - before) / 2;
        (middle > before).then_some(middle)
    }
}

#[cfg(test)]
mod tests;
