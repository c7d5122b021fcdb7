//! Which rule owns which counters, which interface owns which bit, where which live set stands: stable across policies.

use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::set::MAX_SETS;
use firewall_common::abi::table::{RULE_SLOTS, SLOT_FIRST};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A slot that has an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The rule's or interface's name.
    pub name: String,
    /// Generation of the last policy that named it.
    pub generation: u32,
    /// An interface that is attached, or a set that is in the kernel: the slot can't be given away.
    pub held: bool,
}

/// Slots of one kind.
#[derive(Clone, Debug)]
struct Space {
    first: u32,
    /// The last one.
    last: u32,
    owners: BTreeMap<u32, Owner>,
    by_name: HashMap<String, u32>,
}

impl Space {
    fn new(first: u32, end: usize) -> Self {
        Self { first, last: (end - 1) as u32, owners: BTreeMap::new(), by_name: HashMap::new() }
    }

    fn set(&mut self, slot: u32, owner: Owner) {
        if let Some(old) = self.owners.get(&slot) {
            self.by_name.remove(&old.name);
        }
        self.by_name.insert(owner.name.clone(), slot);
        self.owners.insert(slot, owner);
    }

    /// Gives every name a slot: its old one, else one never used, else the one that has been out of
    /// use longest. `Err` holds how many names need a slot at once.
    fn take(&mut self, names: &[&str], generation: u32) -> Result<(), usize> {
        let mut missing = Vec::new();
        for name in names {
            match self.by_name.get(*name).and_then(|slot| self.owners.get_mut(slot)) {
                Some(owner) => owner.generation = generation,
                None => missing.push(*name),
            }
        }
        // In the order of the policy, not of the alphabet, so that slots read as rules do.
        let mut missing: HashSet<&str> = missing.into_iter().collect();
        let asked: Vec<&str> = names.iter().copied().filter(|name| missing.remove(name)).collect();
        let unused: Vec<u32> =
            (self.first..=self.last).filter(|s| !self.owners.contains_key(s)).collect();
        let mut stale: Vec<(u32, u32)> = self
            .owners
            .iter()
            .filter(|(_, o)| o.generation != generation && !o.held)
            .map(|(slot, o)| (o.generation, *slot))
            .collect();
        stale.sort_unstable();
        let mut free = unused.into_iter().chain(stale.into_iter().map(|(_, slot)| slot));
        let kept = self.owners.values().filter(|o| o.generation == generation || o.held).count();
        let wanted = kept + asked.len();
        for name in asked {
            let Some(slot) = free.next() else {
                return Err(wanted);
            };
            self.set(slot, Owner { name: name.to_owned(), generation, held: false });
        }
        Ok(())
    }
}

/// The three kinds of slots. The daemon reads them from the pinned name maps at start, and writes them
/// there with each policy.
#[derive(Clone, Debug)]
pub struct Slots {
    rules: Space,
    ifaces: Space,
    sets: Space,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            rules: Space::new(SLOT_FIRST, RULE_SLOTS),
            ifaces: Space::new(1, IFACE_SLOTS),
            sets: Space::new(0, MAX_SETS),
        }
    }
}

impl Slots {
    /// Most rules that can have counters.
    pub const RULES: usize = RULE_SLOTS - SLOT_FIRST as usize;
    /// Most interfaces.
    pub const IFACES: usize = IFACE_SLOTS - 1;
    /// Most live sets, those that are to go included.
    pub const SETS: usize = MAX_SETS;

    /// No slot has an owner.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores an owner of a rule slot, as read from the pinned names. Slots out of range and empty
    /// names are ignored.
    pub fn restore_rule(&mut self, slot: u32, name: &str, generation: u32) {
        restore(&mut self.rules, slot, name, generation);
    }

    /// Restores an owner of an interface slot.
    pub fn restore_iface(&mut self, slot: u8, name: &str, generation: u32) {
        restore(&mut self.ifaces, slot.into(), name, generation);
    }

    /// Restores the owner of a set's index. It keeps it: its name is there until the last table that asks for the set is
    /// nobody's any more.
    pub fn restore_set(&mut self, index: u8, name: &str, generation: u32) {
        restore(&mut self.sets, index.into(), name, generation);
        if let Some(owner) = self.sets.owners.get_mut(&index.into()) {
            owner.held = true;
        }
    }

    /// The slot of a rule.
    pub fn rule(&self, name: &str) -> Option<u32> {
        self.rules.by_name.get(name).copied()
    }

    /// The name of the rule that owns a slot, also if it isn't in the live policy any more.
    pub fn rule_name(&self, slot: u32) -> Option<&str> {
        self.rules.owners.get(&slot).map(|o| o.name.as_str())
    }

    /// The slot of an interface.
    pub fn iface(&self, name: &str) -> Option<u8> {
        self.ifaces.by_name.get(name).map(|slot| *slot as u8)
    }

    /// The name of the interface that owns a slot.
    pub fn iface_name(&self, slot: u8) -> Option<&str> {
        self.ifaces.owners.get(&u32::from(slot)).map(|o| o.name.as_str())
    }

    /// The index of a live set.
    pub fn set(&self, name: &str) -> Option<u8> {
        self.sets.by_name.get(name).map(|slot| *slot as u8)
    }

    /// The name of the live set at an index.
    pub fn set_name(&self, index: u8) -> Option<&str> {
        self.sets.owners.get(&u32::from(index)).map(|o| o.name.as_str())
    }

    /// All live sets, by their indices.
    pub fn sets(&self) -> impl Iterator<Item = (u8, &Owner)> {
        self.sets.owners.iter().map(|(slot, o)| (*slot as u8, o))
    }

    /// All rule slots with an owner, ascending.
    pub fn rules(&self) -> impl Iterator<Item = (u32, &Owner)> {
        self.rules.owners.iter().map(|(slot, o)| (*slot, o))
    }

    /// All interface slots with an owner, ascending.
    pub fn ifaces(&self) -> impl Iterator<Item = (u8, &Owner)> {
        self.ifaces.owners.iter().map(|(slot, o)| (*slot as u8, o))
    }

    /// The slot for an interface that is being attached; it stays until [`Self::release_iface`].
    /// `None` where all are taken.
    pub fn hold_iface(&mut self, name: &str, generation: u32) -> Option<u8> {
        if !self.ifaces.by_name.contains_key(name) {
            self.ifaces.take(&[name], generation).ok()?;
        }
        let slot = *self.ifaces.by_name.get(name)?;
        self.ifaces.owners.get_mut(&slot)?.held = true;
        Some(slot as u8)
    }

    /// The interface was detached; its slot may be given away once no policy names it.
    pub fn release_iface(&mut self, name: &str) {
        if let Some(slot) = self.ifaces.by_name.get(name)
            && let Some(owner) = self.ifaces.owners.get_mut(slot)
        {
            owner.held = false;
        }
    }

    /// Slots for all rules and interfaces of a policy. `Err`: how many would have been needed.
    pub(super) fn take_rules(&mut self, names: &[&str], generation: u32) -> Result<(), usize> {
        self.rules.take(names, generation)
    }

    /// A slot for one more rule: its old one, else the first that never had an owner. `None` where only a whole policy
    /// can tell which may be given away.
    pub fn take_rule(&mut self, name: &str, generation: u32) -> Option<u32> {
        let rules = &mut self.rules;
        if let Some(slot) = rules.by_name.get(name).copied() {
            rules.owners.get_mut(&slot)?.generation = generation;
            return Some(slot);
        }
        let taken = rules.owners.keys().copied();
        let slot = (rules.first..=rules.last).zip(taken.map(Some).chain(std::iter::repeat(None)));
        let slot = slot.into_iter().find(|(slot, taken)| Some(*slot) != *taken)?.0;
        rules.set(slot, Owner { name: name.to_owned(), generation, held: false });
        Some(slot)
    }

    /// See [`Self::take_rules`].
    pub(super) fn take_ifaces(&mut self, names: &[&str], generation: u32) -> Result<(), usize> {
        self.ifaces.take(names, generation)
    }

    /// See [`Self::take_rules`]. Sets of the policy before count, too: they go when this one is live.
    #[allow(dead_code, reason = "for policies that declare live sets")]
    pub(super) fn take_sets(&mut self, names: &[&str], generation: u32) -> Result<(), usize> {
        self.sets.take(names, generation)
    }
}

fn restore(space: &mut Space, slot: u32, name: &str, generation: u32) {
    if (space.first..=space.last).contains(&slot)
        && !name.is_empty()
        && !space.by_name.contains_key(name)
    {
        space.set(slot, Owner { name: name.to_owned(), generation, held: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot_and_the_oldest_is_given_away_first() {
        let mut slots = Slots::new();
        let many: Vec<String> = (0..Slots::RULES).map(|i| format!("r{i}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        slots.take_rules(&names, 1).unwrap();
        assert_eq!(slots.rule("r0"), Some(SLOT_FIRST));
        slots.take_rules(&names[..1], 2).unwrap();
        slots.take_rules(&names[2..], 3).unwrap();
        // r1 is of generation 1, r0 of 2: r1 goes first, then r0.
        slots.take_rules(&["new", "r5"], 4).unwrap();
        assert_eq!(slots.rule("new"), Some(SLOT_FIRST + 1));
        assert_eq!(slots.rule("r1"), None);
        assert_eq!(slots.rule("r0"), Some(SLOT_FIRST));
        assert_eq!(slots.rule("r5"), Some(SLOT_FIRST + 5));
        assert_eq!(slots.rule_name(SLOT_FIRST + 1), Some("new"));
        slots.take_rules(&["newer"], 5).unwrap();
        assert_eq!(slots.rule("newer"), Some(SLOT_FIRST));
    }

    #[test]
    fn one_more_rule_takes_its_own_or_the_first_that_is_free() {
        let mut slots = Slots::new();
        slots.take_rules(&["a", "b", "c"], 1).unwrap();
        slots.restore_rule(SLOT_FIRST + 4, "e", 1);
        assert_eq!(slots.take_rule("b", 3), Some(SLOT_FIRST + 1));
        assert_eq!(slots.take_rule("d", 3), Some(SLOT_FIRST + 3));
        assert_eq!(slots.take_rule("f", 3), Some(SLOT_FIRST + 5));
        let many: Vec<String> = (0..Slots::RULES).map(|i| format!("r{i}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        slots.take_rules(&names, 4).unwrap();
        assert_eq!(slots.take_rule("new", 5), None);
    }

    #[test]
    fn too_many_at_once_says_how_many() {
        let mut slots = Slots::new();
        let many: Vec<String> = (0..70).map(|i| format!("e{i}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(slots.take_ifaces(&names, 1), Err(70));
    }

    #[test]
    fn an_attached_interface_is_not_evicted() {
        let mut slots = Slots::new();
        let held = slots.hold_iface("eth0", 0);
        assert_eq!(held, Some(1));
        for generation in 1..200 {
            slots.take_ifaces(&[&format!("x{generation}")], generation).unwrap();
        }
        assert_eq!(slots.iface("eth0"), held);
        slots.release_iface("eth0");
        for generation in 200..300 {
            slots.take_ifaces(&[&format!("x{generation}")], generation).unwrap();
        }
        assert_eq!(slots.iface("eth0"), None);
    }

    #[test]
    fn a_set_that_is_there_keeps_its_index() {
        let mut slots = Slots::new();
        slots.restore_set(1, "scanners", 4);
        slots.restore_set(64, "nowhere", 4);
        slots.restore_set(2, "", 4);
        for generation in 5..100 {
            let mut next = slots.clone();
            let name = format!("s{generation}");
            next.take_sets(&[&name, "other"], generation).unwrap();
            assert_eq!((next.set(&name), next.set("other")), (Some(0), Some(2)));
            assert_eq!((next.set("scanners"), next.set_name(1)), (Some(1), Some("scanners")));
            assert_eq!(next.sets().count(), 3);
        }
        // All the others are there, too: there is no room before some of them are gone.
        for index in (0..64).filter(|index| *index != 1) {
            slots.restore_set(index, &format!("s{index}"), 4);
        }
        assert_eq!(slots.clone().take_sets(&["scanners"], 5), Ok(()));
        assert_eq!(slots.take_sets(&["another"], 5), Err(65));
    }

    #[test]
    fn pinned_names_come_back() {
        let mut slots = Slots::new();
        slots.restore_rule(77, "web", 9);
        slots.restore_rule(3, "reserved", 9);
        slots.restore_rule(78, "", 9);
        slots.take_rules(&["a", "web"], 10).unwrap();
        assert_eq!((slots.rule("web"), slots.rule("a")), (Some(77), Some(SLOT_FIRST)));
        assert_eq!(slots.rules().count(), 2);
    }
}
