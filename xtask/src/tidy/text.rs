//! What must not be in a file: too many lines, unfinished work, this machine's paths.

use super::{Finding, Source, finding};

/// A file longer than this, its tests aside, is missing a room.
const MAX_LINES: usize = 600;

/// Macros and words that mark work as unfinished. In pieces, so that this file has none of them.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("d", "bg!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];

/// Paths and hosts that mean something on one machine only.
const LOCAL: [&str; 7] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/tm", "p/w/"),
    concat!("/tm", "p/wt"),
    concat!("artif", "actory"),
    concat!("index.crates", ".io:443"),
];

/// Looks at every line of every file.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let is_code =
            [".rs", ".ts", ".tsx", ".mjs", ".css"].iter().any(|end| source.path.ends_with(end));
        if is_code && !source.is_test() {
            length(source, &mut findings);
        }
        for (n, line) in source.text.lines().enumerate() {
            if is_code && let Some(word) = UNFINISHED.iter().find(|w| line.contains(**w)) {
                findings.push(finding(
                    &source.path,
                    n + 1,
                    format!("unfinished: {}", word.trim_end_matches('(')),
                ));
            }
            if let Some(path) = LOCAL.iter().find(|p| line.contains(**p)) {
                findings.push(finding(
                    &source.path,
                    n + 1,
                    format!("`{path}` belongs to one machine"),
                ));
            }
        }
        if source.path.ends_with("package-lock.json") {
            resolved(source, &mut findings);
        }
        if source.is_rust() {
            allows(source, &mut findings);
        }
    }
    findings
}

fn length(source: &Source, findings: &mut Vec<Finding>) {
    let lines = if source.is_rust() { source.code().count() } else { source.text.lines().count() };
    if lines > MAX_LINES {
        findings.push(finding(
            &source.path,
            lines,
            format!("{lines} lines without tests (more than {MAX_LINES}): a room is missing"),
        ));
    }
}

/// A lock file that names a registry ties everybody to it.
fn resolved(source: &Source, findings: &mut Vec<Finding>) {
    for (n, line) in source.text.lines().enumerate() {
        if line.contains("\"resolved\": \"http") {
            let advice = "names a registry: omit-lockfile-registry-resolved leaves that out";
            findings.push(finding(&source.path, n + 1, advice));
            return;
        }
    }
}

/// `allow` and `expect` attributes carry `reason = "..."`, or a comment on the line above.
fn allows(source: &Source, findings: &mut Vec<Finding>) {
    let lines: Vec<&str> = source.text.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let begins = ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
            .iter()
            .any(|a| code.starts_with(a));
        if !begins {
            continue;
        }
        let end = lines[n..].iter().position(|l| l.contains(")]")).unwrap_or(0);
        let attribute = lines[n..=n + end].join(" ");
        let above = n > 0 && lines[n - 1].trim_start().starts_with("// ");
        if !attribute.contains("reason = ") && !attribute.contains("// ") && !above {
            findings.push(finding(&source.path, n + 1, "an `allow` without a reason"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn unfinished_work_and_local_paths_are_found() {
        let text = format!("fn a() {{ {}) }}\n// see {}x\n", UNFINISHED[0], LOCAL[0]);
        let lines: Vec<usize> = check(&[source("a.rs", &text)]).iter().map(|f| f.line).collect();
        assert_eq!(lines, [1, 2]);
        assert_eq!(check(&[source("a.md", &text)]).len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let code = "x();\n".repeat(MAX_LINES);
        let tests = format!("{code}#[cfg(test)]\n{code}");
        assert!(check(&[source("a.rs", &tests)]).is_empty());
        let long = format!("{code}y();\n");
        assert_eq!(check(&[source("a.rs", &long)]).len(), 1);
        assert!(check(&[source("tests/suites/a.rs", &long)]).is_empty());
    }

    #[test]
    fn an_allow_needs_a_reason() {
        let bad = "#[allow(dead_code)]\nfn a() {}\n";
        let fine = "#[allow(\n    dead_code,\n    reason = \"used by tests\"\n)]\n\
                    // The kernel calls it.\n#[allow(dead_code)]\n";
        assert_eq!(check(&[source("a.rs", bad)]).len(), 1);
        assert!(check(&[source("a.rs", fine)]).is_empty());
    }

    #[test]
    fn a_lock_file_naming_a_registry_is_found() {
        let text = "\"resolved\": \"http://here/a\"\n";
        assert_eq!(check(&[source("c/package-lock.json", text)]).len(), 1);
        assert!(check(&[source("c/package-lock.json", "\"integrity\": \"sha\"\n")]).is_empty());
    }
}
