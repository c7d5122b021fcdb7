//! The policy language: text -> checked -> compiled tables. Pure: knows no kernel, no sockets, no
//! clock. `docs/policy.md` describes the language.
//!
//! - [`parse`] reads a file and reports every mistake in it.
//! - [`compile`] turns a policy into the kernel's [`RuleTable`](firewall_common::abi::table::RuleTable);
//!   [`Slots`] keeps counters with their rules across policies.
//! - [`classify`](classify::classify) asks a compiled table as the kernel would.

pub mod ast;
pub mod check;
pub mod classify;
mod compile;
pub mod diagnostic;
pub mod diff;
pub mod edit;
mod grammar;
mod lex;
pub mod live;
pub mod meet;
mod ranges;
mod resolve;
mod resolved;
mod slots;
pub mod span;
pub mod splice;
pub(crate) mod suggest;
pub mod units;
pub mod words;

pub use ast::Policy;
pub use check::{CheckContext, Glance, Quiet, SSH_LOCKOUT, SshPeer, check, lockouts};
pub use compile::{
    CompileError, Compiled, CompiledNat, CompiledRule, Extra, OwnerRules, Part, PartPlan, Seat,
    Usage, Why, compile,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use diff::{Change, diff};
pub use grammar::{owner::written as owner_text, parse};
pub use slots::{Owner, Slots};
