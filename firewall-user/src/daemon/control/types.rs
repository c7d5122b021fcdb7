//! What can be asked of the daemon's core, and what it answers.

use crate::{
    policy::{Diagnostic, Diagnostics},
    sets::{EntryError, ListError, LiveError},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::gate::GateError;

/// Where a rule goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Behind all others.
    #[default]
    End,
    /// To this 1-based position.
    Position(u32),
    /// Before this rule.
    Before(String),
    /// Behind this rule.
    After(String),
}

/// A change to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another text altogether.
    Replace(String),
    /// One more rule.
    Add {
        /// `rule NAME ...`.
        text: String,
        /// Where.
        place: Place,
    },
    /// One rule less.
    Delete(String),
    /// A rule elsewhere.
    Move {
        /// Its name.
        name: String,
        /// Where to.
        place: Place,
    },
    /// A rule takes part again.
    Enable(String),
    /// A rule stays, but takes no part.
    Disable(String),
}

/// How a change is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeOptions {
    /// The generation the caller looked at.
    pub base_generation: Option<u32>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Do it though it locks the operator out.
    pub force: bool,
    /// The operator's `SSH_CONNECTION`.
    pub ssh_connection: Option<String>,
}

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// `added`, `removed`, `changed`, `moved`.
    pub kind: String,
    /// What: `rule ssh`, `set admins`, `default in`...
    pub what: String,
    /// One line for people.
    pub text: String,
}

/// A change that was made (or would be).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Generation that is live now.
    pub generation: u32,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The difference.
    pub changes: Vec<ChangeView>,
    /// What is odd about the new policy.
    pub warnings: Vec<Diagnostic>,
}

/// A policy that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Always true (a policy with errors is an error).
    pub ok: bool,
    /// Rules in it, disabled ones too.
    pub rules: u32,
    /// What is odd about it.
    pub warnings: Vec<Diagnostic>,
}

/// Why something wasn't done.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The text has errors.
    #[error("the policy has {}", errors(.0))]
    Invalid(Diagnostics),
    /// The text is fine, but can't be compiled or edited like this.
    #[error("{0}")]
    Unusable(String),
    /// No such rule.
    #[error("{0}")]
    NoSuchRule(String),
    /// No such live set.
    #[error("{0}")]
    NoSuchSet(String),
    /// A live set can't be like this.
    #[error("{0}")]
    Set(Box<LiveError>),
    /// An entry of a live set can't be understood.
    #[error("{0}")]
    Entry(Box<EntryError>),
    /// A list of entries can't be understood.
    #[error("{0}")]
    List(Box<ListError>),
    /// A live set's file can't be read, or may not be.
    #[error("{0}")]
    SetFile(String),
    /// The policy has changed since the caller looked.
    #[error(
        "the policy is at generation {generation}, your edit was based on {base}: look at the rules again"
    )]
    Conflict {
        /// Live.
        generation: u32,
        /// The caller's.
        base: u32,
    },
    /// The operator would be locked out.
    #[error("{connection}; force it if that is meant")]
    LockOut {
        /// What would be cut, and why.
        connection: String,
        /// The findings that say so.
        findings: Vec<Diagnostic>,
    },
    /// A packet's description has a mistake.
    #[error("packet, column {}: {}{}", .0.column, .0.message, expected(.0))]
    Packet(Box<Diagnostic>),
    /// There is no session of that name, or no more.
    #[error("{0}")]
    NoSession(String),
    /// Too many at once.
    #[error("{0}")]
    Busy(String),
    /// The kernel's side refused.
    #[error("{0}")]
    Gate(#[from] GateError),
    /// The policy is live but couldn't be written back, or a file couldn't be read.
    #[error("{0}")]
    File(String),
    /// The core has stopped.
    #[error("the daemon is stopping")]
    Stopping,
}

impl From<LiveError> for ControlError {
    fn from(error: LiveError) -> Self {
        Self::Set(Box::new(error))
    }
}

impl From<EntryError> for ControlError {
    fn from(error: EntryError) -> Self {
        Self::Entry(Box::new(error))
    }
}

impl From<ListError> for ControlError {
    fn from(error: ListError) -> Self {
        Self::List(Box::new(error))
    }
}

/// The live policy as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// The text.
    pub text: String,
    /// The file it came from and is written back to.
    pub file: String,
    /// Its generation.
    pub generation: u32,
}

fn expected(found: &Diagnostic) -> String {
    let (expected, hint) = (&found.expected, &found.hint);
    let part = |sign: &str, text: &Option<String>| {
        text.as_ref().map(|text| format!("{sign}{text}")).unwrap_or_default()
    };
    format!("{}{}", part("; expected ", expected), part("; ", hint))
}

fn errors(found: &Diagnostics) -> String {
    match found.items.len() + found.more {
        1 => "an error".to_owned(),
        many => format!("{many} errors"),
    }
}
