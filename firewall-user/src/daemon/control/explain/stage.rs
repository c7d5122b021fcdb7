//! A twin with a policy in it.

use super::Scene;
use crate::{
    daemon::control::{
        ControlError,
        gate::{Gate, GateError},
    },
    datapath::{
        DatapathError,
        table::Kept,
        twin::{Post, Ran, Twin},
    },
    explain::{Understood, opening},
    monitor::{FlowRecord, names},
    policy::{self, Compiled, Policy, Slots},
    sets::{Limits, Live},
};
use firewall_common::{
    abi::{
        reason::Reason,
        table::{SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, Verdict},
    },
    wire::Facts,
};
use std::collections::HashSet;

/// See the module.
pub struct Stage {
    twin: Twin,
    slots: Slots,
    generation: u32,
    /// Slots of the rules that decide: what only counts is hit, too.
    deciding: HashSet<u32>,
}

/// What became of a packet.
pub struct Judged {
    /// Verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Slot of the rule that decided, or that let its flow in.
    pub slot: Option<u32>,
    /// Whether rules were asked.
    pub asked: bool,
    /// The rest.
    pub ran: Ran,
}

impl Stage {
    /// Loads a twin and makes `policy` its live one.
    pub fn new(scene: &Scene, policy: &Policy) -> Result<Self, ControlError> {
        Self::of(scene, policy, scene.generation)
    }

    fn of(scene: &Scene, policy: &Policy, generation: u32) -> Result<Self, ControlError> {
        let twin = Twin::open(&scene.pinned, generation).map_err(GateError::from)?;
        let slots = scene.slots.clone();
        let mut stage = Self { twin, slots, generation, deciding: HashSet::new() };
        stage.install(scene, policy, generation)?;
        Ok(stage)
    }

    /// Makes another policy the live one.
    fn install(
        &mut self,
        scene: &Scene,
        policy: &Policy,
        generation: u32,
    ) -> Result<(), ControlError> {
        let mut compiled = policy::compile(policy, &mut self.slots, generation)
            .map_err(|error| ControlError::Unusable(error.to_string()))?;
        // Limits by time would show how fast packets are run here, not what they are.
        let settings = &mut compiled.table.settings;
        settings.reject_budget = u32::MAX;
        settings.sample_budget = u32::MAX;
        settings.new_budget = u32::MAX;
        if settings.cookie_rate > 1 {
            settings.cookie_rate = 0;
        }
        self.begin_sets(scene, policy, &compiled)?;
        let twin = self.twin.datapath();
        Gate::install(twin, &compiled, &self.slots, generation, None)?;
        let deciding = compiled.rules.iter().filter(|rule| rule.verdict != Verdict::Continue);
        self.deciding = deciding.map(|rule| rule.slot).collect();
        self.deciding.extend([SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT]);
        self.generation = generation;
        Ok(())
    }

    /// Makes the live sets that the running filter hasn't; the others are its own, and are only looked into.
    fn begin_sets(
        &mut self,
        scene: &Scene,
        policy: &Policy,
        compiled: &Compiled,
    ) -> Result<(), ControlError> {
        let Some(ground) = self.twin.datapath().sets() else { return Ok(()) };
        for (index, declared) in &compiled.sets {
            let live = Live::at(ground.clone(), *index);
            let Some(set) = policy.live_set(&declared.name) else { continue };
            if live.head().class == 0 {
                let limits = Limits { size: declared.size, grows: declared.grows };
                live.begin(&limits, declared.kind, &scene.sets.beginning(set))?;
            }
        }
        Ok(())
    }

    /// Generation of its policy.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Enters a copy of a live flow; whether there was room.
    pub fn enter(&mut self, kept: &Kept) -> Result<bool, GateError> {
        Ok(self.twin.enter(kept)?)
    }

    /// The flow that a packet belongs to.
    pub fn flow(&self, facts: &Facts) -> Option<FlowRecord> {
        self.twin.flow(facts)
    }

    /// Flows that made room for newer ones.
    pub fn evicted(&self) -> Result<u64, GateError> {
        Ok(self.twin.evicted()?)
    }

    /// Name of the rule, or the default, that has a slot.
    pub fn name(&self, slot: u32) -> String {
        match slot {
            SLOT_DEFAULT_IN => names::DEFAULT_IN.to_owned(),
            SLOT_DEFAULT_OUT => names::DEFAULT_OUT.to_owned(),
            slot => {
                self.slots.rule_name(slot).map_or_else(|| format!("slot {slot}"), str::to_owned)
            }
        }
    }

    /// Name of the interface that has a slot.
    pub fn iface(&self, slot: u8) -> Option<String> {
        self.slots.iface_name(slot).map(str::to_owned)
    }

    /// Runs what goes before a packet of an established flow; in words, how that went.
    pub fn open_flow(
        &mut self,
        scene: &Scene,
        post: &Post,
        packet: &Understood,
        reply: bool,
    ) -> Result<String, ControlError> {
        let talk = opening(post.direction, packet, reply);
        if talk.is_empty() {
            return Ok(
                "it can't be a part of a flow: `state established` was passed over".to_owned()
            );
        }
        let run = |stage: &mut Self| -> Result<bool, GateError> {
            for (direction, frame) in &talk {
                stage.twin.run(&Post { direction: *direction, ..post.clone() }, frame)?;
                // It begins with the first, and with no other: an answer might be taken for another flow's beginning.
                if stage.flow(&packet.facts).is_none() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if run(self)? {
            return Ok(format!("{} packets went before it, so that its flow is known", talk.len()));
        }
        // The policy lets no such flow begin: an older one did, then.
        let open = policy::parse("", "open").map_err(ControlError::Invalid)?;
        *self = Self::of(scene, &open, self.generation)?;
        let known = run(self)?;
        self.install(scene, &scene.policy, self.generation + 1)?;
        Ok(if known {
            "the policy lets no such flow begin: its packet is judged as if an older policy had"
                .to_owned()
        } else {
            "no flow came of the packets that went before it".to_owned()
        })
    }

    /// Runs a packet.
    pub fn run(
        &mut self,
        post: &Post,
        frame: &[u8],
        facts: &Facts,
    ) -> Result<Judged, DatapathError> {
        let ran = self.twin.run(post, frame)?;
        let counted = ran.moved.reasons.first();
        let (verdict, reason) = counted
            .map_or((Verdict::Allow, Reason::NoPolicy), |(verdict, reason, _)| (*verdict, *reason));
        let mut hits = ran.moved.rules.iter().filter(|(_, counter)| counter.hits > 0).peekable();
        let asked = hits.peek().is_some();
        let slot = if asked {
            hits.map(|(slot, _)| *slot).find(|slot| self.deciding.contains(slot))
        } else {
            let carried = ran.moved.rules.iter().find(|(_, counter)| counter.packets > 0);
            carried.map(|(slot, _)| *slot).or_else(|| self.let_in(facts))
        };
        Ok(Judged { verdict, reason, slot, asked, ran })
    }

    /// The rule that let a packet's flow in.
    fn let_in(&self, facts: &Facts) -> Option<u32> {
        let flow = self.flow(facts)?.flow;
        let judged = if flow.judged_in.is_set() { flow.judged_in } else { flow.judged_out };
        judged.is_set().then_some(judged.slot())
    }
}
