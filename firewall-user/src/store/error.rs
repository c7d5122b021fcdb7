//! What can go wrong with the database, and what is to be done about it.

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the history doesn't answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file isn't open.
    #[error("the history isn't open: {0}")]
    NotOpen(String),
    /// SQLite refused.
    #[error("the history can't be read: {0}")]
    Sql(#[from] rusqlite::Error),
    /// It had to be given up.
    #[error(
        "it took longer than {} s: give a shorter time (`since`, `until`) or a narrower filter",
        .0.as_secs()
    )]
    Slow(std::time::Duration),
}

/// Why the file can't be used.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// SQLite refused.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// The system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It was made by a version that came later.
    #[error("its schema is version {found}, this version of Sluice knows up to {known}")]
    Newer {
        /// Version of the file.
        found: u32,
        /// Version of this program.
        known: u32,
    },
}

/// What to do about an error of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The file is broken: move it aside and begin a new one.
    MoveAside,
    /// The disk is full, or something is in the way: try again later.
    Wait,
    /// These records can't be written, ever.
    GiveUp,
}

/// What to do about `error`.
pub(super) fn remedy(error: &rusqlite::Error) -> Remedy {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Remedy::MoveAside,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted,
        ) => Remedy::Wait,
        _ => Remedy::GiveUp,
    }
}
