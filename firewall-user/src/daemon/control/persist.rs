//! The policy on disk: the file the operator edits, and what was live last.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A text that is complete on disk, but not under its name yet.
#[derive(Debug)]
pub struct Prepared {
    temporary: PathBuf,
    target: PathBuf,
    done: bool,
}

/// Writes `text` beside `path` (what a link points at, with its owner and mode, 0644 for a new
/// file), so that whatever can go wrong goes wrong before anything has changed.
///
/// # Errors
/// The system's.
pub fn prepare(path: &Path, text: &str) -> io::Result<Prepared> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = target.with_file_name(name);
    let prepared = Prepared { temporary, target, done: false };
    let mut file = fs::File::create(&prepared.temporary)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    match fs::metadata(&prepared.target) {
        Ok(old) => {
            file.set_permissions(old.permissions())?;
            // Without CAP_CHOWN that fails for a file of somebody else's; its mode matters more.
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        Err(_) => file.set_permissions(fs::Permissions::from_mode(0o644))?,
    }
    file.sync_all()?;
    Ok(prepared)
}

/// Whether a text could be put beside `path`, as far as can be told without writing one.
pub fn can_prepare(path: &Path) -> bool {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    // Not the name that somebody may be writing under.
    name.push(format!(".{}.try", std::process::id()));
    let temporary = target.with_file_name(name);
    fs::File::create(&temporary).and_then(|_| fs::remove_file(&temporary)).is_ok()
}

impl Prepared {
    /// Puts the text in place: whoever reads the file sees the old or the new one, whole.
    ///
    /// # Errors
    /// The system's.
    pub fn commit(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.done = true;
        if let Some(dir) = self.target.parent() {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// What was live last: lets the next daemon go on where the policy file can't be used, and tell
/// whether it has to install anything at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// Version of the daemon that compiled it.
    pub version: String,
    /// Its generation.
    pub generation: u32,
    /// Interfaces it was compiled for, sorted.
    pub interfaces: Vec<String>,
    /// The policy file.
    pub file: String,
    /// The text.
    pub text: String,
}

impl LastGood {
    /// Reads it; `None` where there is none that can be used.
    pub fn load(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        prepare(path, &text)?.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_whole_through_links_with_mode_kept() {
        let dir = std::env::temp_dir().join(format!("sluice-persist-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("temporary directory");
        let (real, link) = (dir.join("real"), dir.join("link"));
        fs::write(&real, "old").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("mode");
        std::os::unix::fs::symlink(&real, &link).expect("linked");

        drop(prepare(&link, "never").expect("prepared"));
        assert_eq!(fs::read_to_string(&real).expect("read"), "old");
        prepare(&link, "new").expect("prepared").commit().expect("committed");
        assert_eq!(fs::read_to_string(&real).expect("read"), "new");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(&dir).expect("listed").count(), 2, "nothing is left lying about");
        assert!(prepare(&dir.join("no/such/place"), "x").is_err());

        let last =
            LastGood { text: "default in drop\n".into(), generation: 4, ..LastGood::default() };
        last.save(&dir.join("live.json")).expect("saved");
        assert_eq!(LastGood::load(&dir.join("live.json")), Some(last));
        assert_eq!(LastGood::load(&real), None);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
