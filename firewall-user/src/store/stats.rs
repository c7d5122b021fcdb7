//! What the history counts about itself.

use super::Limits;
use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// How the history goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that it may have.
    pub max_bytes: u64,
    /// How long ago a record may have ended, ms.
    pub max_age_ms: u64,
    /// Bytes of its write-ahead log beside it.
    pub wal_bytes: u64,
    /// Rows written: begun.
    pub written: u64,
    /// Rows completed: ended.
    pub completed: u64,
    /// Rows deleted, because of age or size.
    pub deleted: u64,
    /// Records that were never written: the queue was full, or the database refused them.
    pub lost: u64,
    /// Ends of records that aren't there (lost, or deleted since).
    pub unmatched: u64,
    /// Errors of the database, retries included.
    pub errors: u64,
    /// Records waiting to be written.
    pub queued: u64,
    /// What is in the way right now.
    pub trouble: Option<String>,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) unmatched: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) queued: AtomicU64,
    /// Which file it is that is open: counts up with each; 0: none.
    pub(super) file: AtomicU64,
    /// Nothing more is to be awaited.
    pub(super) stopping: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Counters {
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets (or clears) what is in the way; whether that is news.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut slot = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let news = slot.is_some() != trouble.is_some();
        *slot = trouble;
        news
    }

    pub(super) fn snapshot(&self, path: &Path, limits: &Limits) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let wal = super::database::beside(path, "-wal");
        StoreStats {
            path: path.to_owned(),
            bytes: read(&self.bytes),
            max_bytes: limits.max_bytes,
            max_age_ms: limits.max_age_ms,
            wal_bytes: std::fs::metadata(wal).map_or(0, |file| file.len()),
            written: read(&self.written),
            completed: read(&self.completed),
            deleted: read(&self.deleted),
            lost: read(&self.lost),
            unmatched: read(&self.unmatched),
            errors: read(&self.errors),
            queued: read(&self.queued),
            trouble: self.trouble(),
        }
    }
}
