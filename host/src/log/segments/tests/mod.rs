//! The embedded change log under crashes, damage, full disks, retention, and against a slow model.
//!
//! `damage` destroys bytes as power loss and bad disks do; `faults` makes the disk fail; `model` is random.

mod damage;
mod faults;
mod limits;
mod model;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Config, Segments};
use crate::log::contract::{Fixture, change_log_contract};
use crate::log::{ChangeLog, LogError};

/// A log in a folder, new or as it was left, for tests of who uses one.
pub(crate) fn local(folder: &Path) -> Arc<dyn ChangeLog> {
    Arc::new(Segments::open(Config::new(folder.join("log"))).expect("the log opens"))
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> Config {
        Config::new(self.path().join("log"))
    }

    fn open(&self) -> Segments {
        self.try_open().expect("the log opens")
    }

    fn try_open(&self) -> Result<Segments, LogError> {
        Segments::open(self.config())
    }

    /// The segment files of partition 0, in order.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.path().join("log/0"))
            .expect("the folder is there")
            .map(|entry| entry.expect("the folder can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        files
    }

    fn last_file(&self) -> PathBuf {
        self.files().pop().expect("there is a segment")
    }

    fn mark(&self) -> PathBuf {
        self.path().join("log/0/synced")
    }
}

impl Fixture for Folder {
    async fn open(&self) -> Arc<dyn ChangeLog> {
        // The smallest segments, so that the contract crosses their bounds.
        let config = Config { partition_count: 2, segment_bytes_max: 200, ..self.config() };
        Arc::new(Segments::open(config).expect("the log opens"))
    }
}

change_log_contract!(Folder::new());

#[test]
fn a_second_process_is_refused_and_told_why() {
    let folder = Folder::new();
    let first = folder.open();
    let error = folder.try_open().err().expect("it is refused");
    let LogError::Io { path, source } = &error else { panic!("{error}") };
    assert!(path.ends_with("log") && source.to_string().contains("another process has it open"), "{source}");
    drop(first);
    folder.open();
}

#[test]
fn another_number_of_partitions_is_refused_and_leaves_the_log_as_it_is() {
    let folder = Folder::new();
    drop(folder.open());
    let error =
        Segments::open(Config { partition_count: 3, ..folder.config() }).err().expect("it is refused");
    assert!(error.to_string().contains("made with 1 partitions and cannot be opened with 3"), "{error}");
    folder.open();
}
