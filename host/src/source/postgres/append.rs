//! Appends to the change log: one append is under way while the next batch gathers.
//!
//! In: batches. Out: how far the source may confirm to its database.
//!
//! Invariants:
//! - batches are appended in order, one at a time, and an append that has begun is never dropped half-way, since that
//!   would leave it open what a later one follows;
//! - a log that is full is tried again until it is not; the batch stays as it is.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::error::{Disposition, SourceError, disposition};
use super::outage::Outage;
use super::seen::Shape;
use super::snapshot::rounds::Rounds;
use crate::backoff::Backoff;
use crate::event::{Change, Partition, encode};
use crate::limits::{SOURCE_PENDING_BYTES_MAX, SOURCE_PENDING_COUNT_MAX};
use crate::log::ChangeLog;

/// Changes for one append.
#[derive(Debug, Default)]
pub(super) struct Batch {
    records: Vec<Bytes>,
    bytes: usize,
    /// The end of the last transaction that is wholly appended once this batch is.
    pub(super) end: Option<u64>,
    /// Tables as the log knows them once this batch is appended.
    pub(super) told: Vec<(u32, Shape)>,
    /// What there is to be read of tables once this batch is appended, where that has changed.
    pub(super) rounds: Option<Rounds>,
    ripe: bool,
}

impl Batch {
    pub(super) fn push(&mut self, change: &Change) {
        let record = encode(change);
        self.bytes += record.len();
        self.records.push(record);
    }

    /// Notes that its records tell how a table is.
    pub(super) fn tell(&mut self, relation: u32, shape: Shape) {
        self.told.push((relation, shape));
    }

    #[cfg(test)]
    pub(super) fn records(&self) -> &[Bytes] {
        &self.records
    }

    /// Notes that everything before a place is in this batch or an earlier one.
    pub(super) fn close(&mut self, end: u64) {
        self.end = Some(end);
        self.ripe |= !self.is_empty();
    }

    /// Whether it has the end of a transaction in it, so that to wait for more would only delay it.
    pub(super) fn is_ripe(&self) -> bool {
        self.ripe
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= SOURCE_PENDING_BYTES_MAX || self.records.len() >= SOURCE_PENDING_COUNT_MAX
    }
}

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is on disk, and the source may confirm up to there.
    Upto(Option<u64>),
    /// The log was full and the order to stop came; nothing of it is in the log, so nothing that follows it may be.
    GivenUp,
}

/// The one way of a source into the change log.
pub(super) struct Appender {
    log: Arc<dyn ChangeLog>,
    outage: Arc<Outage>,
    stop: CancellationToken,
    under_way: Option<BoxFuture<'static, Result<Appended, SourceError>>>,
}

impl Appender {
    pub(super) fn new(log: Arc<dyn ChangeLog>, outage: Arc<Outage>, stop: CancellationToken) -> Self {
        Self { log, outage, stop, under_way: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Begins an append.
    ///
    /// # Panics
    /// If one is under way.
    pub(super) fn begin(&mut self, batch: Batch) {
        assert!(self.is_idle(), "one append at a time");
        let (log, outage, stop) = (self.log.clone(), self.outage.clone(), self.stop.clone());
        self.under_way = Some(append(log, batch, outage, stop).boxed());
    }

    /// Waits for the append under way; for ever if there is none. Cancelling has no effect.
    pub(super) fn ended(&mut self) -> impl Future<Output = Result<Appended, SourceError>> {
        std::future::poll_fn(|context| {
            let Some(under_way) = &mut self.under_way else { return std::task::Poll::Pending };
            let ended = std::task::ready!(under_way.poll_unpin(context));
            self.under_way = None;
            std::task::Poll::Ready(ended)
        })
    }

    /// Waits until nothing is under way.
    pub(super) async fn settle(&mut self) -> Result<Appended, SourceError> {
        if self.is_idle() { Ok(Appended::Upto(None)) } else { self.ended().await }
    }
}

/// The partition is always the first: a source's changes stand in the order of commits.
pub(super) const PARTITION: Partition = Partition(0);

async fn append(
    log: Arc<dyn ChangeLog>,
    batch: Batch,
    outage: Arc<Outage>,
    stop: CancellationToken,
) -> Result<Appended, SourceError> {
    let mut backoff = Backoff::default();
    loop {
        match log.append(PARTITION, batch.records.clone()).await {
            Ok(_) => {
                outage.log_is_well();
                return Ok(Appended::Upto(batch.end));
            }
            Err(error) => {
                let error = SourceError::Log(error);
                match disposition(&error) {
                    Disposition::Halt => return Err(error),
                    Disposition::Retry => outage.log_is_full(&error),
                }
            }
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = stop.cancelled() => return Ok(Appended::GivenUp),
        }
    }
}
