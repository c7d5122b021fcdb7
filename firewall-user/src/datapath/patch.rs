//! Single rules in and out of the live policy, where it stands.
//!
//! Packets are judged meanwhile. So each step but one changes nothing that a program may see: a part is written that none is
//! asked for, then all are asked for it while no rule of it decides, and then one store of one word is the change. The
//! generation goes on by two, as the same table stays live: flows are judged again by what is live now.
//!
//! Programs read how many parts are asked anew for each, and a part before its `terminal`.

use super::{Datapath, DatapathError, raw};
use firewall_common::abi::table::{Part, RuleTable};
use std::sync::atomic::{AtomicU64, Ordering};

/// What has to be done to the live tables, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'p> {
    /// A part to be written that no packet is asked for, or in which no rule decides.
    pub write: Option<NewPart<'p>>,
    /// Parts that every packet is asked for from before the change on.
    pub always: u32,
    /// Words of the arena to be stored one by one. The first is the change.
    pub store: &'p [(u32, u64)],
    /// Before each of them a grace period has to pass.
    pub wait: bool,
    /// Words of the arena, and their bits to be cleared. The last is the change, where there is no word to be stored.
    pub clear: &'p [(u32, u8)],
    /// Parts that every packet is asked for behind it.
    pub always_then: u32,
    /// Whether packets are judged otherwise: then the generation goes on.
    pub changes: bool,
}

/// A part to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewPart<'p> {
    /// Its number.
    pub number: usize,
    /// The part.
    pub part: &'p Part,
    /// Where its words stand in the arena.
    pub at: u32,
    /// They.
    pub words: &'p [u64],
    /// `ACTION_*` of its rules.
    pub flags: u32,
}

impl Datapath {
    /// Makes the change; returns the generation then. `generation` is the live policy's own. `named`: the slot
    /// of the rule that joins, and its name.
    ///
    /// # Errors
    /// Another policy is live, one that an earlier daemon installed, or the kernel refused; then nothing has changed.
    pub fn patch(
        &mut self,
        patch: &Patch<'_>,
        generation: u32,
        named: Option<(u32, &str)>,
    ) -> Result<u32, DatapathError> {
        let (live, installed) = (self.generation(), self.installed());
        // Numbers begin anew with a whole policy.
        let ahead = live.checked_add(2).filter(|_| generation == installed);
        let Some(ahead) = ahead else {
            return Err(DatapathError::Generation { compiled: generation, next: installed });
        };
        let next = if patch.changes { ahead } else { installed };
        let index = live & 1;
        let mut table = self.live.take().ok_or(DatapathError::NotOurs)?;
        self.change(&mut table, patch, index, next, named)?;
        // What stands in the kernel isn't known for certain where something failed.
        self.live = Some(table);
        Ok(next)
    }

    fn change(
        &mut self,
        table: &mut RuleTable,
        patch: &Patch<'_>,
        index: u32,
        next: u32,
        named: Option<(u32, &str)>,
    ) -> Result<(), DatapathError> {
        if let Some((slot, name)) = named {
            if self.rule_names.is_of_another(slot, name) {
                self.zero_rule(slot)?;
                self.limits.clear(slot);
            }
            self.rule_names.store(slot, name, next);
            self.counted.insert(slot);
        }
        if let Some(new) = &patch.write {
            let words = self.room(index, new.at as usize, new.words.len())?;
            for (to, from) in words.iter().zip(new.words) {
                to.store(*from, Ordering::Relaxed);
            }
            if let Some(part) = table.parts.get_mut(new.number) {
                *part = *new.part;
            }
            table.any_flags |= new.flags;
            self.write(index, table)?;
        }
        // By itself: a program must not see that a part is asked before it sees the part.
        if table.always != patch.always {
            table.always = patch.always;
            self.write(index, table)?;
        }
        let mut before = Vec::new();
        if let Err(error) = self.decide(patch, index, next, &mut before) {
            for (at, value) in before.into_iter().rev() {
                self.room(index, at as usize, 1)?[0].store(value, Ordering::SeqCst);
            }
            return Err(error);
        }
        if table.always != patch.always_then {
            table.always = patch.always_then;
            // The change is live. Where this fails, packets are asked for a part in which nothing decides, and that is all.
            if let Err(error) = self.write(index, table) {
                log::warn!("{error}");
            }
        }
        Ok(())
    }

    /// The change itself; `before` gets what there was.
    fn decide(
        &mut self,
        patch: &Patch<'_>,
        index: u32,
        next: u32,
        before: &mut Vec<(u32, u64)>,
    ) -> Result<(), DatapathError> {
        for (at, value) in patch.store {
            if patch.wait {
                raw::grace_period().map_err(DatapathError::io("waiting for a grace period"))?;
            }
            let word = self.room(index, *at as usize, 1)?;
            before.push((*at, word[0].swap(*value, Ordering::SeqCst)));
        }
        for (at, bit) in patch.clear {
            let word = self.room(index, *at as usize, 1)?;
            before.push((*at, word[0].fetch_and(!(1 << bit), Ordering::SeqCst)));
        }
        if !patch.changes {
            return Ok(());
        }
        let mut control = self.control.get(&0, 0).map_err(DatapathError::map("CONTROL"))?;
        (control.generation, control.installed) = (next, next);
        self.control.set(0, control, 0).map_err(DatapathError::map("CONTROL"))
    }

    fn write(&mut self, index: u32, table: &RuleTable) -> Result<(), DatapathError> {
        self.tables.set(index, table, 0).map_err(DatapathError::map("TABLES"))
    }

    /// Words of the live arena.
    fn room(&self, index: u32, at: usize, len: usize) -> Result<&[AtomicU64], DatapathError> {
        let words = self.arenas.words(index).and_then(|all| all.get(at..at + len));
        words.ok_or(DatapathError::NotOurs)
    }
}

/// Waits until no program looks at what it looked at when this was called.
///
/// # Errors
/// The kernel refused.
pub fn nobody_looks() -> std::io::Result<()> {
    raw::grace_period()
}
