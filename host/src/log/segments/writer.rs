//! The one thread that writes to a partition.
//!
//! In: appends, through a bounded queue. Out: an answer to each, once it is durable.
//!
//! Whatever waits is written as one group: one write, one flush, then all are answered. While a flush is under way
//! the next group gathers, so the rate adapts to the disk, and a lone append costs one flush.
//!
//! Invariants:
//! - a group is written only after the one before was flushed (the format relies on it, see `frame.rs`);
//! - a group that failed leaves nothing: the file is cut back, durably; or else, since nothing is known of a file
//!   whose flush failed, nothing is ever written to it again and the next group begins a new segment, in front of
//!   which readers stop.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Store;
use super::disk::failed;
use super::frame;
use super::header::Header;
use super::mark::{Mark, Synced};
use super::partition::Partition;
use super::retention;
use super::segment::{Place, Segment};
use crate::event::Offset;
use crate::limits::LOG_GROUP_BYTES_MAX;
use crate::log::LogError;

/// What an append is answered.
pub(super) type Answer = Result<Range<Offset>, LogError>;

/// An append that waits.
#[derive(Debug)]
pub(super) struct Append {
    /// At least one.
    pub(super) records: Vec<Bytes>,
    /// Nobody may be there any more.
    pub(super) reply: oneshot::Sender<Answer>,
}

impl Append {
    fn bytes(&self) -> u64 {
        self.records.iter().map(|record| frame::frame_bytes(record)).sum()
    }
}

/// Whether the last segment can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tip {
    Open,
    /// Nothing is known of what lies behind its durable length.
    Sealed,
}

/// The writer of a partition.
pub(super) struct Writer {
    store: Arc<Store>,
    partition: Arc<Partition>,
    segment: Arc<Segment>,
    file: File,
    mark: Mark,
    tip: Tip,
    group: Vec<u8>,
    /// The place behind each frame of the group.
    places: Vec<Place>,
    wake_retention: SyncSender<()>,
}

impl Writer {
    /// A writer that goes on at the end of `segment`, the partition's last, open as `file`.
    pub(super) fn new(
        store: Arc<Store>,
        partition: Arc<Partition>,
        segment: Arc<Segment>,
        file: File,
        mark: Mark,
        wake_retention: SyncSender<()>,
    ) -> Self {
        let (tip, group, places) = (Tip::Open, Vec::new(), Vec::new());
        Self { store, partition, segment, file, mark, tip, group, places, wake_retention }
    }

    /// Writes what comes, until nobody is left who could append.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Append>) {
        let mut appends = Vec::new();
        // What did not fit into the group before.
        let mut left = None;
        while let Some(first) = left.take().or_else(|| queue.blocking_recv()) {
            let mut bytes = first.bytes();
            appends.push(first);
            while let Ok(next) = queue.try_recv() {
                bytes += next.bytes();
                if bytes > LOG_GROUP_BYTES_MAX {
                    bytes -= next.bytes();
                    left = Some(next);
                    break;
                }
                appends.push(next);
            }
            self.append(&mut appends, bytes);
        }
        self.mark.sync();
    }

    /// Writes a group and answers all of it.
    fn append(&mut self, appends: &mut Vec<Append>, bytes: u64) {
        let mut next = self.partition.end();
        let written = self.write(appends, bytes);
        for Append { records, reply } in appends.drain(..) {
            let end = next.plus(records.len() as u64);
            let answer = match &written {
                Ok(()) => Ok(next..end),
                Err(error) => Err(error.clone()),
            };
            // Who does not wait any more does not want to know.
            let _ = reply.send(answer);
            next = end;
        }
    }

    fn write(&mut self, appends: &[Append], bytes: u64) -> Result<(), LogError> {
        if bytes >= u64::from(u32::MAX) {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "one append holds 4 GiB or more: split it");
            return Err(failed(&self.segment.path, source));
        }
        self.make_room(bytes)?;
        self.frame(appends);
        let start = self.segment.length();
        if let Err(source) = self.store.disk.write_at(&self.file, &self.group, start) {
            self.cut_back();
            return Err(failed(&self.segment.path, source));
        }
        if let Err(source) = self.store.disk.sync(&self.file) {
            self.cut_back();
            self.tip = Tip::Sealed;
            return Err(failed(&self.segment.path, source));
        }
        self.confirm(appends);
        Ok(())
    }

    /// Builds the bytes of a group.
    fn frame(&mut self, appends: &[Append]) {
        let start = self.segment.length();
        self.group.clear();
        self.group.shrink_to(2 * LOG_GROUP_BYTES_MAX as usize);
        self.places.clear();
        let mut offset = self.partition.end();
        for record in appends.iter().flat_map(|append| &append.records) {
            frame::encode(&mut self.group, self.segment.seed, start, record);
            offset = offset.plus(1);
            self.places.push(Place { offset, at: start + self.group.len() as u64 });
        }
    }

    /// Shows a group that is durable.
    fn confirm(&mut self, appends: &[Append]) {
        let length = self.segment.length() + self.group.len() as u64;
        self.mark.write(Synced { segment: self.segment.first(), length });
        self.segment.set_length(length);
        {
            let mut index = self.segment.index();
            self.places.iter().for_each(|place| index.pass(*place));
        }
        self.partition.publish(appends.iter().flat_map(|append| &append.records));
    }

    /// Takes back what a failed write left. If that cannot be made durable, the file is not used any more.
    fn cut_back(&mut self) {
        let disk = &self.store.disk;
        let cut = disk.truncate(&self.file, self.segment.length()).and_then(|()| disk.sync(&self.file));
        if let Err(error) = cut {
            tracing::warn!(path = %self.segment.path.display(), %error, "closing a segment that cannot be cut back");
            self.tip = Tip::Sealed;
        }
    }

    /// Sees to it that a group of so many bytes may be written to the segment.
    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        if self.is_due(bytes) {
            // Should it fail, a file may be there that begins where this one must end then.
            self.tip = Tip::Sealed;
            self.begin_segment()?;
            self.tip = Tip::Open;
        }
        if self.store.bytes() < self.store.config.bytes_max {
            return Ok(());
        }
        retention::remove_due(&self.store, SystemTime::now());
        let held = self.store.bytes();
        if held < self.store.config.bytes_max {
            return Ok(());
        }
        Err(LogError::Full { bytes: held, consumer: self.store.hinderer(&self.partition) })
    }

    fn is_due(&self, bytes: u64) -> bool {
        let full = self.segment.length() + bytes > self.store.config.segment_bytes_max;
        let age = SystemTime::now().duration_since(self.segment.header.created_at).unwrap_or_default();
        let old = age >= self.store.config.age_max;
        self.tip == Tip::Sealed || (!self.segment.is_empty() && (full || old))
    }

    /// Goes on in a new segment.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        let header = Header {
            partition: self.partition.number,
            partition_count: self.store.config.partition_count,
            first: self.partition.end(),
            created_at: SystemTime::now(),
            positions: self.partition.positions(),
        };
        let (segment, file) = Segment::create(&*self.store.disk, &self.partition.folder, header)?;
        self.segment = Arc::new(segment);
        self.file = file;
        self.partition.push_segment(Arc::clone(&self.segment));
        self.mark.write(Synced { segment: self.segment.first(), length: self.segment.length() });
        // Full already means that it was woken and has not come to it yet.
        let _ = self.wake_retention.try_send(());
        Ok(())
    }
}
