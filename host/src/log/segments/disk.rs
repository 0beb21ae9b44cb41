//! The few operations by which files change, apart from the rest so that tests can make them fail.
//!
//! Invariant: what goes to a segment file or replaces a small file goes through here; reading does not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::log::LogError;

/// What the log does to its files. The other implementation is in the tests and fails on demand.
pub(super) trait Disk: Send + Sync + 'static {
    /// Writes all bytes at a place. After an error any part of them may be there.
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes a file's content and length (or a folder's entries) durable. After an error nothing is known of what
    /// was written since the last success, not even by reading it: the kernel may call lost pages clean.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Cuts a file off.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
}

/// The disk.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}

/// What a file is called until it is whole; left over by a crash, it means nothing.
pub(super) const UNFINISHED: &str = "new";

/// Makes or replaces a file, durably: whoever opens it sees the old content or the new one, never a part.
/// Returns the open file.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<File, LogError> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = File::create(&unfinished).and_then(|file| {
        disk.write_at(&file, bytes, 0)?;
        disk.sync(&file)?;
        fs::rename(&unfinished, path)?;
        Ok(file)
    });
    let file = written.map_err(|source| {
        // Its space is needed. If it stays, it means nothing, and the next of its name takes its place.
        let _ = fs::remove_file(&unfinished);
        failed(path, source)
    })?;
    sync_folder(disk, parent(path))?;
    Ok(file)
}

/// Makes a folder's entries durable.
pub(super) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), LogError> {
    File::open(folder).and_then(|folder| disk.sync(&folder)).map_err(|source| failed(folder, source))
}

/// Makes a folder, with the folders above it, durably. That it is there says nothing: whoever made it may not have
/// come to make it durable, so its entry is synced in any case.
pub(super) fn create_folder(disk: &dyn Disk, folder: &Path) -> Result<(), LogError> {
    let above = parent(folder);
    if !folder.is_dir() {
        if above != folder {
            create_folder(disk, above)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(folder, error)),
            Ok(()) | Err(_) => {}
        }
    }
    sync_folder(disk, above)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// The error of the room for one of the operating system.
pub(super) fn failed(path: &Path, source: io::Error) -> LogError {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::DiskFull { path },
        _ => LogError::Io { path, source: Arc::new(source) },
    }
}
