//! The oracle: what Sluice should do, said as naively as possible.
//!
//! It shares no code with the product (`cargo xtask tidy` may check that nothing below this folder
//! names `firewall_common` or `firewall_user`): it reads bytes itself ([`parse`]), asks its own rules
//! one after the other ([`policy`]), and keeps flows in a `BTreeMap` ([`gate`], [`track`], [`tcp`]);
//! translations are whole packets written anew ([`nat`], [`rewrite`]). [`generate`] makes the random cases,
//! [`classbench`] those of many rules.

pub mod classbench;
pub mod gate;
pub mod generate;
mod mapping;
pub mod nat;
pub mod parse;
pub mod policy;
pub mod rewrite;
pub mod sets;
mod talk;
pub mod tcp;
pub mod track;
pub mod translated;

#[cfg(test)]
mod tests;
