//! Links between the repository's documents lead somewhere.

use std::path::{Component, Path, PathBuf};

use super::{Finding, Source, finding};

/// Looks at every relative link of every Markdown file. `exists` is asked with a path from the
/// repository's root.
pub fn check(sources: &[Source], exists: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| s.path.ends_with(".md")) {
        let dir = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        let mut fenced = false;
        for (n, line) in source.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for target in targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                if !exists(&plain(&dir.join(path))) {
                    findings.push(finding(
                        &source.path,
                        n + 1,
                        format!("links to {path}, which is not there"),
                    ));
                }
            }
        }
    }
    findings
}

/// What stands in the parentheses of `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, _)| {
        let rest = &line[at + 2..];
        let target = &rest[..rest.find(')')?];
        target.split(' ').next()
    })
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](policy.md#sets), [b](../README.md) [c](https://x.test/y)\n\
                    ![picture](console.png \"title\")\n```\n[d](gone.md)\n```\n";
        let exists =
            |path: &Path| path == Path::new("docs/policy.md") || path == Path::new("README.md");
        let found = check(&[source("docs/a.md", text)], &exists);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, 2);
    }
}
