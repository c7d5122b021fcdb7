//! `cargo xtask bench`: builds for release and hands over to the tests' bench binary.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::build;
use crate::ctx::{Ctx, Profile};
use crate::setup::{self, Need};
use crate::step::{Step, describe, end_group, interrupted};

/// No benchmark takes this long, in seconds.
const LONGEST: u64 = 1800;

/// Runs the benchmark with `args`; its standard output is this process's, progress goes to stderr.
pub fn run(ctx: &Ctx, args: &[String]) -> Result<()> {
    setup::ensure(ctx, &[Need::Build, Need::Lab, Need::Test])?;
    let sluice = build::all(ctx, Profile::Release)?;
    if !ctx.root.join("tests/src/bin/bench.rs").exists() {
        bail!("there is no benchmark: tests/src/bin/bench.rs is missing");
    }
    let step = Step::new(ctx, "bench (release)", 1800, build::cargo())
        .args(["build", "--release", "--package", "sluice-tests"])
        .args(["--bin", "bench"]);
    build::host_env(ctx, step).run()?;
    let bench = ctx.target.join("release/bench");
    let mut child = Command::new(&bench)
        .args(args)
        .current_dir(&ctx.root)
        .env("SLUICE_BIN", sluice)
        .env("SLUICE_BPF_OBJECT", ctx.bpf_object())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", bench.display()))?;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(LONGEST);
    loop {
        if let Some(status) = child.try_wait().context("cannot wait")? {
            if status.success() {
                return Ok(());
            }
            bail!("the benchmark failed ({})", describe(status));
        }
        if interrupted() {
            end_group(&mut child);
            bail!("interrupted");
        }
        if std::time::Instant::now() > until {
            end_group(&mut child);
            bail!("the benchmark took longer than {LONGEST} s and was ended");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
