//! What sets hold, on disk: read when they are made anew, after a reboot.

use super::Sets;
use crate::{
    daemon::control::persist,
    policy::units,
    sets::{Declared, Live, Reader, Timed, write},
};
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// Between two times that a set is written down. One that takes long is written more seldom.
const REST: Duration = Duration::from_secs(4);

/// A set's file. Names are the policy's, letters, digits and some signs; whatever else there may be is written by number.
fn path(dir: &Path, name: &str) -> PathBuf {
    let mut file = String::with_capacity(name.len() + 5);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            file.push(char::from(byte));
        } else {
            file.push_str(&format!("%{byte:02X}"));
        }
    }
    dir.join(file + ".list")
}

/// Entries that were kept, less those that have ended since.
pub(super) fn read(dir: &Path, declared: &Declared) -> Vec<Timed> {
    let path = path(dir, &declared.name);
    let Ok(text) = fs::read(&path) else { return Vec::new() };
    let written = fs::metadata(&path).and_then(|data| data.modified());
    let since = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
    let since = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let name = path.display().to_string();
    let reader = Reader { file: &name, kind: declared.kind, duration: units::duration_ms };
    let mut entries: Vec<Timed> = Vec::new();
    let mut keep = |entry, timeout: Option<u64>| match timeout {
        None => entries.push((entry, None)),
        Some(ms) if ms > since => entries.push((entry, Some(ms - since))),
        Some(_) => {}
    };
    // What can be read of it is better than nothing.
    if let Err(error) = reader.read(&text, &mut keep) {
        log::error!("set `{}`: what it held isn't all read: {error}", declared.name);
    }
    entries
}

/// A set is no more.
pub(super) fn forget(dir: &Path, name: &str) {
    let _ = fs::remove_file(path(dir, name));
}

fn save(dir: &Path, name: &str, live: &Live) -> std::io::Result<()> {
    let failed = |error: &dyn std::fmt::Display| std::io::Error::other(error.to_string());
    let mut entries = live.entries().map_err(|error| failed(&error))?;
    entries.sort_unstable();
    let mut text = format!("# live set {name}\n").into_bytes();
    write(&mut text, entries)?;
    let text = String::from_utf8(text).map_err(|error| failed(&error))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    persist::prepare(&path(dir, name), &text)?.commit()
}

impl Sets {
    /// Writes down those that have changed; `all`: at once.
    pub(super) async fn keep(&self, all: bool) {
        let due: Vec<(String, Live)> = {
            let mut desk = self.0.desk.lock().await;
            let now = Instant::now();
            let due = desk.0.iter_mut().filter(|(_, known)| {
                known.dirty && (all || known.kept.is_none_or(|next| next <= now))
            });
            due.map(|(name, known)| {
                known.dirty = false;
                (name.clone(), known.live.clone())
            })
            .collect()
        };
        for (name, live) in due {
            let dir = self.0.kept.clone();
            let (begun, said) = (Instant::now(), name.clone());
            let saved = tokio::task::spawn_blocking(move || save(&dir, &said, &live)).await;
            let saved = saved.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let mut desk = self.0.desk.lock().await;
            let Some(known) = desk.0.get_mut(&name) else {
                // It went while it was written.
                forget(&self.0.kept, &name);
                continue;
            };
            known.kept = Some(Instant::now() + REST + 8 * begun.elapsed());
            if let Err(error) = saved {
                log::error!("set `{name}`: what it holds isn't written down: {error}");
                known.dirty = true;
            }
        }
    }
}
