//! Tools and libraries that come from Debian's archive.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Need;
use super::probe::means;
use crate::ctx::Ctx;
use crate::step::{Step, probe, say, which};

/// The lists are fetched once in a call of xtask.
static LISTS_FETCHED: AtomicBool = AtomicBool::new(false);

/// A thing that is needed, how one sees that it is there, and the package that brings it.
#[derive(Debug, Clone, Copy)]
struct Item {
    /// What is looked for.
    sign: Sign,
    /// Debian's package.
    package: &'static str,
    /// Why it is needed, for the message where it can't be had.
    why: &'static str,
    /// What it is needed for.
    need: Need,
}

/// What shows that an item is there, on any distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A program in PATH or an sbin directory.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

const ITEMS: &[Item] = &[
    item("cc", "gcc", "links the host programs", Need::Build),
    Item {
        sign: Sign::File("/usr/include/stdio.h"),
        package: "libc6-dev",
        why: "links the host programs",
        need: Need::Build,
    },
    item("ip", "iproute2", "makes the lab", Need::Lab),
    item("nsenter", "util-linux", "enters the lab", Need::Lab),
    item("ethtool", "ethtool", "sets offloads in the lab", Need::Lab),
    item("ping", "iputils-ping", "sends pings", Need::Lab),
    item("nft", "nftables", "is measured against", Need::Test),
    item("conntrack", "conntrack", "is measured against", Need::Test),
    item("xdp-filter", "xdp-tools", "is measured against", Need::Test),
    item("iptables", "iptables", "is measured against", Need::Test),
    item("iperf3", "iperf3", "makes bulk traffic", Need::Test),
    item("curl", "curl", "gets and puts pages through the gate", Need::Test),
    item("ncat", "ncat", "talks through the gate", Need::Test),
    item("traceroute", "traceroute", "finds the way through the gate", Need::Test),
    item("tcpdump", "tcpdump", "watches the lab", Need::Test),
    item("tshark", "tshark", "checks every checksum of what arrives", Need::Test),
    item("conntrack", "conntrack", "lists netfilter's connections to compare with", Need::Test),
    item("python3", "python3", "plays peers in the tests", Need::Test),
    Item {
        sign: Sign::File("/usr/lib/python3/dist-packages/websockets"),
        package: "python3-websockets",
        why: "is the independent WebSocket client of the tests",
        need: Need::Test,
    },
    item("chromium", "chromium", "tests the console", Need::Test),
    item("dpkg-deb", "dpkg", "makes the package", Need::Package),
    item("dpkg-shlibdeps", "dpkg-dev", "finds the package's dependencies", Need::Package),
    item("gzip", "gzip", "makes the package", Need::Package),
];

const fn item(program: &'static str, package: &'static str, why: &'static str, need: Need) -> Item {
    Item { sign: Sign::Program(program), package, why, need }
}

impl Item {
    fn name(&self) -> &'static str {
        match self.sign {
            Sign::Program(name) | Sign::File(name) => name,
        }
    }

    fn there(&self) -> bool {
        match self.sign {
            Sign::Program(name) => which(name).is_some(),
            Sign::File(name) => Path::new(name).exists(),
        }
    }
}

/// Makes sure that the tools for `needs` are there.
pub fn ensure(ctx: &Ctx, needs: &[Need]) -> Result<()> {
    let absent = || -> Vec<&Item> {
        ITEMS.iter().filter(|item| needs.contains(&item.need) && !item.there()).collect()
    };
    let missing = absent();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<String> = missing.iter().map(|i| i.package.to_owned()).collect();
    packages.dedup();
    let reason = match install(ctx, &packages) {
        Ok(()) => "it is still missing after that".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let still = absent();
    if still.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = still
        .iter()
        .map(|i| format!("  `{}` ({}): apt-get install {}", i.name(), i.why, i.package))
        .collect();
    bail!("missing:\n{}\n{reason}", lines.join("\n"))
}

/// Those of `packages` that dpkg does not know as installed.
pub fn absent(packages: &[String]) -> Vec<String> {
    let text = probe(
        Command::new("sh")
            .args([
                "-c",
                "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' \"$@\" || true",
                "sh",
            ])
            .args(packages),
        Duration::from_secs(20),
    )
    .unwrap_or_default();
    packages
        .iter()
        .filter(|p| !text.lines().any(|l| l == format!("{p} installed")))
        .cloned()
        .collect()
}

/// Installs packages with apt-get, or upgrades them. The package lists are fetched before the first
/// one: old lists name compilers that are too old, or versions that are gone. Never removes
/// anything to make room.
pub fn install(ctx: &Ctx, packages: &[String]) -> Result<()> {
    let command = format!("apt-get install {}", packages.join(" "));
    let means = means();
    if !means.apt {
        bail!("there is no apt-get here; on Debian 12 the command is: {command}");
    }
    if !means.root {
        bail!("xtask is not root; the command is: sudo {command}");
    }
    let title = format!("apt-get install {}", packages.join(" "));
    let apt = |title: String, args: &[&str]| {
        Step::new(ctx, title, 900, "apt-get")
            .args(["-y", "-q", "-o", "DPkg::Lock::Timeout=300"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
    };
    let mut args = vec!["install", "--no-install-recommends", "--no-remove"];
    args.extend(packages.iter().map(String::as_str));
    if !LISTS_FETCHED.swap(true, Ordering::Relaxed)
        && let Err(error) = apt("apt-get update".to_owned(), &["update"]).run()
    {
        if crate::step::interrupted() {
            return Err(error);
        }
        // One archive of several may be out of reach; what is wanted may be in the others.
        say(&format!("        going on with the package lists there are: {error:#}"));
    }
    apt(title, &args).run().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_not_there_is_seen() {
        if which("dpkg-query").is_none() {
            println!("SKIP a_package_that_is_not_there_is_seen: no dpkg here");
            return;
        }
        let names = ["dpkg".to_owned(), "no-such-package-at-all".to_owned()];
        assert_eq!(absent(&names), vec!["no-such-package-at-all".to_owned()]);
    }

    #[test]
    fn every_item_says_why() {
        for item in ITEMS {
            assert!(!item.package.is_empty() && !item.why.is_empty(), "{item:?}");
        }
    }
}
