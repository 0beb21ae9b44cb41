//! The change log: the ordered, partitioned, durable list of changes between the sources and the pipelines.
//!
//! In: encoded changes, a batch at a time. Out: the same bytes under gapless offsets, to any number of readers.
//!
//! Invariants:
//! - an append that returned is on disk and will be read after any crash; one that did not return may be there or
//!   not, whole records only, in order, and never with a gap before it;
//! - a record keeps its offset for ever; retention removes from the front, and never what a consumer has not
//!   committed. With no consumer known, nothing is removed.
//!
//! Absent on purpose: the meaning of a record, beyond its header (source, position, whether it says how far the source is).
//!
//! To add a log: implement [`ChangeLog`], run `contract.rs` on it, add a case in `app.rs`.

pub mod segments;

#[cfg(test)]
pub(crate) mod contract;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::event::{Offset, Partition, Position};

/// One record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub offset: Offset,
    /// The encoded change.
    pub payload: Bytes,
}

/// Why the log could not do what was asked. Cheap to clone, since one failed write is told to every append in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk has no space; nothing of the batch is kept. Worth another try later.
    #[error("the disk of the change log is full ({path}): free some space, it goes on by itself")]
    DiskFull {
        /// The file that could not grow.
        path: String,
    },
    /// The log has reached `log.bytes_max` and may not remove what its consumers have not committed. Worth another
    /// try once they have.
    #[error(
        "the change log holds {bytes} bytes, its limit, and {consumer} has not committed the oldest of them"
    )]
    Full {
        /// Bytes held.
        bytes: u64,
        /// The consumer that is furthest behind.
        consumer: String,
    },
    /// The reader asked for what retention has removed.
    #[error("offset {asked} is no longer in the change log, which begins at {first}")]
    Removed {
        /// What was asked for.
        asked: Offset,
        /// The first record that is there.
        first: Offset,
    },
    /// A file holds what was never written to it.
    #[error("the change log is damaged at byte {at} of {path}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where in it.
        at: u64,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Anything else that the operating system refuses.
    #[error("the change log cannot use {path}")]
    Io {
        /// The file or folder.
        path: String,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
}

/// A change log. Methods may be called from any task and thread.
#[async_trait]
pub trait ChangeLog: Send + Sync + 'static {
    /// How many partitions there are; fixed for the log's life.
    fn partition_count(&self) -> u32;

    /// Appends records to a partition, in order and durably: they are on disk when this returns. On an error none
    /// of them is in the log. Concurrent appends share one flush to disk. Cancelling leaves it open whether they
    /// were appended.
    async fn append(&self, partition: Partition, records: Vec<Bytes>) -> Result<Range<Offset>, LogError>;

    /// Waits until there is a record at or after `from`, and returns what there is, in order and without gaps:
    /// at least one record, at most `count_max`, and no further one once `bytes_max` is reached. Only durable
    /// records are seen. Cancelling has no effect.
    async fn read(
        &self,
        partition: Partition,
        from: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError>;

    /// The first record kept, and the offset that the next one appended will get.
    fn bounds(&self, partition: Partition) -> Range<Offset>;

    /// The position of the last record of a source, in any partition, if it is known: it survives retention. Replays
    /// of dead letters do not count, since their source is further on, and changes of columns do not, since they stand at
    /// the position of the change behind them.
    fn last_position(&self, source: &str) -> Option<Position>;

    /// Says that a consumer needs nothing before `next` any more; also makes it known. Takes effect for retention
    /// only: who reads keeps its own offset with its effects.
    fn commit(&self, consumer: &str, partition: Partition, next: Offset);
}
