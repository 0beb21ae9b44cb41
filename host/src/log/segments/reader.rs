//! Reading a segment file: frame by frame, each checked.
//!
//! Invariant: nothing is returned whose checksums are wrong, and nothing behind the bytes that are durable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::disk::failed;
use super::frame::{HEAD_BYTES, Head};
use super::segment::{Place, Segment};
use crate::event::Offset;
use crate::limits::LOG_READ_BYTES;
use crate::log::{LogError, Record};

/// What to do about confirmed records that cannot be read any more: they are nowhere else.
pub(super) const REPAIR: &str = "restore the file from a backup; without one, move the folder with all data of this \
                                 program away and start again, which takes a new snapshot of the source";

/// Reads records of a segment from `from` up to before `until`, both of which it has: at least one, at most
/// `count_max`, and no further one once `bytes_max` is reached.
///
/// # Errors
/// `Damaged` at the first frame that is not what was written, unless a record comes before it; `Io` if the file
/// cannot be read.
pub(super) fn read(
    segment: &Segment,
    from: Offset,
    until: Offset,
    count_max: usize,
    bytes_max: usize,
) -> Result<Vec<Record>, LogError> {
    let file = File::open(&segment.path).map_err(|source| failed(&segment.path, source))?;
    let mut place = segment.index().before(from);
    let mut frames = Frames::new(&file, segment, place.at, segment.length());
    let (mut records, mut bytes) = (Vec::new(), 0);
    while place.offset < until {
        let step = if place.offset < from { frames.skip() } else { frames.next() };
        let payload = match step {
            Ok(Some(payload)) => payload,
            // What is whole before the damage is still served: the next read begins at it and says so.
            Ok(None) if !records.is_empty() => break,
            Err(error) => return Err(error),
            Ok(None) => return Err(damaged(segment, frames.at(), place.offset)),
        };
        if place.offset >= from {
            bytes += payload.len();
            records.push(Record { offset: place.offset, payload });
        }
        place = Place { offset: place.offset.plus(1), at: frames.at() };
        segment.index().pass(place);
        if records.len() >= count_max.max(1) || (!records.is_empty() && bytes >= bytes_max) {
            break;
        }
    }
    segment.index().stop(place);
    Ok(records)
}

/// The error for a frame that is not what was written.
pub(super) fn damaged(segment: &Segment, at: u64, offset: Offset) -> LogError {
    LogError::Damaged {
        path: segment.path.display().to_string(),
        at,
        what: format!("record {offset}, which was confirmed, is not what was written. To repair: {REPAIR}"),
    }
}

/// The frames of a part of a file, one after the other.
pub(super) struct Frames<'a> {
    file: &'a File,
    segment: &'a Segment,
    /// What was read and not yet passed.
    buffer: BytesMut,
    /// The position of the buffer's first byte: of the next frame.
    at: u64,
    end: u64,
}

impl<'a> Frames<'a> {
    /// The frames from position `at` on; nothing is read at or behind `end`.
    pub(super) fn new(file: &'a File, segment: &'a Segment, at: u64, end: u64) -> Self {
        Self { file, segment, buffer: BytesMut::new(), at, end }
    }

    /// Where the next frame begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next payload; `None` if there is no valid frame, and then the place stays.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        let Some(head) = self.head()? else { return Ok(None) };
        let length = head.length as usize;
        self.fill(HEAD_BYTES + length)?;
        let valid = self.buffer.len() >= HEAD_BYTES + length
            && head.fits(&self.buffer[HEAD_BYTES..HEAD_BYTES + length]);
        if !valid {
            return Ok(None);
        }
        self.at = head.end(self.at);
        let mut frame = self.buffer.split_to(HEAD_BYTES + length);
        Ok(Some(frame.split_off(HEAD_BYTES).freeze()))
    }

    /// Passes the next frame by its head alone; `None` if there is none, and then the place stays.
    pub(super) fn skip(&mut self) -> Result<Option<Bytes>, LogError> {
        let Some(head) = self.head()? else { return Ok(None) };
        let frame = HEAD_BYTES + head.length as usize;
        self.at = head.end(self.at);
        if frame <= self.buffer.len() {
            let _ = self.buffer.split_to(frame);
        } else {
            self.buffer.clear();
        }
        Ok(Some(Bytes::new()))
    }

    fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.fill(HEAD_BYTES)?;
        let Some(bytes) = self.buffer.first_chunk() else { return Ok(None) };
        let head = Head::decode(self.segment.seed, self.at, bytes);
        Ok(head.filter(|head| head.end(self.at) <= self.end))
    }

    /// Reads until the buffer has `wanted` bytes, or all up to the end.
    fn fill(&mut self, wanted: usize) -> Result<(), LogError> {
        while self.buffer.len() < wanted {
            let from = self.at + self.buffer.len() as u64;
            let missing = (wanted - self.buffer.len()).max(LOG_READ_BYTES);
            let count = usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX).min(missing);
            if count == 0 {
                return Ok(());
            }
            let there = self.buffer.len();
            self.buffer.resize(there + count, 0);
            let read = match self.file.read_at(&mut self.buffer[there..], from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                // The file is shorter than it was: what is missing is damage, which the caller sees as a short buffer.
                Ok(0) => {
                    self.buffer.truncate(there);
                    return Ok(());
                }
                other => other,
            };
            self.buffer.truncate(there + *read.as_ref().unwrap_or(&0));
            read.map_err(|source| failed(&self.segment.path, source))?;
        }
        Ok(())
    }
}

/// The error for a segment whose file is gone.
pub(super) fn missing(path: &Path, offset: Offset) -> LogError {
    LogError::Damaged {
        path: path.display().to_string(),
        at: 0,
        what: format!("the file, with record {offset}, is gone. To repair: {REPAIR}"),
    }
}
