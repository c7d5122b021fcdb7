//! Every member takes the workspace's lints, versions and licence.

use super::{Finding, Source, finding};

/// Fields of `[package]` that the workspace sets.
const SHARED: [&str; 4] = ["version", "edition", "rust-version", "license"];

/// Looks at each member's Cargo.toml, and at the shared lints' exceptions.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if !source.path.ends_with("Cargo.toml") {
            continue;
        }
        let Ok(manifest) = source.text.parse::<toml::Table>() else {
            findings.push(finding(&source.path, 1, "is not TOML"));
            continue;
        };
        let mut say = |what: String| findings.push(finding(&source.path, 1, what));
        if let Some(package) = manifest.get("package") {
            let standalone = manifest.contains_key("workspace");
            let inherits = |value: Option<&toml::Value>| {
                value.and_then(|v| v.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
            };
            if standalone {
                // The eBPF crate is its own workspace; it must say what the others inherit.
                if !manifest.contains_key("lints") {
                    say("has no [lints]".to_owned());
                }
            } else {
                if !inherits(manifest.get("lints")) {
                    say("has no `[lints] workspace = true`".to_owned());
                }
                for field in SHARED {
                    if !inherits(package.get(field)) {
                        say(format!("`{field}` is not the workspace's"));
                    }
                }
                for (name, value) in dependencies(&manifest) {
                    if !inherits(Some(value)) {
                        say(format!("`{name}` is not a workspace dependency"));
                    }
                }
            }
        }
        allowed_lints(source, &mut findings);
    }
    findings
}

fn dependencies(manifest: &toml::Table) -> impl Iterator<Item = (&String, &toml::Value)> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|kind| manifest.get(kind)?.as_table())
        .flatten()
}

/// A lint that is allowed for a whole crate carries a comment that says why.
fn allowed_lints(source: &Source, findings: &mut Vec<Finding>) {
    let mut in_lints = false;
    let mut previous = "";
    for (n, line) in source.text.lines().enumerate() {
        if line.starts_with('[') {
            in_lints = line.contains("lints");
        }
        let allows = line.contains("= \"allow\"") || line.contains("level = \"allow\"");
        if in_lints && allows && !line.contains('#') && !previous.trim().starts_with('#') {
            findings.push(finding(&source.path, n + 1, "an allowed lint without a reason"));
        }
        previous = line;
    }
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_member_that_goes_its_own_way_is_found() {
        let text = "[package]\nname = \"x\"\nversion = \"1.0.0\"\nedition.workspace = true\n\
                    rust-version.workspace = true\nlicense.workspace = true\n\
                    [dependencies]\nlog = \"0.4\"\nlibc = { workspace = true }\n";
        let found = check(&[source("x/Cargo.toml", text)]);
        let whats: Vec<&str> = found.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "has no `[lints] workspace = true`",
                "`version` is not the workspace's",
                "`log` is not a workspace dependency"
            ]
        );
    }

    #[test]
    fn an_allowed_lint_needs_its_reason() {
        let bad = "[workspace.lints.clippy]\nx = \"allow\"\n# because\ny = \"allow\"\n";
        let found = check(&[source("Cargo.toml", bad)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
    }
}
