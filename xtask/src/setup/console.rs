//! Node and the console's npm packages.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::ctx::Ctx;
use crate::digest;
use crate::step::{Step, probe, which};

/// The oldest Node that the console's tools run on.
const NODE_MAJOR: u32 = 20;

/// Makes sure that `node_modules` is what the lock file says.
pub fn ensure(ctx: &Ctx) -> Result<()> {
    let dir = ctx.console_dir();
    let lock = dir.join("package-lock.json");
    if !dir.join("package.json").exists() {
        return Ok(());
    }
    let version = probe(Command::new("node").arg("--version"), Duration::from_secs(20));
    let major = version
        .as_deref()
        .and_then(|v| v.trim().strip_prefix('v')?.split('.').next()?.parse().ok());
    match major {
        Some(major) if major >= NODE_MAJOR && which("npm").is_some() => {}
        Some(major) if major >= NODE_MAJOR => {
            bail!("npm is missing (node is there): apt-get install npm")
        }
        seen => bail!(
            "the console is built with Node {NODE_MAJOR} or newer; here is {}. Install it from \
             https://nodejs.org, or with nodesource's package: apt-get install nodejs",
            seen.map_or("none".to_owned(), |m: u32| format!("Node {m}"))
        ),
    }
    // npm writes this file last; the stamp beside it says which lock file it was made from.
    let made = dir.join("node_modules/.package-lock.json");
    let stamp = dir.join("node_modules/.sluice-lock-hash");
    let want = digest::files(std::slice::from_ref(&lock))?;
    if made.exists() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == want) {
        return Ok(());
    }
    Step::new(ctx, "npm ci", 600, "npm").args(["ci", "--no-audit", "--no-fund"]).dir(&dir).run()?;
    let _ = std::fs::write(&stamp, want);
    Ok(())
}
