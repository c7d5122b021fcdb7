//! What can go wrong between user space and the kernel, and what to do about it.

use std::path::PathBuf;
use thiserror::Error;

/// An error of the datapath.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The binary carries no kernel program.
    #[error("this binary was built without the kernel program; build it with `cargo xtask build`")]
    NoObject,
    /// Not enough rights.
    #[error("loading the filter needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; run as root")]
    NotPermitted,
    /// The pin directory can't be made or isn't on bpffs.
    #[error(
        "{path}: not a bpffs directory ({source}); mount one with `mount -t bpf bpf /sys/fs/bpf`"
    )]
    PinDir {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// What is pinned was made by another version.
    #[error(
        "{path} holds a running filter of ABI version {found}, this binary speaks version {expected}; \
         stop it with the binary that made it (`sluice daemon --unload`), then start this one"
    )]
    AbiMismatch {
        /// The directory.
        path: PathBuf,
        /// Version that is pinned.
        found: u32,
        /// Version of this binary.
        expected: u32,
    },
    /// Another daemon holds the pin directory.
    #[error("{path} is in use by another daemon; stop it, or choose another --pin-dir")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused a program or a map.
    #[error("the kernel refused to load the filter: {0}")]
    Load(String),
    /// A single rule was to be changed in a policy that an earlier daemon installed.
    #[error("the live policy's tables aren't known: apply it whole")]
    NotOurs,
    /// There is no such interface.
    #[error("no interface named `{name}`; there are: {existing}")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// What there is.
        existing: String,
    },
    /// The interface doesn't carry Ethernet frames.
    #[error(
        "`{name}` doesn't carry Ethernet frames (ARPHRD type {arphrd}); Sluice can't filter it"
    )]
    NotEthernet {
        /// Interface.
        name: String,
        /// Its type (include/uapi/linux/if_arp.h).
        arphrd: u16,
    },
    /// Its index is too high for the map.
    #[error("`{name}` has index {ifindex}; Sluice takes indices below {limit}")]
    IfindexTooHigh {
        /// Interface.
        name: String,
        /// Index.
        ifindex: u32,
        /// Limit.
        limit: usize,
    },
    /// All interface slots are taken.
    #[error("no slot left for `{name}`: {limit} interfaces are the most")]
    NoIfaceSlot {
        /// Interface.
        name: String,
        /// Limit.
        limit: usize,
    },
    /// The kernel refused to attach.
    #[error("can't attach to `{name}` as {mode}: {message}")]
    Attach {
        /// Interface.
        name: String,
        /// Hook mode that was tried.
        mode: String,
        /// What the kernel said.
        message: String,
    },
    /// A hook mode that isn't one.
    #[error("no hook mode `{seen}`; there are: auto, xdp, xdp-generic, tc")]
    BadMode {
        /// What was asked for.
        seen: String,
    },
    /// A policy that was compiled for another generation.
    #[error("the policy was compiled for generation {compiled}, the next one is {next}")]
    Generation {
        /// Compiled for.
        compiled: u32,
        /// Next.
        next: u32,
    },
    /// Too many rules that only count or log.
    #[error("{seen} rules only count or log; {limit} are the most")]
    TooManyContinues {
        /// How many there are.
        seen: usize,
        /// Limit.
        limit: usize,
    },
    /// An operation on a map failed.
    #[error("map {map}: {message}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        message: String,
    },
    /// The system has no random numbers for us.
    #[error("no random numbers for the tables' secret: {0}")]
    Random(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl DatapathError {
    /// Wraps a failure on map `map`.
    pub(crate) fn map(map: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |e| Self::Map { map, message: chain(&e) }
    }
    /// Wraps a failed system call.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// An error and its causes in one line: aya keeps the kernel's word in the innermost.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(e) = at {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        at = e.source();
    }
    text
}
