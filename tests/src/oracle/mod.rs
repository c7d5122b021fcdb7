//! The second oracle: nftables. The same rules are written twice, in both languages, stand in two gates, and
//! meet the same frames; what reaches the far side, and what every rule counted, has to be the same.
//!
//! - [`rules`]: what both languages can say, as plain structs.
//! - `sluice`, `nft`: the two ways to write it. Neither knows the other.
//! - [`draw`]: random rules, and frames that hit their values and the neighbours of these.
//! - [`gates`]: one sender, two gates, one far side.
//!
//! Where the two differ in meaning is in docs/policy.md, "Beside nftables"; nothing of that is drawn here.

pub mod draw;
mod frames;
pub mod gates;
mod nft;
pub mod rules;
mod sluice;

pub use frames::Probe;
