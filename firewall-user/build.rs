//! Puts what the binary carries (kernel object, console) where the sources include it from.
//!
//! `cargo xtask build` makes both and says where they are; without it a plain `cargo check` still works,
//! with an empty object and a page that says how to get the console.

use std::{env, fs, io, path::Path};

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let out = env::var_os("OUT_DIR")
        .map(std::path::PathBuf::from)
        .ok_or_else(|| io::Error::other("OUT_DIR is not set: run through cargo"))?;
    println!("cargo:rerun-if-env-changed=SLUICE_BPF_OBJECT");
    println!("cargo:rerun-if-env-changed=SLUICE_CONSOLE_DIST");
    let filter = env::var_os("SLUICE_BPF_OBJECT").filter(|p| !p.is_empty());
    let filter = filter.as_ref().map(Path::new);
    // The others lie beside the filter's.
    let monitor = filter.map(|path| path.with_file_name("sluice-sockets"));
    let owners = filter.map(|path| path.with_file_name("sluice-owners"));
    let names = filter.map(|path| path.with_file_name("sluice-names"));
    for (from, name) in [
        (filter, "sluice.bpf.o"),
        (monitor.as_deref(), "sluice-sockets.bpf.o"),
        (owners.as_deref(), "sluice-owners.bpf.o"),
        (names.as_deref(), "sluice-names.bpf.o"),
    ] {
        let object = out.join(name);
        match from {
            Some(path) => {
                println!("cargo:rerun-if-changed={}", path.display());
                fs::copy(path, &object)?;
            }
            None => fs::write(&object, [])?,
        }
    }
    let console = out.join("console");
    if console.exists() {
        fs::remove_dir_all(&console)?;
    }
    match env::var_os("SLUICE_CONSOLE_DIST").filter(|p| Path::new(p).is_dir()) {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", Path::new(&path).display());
            copy_dir(Path::new(&path), &console)?;
        }
        None => {
            fs::create_dir_all(&console)?;
            fs::write(
                console.join("index.html"),
                "<!doctype html><title>Sluice</title><p>Built without the console; use <code>cargo xtask build</code>.</p>\n",
            )?;
        }
    }
    Ok(())
}
