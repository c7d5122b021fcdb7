//! Skipping, so that it can be seen: a skipped test says so on standard output, past the test
//! runner's capture, and `cargo xtask test` compares what was skipped with `expected-skips.txt`.

use std::io::Write;
use std::path::PathBuf;

/// Prints `SKIP name: reason` where nothing swallows it.
pub fn skip(name: &str, reason: &str) {
    // Not `println!`: the test runner captures that for tests that pass. The leading newline ends
    // whatever "test x ... " the runner may have begun.
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "\nSKIP {name}: {reason}\n");
    let _ = out.flush();
}

/// Why a suite that needs the kernel can't run here, if it can't.
pub fn no_kernel_access() -> Option<&'static str> {
    // SAFETY: geteuid reads a number and can't fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root");
    }
    if !PathBuf::from("/sys/fs/bpf").is_dir() {
        return Some("no bpffs mounted at /sys/fs/bpf");
    }
    None
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// A file or folder of the data that stands beside the repository, if it is there.
pub fn shared_data(part: &str) -> Option<PathBuf> {
    let path = repository().join("../shared/data").join(part);
    path.exists().then_some(path)
}

/// Path in environment variable `name`, if it is set and exists.
pub fn path_from_env(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    path.exists().then_some(path)
}
