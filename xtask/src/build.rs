//! `cargo xtask build`: the kernel object, the console, the binary.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::ctx::{BPF_TARGET, Ctx, Profile};
use crate::digest;
use crate::setup::toolchain::{Origin, Toolchain};
use crate::setup::{self, Need, clean_cargo};
use crate::step::{Step, say};

/// Builds everything and returns the binary's path.
pub fn all(ctx: &Ctx, profile: Profile) -> Result<PathBuf> {
    let started = Instant::now();
    let toolchain = setup::ensure(ctx, &[Need::Build])?;
    ebpf(ctx, &toolchain)?;
    console(ctx)?;
    let binary = host(ctx, profile)?;
    say(&format!("built {} in {:.1} s", ctx.short(&binary), started.elapsed().as_secs_f64()));
    Ok(binary)
}

/// The flags that the eBPF crate is compiled with, as cargo's encoded list.
fn ebpf_rustflags(toolchain: &Toolchain) -> String {
    [
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        // 32-bit jumps, and atomics that return what was there before: kernel 5.12 and newer.
        "-Ctarget-cpu=v3".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Headers lie at odd offsets; loading them byte by byte costs stack that is not there. The
        // verifier knows which of these loads the machine can do (linker of LLVM 22 or newer).
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
    ]
    .join("\u{1f}")
}

/// A cargo call on the eBPF crate with its own compiler.
fn ebpf_cargo<'a>(
    ctx: &'a Ctx,
    toolchain: &Toolchain,
    title: &str,
    verb: &str,
    target: &Path,
) -> Step<'a> {
    // A nightly needs no leave for -Z; the others are told to behave like one.
    let step = clean_cargo(Step::new(ctx, title, 900, &toolchain.cargo))
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", ebpf_rustflags(toolchain));
    let step = match &toolchain.origin {
        Origin::System => step,
        Origin::Rustup(name) => step.env("RUSTUP_TOOLCHAIN", name),
    };
    step.dir(ctx.ebpf_dir())
        .args([verb, "--release", "--target", BPF_TARGET, "-Z", "build-std=core", "--target-dir"])
        .args([target])
}

/// Builds the kernel object.
pub fn ebpf(ctx: &Ctx, toolchain: &Toolchain) -> Result<PathBuf> {
    let manifest = ctx.ebpf_dir().join("Cargo.toml");
    let target = ctx.ebpf_dir().join("target");
    if !manifest.exists() {
        bail!("{} is not there", ctx.short(&manifest));
    }
    ebpf_cargo(ctx, toolchain, "eBPF object", "build", &target).run()?;
    let object = ctx.bpf_object();
    if !object.exists() {
        bail!(
            "the eBPF build ended well but left no {}: is the binary target still called `sluice`?",
            ctx.short(&object)
        );
    }
    Ok(object)
}

/// Compiles the eBPF crate with every warning an error, and without linking.
pub fn ebpf_check(ctx: &Ctx, toolchain: &Toolchain) -> Result<()> {
    let flags = format!("{}\u{1f}-Dwarnings", ebpf_rustflags(toolchain));
    // A target directory of its own: other flags would make the next build begin anew.
    let target = ctx.ebpf_dir().join("target/check");
    ebpf_cargo(ctx, toolchain, "eBPF check", "check", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .run()
        .map(|_| ())
}

/// Builds the console, if anything that goes into it has changed.
pub fn console(ctx: &Ctx) -> Result<()> {
    let dir = ctx.console_dir();
    if !dir.join("package.json").exists() {
        say("        no console sources; the binary gets a placeholder page");
        return Ok(());
    }
    let dist = ctx.console_dist();
    let stamp = ctx.scratch().join("console.hash");
    let sources = digest::walk(&dir, &|path| {
        // What tests the console is no part of it.
        !path.components().any(|c| c.as_os_str() == "e2e" || c.as_os_str() == "test")
    })?;
    let want = format!("{} {}", dir.display(), digest::files(&sources)?);
    if dist.join("index.html").exists()
        && std::fs::read_to_string(&stamp).is_ok_and(|have| have == want)
    {
        return Ok(());
    }
    Step::new(ctx, "console", 300, "npm").args(["run", "build"]).dir(&dir).run()?;
    if !dist.join("index.html").exists() {
        bail!("`npm run build` ended well but left no {}", ctx.short(&dist.join("index.html")));
    }
    std::fs::create_dir_all(ctx.scratch())?;
    std::fs::write(&stamp, want)?;
    Ok(())
}

/// Builds the `sluice` binary around the object and the console.
pub fn host(ctx: &Ctx, profile: Profile) -> Result<PathBuf> {
    host_env(ctx, Step::new(ctx, format!("sluice ({})", profile.name()), 1800, cargo()))
        .args(["build", "--package", "firewall-user", "--bin", "sluice"])
        .args(["--profile", profile.name()])
        .run()?;
    Ok(ctx.binary(profile))
}

/// The variables that firewall-user's build script reads. They are the same in every call on the
/// workspace, so that cargo has no reason to build it twice.
pub fn host_env<'a>(ctx: &Ctx, step: Step<'a>) -> Step<'a> {
    let mut step = step.env("SLUICE_BPF_OBJECT", ctx.bpf_object());
    if ctx.console_dist().join("index.html").exists() {
        step = step.env("SLUICE_CONSOLE_DIST", ctx.console_dist());
    }
    step
}

/// The cargo that runs xtask.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
