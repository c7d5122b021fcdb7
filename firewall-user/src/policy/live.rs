//! A policy that is live, as far as changes of single rules need to know its tables: where each rule stands, and the extra
//! parts ([`extra`]) that rules joined since.
//!
//! A change is a [`Patch`]: it takes effect by one store of one word, so that every packet is judged by the policy before it
//! or the one behind it. The extra part that holds all that joined is written anew for each one more, in the next that no
//! packet is asked for, and asked beside the one before it for a moment: that the same rules are asked twice changes nothing.
//! Programs ask in the order of numbers, so whoever asked the new one too early asked the old one before.
//!
//! Packets would be asked for ever more parts of which one decides. So behind changes the rules go down to the first extra
//! part again, in steps that change nothing, a grace period between each and the next ([`Live::step`]).

use super::ast::{Policy, Rule};
use super::compile::{Compiled, EXTRA_WORDS, Extra, GAP, Seat, extra, room};
use super::slots::Slots;

/// A rule of the policy.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Its place among all that packets are judged by, and what lets it decide; `None`: it takes no part there.
    stands: Option<(u32, Seat)>,
    /// What lets it decide in the first extra part, while it goes down there.
    below: Option<Seat>,
}

/// What an extra part is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// No packet is asked for it.
    Free,
    /// Its rules decide.
    Asked,
    /// They did, or packets were asked for it, up to this turn; programs may still look.
    Left(u64),
    /// Packets are asked for it, and none of its rules has decided for longer than any program looks.
    Dead,
}

/// The rules are on their way to the first extra part.
#[derive(Clone, Copy, Debug)]
struct Below {
    /// They decide there, too; else they are only written.
    asked: bool,
    /// Turn of the last step.
    since: u64,
    /// Whether every program that looks knows of it.
    known: bool,
}

/// See the module.
///
/// Changes and steps have numbers that ascend, turns: what was done up to one is known to all programs once a grace period
/// has passed behind it ([`Live::passed`]).
#[derive(Clone, Debug)]
pub struct Live {
    rows: Vec<Row>,
    /// Word of the arena behind which extra parts stand.
    extras: u32,
    /// Parts that every packet is asked for without any.
    always: u32,
    /// Extra parts that every packet is asked for, from the first on.
    covered: usize,
    uses: Vec<Use>,
    below: Option<Below>,
}

/// What has to be done to the live tables, in this order.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// A part to be written that no packet is asked for, or in which no rule decides: its number among the policy's parts, and
    /// what it is.
    pub write: Option<(usize, Extra)>,
    /// Parts that every packet is asked for from before the change on.
    pub always: u32,
    /// Words of the arena to be stored one by one. The first is the change.
    pub store: Vec<(u32, u64)>,
    /// Before each of them a grace period has to pass.
    pub wait: bool,
    /// Bits of the arena to be cleared. The last one is the change, where there is no word to be stored.
    pub clear: Vec<Seat>,
    /// Parts that every packet is asked for behind it.
    pub always_then: u32,
    /// Whether packets are judged otherwise.
    pub changes: bool,
}

impl Live {
    /// Of a policy that was compiled to this. `None` where single rules can't join it or leave it.
    pub fn of(policy: &Policy, compiled: &Compiled) -> Option<Self> {
        let room = room(compiled);
        if compiled.gap != GAP || room < 2 {
            return None;
        }
        let mut seats =
            compiled.seats.iter().zip(0u32..).map(|(seat, i)| (i * GAP + GAP - 1, *seat));
        let judged = |rule: &Rule| rule.enabled && !rule.when.owner.is_asked();
        let rows = policy.rules.iter().map(|rule| {
            let stands = if judged(rule) { seats.next() } else { None };
            Row { stands, below: None }
        });
        Some(Self {
            rows: rows.collect(),
            extras: compiled.extras,
            always: compiled.table.always,
            covered: 0,
            uses: vec![Use::Free; room],
            below: None,
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
        turn: u64,
    ) -> Option<(Self, Patch)> {
        let place = self.between(index)?;
        let new = self.free()?;
        let mut next = self.clone();
        next.rows.insert(index, Row { stands: Some((place, self.seat(new, 0))), below: None });
        // In the policy's order: the first of a part that is met decides.
        let rest = policy.rules.get(index..)?;
        let all = policy.rules[..index].iter().chain([rule]).chain(rest);
        let mut rules: Vec<(&Rule, u32)> = Vec::new();
        for (row, rule) in next.rows.iter_mut().zip(all) {
            row.below = None;
            if let Some((place, seat)) = &mut row.stands
                && seat.word >= self.extras
            {
                *seat = self.seat(new, rules.len());
                rules.push((rule, *place));
            }
        }
        let part = extra(&rules, new, self.extras, slots)?;
        let mut store = vec![(self.word(new), u64::MAX >> (64 - rules.len()))];
        let old = |used: &mut Use, word: u32, store: &mut Vec<(u32, u64)>| {
            store.push((word, 0));
            *used = Use::Left(turn);
        };
        for (i, used) in next.uses.iter_mut().enumerate().filter(|(_, used)| **used == Use::Asked) {
            old(used, self.word(i), &mut store);
        }
        if let Some(below) = next.below.take()
            && below.asked
        {
            old(&mut next.uses[0], self.word(0), &mut store);
        }
        next.uses[new] = Use::Asked;
        next.covered = new + 1;
        let patch = Patch {
            write: Some((self.always as usize + new, part)),
            always: next.asked_always(),
            // Others may see two stores, or make two loads, in another order.
            wait: !cfg!(target_arch = "x86_64"),
            store,
            clear: Vec::new(),
            always_then: next.asked_always(),
            changes: true,
        };
        Some((next, patch))
    }

    /// Rule number `index` less.
    pub fn leave(&self, index: usize, turn: u64) -> Option<(Self, Patch)> {
        let row = self.rows.get(index)?;
        let (_, seat) = row.stands?;
        let mut next = self.clone();
        next.rows.remove(index);
        // While it decides twice, it does so until both bits are cleared.
        let clear = row.below.into_iter().chain([seat]).collect();
        if !next.rows.iter().any(|row| row.stands.is_some_and(|(_, at)| at.word >= self.extras)) {
            next.not_below();
            next.cover(0, turn);
        }
        let patch = Patch {
            always: self.asked_always(),
            clear,
            always_then: next.asked_always(),
            changes: true,
            ..Patch::default()
        };
        Some((next, patch))
    }

    /// The next step by which what joined goes down to the first extra part; `policy` is what is live, with its `slots`.
    /// Nothing changes for packets. `None`: there is none, or a grace period has to pass first.
    pub fn step(&self, policy: &Policy, slots: &Slots, turn: u64) -> Option<(Self, Patch)> {
        let from = self.uses.iter().position(|used| *used == Use::Asked)?;
        if from == 0 {
            return None;
        }
        let mut next = self.clone();
        let always = self.asked_always();
        let mut patch = Patch { always, always_then: always, ..Patch::default() };
        match self.below {
            None => {
                if self.uses[0] != Use::Dead {
                    return None;
                }
                let mut rules: Vec<(&Rule, u32)> = Vec::new();
                for (row, rule) in next.rows.iter_mut().zip(&policy.rules) {
                    if let Some((place, _)) = row.stands.filter(|(_, at)| at.word >= self.extras) {
                        row.below = Some(self.seat(0, rules.len()));
                        rules.push((rule, place));
                    }
                }
                patch.write = Some((self.always as usize, extra(&rules, 0, self.extras, slots)?));
                next.below = Some(Below { asked: false, since: turn, known: false });
            }
            Some(Below { known: false, .. }) => return None,
            Some(Below { asked: false, .. }) => {
                let bits = next.rows.iter().filter_map(|row| row.below);
                patch.store.push((self.word(0), bits.fold(0, |all, seat| all | 1 << seat.bit)));
                next.below = Some(Below { asked: true, since: turn, known: false });
            }
            Some(Below { asked: true, .. }) => {
                for row in &mut next.rows {
                    if let (Some((_, seat)), Some(below)) = (&mut row.stands, row.below.take()) {
                        *seat = below;
                    }
                }
                patch.store.push((self.word(from), 0));
                next.not_below();
                next.cover(1, turn);
                next.uses[0] = Use::Asked;
                patch.always_then = next.asked_always();
            }
        }
        Some((next, patch))
    }

    /// A grace period has passed since turn `turn`.
    pub fn passed(&mut self, turn: u64) {
        for (i, used) in self.uses.iter_mut().enumerate() {
            match used {
                Use::Left(at) if *at <= turn && i < self.covered => *used = Use::Dead,
                Use::Left(at) if *at <= turn => *used = Use::Free,
                _ => {}
            }
        }
        if let Some(below) = &mut self.below {
            below.known |= below.since <= turn;
        }
    }

    /// Whether there is an extra part for one more rule.
    pub fn has_room(&self) -> bool {
        self.free().is_some()
    }

    /// Whether there is more to be done, once a grace period has passed.
    pub fn is_unsettled(&self) -> bool {
        let is_left = |used: &Use| matches!(used, Use::Left(_));
        self.uses.iter().any(is_left) || self.uses.iter().skip(1).any(|used| *used == Use::Asked)
    }

    /// No packet has been asked for it, nor is for any behind it.
    fn free(&self) -> Option<usize> {
        (self.covered..self.uses.len()).find(|i| self.uses[*i] == Use::Free)
    }

    /// Packets are asked for so many extra parts from now on.
    fn cover(&mut self, covered: usize, turn: u64) {
        for used in self.uses[covered..].iter_mut().filter(|used| **used != Use::Free) {
            *used = Use::Left(turn);
        }
        self.covered = covered;
    }

    fn not_below(&mut self) {
        self.below = None;
        self.rows.iter_mut().for_each(|row| row.below = None);
    }

    fn asked_always(&self) -> u32 {
        self.always + self.covered as u32
    }

    /// The word that lets the rules of an extra part decide.
    fn word(&self, extra: usize) -> u32 {
        self.extras + (extra * EXTRA_WORDS) as u32
    }

    fn seat(&self, extra: usize, bit: usize) -> Seat {
        Seat { word: self.word(extra), bit: bit as u8 }
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
