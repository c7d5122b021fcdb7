//! What can be wrong with netfilter's answers, and with asking.

use std::io;
use thiserror::Error;

/// Why a message can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A message's header is cut short, or claims a length that isn't there.
    #[error("a netlink message of {length} bytes in {seen}")]
    Message {
        /// Length it claims.
        length: usize,
        /// Bytes there are.
        seen: usize,
    },
    /// An attribute claims a length that isn't there.
    #[error("attribute {kind} claims {length} bytes")]
    Attribute {
        /// Its type.
        kind: u16,
        /// Length it claims.
        length: usize,
    },
    /// An attribute's value has another size than its type has.
    #[error("attribute {kind} has {seen} bytes, expected {expected}")]
    Length {
        /// Its type.
        kind: u16,
        /// The size of this type.
        expected: usize,
        /// The size there is.
        seen: usize,
    },
    /// An entry lacks what every entry has.
    #[error("an entry without its {0}")]
    Missing(&'static str),
}

/// Why netfilter's connection tracking can't be followed.
#[derive(Debug, Error)]
pub enum FollowError {
    /// Connection tracking isn't loaded in this kernel, or not visible here.
    #[error("the kernel has no connection tracking here (no /proc/sys/net/netfilter)")]
    Absent,
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The kernel refused the dump.
    #[error("the kernel refuses to list the entries: {0}")]
    Refused(io::Error),
}

impl FollowError {
    /// Around what the poller said.
    pub const fn waiting(error: io::Error) -> Self {
        Self::System { what: "waiting for netfilter", error }
    }

    /// Around what a system call said.
    pub fn system(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |error| Self::System { what, error: error.into() }
    }
}
