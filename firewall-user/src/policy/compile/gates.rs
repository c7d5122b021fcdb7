//! Gates: tests of live sets that every packet's rows depend on. They are made before rows are looked up, and what they
//! say is a part of what `place` is looked up by: then a rule that asks a set is found like any other, instead of being
//! found, asked and left behind.

use super::super::ast::{Conditions, InSet, Rule};
use super::super::slots::Slots;
use firewall_common::abi::set::{GATES, gate};

/// A test, whatever its answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test<'p> {
    set: &'p str,
    /// Source, destination, source port, destination port.
    end: usize,
    pair: bool,
}

/// The tests of a policy that are made first.
#[derive(Clone, Debug, Default)]
pub struct Gates<'p>(Vec<Test<'p>>);

/// Which answers a rule wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    care: u8,
    held: u8,
}

impl Wanted {
    /// Whether these answers, a bit for each gate, are those.
    pub const fn are(self, answers: usize) -> bool {
        answers as u8 & self.care == self.held
    }
}

/// What conditions ask of live sets, by the end of the packet.
pub fn asked(when: &Conditions) -> impl Iterator<Item = (usize, &InSet)> {
    let ends = [&when.src.live, &when.dst.live, &when.src.live_ports, &when.dst.live_ports];
    ends.into_iter().enumerate().filter_map(|(end, asked)| Some((end, asked.as_ref()?)))
}

impl<'p> Gates<'p> {
    /// The first that rules make, in their order. Not of sets that rules add to which only count: those are walked one
    /// after the other, and a later one sees what an earlier one added.
    pub fn of(rules: &[&'p Rule]) -> Self {
        let moves = |name: &str| {
            let counting = rules.iter().filter(|rule| !rule.action.is_terminal());
            counting.flat_map(|rule| &rule.adds).any(|adds| adds.name.value == name)
        };
        let mut all: Vec<Test<'p>> = Vec::new();
        for (end, asked) in rules.iter().flat_map(|rule| asked(&rule.when)) {
            let test = Test { set: &asked.name.value, end, pair: asked.pair };
            if !all.contains(&test) && !moves(test.set) {
                all.push(test);
            }
            if all.len() == GATES as usize {
                break;
            }
        }
        Self(all)
    }

    fn number(&self, end: usize, asked: &InSet) -> Option<usize> {
        let test = Test { set: &asked.name.value, end, pair: asked.pair };
        self.0.iter().position(|gate| *gate == test)
    }

    /// Whether a test is one of them.
    pub fn has(&self, end: usize, asked: &InSet) -> bool {
        self.number(end, asked).is_some()
    }

    /// What a rule wants them to say.
    pub fn wanted(&self, when: &Conditions) -> Wanted {
        asked(when).fold(Wanted::default(), |wanted, (end, asked)| {
            let Some(number) = self.number(end, asked) else { return wanted };
            let bit = 1 << number;
            let held = wanted.held | if asked.negated { 0 } else { bit };
            Wanted { care: wanted.care | bit, held }
        })
    }

    /// How many answers they may give.
    pub const fn answers(&self) -> usize {
        1 << self.0.len()
    }

    /// As [`firewall_common::abi::table::RuleTable::gates`].
    pub fn word(&self, slots: &Slots) -> u64 {
        let of = |is: bool, bit: u32| if is { bit } else { 0 };
        self.0.iter().enumerate().fold(0, |word, (i, test)| {
            let set = u32::from(slots.set(test.set).unwrap_or_default()) + 1;
            let gate = set
                | of(test.end & 1 != 0, gate::DESTINATION)
                | of(test.end >= 2, gate::PORT)
                | of(test.pair, gate::PAIR);
            word | u64::from(gate) << (i * 16)
        })
    }
}
