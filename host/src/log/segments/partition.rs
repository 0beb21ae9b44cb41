//! One partition as its readers, its writer and retention see it.
//!
//! Invariants: there is always a segment, and the last one is the writer's; offsets are gapless over the segments;
//! what is at or behind the end is invisible, so only durable records are seen.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use super::disk::{Disk, failed, sync_folder};
use super::header::Positions;
use super::reader;
use super::segment::Segment;
use super::tail::Tail;
use crate::event::{Header, Offset, Partition as Number, Position};
use crate::limits::{LOG_SOURCES_COUNT_MAX, LOG_TAIL_BYTES_MAX};
use crate::log::{LogError, Record};

/// The segments of a partition, in order.
pub(super) type SegmentList = VecDeque<Arc<Segment>>;

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Which one.
    pub(super) number: Number,
    /// Where its files are.
    pub(super) folder: PathBuf,
    segments: RwLock<SegmentList>,
    tail: Mutex<Tail>,
    positions: Mutex<Positions>,
    /// The offset of the next record; readers wait on it.
    end: watch::Sender<Offset>,
}

impl Partition {
    /// A partition with these segments, the first of whose missing records is `end`.
    pub(super) fn new(
        number: Number,
        folder: PathBuf,
        segments: SegmentList,
        end: Offset,
        positions: Positions,
    ) -> Self {
        Self {
            number,
            folder,
            segments: RwLock::new(segments),
            tail: Mutex::new(Tail::new(end, LOG_TAIL_BYTES_MAX)),
            positions: Mutex::new(positions),
            end: watch::Sender::new(end),
        }
    }

    /// The first record kept, and the offset of the next one.
    pub(super) fn bounds(&self) -> Range<Offset> {
        let end = self.end();
        let first = self.segments().front().map_or(end, |segment| segment.first());
        first..end
    }

    /// The offset of the next record.
    pub(super) fn end(&self) -> Offset {
        *self.end.borrow()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.length()).sum()
    }

    /// The position of the last record of a source.
    pub(super) fn position(&self, source: &str) -> Option<Position> {
        self.lock_positions().get(source).copied()
    }

    /// The positions of all sources.
    pub(super) fn positions(&self) -> Positions {
        self.lock_positions().clone()
    }

    /// Waits for a record at `from`, and reads on from there. Only durable records are seen.
    pub(super) async fn read(
        self: &Arc<Self>,
        from: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let mut ends = self.end.subscribe();
        // The sender is this partition's, so the wait never fails.
        let end = ends.wait_for(|end| *end > from).await.map_or_else(|_| self.end(), |end| *end);
        let (segment, until) = self.find(from, end)?;
        if let Some(records) = self.lock_tail().read(from, count_max, bytes_max) {
            return Ok(records);
        }
        let path = segment.path.clone();
        let read =
            tokio::task::spawn_blocking(move || reader::read(&segment, from, until, count_max, bytes_max))
                .await
                .map_err(|error| failed(&path, io::Error::other(error)))?;
        match read {
            // Retention may have been faster: then the reader is behind, not the file gone.
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.find(from, end)?;
                Err(reader::missing(&path, from))
            }
            read => read,
        }
    }

    /// The segment of a record that is there, and the offset at which the segment ends.
    fn find(&self, from: Offset, end: Offset) -> Result<(Arc<Segment>, Offset), LogError> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.first() <= from);
        let until = segments.get(after).map_or(end, |next| next.first());
        match after.checked_sub(1).and_then(|at| segments.get(at)) {
            Some(segment) => Ok((Arc::clone(segment), until)),
            None => Err(LogError::Removed { asked: from, first: until }),
        }
    }

    /// Shows durable records to the readers.
    pub(super) fn publish<'a>(&self, records: impl Iterator<Item = &'a Bytes>) {
        let mut end = self.end();
        {
            let mut tail = self.lock_tail();
            let mut positions = self.lock_positions();
            for record in records {
                advance(&mut positions, record);
                tail.push(record.clone());
                end = end.plus(1);
            }
        }
        self.end.send_replace(end);
    }

    /// Adds a segment at the end; it takes the place of an empty one of the same name.
    pub(super) fn push_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if segments.back().is_some_and(|last| last.first() == segment.first()) {
            segments.pop_back();
        }
        segments.push_back(segment);
    }

    /// The first segment and the one after it; `None` if the first is the last, which is never removed.
    pub(super) fn oldest(&self) -> Option<(Arc<Segment>, Arc<Segment>)> {
        let segments = self.segments();
        Some((Arc::clone(segments.front()?), Arc::clone(segments.get(1)?)))
    }

    /// Removes the first segment, unless it is the last. Readers stop seeing it first.
    pub(super) fn remove_oldest(&self, disk: &dyn Disk) -> Result<(), LogError> {
        let removed = {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            if segments.len() < 2 { None } else { segments.pop_front() }
        };
        let Some(segment) = removed else { return Ok(()) };
        match fs::remove_file(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = segment.path.clone();
                self.segments.write().unwrap_or_else(PoisonError::into_inner).push_front(segment);
                Err(failed(&path, error))
            }
            // One at a time, so that no crash can leave a gap in the middle.
            _ => sync_folder(disk, &self.folder),
        }
    }

    fn segments(&self) -> std::sync::RwLockReadGuard<'_, SegmentList> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_positions(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes a record's position as its source's last. A record without a header, or of one source too many, has none;
/// that of a replay is an old one, that of a change of columns another's.
pub(super) fn advance(positions: &mut Positions, record: &[u8]) {
    let Ok(Header { source, position, is_reached: true }) = Header::of(record) else { return };
    if let Some(last) = positions.get_mut(source) {
        *last = position;
    } else if positions.len() < LOG_SOURCES_COUNT_MAX {
        positions.insert(source.into(), position);
    }
}
