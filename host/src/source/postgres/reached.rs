//! How far the slot may have come: the last place that the source was about to confirm, in a file beside the change
//! log.
//!
//! In: places that are safe. Out: the same places, once they are written down, so that the server may learn of them.
//!
//! Invariant: the file names no place before one that the server was told. So a slot that stands beyond it was moved
//! by somebody else, or is another one of the same name, and what lies between is lost. A change log without such a
//! file (it is older, or its slot is being made) takes the slot as it finds it.
//!
//! `FOLDER/SOURCE.reached`: the place in sixteen hexadecimal digits. It is written over in place, which is one flush
//! and needs no room on a full disk.

use std::fs::OpenOptions;
use std::future::pending;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::error::SourceError;
use crate::limits::SOURCE_RECORD_INTERVAL;

/// The file of a source.
pub(super) fn path(folder: &Path, source: &str) -> PathBuf {
    folder.join(format!("{source}.reached"))
}

/// Forgets it: a slot is about to be made.
///
/// # Errors
/// [`SourceError::ServerFile`].
pub(super) fn forget(path: &Path) -> Result<(), SourceError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What is written down; nothing if that is not a whole place.
pub(super) fn read(path: &Path) -> Result<Option<u64>, SourceError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(u64::from_str_radix(text.trim_end(), 16).ok().filter(|_| text.len() == 17)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// Places on their way through the file.
pub(super) struct Reached {
    path: PathBuf,
    wanted: u64,
    recorded: u64,
    begun_at: Option<Instant>,
    recording: Option<JoinHandle<io::Result<u64>>>,
}

impl Reached {
    /// Begins with where the slot stands, and writes that down.
    ///
    /// # Errors
    /// [`SourceError::ServerFile`].
    pub(super) fn begin(path: PathBuf, place: u64) -> Result<Self, SourceError> {
        record(&path, place).map_err(|cause| failed(&path, cause))?;
        Ok(Self { path, wanted: place, recorded: place, begun_at: None, recording: None })
    }

    /// Everything before this place is safe.
    pub(super) fn want(&mut self, place: u64) {
        self.wanted = self.wanted.max(place);
    }

    /// The next place that is written down, at most one each [`SOURCE_RECORD_INTERVAL`]; waits for ever where none is
    /// wanted. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Result<u64, SourceError> {
        if self.recording.is_none() {
            if self.wanted <= self.recorded {
                pending::<()>().await;
            }
            if let Some(begun_at) = self.begun_at {
                sleep_until(begun_at + SOURCE_RECORD_INTERVAL).await;
            }
        }
        self.now().await
    }

    /// The last place that was wanted, once it is written down.
    pub(super) async fn settle(&mut self) -> Result<u64, SourceError> {
        while self.recorded < self.wanted || self.recording.is_some() {
            self.now().await?;
        }
        Ok(self.recorded)
    }

    async fn now(&mut self) -> Result<u64, SourceError> {
        let recording = self.recording.get_or_insert_with(|| {
            let (path, place) = (self.path.clone(), self.wanted);
            self.begun_at = Some(Instant::now());
            spawn_blocking(move || record(&path, place).map(|()| place))
        });
        let recorded = recording.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        self.recording = None;
        self.recorded = recorded.map_err(|cause| failed(&self.path, cause))?;
        Ok(self.recorded)
    }
}

fn record(path: &Path, place: u64) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all_at(format!("{place:016X}\n").as_bytes(), 0)?;
    file.sync_data()
}

fn failed(path: &Path, cause: io::Error) -> SourceError {
    SourceError::ServerFile { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_given_once_it_is_written_down() {
        let home = tempfile::tempdir().expect("a folder");
        let path = path(home.path(), "shop");
        assert_eq!(read(&path).expect("there is none"), None);
        let mut reached = Reached::begin(path.clone(), 0x10).expect("it is written");
        assert_eq!(read(&path).expect("it is there"), Some(0x10));
        reached.want(0x1_0000_0020);
        reached.want(0x18);
        assert_eq!(reached.next().await.expect("it is written"), 0x1_0000_0020);
        assert_eq!(read(&path).expect("it is there"), Some(0x1_0000_0020));
        reached.want(0x1_0000_0030);
        assert_eq!(reached.settle().await.expect("it is written"), 0x1_0000_0030);
        assert_eq!(read(&path).expect("it is there"), Some(0x1_0000_0030));
        assert_eq!(reached.settle().await.expect("nothing is wanted"), 0x1_0000_0030);
    }

    #[test]
    fn what_is_no_whole_place_is_none_and_a_forgotten_one_too() {
        let home = tempfile::tempdir().expect("a folder");
        let path = path(home.path(), "shop");
        for text in ["", "0000000000000010", "000000000000zz10\n", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            std::fs::write(&path, text).expect("it is written");
            assert_eq!(read(&path).expect("it is there"), None, "{text:?}");
        }
        forget(&path).expect("it is removed");
        forget(&path).expect("it is gone");
        assert_eq!(read(&path).expect("it is gone"), None);
    }
}
