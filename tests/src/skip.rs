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
    if bpffs() { None } else { Some("no bpffs can be mounted at /sys/fs/bpf") }
}

/// Whether /sys/fs/bpf is a BPF file system; mounts one where there is none yet.
fn bpffs() -> bool {
    let at = c"/sys/fs/bpf";
    let is_bpffs = || {
        // SAFETY: all-zero bytes are a valid statfs; both pointers outlive the call.
        unsafe {
            let mut info: libc::statfs = std::mem::zeroed();
            libc::statfs(at.as_ptr(), &raw mut info) == 0 && info.f_type == libc::BPF_FS_MAGIC
        }
    };
    // Tests start side by side: one of them mounts, the others wait for it.
    static ONCE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = ONCE.lock();
    if is_bpffs() {
        return true;
    }
    // SAFETY: NUL-terminated strings that outlive the call, and no data.
    unsafe { libc::mount(c"bpf".as_ptr(), at.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) };
    is_bpffs()
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
