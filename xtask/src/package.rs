//! `cargo xtask package`: the .deb, with all that belongs beside the binary.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build;
use crate::ctx::{Ctx, Profile};
use crate::setup::{self, Need, cargo_bin};
use crate::step::Step;

/// Shells with completions, and what their files are called.
const SHELLS: [(&str, &str); 3] = [("bash", "sluice"), ("zsh", "_sluice"), ("fish", "sluice.fish")];

/// Builds for release, generates what is generated, and makes the package. Returns its path.
pub fn run(ctx: &Ctx) -> Result<PathBuf> {
    setup::ensure(ctx, &[Need::Build, Need::Package])?;
    let sluice = build::all(ctx, Profile::Release)?;
    // A package whose own policy is refused by its daemon would not start.
    Step::new(ctx, "default policy", 60, &sluice)
        .args(["check", "packaging/etc/policy.sluice"])
        .run()?;
    let stage = ctx.root.join("packaging/stage");
    if stage.exists() {
        std::fs::remove_dir_all(&stage)
            .with_context(|| format!("cannot clear {}", stage.display()))?;
    }
    let man = stage.join("man");
    std::fs::create_dir_all(&man).with_context(|| format!("cannot make {}", man.display()))?;
    Step::new(ctx, "man pages", 60, &sluice).args(["man".as_ref(), man.as_os_str()]).run()?;
    if !man.join("sluice.1").exists() {
        bail!("`sluice man` wrote no {}", ctx.short(&man.join("sluice.1")));
    }
    completions(ctx, &sluice, &stage)?;

    let out = ctx.target.join("debian");
    let cargo_deb = cargo_bin("cargo-deb")
        .or_else(|| crate::step::which("cargo-deb"))
        .context("cargo-deb is missing: cargo install cargo-deb --locked")?;
    let before = packages(&out);
    let outcome = Step::new(ctx, "cargo deb", 300, cargo_deb)
        .args(["--no-build", "--no-strip", "--package", "firewall-user"])
        .arg_path("--output=", &out)
        .run()?;
    // cargo-deb prints the path of what it made.
    let named = outcome
        .output
        .lines()
        .rev()
        .map(|line| PathBuf::from(line.trim()))
        .find(|path| path.extension().is_some_and(|e| e == "deb") && path.exists());
    named
        .or_else(|| packages(&out).into_iter().find(|p| !before.contains(p)))
        .context("cargo deb ended well but no .deb is to be found")
}

fn completions(ctx: &Ctx, sluice: &Path, stage: &Path) -> Result<()> {
    for (shell, file) in SHELLS {
        let dir = stage.join("completions").join(shell);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let outcome = Step::new(ctx, format!("completions for {shell}"), 60, sluice)
            .args(["completions", shell])
            .run()?;
        if !outcome.output.contains("sluice") {
            bail!("`sluice completions {shell}` printed none");
        }
        std::fs::write(dir.join(file), outcome.output)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}

fn packages(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    found.sort();
    found
}
