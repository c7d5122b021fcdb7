//! A policy as the thread that owns the gate wants it: compiled, with what people are told of it.

use super::{
    actor::{Install, Told},
    types::ControlError,
    whose::Whose,
};
use crate::{
    monitor::{NatInfo, RuleInfo, names},
    policy::{self, Compiled, CompiledNat, Policy, Slots},
    store::BlockAssignment,
};
use firewall_common::{
    abi::{
        nat::NAT_BLOCKS,
        table::{Direction, SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT},
    },
    flow::block::Blocks,
};

/// Compiles a policy.
///
/// # Errors
/// It doesn't fit the kernel's tables.
pub fn compiled(
    policy: &Policy,
    mut slots: Slots,
    generation: u32,
) -> Result<Install, ControlError> {
    let mut compiled = policy::compile(policy, &mut slots, generation)
        .map_err(|error| ControlError::Unusable(error.to_string()))?;
    let mut rules: Vec<RuleInfo> = std::mem::take(&mut compiled.rules)
        .into_iter()
        .zip(1..)
        .map(|(rule, position)| RuleInfo {
            position,
            slot: rule.slot,
            name: rule.name,
            action: rule.action,
            enabled: rule.enabled,
            log: rule.log,
            text: rule.text,
        })
        .collect();
    for (direction, slot, name) in [
        (Direction::In, SLOT_DEFAULT_IN, names::DEFAULT_IN),
        (Direction::Out, SLOT_DEFAULT_OUT, names::DEFAULT_OUT),
    ] {
        let action = policy.defaults[usize::from(direction.raw())];
        rules.push(RuleInfo {
            position: 0,
            slot,
            name: name.to_owned(),
            action: action.name(),
            enabled: true,
            log: false,
            text: format!("{name} {}", action.name()),
        });
    }
    let nats = compiled.nats.iter().map(nat_info).collect();
    let told =
        Told { rules, nats, blocks: blocks(&compiled), timeouts: compiled.table.settings.timeouts };
    let whose = compiled.owners.take().map(Whose::new);
    Ok(Install { compiled, slots, generation, whose, told })
}

fn nat_info(nat: &CompiledNat) -> NatInfo {
    NatInfo {
        slot: nat.slot,
        name: nat.name.clone(),
        kind: nat.kind,
        text: nat.text.clone(),
        enabled: nat.enabled,
        public: nat.public.clone(),
        ports: nat.ports,
        block: nat.block,
        on: nat.on.clone(),
        pool: nat.pool,
    }
}

/// Port blocks that are given by arithmetic.
fn blocks(compiled: &Compiled) -> Vec<BlockAssignment> {
    let rules = compiled.table.nat.iter().filter(|rule| rule.flags & NAT_BLOCKS != 0);
    rules
        .map(|rule| {
            let named = compiled.nats.iter().find(|nat| nat.slot == rule.slot);
            BlockAssignment {
                rule: named.map_or("", |nat| nat.name.as_str()).into(),
                blocks: Blocks {
                    inside: u32::from_be_bytes(rule.inside),
                    inside_len: rule.inside_len,
                    public: u32::from_be_bytes(rule.to),
                    addresses: rule.addresses,
                    ports: rule.ports,
                    size: rule.block,
                },
            }
        })
        .collect()
}
