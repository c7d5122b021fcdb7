//! Where a run keeps its things, and how they are laid out before the daemon starts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ctx::Ctx;

/// Where the kernel's pins are.
const BPFFS: &str = "/sys/fs/bpf";

/// A run's directories. Below /run: a path of the control socket has to be short, and nothing in
/// there has to outlive a reboot.
#[derive(Debug)]
pub struct Dirs {
    base: PathBuf,
    pins: PathBuf,
}

impl Dirs {
    /// The directories of the run called `name`.
    pub fn new(name: &str) -> Self {
        Self {
            base: PathBuf::from(format!("/run/sluice-{name}")),
            pins: PathBuf::from(format!("{BPFFS}/sluice-{name}")),
        }
    }

    /// Everything but the pins.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Programs, links and maps.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.base.join("sluice.sock")
    }

    /// The daemon's state.
    pub fn state(&self) -> PathBuf {
        self.base.join("state")
    }

    /// The live policy.
    pub fn policy(&self) -> PathBuf {
        self.base.join("policy.sluice")
    }

    fn config(&self) -> PathBuf {
        self.base.join("sluice.toml")
    }

    /// The arguments that make a daemon use these directories and no others.
    pub fn daemon_args(&self) -> Vec<std::ffi::OsString> {
        let mut args: Vec<std::ffi::OsString> = vec!["--socket".into(), self.socket().into()];
        args.push("daemon".into());
        for (flag, value) in [
            ("--config", self.config()),
            ("--policy", self.policy()),
            ("--state-dir", self.state()),
            ("--pin-dir", self.pins.clone()),
        ] {
            args.push(flag.into());
            args.push(value.into());
        }
        args
    }
}

/// Makes the directories and writes configuration and policy.
pub fn prepare(ctx: &Ctx, dirs: &Dirs, policy: Option<&Path>, watch_only: bool) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for dir in [dirs.base.clone(), dirs.state()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let default =
        if watch_only { "packaging/etc/policy.sluice" } else { "packaging/lab/policy.sluice" };
    let from = policy.map_or_else(|| ctx.root.join(default), Path::to_path_buf);
    std::fs::copy(&from, dirs.policy())
        .with_context(|| format!("cannot copy the policy {}", from.display()))?;
    // An empty configuration: the machine's own plays no part.
    std::fs::write(dirs.config(), "").context("cannot write the configuration")
}

/// Mounts the BPF file system where nobody has yet; it stays, as it does under systemd.
pub fn mount_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let there = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(BPFFS) && words.next() == Some("bpf")
    });
    if there {
        return Ok(());
    }
    if !Path::new(BPFFS).is_dir() {
        bail!("this kernel has no {BPFFS}: it was built without BPF");
    }
    rustix::mount::mount(
        "bpf",
        BPFFS,
        "bpf",
        rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC,
        Some(c"mode=0700"),
    )
    .with_context(|| format!("cannot mount {BPFFS}: mount -t bpf bpf {BPFFS}"))
}
