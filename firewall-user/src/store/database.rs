//! The file: opening, its schema's versions, moving it aside.

use super::{
    error::{OpenError, Remedy, remedy},
    now_ms,
    tables::SCHEMA,
};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long somebody else may hold the file locked (the `sqlite3` shell, a backup).
const PATIENCE: Duration = Duration::from_secs(2);

/// Marks the file as ours, for `file`(1) and for us: "Slce".
const APPLICATION: i32 = 0x536c_6365;

/// The path with something at its end.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

/// Opens the file for writing, makes it where there is none, and brings its schema up to date.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // Who talked to whom is nobody else's business; SQLite gives its other files the same mode.
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(PATIENCE)?;
    // Before the first table: it decides the file's layout.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A crash of the daemon loses nothing that was written; one of the machine may lose what was
    // written last, but leaves the file whole.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Pages of the indexes come back often: the longer the log, the fewer times each is carried over.
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -(32 << 10))?;
    connection.set_prepared_statement_cache_capacity(32);
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens the file for questions.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let known = u32::try_from(SCHEMA.len()).unwrap_or(u32::MAX);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    if found < known {
        for step in &SCHEMA[found as usize..] {
            transaction.execute_batch(step)?;
        }
        if found == 0 {
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction
                .execute("INSERT INTO facts (name, value) VALUES ('since', ?1)", [now_ms()])?;
        } else {
            log::info!("history: schema brought from version {found} to {known}");
        }
        transaction.pragma_update(None, "user_version", known)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Where a file that can't be used goes, and why; `None` if it is to be tried again as it is.
pub(super) fn verdict(path: &Path, error: &OpenError) -> Option<(PathBuf, String)> {
    match error {
        OpenError::Newer { .. } => Some((beside(path, ".newer"), error.to_string())),
        // While it is opened, an error in the SQL means that it isn't the schema that it claims to be.
        OpenError::Sql(sql) if remedy(sql) != Remedy::Wait => {
            Some((beside(path, ".corrupt"), error.to_string()))
        }
        OpenError::Sql(_) | OpenError::Io(_) => None,
    }
}

/// Moves the file aside. One that was put there before is replaced: what is kept for looking at later
/// must not fill the disk.
pub(super) fn move_aside(path: &Path, to: &Path) -> io::Result<()> {
    for end in ["-wal", "-shm"] {
        let (from, to) = (beside(path, end), beside(to, end));
        match fs::rename(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // None to go with the file: one of an earlier file mustn't be taken for it.
                match fs::remove_file(to) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            done => done?,
        }
    }
    fs::rename(path, to)
}
