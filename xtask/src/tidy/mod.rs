//! `cargo xtask tidy`: what the compiler and clippy do not look at.

mod abi_hash;
mod directions;
mod links;
mod manifests;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ctx::Ctx;
use crate::step::probe;

/// A tracked text file.
#[derive(Debug)]
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines of code of a Rust file: numbered from 1, comments cut off, and nothing from the
    /// unit tests on.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Is this file there for tests alone?
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/e2e/")
            || self.path.contains(".test.ts")
    }
}

/// One thing to put right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

fn finding(path: &str, line: usize, what: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, what: what.into() }
}

/// Looks at everything and prints what it finds; `bless` writes the ABI's hash into its document.
pub fn all(ctx: &Ctx, bless: bool) -> Result<bool> {
    if bless {
        abi_hash::bless(&ctx.root)?;
    }
    let sources = sources(&ctx.root)?;
    let mut findings = Vec::new();
    findings.extend(directions::check(&sources));
    findings.extend(manifests::check(&sources));
    findings.extend(text::check(&sources));
    findings.extend(links::check(&sources, &|path| ctx.root.join(path).exists()));
    findings.extend(abi_hash::check(&ctx.root)?);
    findings.sort();
    for f in &findings {
        println!("{}:{}: {}", f.path, f.line, f.what);
    }
    println!("tidy: {} files, {} findings", sources.len(), findings.len());
    Ok(findings.is_empty())
}

/// Files that git tracks or would track; all files where there is no git.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let listed = probe(
        Command::new("git").current_dir(root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]),
        Duration::from_secs(30),
    );
    let paths: Vec<PathBuf> = match listed {
        Some(text) => text.split('\0').filter(|s| !s.is_empty()).map(|s| root.join(s)).collect(),
        None => crate::digest::walk(root, &|_| true)?,
    };
    let mut sources = Vec::new();
    for path in paths {
        // Deleted but not yet committed.
        if !path.is_file() {
            continue;
        }
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        // Pictures and captures are no text.
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: name.to_string_lossy().into_owned(), text });
        }
    }
    Ok(sources)
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}
