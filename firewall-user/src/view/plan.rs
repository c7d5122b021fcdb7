//! Rows of `sluice rules --plan`.

use serde::{Deserialize, Serialize};

/// How the live policy is laid out in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Generation of the policy.
    pub generation: u32,
    /// Enabled rules about packets.
    pub rules: usize,
    /// Bytes of all tables.
    pub bytes: usize,
    /// Bytes of the map that holds them.
    pub room: usize,
    /// What live sets are asked of every packet before its rules are looked for, as `source in @listed`.
    #[serde(default)]
    pub gates: Vec<String>,
    /// The parts, in the order in which they are asked.
    pub parts: Vec<PlanPartView>,
}

/// Rules that are looked up together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPartView {
    /// Its number.
    pub part: usize,
    /// Which packets are asked: `every`, `destination`, `source`.
    pub asked: String,
    /// Their addresses, where not every packet is asked.
    pub addresses: Option<String>,
    /// Rules.
    pub rules: usize,
    /// Distinct sets of rules that some value of some field leads to.
    pub rows: usize,
    /// Words of 64 rules in each.
    pub words: usize,
    /// Bytes of the part's tables.
    pub bytes: usize,
}
