//! One segment file: its header, how much of it is durable, and where in it offsets are.
//!
//! A file is named by its first offset, in 20 digits, so that names sort as offsets do. It ends, for readers, where
//! the next segment's offsets begin: what lies behind that is the rest of an append that failed.
//!
//! Invariant: a file has its name only once its header is durable; its frames begin right after the header.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, replace};
use super::frame::Seed;
use super::header::{Header, Stored};
use crate::event::Offset;
use crate::limits::LOG_INDEX_BYTES;
use crate::log::LogError;

/// How segment files end.
pub(super) const EXTENSION: &str = "log";

/// One segment file.
#[derive(Debug)]
pub(super) struct Segment {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it says of itself.
    pub(super) header: Header,
    /// Where the first frame begins.
    pub(super) header_bytes: u64,
    /// What its checksums begin with.
    pub(super) seed: Seed,
    length: AtomicU64,
    index: Mutex<Index>,
}

impl Segment {
    /// Makes a new file, durably. Returns it open as well. On an error the file may be there, without records.
    pub(super) fn create(disk: &dyn Disk, folder: &Path, header: Header) -> Result<(Self, File), LogError> {
        let path = folder.join(file_name(header.first));
        let (bytes, stored) = header.encode();
        let file = replace(disk, &path, &bytes)?;
        let length = stored.length;
        Ok((Self::new(path, stored, length), file))
    }

    /// A file that is there, `length` bytes of which are durable.
    pub(super) fn new(path: PathBuf, stored: Stored, length: u64) -> Self {
        let Stored { header, length: header_bytes, seed } = stored;
        let index = Index::new(Place { offset: header.first, at: header_bytes });
        Self { path, header, header_bytes, seed, length: AtomicU64::new(length), index: Mutex::new(index) }
    }

    /// Its first offset.
    pub(super) fn first(&self) -> Offset {
        self.header.first
    }

    /// Bytes that are durable.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Whether it has no record.
    pub(super) fn is_empty(&self) -> bool {
        self.length() == self.header_bytes
    }

    /// Says that so many bytes are durable.
    pub(super) fn set_length(&self, length: u64) {
        self.length.store(length, Ordering::Release);
    }

    /// The index. Never held over reading or writing.
    pub(super) fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The name of the file whose first record is at `first`.
pub(super) fn file_name(first: Offset) -> String {
    format!("{:020}.{EXTENSION}", first.0)
}

/// The first offset of a file of this name, if it is a segment's.
pub(super) fn first_of(path: &Path) -> Option<Offset> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    let named = digits && path.extension().is_some_and(|extension| extension == EXTENSION);
    named.then(|| stem.parse().ok().map(Offset))?
}

/// Where a record's frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The record.
    pub(super) offset: Offset,
    /// The frame's position in the file.
    pub(super) at: u64,
}

/// The places of some records, at most one for each `LOG_INDEX_BYTES`; learned by whoever passes by.
#[derive(Debug)]
pub(super) struct Index {
    places: Vec<Place>,
    /// Where the last reader stopped, since it will most likely go on there.
    stopped: Place,
}

impl Index {
    fn new(first: Place) -> Self {
        Self { places: vec![first], stopped: first }
    }

    /// Learns a place, if it is far enough behind the last one.
    pub(super) fn pass(&mut self, place: Place) {
        if self.places.last().is_none_or(|last| place.at >= last.at + LOG_INDEX_BYTES) {
            self.places.push(place);
        }
    }

    /// Notes where a reader stopped.
    pub(super) fn stop(&mut self, place: Place) {
        self.stopped = place;
    }

    /// The last known place at or before a record of the segment.
    pub(super) fn before(&self, offset: Offset) -> Place {
        let after = self.places.partition_point(|place| place.offset <= offset);
        let known = self.places[after.saturating_sub(1)];
        if self.stopped.offset <= offset { known.max(self.stopped) } else { known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64, at: u64) -> Place {
        Place { offset: Offset(offset), at }
    }

    #[test]
    fn the_index_finds_the_last_known_place_before_a_record() {
        let mut index = Index::new(place(10, 100));
        index.pass(place(11, 120));
        index.pass(place(20, 100 + LOG_INDEX_BYTES));
        index.pass(place(30, 100 + 2 * LOG_INDEX_BYTES));
        assert_eq!(index.before(Offset(19)), place(10, 100));
        assert_eq!(index.before(Offset(20)), place(20, 100 + LOG_INDEX_BYTES));
        index.stop(place(25, 70_000));
        assert_eq!(index.before(Offset(24)), place(20, 100 + LOG_INDEX_BYTES));
        assert_eq!(index.before(Offset(29)), place(25, 70_000));
        assert_eq!(index.before(Offset(99)), place(30, 100 + 2 * LOG_INDEX_BYTES));
    }

    #[test]
    fn names_are_read_back_and_others_are_not_segments() {
        assert_eq!(file_name(Offset(42)), "00000000000000000042.log");
        assert_eq!(first_of(Path::new("0/00000000000000000042.log")), Some(Offset(42)));
        for other in ["42.log", "00000000000000000042.new", "synced", "0000000000000000004x.log"] {
            assert_eq!(first_of(Path::new(other)), None, "{other}");
        }
    }
}
