//! How a policy gets live: the idle table and its arena are written, the generation word flips, and later on a grace
//! period is waited for.

use super::{Datapath, DatapathError, SlotNames, cookies, names, owners, raw, shortcut, units};
use firewall_common::abi::table::RuleTable;

/// A policy that was live, and may still be looked at by programs that began with it.
pub(super) struct Unsettled {
    old: u32,
    /// Whether the live policy's rules by owner speak of others, if it has any.
    owners: Option<bool>,
}

impl Datapath {
    /// Makes `table` the live policy; returns its generation. `generation` is the number it was
    /// compiled for: the live one plus one. `names` says who owns the slots from now on, `owners` what is judged by
    /// owners.
    ///
    /// # Errors
    /// The kernel refused; then the old policy is live, whole.
    pub fn install(
        &mut self,
        table: &RuleTable,
        arena: &[u64],
        generation: u32,
        names: &SlotNames,
        owners: Option<&owners::OwnerPolicy>,
    ) -> Result<u32, DatapathError> {
        let next = self.generation().wrapping_add(1).max(1);
        if generation != next {
            return Err(DatapathError::Generation { compiled: generation, next });
        }
        self.settle()?;
        let mut ours = Box::new(*table);
        units::to_kernel(&mut ours.settings, self.rate);
        let idle = next & 1;
        self.arenas
            .put(idle, ours.size, arena)
            .map_err(DatapathError::io("making room for the policy's rows"))?;
        // By reference: the table is larger than a stack should carry.
        self.tables.set(idle, ours.as_ref(), 0).map_err(DatapathError::map("TABLES"))?;
        self.prepare_owners(idle, owners)?;
        let owners_rules = owners.iter().flat_map(|owners| &owners.table.rules.actions);
        let actions = owners_rules.map(|action| action.slot());
        self.counted.extend(actions.chain(ours.nat.iter().map(|nat| nat.slot)));
        self.counted.extend(names.rules.iter().map(|(slot, ..)| *slot));
        for (slot, name, at) in &names.rules {
            if self.rule_names.is_of_another(*slot, name) {
                // The slot has a new owner: its counters begin at zero.
                self.zero_rule(*slot)?;
                self.limits.clear(*slot);
            }
            self.rule_names.store(*slot, name, *at);
        }
        for (slot, name, at) in &names.ifaces {
            let what = "IFACE_NAMES";
            names::store(&mut self.iface_names, what, u32::from(*slot), name, *at)?;
        }
        let mut control = self.control.get(&0, 0).map_err(DatapathError::map("CONTROL"))?;
        control.generation = next;
        control.installed = next;
        if ours.settings.nat_in | ours.settings.nat_out != 0 {
            control.nat = 1;
        }
        self.control.set(0, control, 0).map_err(DatapathError::map("CONTROL"))?;
        self.timeouts = ours.settings.timeouts;
        self.cookies_asked = cookies::asked(&ours);
        self.wanted = shortcut::Wanted::of(&ours);
        self.live = Some(ours);
        // From here on nobody begins with the old table. Those who have are waited for by `settle`.
        self.unsettled =
            Some(Unsettled { old: idle ^ 1, owners: owners.map(|owners| owners.others) });
        Ok(next)
    }

    /// Waits for the programs that began with the policy before the live one, and gives back what only they needed. The
    /// live policy was in force before: whoever waits for that needn't wait for this.
    ///
    /// # Errors
    /// The kernel refused to wait; then nothing was given back, and nothing can be installed.
    pub fn settle(&mut self) -> Result<(), DatapathError> {
        let Some(Unsettled { old, owners }) = self.unsettled.take() else { return Ok(()) };
        if let Err(error) = raw::grace_period() {
            self.unsettled = Some(Unsettled { old, owners });
            return Err(DatapathError::io("waiting for a grace period")(error));
        }
        self.arenas.retire(old);
        self.settle_owners(owners);
        Ok(())
    }
}
