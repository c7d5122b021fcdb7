//! What there is on this machine, for [`super::toolchain`] to judge.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::toolchain::{Compiler, Facts, Library, Linker, Means, Origin};
use crate::step::{probe, which};

const QUICK: Duration = Duration::from_secs(20);

/// Looks at every compiler and linker that could be used.
pub fn facts() -> Facts {
    let mut compilers = Vec::new();
    compilers.extend(compiler(Origin::System, "/usr/bin/rustc".into(), "/usr/bin/cargo".into()));
    if which("rustup").is_some() {
        let list = probe(Command::new("rustup").args(["toolchain", "list"]), QUICK);
        for line in list.unwrap_or_default().lines() {
            let Some(name) = line.split_whitespace().next() else {
                continue;
            };
            let Some(rustc) = probe(
                Command::new("rustup")
                    .args(["which", "rustc", "--toolchain", name])
                    .env_remove("RUSTUP_TOOLCHAIN"),
                QUICK,
            ) else {
                continue;
            };
            let rustc = PathBuf::from(rustc.trim());
            let cargo = rustc.with_file_name("cargo");
            compilers.extend(compiler(Origin::Rustup(name.to_owned()), rustc, cargo));
        }
    }
    Facts { compilers, linkers: linkers(), means: means() }
}

/// Ways to install something.
pub fn means() -> Means {
    Means {
        apt: which("apt-get").is_some(),
        root: rustix::process::geteuid().is_root(),
        rustup: which("rustup").is_some(),
        binstall: which("cargo-binstall").is_some() || cargo_bin("cargo-binstall").is_some(),
    }
}

fn compiler(origin: Origin, rustc: PathBuf, cargo: PathBuf) -> Option<Compiler> {
    if !rustc.exists() {
        return None;
    }
    let version = probe(Command::new(&rustc).arg("-vV"), QUICK)?;
    let (release, llvm) = parse_version(&version)?;
    let sysroot = probe(Command::new(&rustc).args(["--print", "sysroot"]), QUICK)?;
    let library = library(Path::new(sysroot.trim()), &release);
    Some(Compiler { origin, cargo: cargo.exists().then_some(cargo), rustc, release, llvm, library })
}

/// The release and LLVM's major out of `rustc -vV`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
    let release = field("release: ")?.trim().to_owned();
    let llvm = field("LLVM version: ")?.trim().split('.').next()?;
    Some((release, llvm.parse().ok()?))
}

/// The library source in a sysroot. rustup keeps it in step with the compiler; Debian links to a
/// directory named after the release, which a half-done upgrade leaves behind.
fn library(sysroot: &Path, release: &str) -> Library {
    let dir = sysroot.join("lib/rustlib/src/rust");
    if !dir.join("library/core/Cargo.toml").exists() {
        return Library::Absent;
    }
    let real = dir.canonicalize().unwrap_or(dir);
    let name = real.file_name().map(|n| n.to_string_lossy().into_owned());
    match name.as_deref().and_then(|n| n.strip_prefix("rustc-")) {
        Some(other) if other != release => Library::Other(other.to_owned()),
        _ => Library::Matches,
    }
}

fn linkers() -> Vec<Linker> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let found = [which("bpf-linker"), cargo_bin("bpf-linker")];
    for path in found.into_iter().flatten() {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let known = |p: &PathBuf| p.canonicalize().is_ok_and(|p| p == real);
        // One that does not start (its LLVM was removed) is no linker.
        if !paths.iter().any(known) && probe(Command::new(&path).arg("--version"), QUICK).is_some()
        {
            paths.push(path);
        }
    }
    paths.into_iter().map(|path| Linker { llvm: linker_llvm(&path), path }).collect()
}

/// A tool that `cargo install` put where a shell may not look yet.
pub fn cargo_bin(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    let file = home.join("bin").join(name);
    file.is_file().then_some(file)
}

/// LLVM's major in a bpf-linker: the library it is linked with, or, where LLVM is inside, the
/// version string that LLVM's bitcode writer carries.
fn linker_llvm(path: &Path) -> Option<u32> {
    let linked = probe(Command::new("ldd").arg(path), QUICK)
        .and_then(|text| text.lines().find_map(llvm_of_library));
    if linked.is_some() {
        return linked;
    }
    llvm_inside(&std::fs::read(path).ok()?)
}

/// `libLLVM.so.22.1 => ...` or `libLLVM-22.so.1 => ...`.
fn llvm_of_library(line: &str) -> Option<u32> {
    let rest = line.trim().strip_prefix("libLLVM")?;
    let rest = rest.strip_prefix(".so.").or_else(|| rest.strip_prefix('-'))?;
    leading_number(rest)
}

/// The first `LLVM22.1.8` or `LLVM version 22.1.8` in a binary.
fn llvm_inside(bytes: &[u8]) -> Option<u32> {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(4).position(|w| w == b"LLVM") {
        at += found + 4;
        let rest = &bytes[at..bytes.len().min(at + 24)];
        let rest = String::from_utf8_lossy(rest);
        let rest = rest.strip_prefix(" version ").unwrap_or(&rest);
        let mut parts = rest.split('.');
        if let (Some(major), Some(minor)) = (parts.next(), parts.next())
            && let (Ok(major), Ok(_)) = (major.parse::<u32>(), minor.parse::<u32>())
            && (10..100).contains(&major)
        {
            return Some(major);
        }
    }
    None
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_says_its_release_and_llvm() {
        let text = "rustc 1.96.0\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(text), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_version("release: 1.96.0\n"), None);
    }

    #[test]
    fn a_linkers_llvm_is_read_from_its_library() {
        let new = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)";
        assert_eq!(llvm_of_library(new), Some(22));
        assert_eq!(llvm_of_library("libLLVM-17.so.1 => /x"), Some(17));
        assert_eq!(llvm_of_library("\tlibc.so.6 => /x"), None);
    }

    #[test]
    fn a_linkers_llvm_is_read_from_inside() {
        assert_eq!(llvm_inside(b"..LLVM ERROR..LLVM21.1.0\0.."), Some(21));
        assert_eq!(llvm_inside(b"LLVM version 22.1.8\0"), Some(22));
        assert_eq!(llvm_inside(b"LLVM 3 things"), None);
        assert_eq!(llvm_inside(b"LLVM"), None);
    }

    #[test]
    fn library_of_another_release_is_seen() {
        let dir = std::env::temp_dir().join(format!("sluice-library-{}", std::process::id()));
        let src = dir.join("src/rustc-1.95.0/library/core");
        std::fs::create_dir_all(&src).unwrap();
        std::fs::create_dir_all(dir.join("lib/rustlib/src")).unwrap();
        assert_eq!(library(&dir, "1.96.0"), Library::Absent);
        std::fs::write(src.join("Cargo.toml"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("src/rustc-1.95.0"), dir.join("lib/rustlib/src/rust"))
            .unwrap();
        assert_eq!(library(&dir, "1.96.0"), Library::Other("1.95.0".to_owned()));
        assert_eq!(library(&dir, "1.95.0"), Library::Matches);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
