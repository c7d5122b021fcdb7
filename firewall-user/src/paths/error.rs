//! What can go wrong while the machine is read.

use crate::netfilter::DecodeError;
use std::io;
use thiserror::Error;

/// Why something couldn't be read.
#[derive(Debug, Error)]
pub enum PathsError {
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The kernel refused a question.
    #[error("{}", refusal(.0))]
    Refused(io::Error),
    /// The kernel's answer makes no sense.
    #[error("the kernel's answer can't be understood: {0}")]
    Decode(#[from] DecodeError),
    /// There is more than is read.
    #[error("more than {limit} of them: the rest is left out")]
    TooMany {
        /// How many are read.
        limit: usize,
    },
    /// Reading takes a bounded time.
    #[error("there was no time left for it")]
    Late,
    /// This kernel has no such thing to ask.
    #[error("{0}")]
    Absent(&'static str),
}

impl PathsError {
    /// Around what a system call said.
    pub fn system(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |error| Self::System { what, error: error.into() }
    }

    /// Whether the kernel knows no such question.
    pub fn is_unknown(&self) -> bool {
        let Self::Refused(error) = self else { return matches!(self, Self::Absent(_)) };
        let unknown = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOENT, libc::EPROTONOSUPPORT];
        error.raw_os_error().is_some_and(|code| unknown.contains(&code))
    }
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("the daemon hasn't the privilege for it ({error})")
        }
        _ => format!("the kernel refuses it ({error})"),
    }
}
