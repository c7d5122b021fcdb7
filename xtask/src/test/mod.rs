//! `cargo xtask test`: everything that can fail, and one line that says whether it did.

mod expected;
mod tally;

use std::time::Instant;

use anyhow::{Context, Result};

use crate::build;
use crate::ctx::{Ctx, Profile};
use crate::setup::{self, Need};
use crate::step::{Step, interrupted, say};
use expected::Expected;
use tally::Tally;

/// Members with unit tests, then the one whose suites need root and the kernel.
const UNITS: [&str; 3] = ["firewall-common", "firewall-user", "xtask"];
const SUITES: &str = "sluice-tests";

/// The result of a test run.
#[derive(Debug)]
pub struct Verdict {
    /// `N passed, N failed, N skipped`.
    pub line: String,
    /// Nothing failed and nothing was skipped unexpectedly.
    pub good: bool,
}

/// Installs, builds, and runs everything (or the parts that `only` names).
pub fn all(ctx: &Ctx, only: &[Part]) -> Result<Verdict> {
    let started = Instant::now();
    let wanted = |part: Part| only.is_empty() || only.contains(&part);
    let toolchain = setup::ensure(ctx, &[Need::Build, Need::Lab, Need::Test])?;
    build::ebpf(ctx, &toolchain)?;
    build::console(ctx)?;
    build::host(ctx, Profile::Dev)?;

    let list = ctx.root.join("tests/expected-skips.txt");
    let text = match std::fs::read_to_string(&list) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", list.display())),
    };
    let expected =
        Expected::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", ctx.short(&list)))?;

    let mut total = Tally::default();
    if wanted(Part::Unit) {
        for package in UNITS {
            run(ctx, &mut total, package, cargo_test(ctx, package))?;
        }
    }
    if wanted(Part::Suites) {
        run(ctx, &mut total, SUITES, cargo_test(ctx, SUITES))?;
    }
    if wanted(Part::Console) {
        run(ctx, &mut total, "console", console(ctx))?;
    }
    if wanted(Part::Browser) {
        run(ctx, &mut total, "browser", browser(ctx))?;
    }

    for failure in &total.failures {
        say(&format!("failed: {failure}"));
    }
    let mut unexpected = 0;
    for skip in &total.skips {
        let known = expected.covers(skip);
        unexpected += usize::from(!known);
        say(&format!(
            "skipped{}: {}: {}",
            if known { "" } else { " UNEXPECTEDLY" },
            skip.test,
            skip.reason
        ));
    }
    if unexpected > 0 {
        say(&format!("{unexpected} skips are not in {}", ctx.short(&list)));
    }
    say(&format!("{:.0} s", started.elapsed().as_secs_f64()));
    Ok(Verdict { line: total.line(), good: total.failed == 0 && unexpected == 0 })
}

/// Parts of the tests that can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Tests of the crates.
    Unit,
    /// The suites in `tests/`, which need root and the kernel.
    Suites,
    /// The console's type check and its tests.
    Console,
    /// The console in a real browser.
    Browser,
}

/// Adds a part's counts; a part that could not be run is a failure, but not the end.
fn run(ctx: &Ctx, total: &mut Tally, name: &str, part: Result<Tally>) -> Result<()> {
    match part {
        Ok(tally) => {
            say(&format!("        {name}: {}", tally.line()));
            total.add(tally);
            Ok(())
        }
        Err(error) if interrupted() => Err(error),
        Err(error) => {
            say(&format!("        {name}: {error:#}"));
            say(&format!("        logs: {}", ctx.scratch().join("logs").display()));
            total.fail(format!("{name} could not be run"));
            Ok(())
        }
    }
}

fn cargo_test(ctx: &Ctx, package: &str) -> Result<Tally> {
    let title = format!("test {package}");
    let step = Step::new(ctx, title, 2400, build::cargo())
        .args(["test", "--package", package, "--no-fail-fast", "--"])
        .args(["--show-output", "--color=never"]);
    let outcome =
        build::host_env(ctx, step).env("SLUICE_BIN", ctx.binary(Profile::Dev)).run_any()?;
    let mut tally = tally::cargo(&outcome.output);
    for failure in &mut tally.failures {
        failure.insert_str(0, &format!("{package}: "));
    }
    if tally.failed > 0 || !outcome.status.success() {
        show_failures(ctx, &outcome.output, &outcome.log);
    }
    if !outcome.status.success() && tally.failed == 0 {
        tally.fail(format!("{package}: does not build, or its runner broke"));
    }
    Ok(tally)
}

/// The part of a runner's output that explains what failed.
fn show_failures(ctx: &Ctx, output: &str, log: &std::path::Path) {
    if ctx.verbose {
        return;
    }
    let mut shown = 0;
    let mut inside = false;
    for line in output.lines() {
        let begins = line == "failures:"
            || line.starts_with("error")
            || line.contains("panicked at")
            || line.starts_with("not ok");
        if begins {
            inside = true;
        } else if line.starts_with("test result: ") || line.starts_with("successes:") {
            inside = false;
        }
        if inside && shown < 120 {
            say(line);
            shown += 1;
        }
    }
    if shown == 0 {
        say(&crate::step::tail(output, 40));
    }
    say(&format!("(whole log: {})", log.display()));
}

fn console(ctx: &Ctx) -> Result<Tally> {
    let dir = ctx.console_dir();
    if !dir.join("package.json").exists() {
        anyhow::bail!("there is no {}", ctx.short(&dir.join("package.json")));
    }
    let mut tally = Tally::default();
    let check =
        Step::new(ctx, "console types", 300, "npm").args(["run", "check"]).dir(&dir).run_any()?;
    if check.status.success() {
        tally.passed += 1;
    } else {
        show_failures(ctx, &check.output, &check.log);
        tally.fail("console: npm run check");
    }
    let report = ctx.scratch().join("vitest.json");
    let _ = std::fs::remove_file(&report);
    let outcome = Step::new(ctx, "console tests", 300, "npm")
        .args(["test", "--", "--reporter=json", "--reporter=default"])
        .arg_path("--outputFile.json=", &report)
        .dir(&dir)
        .env("NO_COLOR", "1")
        .run_any()?;
    let counted = std::fs::read(&report)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .and_then(|report| tally::vitest(&report));
    let counted = counted.with_context(|| {
        format!("vitest left no report:\n{}", crate::step::tail(&outcome.output, 30))
    })?;
    if !outcome.status.success() {
        show_failures(ctx, &outcome.output, &outcome.log);
        if counted.failed == 0 {
            tally.fail("console: npm test");
        }
    }
    tally.add(counted);
    Ok(tally)
}

fn browser(ctx: &Ctx) -> Result<Tally> {
    let dir = ctx.console_dir();
    let step = Step::new(ctx, "browser", 600, "npm").args(["run", "--silent", "e2e"]).dir(&dir);
    let outcome =
        build::host_env(ctx, step).env("SLUICE_BIN", ctx.binary(Profile::Dev)).run_any()?;
    let mut tally = tally::tap(&outcome.output);
    if !outcome.status.success() {
        show_failures(ctx, &outcome.output, &outcome.log);
        if tally.failed == 0 {
            tally.fail("browser: npm run e2e");
        }
    } else if tally.passed + tally.skips.len() as u64 == 0 {
        // A script that passes without saying what it tried counts as one.
        tally.passed = 1;
    }
    Ok(tally)
}
