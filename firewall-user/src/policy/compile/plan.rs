//! How the rules are laid out: in one part where that is small enough, else cut into parts.

use super::super::resolved::Resolved;
use super::arena::Words;
use super::cut::{self, Cut, Stretch};
use super::extra::{EXTRAS, Seat, TERMINALS};
use super::live;
use super::part::{self, Member};
use super::{ARENAS, Ask, CompileError, Part as Limit, trie};
use firewall_common::abi::table::{
    Intervals, MAX_ALWAYS, MAX_CONTINUES, MAX_PARTS, Part, RuleAction, RuleTable, Verdict,
};
use firewall_common::classify::MOST;
use std::collections::HashMap;

/// Bytes that rules in parts for every packet may take before they are cut: a third of what a core's share of the last
/// cache can hold, and of what 10,000 rules may take at all.
const BUDGET: usize = 24 << 20;

/// Why rules stand in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Every packet is asked.
    Always,
    /// Packets to these addresses are asked.
    Destination(String),
    /// Packets from these addresses are asked.
    Source(String),
}

/// A part of the rules, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPlan {
    /// Who is asked.
    pub why: Why,
    /// Rules.
    pub rules: usize,
    /// Distinct rows.
    pub rows: usize,
    /// Words of 64 rules in a row.
    pub words: usize,
    /// Bytes of all its tables.
    pub bytes: usize,
}

/// All there is to lay out.
pub struct Whole<'w, 'p> {
    /// What the rules do, in order.
    pub actions: &'w [RuleAction],
    /// What they ask.
    pub rules: &'w [Ask<'p>],
    /// What rows don't know of them.
    pub live: &'w [Option<live::Asked>],
    /// What translations ask.
    pub nats: &'w [Ask<'p>],
    /// What names stand for.
    pub resolved: &'p Resolved,
    /// How many answers its gates may give.
    pub answers: usize,
    /// Between the places of two rules.
    pub gap: u32,
}

/// Rules as they are laid out.
pub struct Laid {
    /// The arena.
    pub words: Vec<u64>,
    /// Its parts.
    pub plan: Vec<PartPlan>,
    /// Where each rule stands.
    pub seats: Vec<Seat>,
    /// First of the words for parts that may come.
    pub extras: u32,
}

/// Lays the rules out: fills the table's `parts` and all that leads to them, and returns the arena.
pub fn write(whole: &Whole<'_, '_>, table: &mut RuleTable) -> Result<Laid, CompileError> {
    let mut layout = Layout::of(whole);
    layout.write(whole, &cut::whole(whole.rules.len()), table, BUDGET);
    if layout.words.len() * 8 > BUDGET {
        let pinned = |i: usize| whole.actions[i].verdict() == Verdict::Continue.raw();
        let cut = cut::cut(whole.rules, &pinned, whole.resolved);
        layout = Layout::of(whole);
        layout.write(whole, &cut, table, usize::MAX);
    }
    let cut = layout.plan.iter().filter(|part| part.why != Why::Always).count();
    let always = layout.plan.len() - cut;
    CompileError::check(Limit::Parts, layout.plan.len(), always + MAX_PARTS - MAX_ALWAYS)?;
    // The kernel's search takes so many steps and no more.
    for part in &table.parts {
        for (limit, map) in [(Limit::Ipv6Sources, part.src6), (Limit::Ipv6Destinations, part.dst6)]
        {
            CompileError::check(limit, map.step as usize * 2, MOST as usize)?;
        }
    }
    let mut words = layout.words.into_inner();
    let extras = words.len().next_multiple_of(EXTRAS);
    words.resize(extras + TERMINALS, 0);
    let limit = ARENAS[ARENAS.len() - 1];
    CompileError::check(Limit::Bytes, words.len() * 8, limit * 8)?;
    let fits = ARENAS.iter().position(|size| words.len() <= *size);
    table.size = fits.unwrap_or_default() as u32;
    Ok(Laid { words, plan: layout.plan, seats: layout.seats, extras: extras as u32 })
}

struct Layout {
    words: Words,
    plan: Vec<PartPlan>,
    seats: Vec<Seat>,
}

impl Layout {
    fn of(whole: &Whole<'_, '_>) -> Self {
        let seats = vec![Seat { word: 0, bit: 0 }; whole.rules.len()];
        Self { words: Words::default(), plan: Vec::new(), seats }
    }

    /// Writes parts until they take more than `budget` bytes.
    fn write(&mut self, whole: &Whole<'_, '_>, cut: &Cut, table: &mut RuleTable, budget: usize) {
        // Offset 0 is no row.
        self.words.push(&[0]);
        table.always = cut.always.len() as u32;
        table.cut = u32::from(cut.by_dst.len() + cut.by_src.len() != 0);
        for (i, rules) in cut.always.iter().enumerate() {
            if self.words.len() * 8 > budget {
                return;
            }
            let part = self.part(whole, rules, i == 0, Why::Always);
            table.parts[i] = part;
            if i == 0 {
                // The word of translations stands behind all of a row.
                table.settings.nat_word = part.summaries + part.words;
                self.continues(whole, rules, table);
            }
        }
        // Before them there is room for parts that every packet may be asked for one day.
        let first = MAX_ALWAYS;
        for (i, stretch) in cut.by_dst.iter().chain(&cut.by_src).enumerate() {
            let why = if i < cut.by_dst.len() {
                Why::Destination(stretch.to_string())
            } else {
                Why::Source(stretch.to_string())
            };
            let part = self.part(whole, &stretch.rules, false, why);
            // Past the limit it no longer matters: the policy will be refused.
            if let Some(place) = table.parts.get_mut(first + i) {
                *place = part;
            }
        }
        table.asks = self.live(whole.live);
        (table.by_dst4, table.by_dst6) = self.lead(&cut.by_dst, first);
        (table.by_src4, table.by_src6) = self.lead(&cut.by_src, first + cut.by_dst.len());
    }

    fn part(&mut self, whole: &Whole<'_, '_>, rules: &[u32], is_first: bool, why: Why) -> Part {
        let before = self.words.len();
        let members: Vec<Member> = rules
            .iter()
            .map(|rule| Member {
                // The last of those that are the rule's: alone, it is its number.
                place: *rule * whole.gap + whole.gap - 1,
                action: whole.actions[*rule as usize],
            })
            .collect();
        let nats = if is_first { whole.nats } else { &[] };
        let asks: Vec<&Ask<'_>> =
            rules.iter().map(|rule| &whole.rules[*rule as usize]).chain(nats).collect();
        let (part, rows) =
            part::write(&members, &asks, whole.answers, whole.resolved, &mut self.words);
        for (i, rule) in rules.iter().enumerate() {
            self.seats[*rule as usize] =
                Seat { word: part.terminal + i as u32 / 64, bit: (i % 64) as u8 };
        }
        self.plan.push(PartPlan {
            why,
            rules: rules.len(),
            rows,
            words: part.words as usize,
            bytes: (self.words.len() - before) * 8,
        });
        part
    }

    /// Those of part 0 that only count or log.
    fn continues(&self, whole: &Whole<'_, '_>, rules: &[u32], table: &mut RuleTable) {
        let counts = |(_, rule): &(usize, &u32)| {
            whole.actions[**rule as usize].verdict() == Verdict::Continue.raw()
        };
        let all = rules.iter().enumerate().filter(counts).map(|(i, _)| i as u16);
        table.continues_len = 0;
        for (to, i) in table.continues.iter_mut().zip(all.take(MAX_CONTINUES)) {
            *to = i;
            table.continues_len += 1;
        }
    }

    /// What rows don't know of rules, by their places; 0: they know all of every rule.
    fn live(&mut self, asked: &[Option<live::Asked>]) -> u32 {
        if asked.iter().all(Option::is_none) {
            return 0;
        }
        let mut known: HashMap<&live::Asked, u32> = HashMap::new();
        let words = &mut self.words;
        let places: Vec<u32> = asked
            .iter()
            .map(|asked| {
                let Some(asked) = asked else { return 0 };
                *known.entry(asked).or_insert_with(|| words.push(asked))
            })
            .collect();
        words.push_halves(&places)
    }

    /// From addresses to parts, the first of them number `first`; 0: none.
    fn lead(&mut self, stretches: &[Stretch], first: usize) -> (u32, Intervals) {
        let (mut v4, mut v6) = (vec![(0, 0)], vec![(0, 0)]);
        for (i, stretch) in stretches.iter().enumerate() {
            let (from, to) = stretch.hull;
            let part = (first + i) as u32;
            if stretch.is_v4 {
                put(&mut v4, from as u32, (to as u32).checked_add(1), part);
            } else {
                put(&mut v6, from, to.checked_add(1), part);
            }
        }
        let root = trie::write(&v4, 32, &mut self.words);
        (root, part::intervals(&v6, &mut self.words))
    }
}

/// Adds an interval behind the others.
fn put<T: PartialEq>(steps: &mut Vec<(T, u32)>, from: T, end: Option<T>, part: u32) {
    steps.pop_if(|(start, _)| *start == from);
    steps.push((from, part));
    steps.extend(end.map(|end| (end, 0)));
}
