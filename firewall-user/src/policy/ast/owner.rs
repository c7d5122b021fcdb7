//! Whose traffic a rule is about.

use super::Match;

/// What the owner of a socket has to meet, all of it. What isn't asked for matches anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerMatch {
    /// `process`: names of processes, as the kernel has them (15 bytes).
    pub processes: Option<Match<String>>,
    /// `exe`: paths of executables.
    pub exes: Option<Match<String>>,
    /// `user`: names or numbers.
    pub users: Option<Match<String>>,
    /// `unit`: units of systemd's, with their endings.
    pub units: Option<Match<String>>,
    /// `cgroup`: paths below the root of cgroup v2; whatever is below them is meant, too.
    pub cgroups: Option<Match<String>>,
}

impl OwnerMatch {
    /// Whether an owner is asked for at all: then the rule is judged where processes call, not where packets pass.
    pub const fn is_asked(&self) -> bool {
        self.processes.is_some()
            || self.exes.is_some()
            || self.users.is_some()
            || self.units.is_some()
            || self.cgroups.is_some()
    }
}
