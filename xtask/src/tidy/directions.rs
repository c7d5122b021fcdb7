//! Who may know whom: `common <- {ebpf, user} <- tests`, and the rooms inside firewall-user.

use super::{Finding, Source, finding};

/// Members, and the members that each may depend on.
const MEMBERS: [(&str, &[&str]); 5] = [
    ("firewall-common", &[]),
    ("firewall-ebpf", &["firewall-common"]),
    ("firewall-user", &["firewall-common"]),
    ("xtask", &[]),
    ("tests", &["firewall-common", "firewall-user"]),
];

/// A room of firewall-user, and the rooms (modules of the crate) that it may name.
const ROOMS: [(&str, &[&str]); 9] = [
    ("names", &["names", "view"]),
    ("sets", &["sets"]),
    // A policy declares live sets.
    ("policy", &["policy", "sets"]),
    // Packets are described in the words of the policy, and mistakes told as its are.
    ("explain", &["explain", "policy"]),
    // The policy's spans and "did you mean" serve the filter language too.
    ("filter", &["filter", "policy", "view"]),
    // The monitor owns the records that it is fed with; the datapath makes them.
    ("datapath", &["datapath", "monitor", "sets", "view"]),
    ("monitor", &["monitor", "names", "filter", "policy", "view"]),
    // Times and protocols read like the monitor's.
    ("netfilter", &["netfilter", "monitor", "filter", "view"]),
    (
        "server",
        &[
            "server",
            "monitor",
            "netfilter",
            "store",
            "daemon",
            "datapath",
            "explain",
            "filter",
            "policy",
            "sets",
            "view",
        ],
    ),
];

/// A foreign crate, and the places in firewall-user that may name it.
const CRATES: [(&str, &[&str]); 5] = [
    ("aya", &["firewall-user/src/datapath"]),
    ("axum", &["firewall-user/src/server"]),
    ("hyper", HTTP),
    ("tungstenite", HTTP),
    ("tokio_tungstenite", HTTP),
];
const HTTP: &[&str] = &["firewall-user/src/server", "firewall-user/src/cli/client"];

/// Looks at manifests and at `use`s.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        members(source, &mut findings);
        if source.is_rust() && source.path.starts_with("firewall-user/src/") {
            rooms(source, &mut findings);
            crates(source, &mut findings);
        }
    }
    findings
}

fn members(source: &Source, findings: &mut Vec<Finding>) {
    let Some((member, may)) =
        MEMBERS.iter().find(|(member, _)| source.path == format!("{member}/Cargo.toml"))
    else {
        return;
    };
    for (n, line) in source.text.lines().enumerate() {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let name = name.trim();
        let known = MEMBERS.iter().any(|(m, _)| *m == name) || name == "sluice-tests";
        if known && line.contains(['=', '.']) && !may.contains(&name) {
            findings.push(finding(
                &source.path,
                n + 1,
                format!("{member} must not depend on {name}"),
            ));
        }
    }
}

fn rooms(source: &Source, findings: &mut Vec<Finding>) {
    let Some((room, may)) = ROOMS.iter().find(|(room, _)| {
        source.path.starts_with(&format!("firewall-user/src/{room}/"))
            || source.path == format!("firewall-user/src/{room}.rs")
    }) else {
        return;
    };
    for (n, line) in source.code() {
        for other in named_after(line, "crate::") {
            // Something of the crate's root, such as its version, is nobody's room.
            let is_room = other.starts_with(|c: char| c.is_ascii_lowercase());
            if is_room && !may.contains(&other) {
                findings.push(finding(
                    &source.path,
                    n,
                    format!("{room} names crate::{other}; it may name {}", may.join(", ")),
                ));
            }
        }
    }
}

fn crates(source: &Source, findings: &mut Vec<Finding>) {
    for (name, places) in CRATES {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (n, line) in source.code() {
            if names_crate(line, name) {
                findings.push(finding(
                    &source.path,
                    n,
                    format!("only {} may name {name}", places.join(" and ")),
                ));
            }
        }
    }
}

/// The words that follow `prefix` in a line, where it is a path's beginning.
fn named_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).filter_map(move |(at, _)| {
        if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            return None;
        }
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        // `crate::{a, b}` would need a parser; rustfmt'd code in this repository names one a line.
        (!word.is_empty()).then_some(word)
    })
}

fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let begins = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        let used = after.starts_with("::")
            || (line.trim_start().starts_with("use ") && after.starts_with([';', ' ']));
        begins && used && !line[..at].contains('"')
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn whats(sources: &[Source]) -> Vec<String> {
        check(sources).into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn a_member_pointing_upward_is_found() {
        let bad = source(
            "firewall-common/Cargo.toml",
            "[dependencies]\nfirewall-user = { workspace = true }\n",
        );
        let fine = source(
            "firewall-user/Cargo.toml",
            "[package]\nname = \"firewall-user\"\n[dependencies]\nfirewall-common.workspace = true\n",
        );
        assert_eq!(whats(&[bad, fine]), ["firewall-common must not depend on firewall-user"]);
    }

    #[test]
    fn aya_outside_the_datapath_is_found() {
        let bad = source("firewall-user/src/daemon/mod.rs", "use aya::Ebpf;\n");
        let fine = [
            source("firewall-user/src/datapath/load.rs", "use aya::Ebpf;\n"),
            source(
                "firewall-user/src/policy/mod.rs",
                "// aya::Ebpf is elsewhere\nfn my_aya() {}\n",
            ),
        ];
        assert_eq!(whats(&[bad]), ["only firewall-user/src/datapath may name aya"]);
        assert!(whats(&fine).is_empty());
    }

    #[test]
    fn a_room_naming_one_it_may_not_is_found() {
        let bad = source(
            "firewall-user/src/policy/check.rs",
            "use crate::server::Row;\nuse crate::policy::Rule;\n#[cfg(test)]\nuse crate::view::X;\n",
        );
        let found = check(&[bad]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 1);
    }
}
