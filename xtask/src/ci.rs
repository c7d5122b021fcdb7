//! `cargo xtask ci`: what has to pass before a change lands.

use anyhow::Result;

use crate::build;
use crate::ctx::Ctx;
use crate::setup;
use crate::step::{Step, interrupted, say};
use crate::{test, tidy};

/// Tests, then clippy, formatting and tidy; everything is tried, whatever failed before.
pub fn run(ctx: &Ctx) -> Result<(bool, String)> {
    let verdict = test::all(ctx, &[])?;
    let mut good = verdict.good;
    let mut check = |what: Result<bool>| -> Result<()> {
        match what {
            Ok(true) => {}
            Ok(false) => good = false,
            Err(error) if interrupted() => return Err(error),
            Err(error) => {
                say(&format!("{error:#}"));
                good = false;
            }
        }
        Ok(())
    };
    let clippy = Step::new(ctx, "clippy", 1800, build::cargo()).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    check(build::host_env(ctx, clippy).run().map(|_| true))?;
    let ebpf = setup::ensure(ctx, &[]).and_then(|t| build::ebpf_check(ctx, &t));
    check(ebpf.map(|()| true))?;
    let fmt = Step::new(ctx, "fmt", 120, build::cargo())
        .args(["fmt", "--all", "--check"])
        // The files' names are enough: `cargo fmt --all` puts them right.
        .args(["--", "--files-with-diff", "--color=never"]);
    check(fmt.run().map(|_| true))?;
    let manifest = ctx.ebpf_dir().join("Cargo.toml");
    let fmt = Step::new(ctx, "fmt eBPF", 120, build::cargo())
        .args(["fmt", "--check"])
        .arg_path("--manifest-path=", &manifest)
        .args(["--", "--files-with-diff", "--color=never"]);
    check(fmt.run().map(|_| true))?;
    check(tidy::all(ctx, false))?;
    Ok((good, verdict.line))
}
