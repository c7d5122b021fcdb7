//! `cargo xtask setup`: finds what is needed and installs what is missing.
//!
//! Every part looks at the machine itself, so that a removed tool is noticed; only what is slow to
//! look at (every compiler of rustup) is remembered, and then checked for still being the same file.

mod console;
mod debian;
mod probe;
pub mod toolchain;

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use toolchain::{Action, Next, Origin, Toolchain};

use crate::ctx::Ctx;
use crate::step::{Step, say};

pub use probe::cargo_bin;

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Need {
    /// Building the kernel object, the console and the binary.
    Build,
    /// Making the lab and traffic in it.
    Lab,
    /// Running the tests and the benchmarks.
    Test,
    /// Making the .deb.
    Package,
}

/// Makes sure that everything for `needs` is there, and returns the eBPF toolchain.
pub fn ensure(ctx: &Ctx, needs: &[Need]) -> Result<Toolchain> {
    debian::ensure(ctx, needs)?;
    let toolchain = ebpf_toolchain(ctx)?;
    if needs.contains(&Need::Build) {
        console::ensure(ctx)?;
    }
    if needs.contains(&Need::Package) {
        cargo_deb(ctx)?;
    }
    Ok(toolchain)
}

/// The tools of the lab alone.
pub fn ensure_lab(ctx: &Ctx) -> Result<()> {
    debian::ensure(ctx, &[Need::Lab])
}

fn ebpf_toolchain(ctx: &Ctx) -> Result<Toolchain> {
    let stamp = ctx.scratch().join("toolchain.json");
    if let Some(known) = recall(&stamp) {
        return Ok(known);
    }
    let mut tried: Vec<Action> = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    loop {
        match toolchain::next(&probe::facts(), &tried) {
            Next::Ready(found) => {
                say(&format!("    ok  eBPF toolchain: {found}"));
                remember(&stamp, &found);
                return Ok(found);
            }
            Next::Do(action) => {
                if let Err(error) = perform(ctx, &action) {
                    if crate::step::interrupted() {
                        return Err(error);
                    }
                    failures.push(format!("{error:#}"));
                }
                tried.push(action);
            }
            Next::Stuck(lines) => {
                let tried = if failures.is_empty() {
                    String::new()
                } else {
                    format!("\n\nwhat was tried:\n{}", failures.join("\n"))
                };
                bail!(
                    "no compiler and linker for the eBPF object (a rustc, its own library source, \
                     and a bpf-linker of the same LLVM):\n  {}{tried}",
                    lines.join("\n  ")
                );
            }
        }
    }
}

fn perform(ctx: &Ctx, action: &Action) -> Result<()> {
    match action {
        Action::DebianCompiler => {
            let names: Vec<String> =
                toolchain::DEBIAN_COMPILER.iter().map(|&s| s.to_owned()).collect();
            debian::install(ctx, &names)
        }
        Action::RustSrc(name) => Step::new(ctx, "rustup component add rust-src", 300, "rustup")
            .args(["component", "add", "rust-src", "--toolchain", name])
            .run()
            .map(|_| ()),
        Action::BuildLinker(llvm) => {
            let absent = debian::absent(&toolchain::linker_packages(*llvm));
            if !absent.is_empty() {
                debian::install(ctx, &absent)?;
            }
            let prefix = format!("/usr/lib/llvm-{llvm}");
            let path = std::env::var("PATH").unwrap_or_default();
            clean_cargo(Step::new(ctx, "build bpf-linker", 1800, "cargo"))
                .args(toolchain::linker_args(*llvm))
                .env("LLVM_PREFIX", &prefix)
                .env("PATH", format!("{prefix}/bin:{path}"))
                .env("RUSTFLAGS", toolchain::linker_rustflags(*llvm))
                .run()
                .map(|_| ())
        }
        Action::BinstallLinker => clean_cargo(Step::new(ctx, "fetch bpf-linker", 300, "cargo"))
            .args(["binstall", "--no-confirm", "bpf-linker"])
            .run()
            .map(|_| ()),
    }
}

fn cargo_deb(ctx: &Ctx) -> Result<()> {
    if cargo_bin("cargo-deb").is_some() || crate::step::which("cargo-deb").is_some() {
        return Ok(());
    }
    clean_cargo(Step::new(ctx, "cargo install cargo-deb", 1800, "cargo"))
        .args(["install", "cargo-deb", "--locked"])
        .run()
        .map(|_| ())
        .context("`cargo install cargo-deb --locked` brings what makes the .deb")
}

/// Takes away what cargo and rustup set for xtask itself: another package, perhaps with another
/// compiler, is about to be built.
pub fn clean_cargo(step: Step<'_>) -> Step<'_> {
    let mut step = step;
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy().into_owned();
        let keep = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY"];
        let ours = name.starts_with("CARGO_") && !name.starts_with("CARGO_REGISTRIES_");
        let rust = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
        let wrapper = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"];
        if (ours && !keep.contains(&name.as_str()))
            || rust.contains(&name.as_str())
            || wrapper.contains(&name.as_str())
        {
            step = step.env_remove(key);
        }
    }
    step
}

/// The toolchain found last time, if its three files are still the very same.
fn recall(stamp: &Path) -> Option<Toolchain> {
    let value: Value = serde_json::from_slice(&std::fs::read(stamp).ok()?).ok()?;
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let found = Toolchain {
        origin: match text("rustup") {
            Some(name) => Origin::Rustup(name),
            None => Origin::System,
        },
        rustc: text("rustc")?.into(),
        cargo: text("cargo")?.into(),
        release: text("release")?,
        linker: text("linker")?.into(),
        llvm: u32::try_from(value.get("llvm")?.as_u64()?).ok()?,
    };
    let library = library_of(&found);
    (library.exists() && value.get("files")? == &fingerprint(&found)).then_some(found)
}

fn remember(stamp: &Path, found: &Toolchain) {
    let rustup = match &found.origin {
        Origin::System => None,
        Origin::Rustup(name) => Some(name.clone()),
    };
    let value = json!({
        "rustup": rustup,
        "rustc": found.rustc,
        "cargo": found.cargo,
        "release": found.release,
        "linker": found.linker,
        "llvm": found.llvm,
        "files": fingerprint(found),
    });
    // Not being able to remember only costs the time of looking again.
    if let Some(dir) = stamp.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
    let _ = std::fs::write(stamp, value.to_string());
}

fn library_of(found: &Toolchain) -> PathBuf {
    let prefix = found.rustc.ancestors().nth(2).unwrap_or(Path::new("/"));
    prefix.join("lib/rustlib/src/rust/library/core/Cargo.toml")
}

fn fingerprint(found: &Toolchain) -> Value {
    let one = |path: &Path| {
        let meta = std::fs::metadata(path).ok();
        let modified = meta.as_ref().and_then(|m| m.modified().ok());
        let seconds = modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs());
        json!([meta.map(|m| m.len()), seconds])
    };
    json!([one(&found.rustc), one(&found.cargo), one(&found.linker), one(&library_of(found)),])
}
