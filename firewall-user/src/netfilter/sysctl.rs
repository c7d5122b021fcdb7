//! What netfilter's settings let us know. They are only read.

use std::fs;
use std::path::Path;

/// Where they stand, for the network namespace of whoever looks.
const DIR: &str = "/proc/sys/net/netfilter";

/// Netfilter's settings and its count of entries; `None` where the kernel has no such thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Entries there are.
    pub count: Option<u64>,
    /// Whether packets and bytes are counted.
    pub acct: Option<u64>,
    /// Whether the time is taken.
    pub timestamp: Option<u64>,
    /// Whether events are sent: 0 never, 1 always, 2 if somebody listens when the entry is made.
    pub events: Option<u64>,
}

impl Settings {
    /// As they are now.
    pub fn read() -> Self {
        let number = |name: &str| {
            let path = Path::new(DIR).join(format!("nf_conntrack_{name}"));
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        Self {
            count: number("count"),
            acct: number("acct"),
            timestamp: number("timestamp"),
            events: number("events"),
        }
    }

    /// What can't be known with these settings, in plain words.
    pub fn limits(&self) -> Vec<String> {
        if self.count == Some(0) {
            // What isn't there needs no further excuses.
            return vec![
                "netfilter's connection tracking has no entries in this network namespace: \
                 no ruleset here uses it, or nothing has passed"
                    .to_owned(),
            ];
        }
        let mut limits = Vec::new();
        if self.acct == Some(0) {
            limits.push(
                "netfilter counts no packets and bytes (net.netfilter.nf_conntrack_acct=0): \
                 totals of its flows are unknown"
                    .to_owned(),
            );
        }
        if self.timestamp == Some(0) {
            limits.push(
                "netfilter takes no time (net.netfilter.nf_conntrack_timestamp=0): \
                 when its flows began is unknown"
                    .to_owned(),
            );
        }
        if self.events == Some(0) {
            limits.push(
                "netfilter sends no events (net.netfilter.nf_conntrack_events=0): \
                 its flows are seen only when the table is read, final totals not at all"
                    .to_owned(),
            );
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_said_with_its_setting() {
        let all = Settings { count: Some(9), acct: Some(1), timestamp: Some(1), events: Some(2) };
        assert_eq!(all.limits(), Vec::<String>::new());
        assert_eq!(Settings::default().limits(), Vec::<String>::new(), "unknown isn't off");
        let off = Settings { count: Some(9), acct: Some(0), timestamp: Some(0), events: Some(0) };
        let limits = off.limits().join("\n");
        for word in ["conntrack_acct=0", "conntrack_timestamp=0", "conntrack_events=0"] {
            assert!(limits.contains(word), "{word} is missing in: {limits}");
        }
        let unused = Settings { count: Some(0), ..off }.limits();
        assert!(unused.len() == 1 && unused[0].contains("no entries"), "{unused:?}");
    }
}
