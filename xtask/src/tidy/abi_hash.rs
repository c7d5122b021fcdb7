//! docs/abi.md carries the hash of the sources that it describes, so that one can't be changed
//! without looking at the other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Finding, finding};
use crate::digest;

const DOCUMENT: &str = "docs/abi.md";
const SOURCES: &str = "firewall-common/src/abi";
const KEY: &str = "abi-hash: ";

/// Compares the hash in the document with that of the sources.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let path = root.join(DOCUMENT);
    if !path.exists() {
        return Ok(vec![finding(DOCUMENT, 1, "the ABI's document is missing")]);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let want = hash(root)?;
    Ok(compare(&text, &want).into_iter().collect())
}

fn compare(text: &str, want: &str) -> Option<Finding> {
    let line = text.lines().enumerate().find_map(|(n, line)| {
        let at = line.find(KEY)?;
        let rest = &line[at + KEY.len()..];
        let end = rest.find(|c: char| !c.is_ascii_hexdigit());
        Some((n + 1, &rest[..end.unwrap_or(rest.len())]))
    });
    match line {
        None => Some(finding(
            DOCUMENT,
            1,
            format!("has no line `{KEY}{want}`: cargo xtask tidy --bless adds it"),
        )),
        Some((n, have)) if have != want => Some(finding(
            DOCUMENT,
            n,
            format!(
                "{SOURCES} has changed: read this document against it, then cargo xtask tidy --bless"
            ),
        )),
        Some(_) => None,
    }
}

/// Writes the present hash into the document.
pub fn bless(root: &Path) -> Result<()> {
    let path = root.join(DOCUMENT);
    if !path.exists() {
        bail!("{DOCUMENT} is not there: describe the ABI in it first");
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let new = with_hash(&text, &hash(root)?);
    if new != text {
        std::fs::write(&path, new).with_context(|| format!("cannot write {DOCUMENT}"))?;
    }
    Ok(())
}

fn with_hash(text: &str, hash: &str) -> String {
    let Some(at) = text.find(KEY) else {
        return format!("{}\n\n<!-- {KEY}{hash} -->\n", text.trim_end());
    };
    let start = at + KEY.len();
    let rest = &text[start..];
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    format!("{}{hash}{}", &text[..start], &rest[end..])
}

fn hash(root: &Path) -> Result<String> {
    let files: Vec<PathBuf> =
        digest::walk(&root.join(SOURCES), &|path| path.extension().is_some_and(|e| e == "rs"))?;
    if files.is_empty() {
        bail!("no sources in {SOURCES}");
    }
    digest::files(&files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_blessed_and_then_fits() {
        for text in ["# ABI\n", "# ABI\nabi-hash: 00ff\nmore\n", "abi-hash: \n"] {
            assert!(compare(text, "abc123").is_some());
            let new = with_hash(text, "abc123");
            assert_eq!(compare(&new, "abc123"), None, "{new}");
            assert_eq!(with_hash(&new, "abc123"), new);
        }
        let kept = with_hash("a\nabi-hash: 00ff\nb\n", "abc123");
        assert_eq!(kept, "a\nabi-hash: abc123\nb\n");
    }

    #[test]
    fn a_change_of_the_sources_is_seen() {
        let root = std::env::temp_dir().join(format!("sluice-abi-{}", std::process::id()));
        std::fs::create_dir_all(root.join(SOURCES)).unwrap();
        std::fs::create_dir_all(root.join("docs")).unwrap();
        std::fs::write(root.join(SOURCES).join("mod.rs"), "a").unwrap();
        std::fs::write(root.join(DOCUMENT), "# ABI\n").unwrap();
        bless(&root).unwrap();
        assert!(check(&root).unwrap().is_empty());
        std::fs::write(root.join(SOURCES).join("mod.rs"), "b").unwrap();
        assert_eq!(check(&root).unwrap().len(), 1);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
