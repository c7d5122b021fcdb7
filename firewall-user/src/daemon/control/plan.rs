//! How the live policy is laid out: worked out anew where somebody asks, as compiling is the same each time.

use super::{Control, ControlError};
use crate::sets::Declared;
use crate::{
    policy::{self, Slots, Why},
    view::{PlanPartView, PlanView},
};
use firewall_common::abi::set::{GATES, gate};
use firewall_common::abi::table::{ARENAS, RuleTable};
use std::sync::Arc;

impl Control {
    /// The parts that the live policy's rules stand in.
    ///
    /// # Errors
    /// It can't be compiled any more.
    pub async fn plan(&self) -> Result<PlanView, ControlError> {
        let (policy, generation) = {
            let desk = self.0.desk.lock().await;
            (Arc::clone(&desk.policy), desk.generation)
        };
        let compiled = tokio::task::spawn_blocking(move || {
            policy::compile(&policy, &mut Slots::new(), generation)
        });
        let compiled = compiled
            .await
            .map_err(|error| ControlError::Unusable(error.to_string()))?
            .map_err(|error| ControlError::Unusable(error.to_string()))?;
        let parts = compiled.plan.into_iter().enumerate().map(|(i, part)| {
            let (asked, addresses) = match part.why {
                Why::Always => ("every", None),
                Why::Destination(addresses) => ("destination", Some(addresses)),
                Why::Source(addresses) => ("source", Some(addresses)),
            };
            PlanPartView {
                part: i,
                asked: asked.to_owned(),
                addresses,
                rules: part.rules,
                rows: part.rows,
                words: part.words,
                bytes: part.bytes,
            }
        });
        let gates = gates(&compiled.table, &compiled.sets);
        Ok(PlanView {
            generation,
            rules: compiled.usage.rules,
            bytes: compiled.usage.bytes,
            room: ARENAS.get(compiled.table.size as usize).map_or(0, |words| words * 8),
            gates,
            parts: parts.collect(),
        })
    }
}

/// The tests of live sets that are made before rows are looked up.
fn gates(table: &RuleTable, sets: &[(u8, Declared)]) -> Vec<String> {
    let all = (0..GATES).map(|i| (table.gates >> (i * 16)) as u32 & 0xffff);
    let shown = all.filter(|asked| *asked != 0).map(|asked| {
        let end = if asked & gate::DESTINATION == 0 { "source" } else { "destination" };
        let port = match (asked & gate::PORT != 0, asked & gate::PAIR != 0) {
            (true, _) => " port",
            (_, true) => " and port",
            _ => "",
        };
        let index = (asked & gate::SET) - 1;
        let name = sets.iter().find(|(at, _)| u32::from(*at) == index).map(|(_, set)| &*set.name);
        format!("{end}{port} in @{}", name.unwrap_or_default())
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_told_by_end_and_set() {
        let text = "
set bad live
set dns live pairs
set web live ports
default in drop
rule bad drop in from not @bad
rule dns allow in udp to @dns
rule web allow in tcp to port @web
";
        let policy = policy::parse(text, "test").unwrap();
        let compiled = policy::compile(&policy, &mut Slots::new(), 1).unwrap();
        assert_eq!(
            gates(&compiled.table, &compiled.sets),
            ["source in @bad", "destination and port in @dns", "destination port in @web"]
        );
    }
}
