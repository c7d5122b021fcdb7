//! What the kernel half and the user half of Sluice share.
//!
//! - [`abi`]: everything that crosses the kernel line, as bytes.
//! - [`wire`]: bytes to facts; a parser generic over a cursor, so that the same code runs in the
//!   kernel, in unit tests and under a fuzzer.
//! - [`classify`]: facts to the first rule that decides; generic over where the policy's words stand.
//! - [`sets`]: looking into live sets, in the same way.
//! - [`flow`]: pure transitions (key, TCP state, time-out), `now` always an argument.
//!
//! The crate is a `no_std` leaf and depends on nothing of the workspace.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod classify;
pub mod flow;
pub mod sets;
pub mod wire;
