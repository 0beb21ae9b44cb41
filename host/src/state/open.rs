//! Opening the database's file: what a start after a crash, of a newer file, or of a damaged one finds.
//!
//! In: a path. Out: the committer's connection, and the life of the state.
//!
//! To change any room's tables: raise [`FORMAT`] and bring older files up to it in [`prepare`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::StateError;
use super::journal::{Journal, survey};
use crate::limits::{
    STATE_CACHE_BYTES_MAX, STATE_CHECK_TIME_MAX, STATE_JOURNAL_BYTES_KEPT_MAX, STATE_PAGE_BYTES,
    STATE_READER_CACHE_BYTES_MAX, STATE_STATEMENTS_COUNT_MAX,
};

/// The format of the file, over the tables of all rooms.
const FORMAT: i64 = 1;

/// Makes a folder, with the folders above it, durably. That it is there says nothing: whoever made it may not have come
/// to make it durable, so its entry is synced in any case.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    let above = match folder.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return Ok(()),
    };
    if !folder.is_dir() {
        make_folder(above)?;
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    match File::open(above) {
        Ok(above) => above.sync_all(),
        // We may use a folder whose neighbours we may not see; then a person has made it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// The committer's connection to a file that is checked and of this format, and the state's life.
pub(super) fn open(path: &Path) -> Result<(Connection, i64), StateError> {
    let wal = journal_path(path);
    let journal = survey(&wal).map_err(|error| StateError::io(&wal, error))?;
    let database = |error| StateError::database(path, error);
    let mut connection = connect(path).map_err(database)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(database)?;
    if found > FORMAT {
        return Err(StateError::Newer { path: path.into(), found, known: FORMAT });
    }
    check(&mut connection, path, journal)?;
    let life = prepare(&mut connection, found, journal).map_err(database)?;
    Ok((connection, life))
}

/// A reader's job on a file of this format.
pub(super) fn look<T>(
    path: &Path,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StateError> {
    let database = |error| StateError::database(path, error);
    let mut connection = open_reader(path).map_err(database)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(database)?;
    if found > FORMAT {
        return Err(StateError::Newer { path: path.into(), found, known: FORMAT });
    }
    let snapshot = connection.transaction().map_err(database)?;
    work(&snapshot).map_err(database)
}

/// A connection that can read only.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -kibibytes(STATE_READER_CACHE_BYTES_MAX))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATE_STATEMENTS_COUNT_MAX);
    Ok(connection)
}

/// A connection that can write.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Takes effect in a new file only.
    connection.pragma_update(None, "page_size", STATE_PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The copier does that.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", STATE_JOURNAL_BYTES_KEPT_MAX)?;
    // A page that cannot be read is an error with read(), and the end of the process with mmap.
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -kibibytes(STATE_CACHE_BYTES_MAX))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATE_STATEMENTS_COUNT_MAX);
    Ok(connection)
}

/// After a proper end, nothing. After a kill, the structure of the pages, for a bounded time. After a torn journal,
/// everything, however long it takes: pages of different ages may lie side by side.
fn check(connection: &mut Connection, path: &Path, journal: Journal) -> Result<(), StateError> {
    let statement = match journal {
        Journal::Absent => return Ok(()),
        Journal::Whole => "PRAGMA quick_check(1)",
        Journal::Torn => "PRAGMA integrity_check(1)",
    };
    let database = |error| StateError::database(path, error);
    let started = Instant::now();
    if journal == Journal::Whole {
        let expired = move || started.elapsed() > STATE_CHECK_TIME_MAX;
        connection.progress_handler(10_000, Some(expired)).map_err(database)?;
    }
    let found: Result<String, _> = connection.query_row(statement, [], |row| row.get(0));
    connection.progress_handler(0, None::<fn() -> bool>).map_err(database)?;
    match found {
        Ok(found) if found == "ok" => {
            tracing::info!(took = ?started.elapsed(), "the last process did not end properly; the state is sound");
            Ok(())
        }
        Ok(what) => Err(StateError::Damaged { path: path.into(), what }),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            tracing::info!("the state is large: the check after an unclean end was cut short");
            Ok(())
        }
        Err(error) => Err(database(error)),
    }
}

/// Makes the tables of a new file, and begins a new life where something confirmed may be gone.
fn prepare(connection: &mut Connection, found: i64, journal: Journal) -> rusqlite::Result<i64> {
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    if found == 0 {
        transaction.execute_batch(
            "CREATE TABLE life (number INTEGER NOT NULL, rounds INTEGER NOT NULL) STRICT;
             INSERT INTO life VALUES (random(), 0);",
        )?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    } else if journal == Journal::Torn {
        tracing::warn!(
            "the state's journal is torn, as after a loss of power: its end was rolled back, and clients reload"
        );
        transaction.execute("UPDATE life SET number = random()", [])?;
    }
    let life = transaction.query_row("SELECT number FROM life", [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(life)
}

fn journal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn kibibytes(bytes: i64) -> i64 {
    bytes / 1_024
}
