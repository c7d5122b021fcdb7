//! Which compiler and linker build the eBPF object: a pure rule over probed facts.
//!
//! The rule: *a rustc, the `library/` source of exactly that rustc, and a bpf-linker whose LLVM has
//! the same major version*. Debian's `rustc-web` with `rust-web-src`, and a rustup toolchain with
//! `rust-src`, both can satisfy it.

use std::fmt;
use std::path::PathBuf;

/// The bpf-linker that is installed where there is none.
pub const BPF_LINKER_VERSION: &str = "0.13.0";
/// LLVM majors that this bpf-linker can be built against and that know what the kernel object's
/// build asks for (`build::ebpf`).
pub const LINKER_LLVM: std::ops::RangeInclusive<u32> = 22..=23;
/// Debian's compiler, its cargo and its library source.
pub const DEBIAN_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Who put a compiler on this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `/usr/bin/rustc`: Debian's `rustc-web`, or another distribution's package.
    System,
    /// A toolchain of rustup, by its name.
    Rustup(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system's rustc"),
            Self::Rustup(name) => write!(f, "rustup's {name}"),
        }
    }
}

/// The library source beside a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Library {
    /// `library/core` is there and belongs to this compiler.
    Matches,
    /// It is there, but of another release (named).
    Other(String),
    /// It is not there.
    Absent,
}

/// What was found out about one compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// Who installed it.
    pub origin: Origin,
    /// The compiler itself.
    pub rustc: PathBuf,
    /// The cargo of the same release, if there is one beside it.
    pub cargo: Option<PathBuf>,
    /// `rustc -vV`'s release.
    pub release: String,
    /// The major version of its LLVM.
    pub llvm: u32,
    /// Its library source.
    pub library: Library,
}

/// What was found out about one bpf-linker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linker {
    /// The file.
    pub path: PathBuf,
    /// The major version of its LLVM; `None` where it can't be told.
    pub llvm: Option<u32>,
}

/// What this machine offers for installing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Means {
    /// `apt-get` is there.
    pub apt: bool,
    /// xtask runs as root.
    pub root: bool,
    /// `rustup` is there.
    pub rustup: bool,
    /// `cargo binstall` is there.
    pub binstall: bool,
}

/// All that the rule looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every compiler found.
    pub compilers: Vec<Compiler>,
    /// Every bpf-linker found.
    pub linkers: Vec<Linker>,
    /// Ways to get what is missing.
    pub means: Means,
}

/// A compiler, its cargo and a linker that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Who installed the compiler.
    pub origin: Origin,
    /// The compiler.
    pub rustc: PathBuf,
    /// Its cargo.
    pub cargo: PathBuf,
    /// The compiler's release.
    pub release: String,
    /// The linker.
    pub linker: PathBuf,
    /// LLVM's major version in both.
    pub llvm: u32,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}, LLVM {}) with {}",
            self.origin,
            self.release,
            self.llvm,
            self.linker.display()
        )
    }
}

/// The next thing that brings the machine nearer to a toolchain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Install [`DEBIAN_COMPILER`].
    DebianCompiler,
    /// `rustup component add rust-src` for this toolchain.
    RustSrc(String),
    /// Build bpf-linker against Debian's LLVM of this major.
    BuildLinker(u32),
    /// `cargo binstall bpf-linker`.
    BinstallLinker,
}

/// Where the machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Everything is there.
    Ready(Toolchain),
    /// This is missing and can be had.
    Do(Action),
    /// This is missing and can't be had from here; each line names a thing and its command.
    Stuck(Vec<String>),
}

/// Applies the rule. `tried` are actions that were done already and did not help: none is
/// suggested twice, so a caller that loops comes to an end.
pub fn next(facts: &Facts, tried: &[Action]) -> Next {
    if let Some(toolchain) = ready(facts) {
        return Next::Ready(toolchain);
    }
    let fresh = |action: &Action| !tried.contains(action);
    let can_apt = facts.means.apt && facts.means.root;

    // A linker for a compiler that is complete but for it, the best compiler first.
    for compiler in complete(facts) {
        let build = Action::BuildLinker(compiler.llvm);
        if can_apt && LINKER_LLVM.contains(&compiler.llvm) && fresh(&build) {
            return Next::Do(build);
        }
        if facts.means.binstall && fresh(&Action::BinstallLinker) {
            return Next::Do(Action::BinstallLinker);
        }
    }
    if can_apt && fresh(&Action::DebianCompiler) {
        return Next::Do(Action::DebianCompiler);
    }
    for compiler in sorted(facts) {
        if let (Origin::Rustup(name), Library::Absent) = (&compiler.origin, &compiler.library) {
            let add = Action::RustSrc(name.clone());
            if name.starts_with("nightly") && facts.means.rustup && fresh(&add) {
                return Next::Do(add);
            }
        }
    }
    Next::Stuck(missing(facts))
}

/// Compilers in the order of preference: the system's (what is tried most), nightlies, others.
fn sorted(facts: &Facts) -> Vec<&Compiler> {
    let mut all: Vec<&Compiler> = facts.compilers.iter().collect();
    all.sort_by_key(|c| match &c.origin {
        Origin::System => (0, c.origin.clone()),
        Origin::Rustup(name) if name.starts_with("nightly") => (1, c.origin.clone()),
        Origin::Rustup(_) => (2, c.origin.clone()),
    });
    all
}

fn complete(facts: &Facts) -> Vec<&Compiler> {
    sorted(facts)
        .into_iter()
        .filter(|c| c.library == Library::Matches && c.cargo.is_some())
        .filter(|c| c.llvm >= *LINKER_LLVM.start())
        .collect()
}

fn ready(facts: &Facts) -> Option<Toolchain> {
    // A linker whose LLVM is known to match, on any compiler, beats one that can't be told.
    for known in [true, false] {
        for compiler in complete(facts) {
            let wanted = known.then_some(compiler.llvm);
            let linker = facts.linkers.iter().find(|l| l.llvm == wanted);
            if let (Some(linker), Some(cargo)) = (linker, &compiler.cargo) {
                return Some(Toolchain {
                    origin: compiler.origin.clone(),
                    rustc: compiler.rustc.clone(),
                    cargo: cargo.clone(),
                    release: compiler.release.clone(),
                    linker: linker.path.clone(),
                    llvm: compiler.llvm,
                });
            }
        }
    }
    None
}

/// What is missing, compiler by compiler, with the command that installs it.
fn missing(facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    for compiler in sorted(facts) {
        let who = format!("{} ({}, LLVM {})", compiler.origin, compiler.release, compiler.llvm);
        match &compiler.library {
            Library::Matches => {}
            Library::Absent => lines.push(match &compiler.origin {
                Origin::System => {
                    format!("{who} has no library source: apt-get install rust-web-src")
                }
                Origin::Rustup(name) => format!(
                    "{who} has no library source: rustup component add rust-src --toolchain {name}"
                ),
            }),
            Library::Other(seen) => lines.push(format!(
                "{who} has the library source of {seen}: apt-get install --only-upgrade {}",
                DEBIAN_COMPILER.join(" ")
            )),
        }
        if compiler.cargo.is_none() {
            lines.push(format!("{who} has no cargo beside it: apt-get install cargo-web"));
        }
        let too_old = compiler.llvm < *LINKER_LLVM.start();
        let linked =
            facts.linkers.iter().any(|l| l.llvm.is_none_or(|major| major == compiler.llvm));
        if too_old || !linked {
            let seen: Vec<String> = facts
                .linkers
                .iter()
                .map(|l| match l.llvm {
                    Some(major) => format!("{} has LLVM {major}", l.path.display()),
                    None => l.path.display().to_string(),
                })
                .collect();
            let seen =
                if seen.is_empty() { String::new() } else { format!(" ({})", seen.join(", ")) };
            lines.push(if too_old {
                format!("{who} is too old: LLVM {} or newer is needed", LINKER_LLVM.start())
            } else if LINKER_LLVM.contains(&compiler.llvm) {
                format!(
                    "{who} has no bpf-linker of LLVM {}{seen}: {}, or: cargo binstall bpf-linker",
                    compiler.llvm,
                    linker_command(compiler.llvm)
                )
            } else {
                format!(
                    "{who} has no bpf-linker{seen}: {BPF_LINKER_VERSION} is for LLVM {} to {}; \
                     another compiler is needed",
                    LINKER_LLVM.start(),
                    LINKER_LLVM.end()
                )
            });
        }
    }
    if facts.compilers.is_empty() {
        lines.push("no rustc was found: install rustup from https://rustup.rs".to_owned());
    }
    if !complete(facts).is_empty() {
        return lines;
    }
    lines.push(format!(
        "either, on Debian 12 as root: apt-get install {}",
        DEBIAN_COMPILER.join(" ")
    ));
    lines.push(
        "or anywhere: rustup toolchain install nightly --component rust-src && \
         cargo binstall bpf-linker"
            .to_owned(),
    );
    lines
}

/// The Debian packages that building bpf-linker against this LLVM needs.
pub fn linker_packages(llvm: u32) -> Vec<String> {
    vec![
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "libzstd-dev".to_owned(),
        "zlib1g-dev".to_owned(),
        "g++".to_owned(),
    ]
}

/// The cargo arguments that install bpf-linker for this LLVM.
pub fn linker_args(llvm: u32) -> Vec<String> {
    [
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER_VERSION,
        "--force",
        "--no-default-features",
        "--features",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("llvm-{llvm}")])
    .collect()
}

/// The same for a person's shell.
pub fn linker_command(llvm: u32) -> String {
    format!(
        "LLVM_PREFIX=/usr/lib/llvm-{llvm} PATH=/usr/lib/llvm-{llvm}/bin:$PATH \
         RUSTFLAGS=\"{}\" cargo {}",
        linker_rustflags(llvm),
        linker_args(llvm).join(" ")
    )
}

/// The flags that make bpf-linker find its LLVM when built and when run.
pub fn linker_rustflags(llvm: u32) -> String {
    format!("-L /usr/lib/llvm-{llvm}/lib -C link-arg=-Wl,-rpath,/usr/lib/llvm-{llvm}/lib")
}

#[cfg(test)]
#[path = "toolchain_tests.rs"]
mod tests;
