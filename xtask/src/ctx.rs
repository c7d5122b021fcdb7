//! Where things are: one value that every verb is handed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The target triple of everything that runs in the kernel.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// Paths of this repository and of what is built from it.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// The repository's root.
    pub root: PathBuf,
    /// Cargo's target directory for the workspace (the eBPF crate has its own).
    pub target: PathBuf,
    /// Show the output of each command as it comes.
    pub verbose: bool,
}

impl Ctx {
    /// Finds the repository from where cargo says this package is, or from the current directory.
    pub fn find(verbose: bool) -> Result<Self> {
        let root = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir)
                .parent()
                .context("xtask's own directory has no parent")?
                .to_path_buf(),
            None => {
                let cwd = std::env::current_dir().context("no current directory")?;
                cwd.ancestors()
                    .find(|dir| dir.join("xtask/Cargo.toml").exists())
                    .context("not inside the Sluice repository: cd into it and use `cargo xtask`")?
                    .to_path_buf()
            }
        };
        if !root.join("Cargo.toml").exists() {
            bail!("{} is not the Sluice repository", root.display());
        }
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target, verbose })
    }

    /// The eBPF crate, which is outside the workspace.
    pub fn ebpf_dir(&self) -> PathBuf {
        self.root.join("firewall-ebpf")
    }

    /// The kernel object that `build` makes.
    pub fn bpf_object(&self) -> PathBuf {
        self.ebpf_dir().join("target").join(BPF_TARGET).join("release/sluice")
    }

    /// The console's sources.
    pub fn console_dir(&self) -> PathBuf {
        self.root.join("console")
    }

    /// The console as it is embedded in the binary.
    pub fn console_dist(&self) -> PathBuf {
        self.console_dir().join("dist")
    }

    /// The `sluice` binary of a profile.
    pub fn binary(&self, profile: Profile) -> PathBuf {
        self.target.join(profile.dir()).join("sluice")
    }

    /// What xtask remembers between calls: stamps, logs, what `run` has started.
    pub fn scratch(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// `path` as seen from the root, for messages.
    pub fn short<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Which of cargo's profiles the host side is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Fast to build, checks overflow: what the tests use.
    Dev,
    /// What is packaged, run and measured.
    Release,
}

impl Profile {
    /// The directory below the target directory.
    pub fn dir(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }

    /// The name cargo knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}
