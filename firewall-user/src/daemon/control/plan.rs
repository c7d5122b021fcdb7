//! How the live policy is laid out: worked out anew where somebody asks, as compiling is the same each time.

use super::{Control, ControlError};
use crate::{
    policy::{self, Slots, Why},
    view::{PlanPartView, PlanView},
};
use firewall_common::abi::table::ARENAS;
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
        Ok(PlanView {
            generation,
            rules: compiled.usage.rules,
            bytes: compiled.usage.bytes,
            room: ARENAS.get(compiled.table.size as usize).map_or(0, |words| words * 8),
            parts: parts.collect(),
        })
    }
}
