//! The gate that is a kernel.

use super::gate::{Gate, GateError};
use crate::{
    datapath::{
        Datapath, DatapathError, HookMode, NewPart, RulePatch, SlotNames,
        owners::{OwnerKeys, OwnerPolicy},
        programs::Ways,
        table::Kept,
    },
    monitor::{Clock, CounterInput, FlowRecord, NatReading},
    policy::{Compiled, Slots, live::Patch},
    sets::Ground,
    view::IfaceView,
};
use firewall_common::{abi::event::Event, wire::Facts};
use std::{path::PathBuf, sync::Arc};

impl From<DatapathError> for GateError {
    fn from(error: DatapathError) -> Self {
        Self(error.to_string())
    }
}

impl Gate for Datapath {
    fn adopted(&self) -> bool {
        Datapath::adopted(self)
    }

    fn generation(&self) -> u32 {
        Datapath::generation(self)
    }

    fn installed(&self) -> u32 {
        Datapath::installed(self)
    }

    fn slots(&self) -> Result<Slots, GateError> {
        let names = self.slot_names()?;
        let mut slots = Slots::new();
        for (slot, name, generation) in &names.rules {
            slots.restore_rule(*slot, name, *generation);
        }
        for (slot, name, generation) in &names.ifaces {
            slots.restore_iface(*slot, name, *generation);
        }
        for (index, name) in Datapath::sets(self).iter().flat_map(|sets| sets.names()) {
            slots.restore_set(index, &name, Datapath::generation(self));
        }
        for iface in Datapath::interfaces(self) {
            slots.hold_iface(&iface.name, Datapath::generation(self));
        }
        Ok(slots)
    }

    fn install(
        &mut self,
        compiled: &Compiled,
        slots: &Slots,
        generation: u32,
        owners: Option<&OwnerPolicy>,
    ) -> Result<u32, GateError> {
        let names = SlotNames {
            rules: slots
                .rules()
                .map(|(slot, owner)| (slot, owner.name.clone(), owner.generation))
                .collect(),
            ifaces: slots
                .ifaces()
                .map(|(slot, owner)| (slot, owner.name.clone(), owner.generation))
                .collect(),
        };
        Ok(Datapath::install(self, &compiled.table, &compiled.arena, generation, &names, owners)?)
    }

    fn patch(
        &mut self,
        patch: &Patch,
        generation: u32,
        named: Option<(u32, &str)>,
    ) -> Result<u32, GateError> {
        let write = patch.write.as_ref().map(|(number, extra)| NewPart {
            number: *number,
            part: &extra.part,
            at: extra.at,
            words: &extra.words,
            flags: extra.flags,
        });
        let clear: Vec<(u32, u8)> = patch.clear.iter().map(|seat| (seat.word, seat.bit)).collect();
        let patch = RulePatch {
            write,
            always: patch.always,
            store: &patch.store,
            wait: patch.wait,
            clear: &clear,
            always_then: patch.always_then,
            changes: patch.changes,
        };
        Ok(Datapath::patch(self, &patch, generation, named)?)
    }

    fn settle(&mut self) -> Result<(), GateError> {
        Ok(Datapath::settle(self)?)
    }

    fn refresh_owners(
        &mut self,
        look: &mut dyn FnMut() -> Option<OwnerKeys>,
    ) -> Result<(), GateError> {
        Ok(Datapath::refresh_owners(self, look)?)
    }

    fn attach(&mut self, name: &str, mode: &str) -> Result<(), GateError> {
        let mode: HookMode = mode.parse()?;
        Ok(Datapath::attach(self, name, mode)?)
    }

    fn detach(&mut self, name: &str) -> Result<(), GateError> {
        Ok(Datapath::detach(self, name)?)
    }

    fn interfaces(&self) -> Vec<IfaceView> {
        Datapath::interfaces(self)
    }

    fn flows(&self, since: Option<u64>) -> Result<Vec<FlowRecord>, GateError> {
        Ok(match since {
            Some(tick) => self.flows_since(tick)?,
            None => Datapath::flows(self)?,
        })
    }

    fn part(&self, part: usize, parts: usize, translated: bool) -> Vec<FlowRecord> {
        if translated { self.nat_flows(part, parts) } else { self.flows_part(part, parts) }
    }

    fn nat_reading(&mut self) -> NatReading {
        Datapath::nat_reading(self)
    }

    fn sweep(&mut self, parts: usize) -> Result<Vec<FlowRecord>, GateError> {
        Ok(self.sweep_on(parts)?)
    }

    fn kill(
        &mut self,
        choose: &mut dyn FnMut(&FlowRecord) -> bool,
    ) -> Result<Vec<FlowRecord>, GateError> {
        Ok(Datapath::kill(self, choose)?)
    }

    fn interfaces_changed(&mut self) -> bool {
        Datapath::interfaces_changed(self)
    }

    fn follow(&mut self) {
        if let Err(error) = self.follow_cookies() {
            log::error!("SYN cookies: {error}");
        }
        for change in self.follow_interfaces() {
            log::warn!("{change}");
        }
    }

    fn counters(&self) -> Result<CounterInput, GateError> {
        Ok(Datapath::counters(self)?)
    }

    fn reset_counters(&mut self) -> Result<(), GateError> {
        Ok(Datapath::reset_counters(self)?)
    }

    fn drain(&mut self, each: &mut dyn FnMut(&Event)) -> usize {
        Datapath::drain(self, each)
    }

    fn clock(&self) -> Clock {
        Datapath::clock(self)
    }

    fn ways(&self) -> Ways {
        Datapath::ways(self)
    }

    fn limits(&self) -> Vec<String> {
        Datapath::limits(self)
    }
    fn pinned(&self) -> Option<PathBuf> {
        Some(self.pin_dir().to_owned())
    }

    fn sets(&self) -> Option<Arc<dyn Ground>> {
        Datapath::sets(self).map(|sets| sets as Arc<dyn Ground>)
    }

    fn rejudge(&mut self) -> Result<(), GateError> {
        Ok(Datapath::rejudge(self)?)
    }

    fn find(&self, facts: &Facts) -> Option<(FlowRecord, Kept)> {
        self.tables().find(facts)
    }
}
