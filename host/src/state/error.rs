//! What can go wrong with the embedded database, and what to do about it.
//!
//! In: SQLite's and the operating system's errors. Out: one enum whose variants differ in what the caller does: wait
//! ([`StateError::DiskFull`]), tell a person (all others).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why the state could not do what was asked. Cheap to clone, since one failed commit is told to every job in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// The disk has no space; nothing of the job is kept. Worth another try later.
    #[error("the disk of the state is full ({}): free some space, it goes on by itself", path.display())]
    DiskFull {
        /// The database's file.
        path: PathBuf,
    },
    /// The file holds what was never written to it.
    #[error(
        "the state {0} is damaged: {what}. Move {0}, {0}-wal and {0}-shm away and start again: if the change log still \
         reaches back to its beginning, it is applied again, set-aside changes and what was deployed by hand are lost, \
         and clients are told to reload; if not, that start says how to begin anew with a snapshot",
        path.display()
    )]
    Damaged {
        /// The database's file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Written by a newer program.
    #[error(
        "the state {} has format {found}, this program knows formats up to {known}: start the program that wrote it",
        path.display()
    )]
    Newer {
        /// The database's file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process has the folder open.
    #[error("another process uses {}: stop it, or choose another data folder", path.display())]
    InUse {
        /// The lock's file.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("the state cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// SQLite refuses.
    #[error("the state's database {} failed", path.display())]
    Database {
        /// The database's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The committer has ended: a job panicked, or the program is stopping.
    #[error("the state's committer has ended: see the log for the panic that ended it, then start again")]
    Ended,
}

impl StateError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull => Self::DiskFull { path: path.into() },
            _ => Self::Io { path: path.into(), source: Arc::new(source) },
        }
    }

    pub(super) fn database(path: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path: path.into() },
            // SQLite reports a full disk as such for plain writes only, not for flushes and for its shared index.
            Some(ErrorCode::SystemIoFailure) if has_no_space(path) => Self::DiskFull { path: path.into() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path: path.into(), what: source.to_string() }
            }
            _ => Self::Database { path: path.into(), source: Arc::new(source) },
        }
    }
}

fn has_no_space(path: &Path) -> bool {
    path.parent().and_then(|folder| nix::sys::statvfs::statvfs(folder).ok()).is_some_and(|disk| {
        disk.blocks_available() * disk.fragment_size() < crate::limits::STATE_SPACE_BYTES_MIN
    })
}
