//! A change log in memory that can be made to refuse or to wait.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::event::{Change, Decoder, Header, Offset, Partition, Position};
use crate::log::{ChangeLog, LogError, Record};

/// See the head of this file.
pub(crate) struct MemoryLog {
    records: Mutex<Vec<Bytes>>,
    is_full: AtomicBool,
    /// An append takes one.
    appends: Semaphore,
    /// The first record that retention has left.
    first: Mutex<u64>,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<Self> {
        let appends = Semaphore::new(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            records: Mutex::default(),
            is_full: AtomicBool::new(false),
            appends,
            first: Mutex::default(),
        })
    }

    /// One whose appends wait until [`MemoryLog::let_through`].
    pub(crate) fn held() -> Arc<Self> {
        let log = Self::new();
        log.appends.forget_permits(Semaphore::MAX_PERMITS);
        log
    }

    /// Lets so many appends through.
    pub(crate) fn let_through(&self, count: usize) {
        self.appends.add_permits(count);
    }

    /// It is full from now on.
    pub(crate) fn fill(&self) {
        self.is_full.store(true, Ordering::SeqCst);
    }

    /// It is no longer.
    pub(crate) fn make_room(&self) {
        self.is_full.store(false, Ordering::SeqCst);
    }

    /// Retention.
    pub(crate) fn forget_before(&self, first: u64) {
        *self.first.lock().expect("no test panics with the lock") = first;
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        let mut decoder = Decoder::default();
        self.records().iter().map(|record| decoder.decode(record).expect("it was encoded")).collect()
    }

    fn records(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.records.lock().expect("no test panics with the lock")
    }
}

#[async_trait]
impl ChangeLog for MemoryLog {
    fn partition_count(&self) -> u32 {
        1
    }

    async fn append(&self, _: Partition, records: Vec<Bytes>) -> Result<Range<Offset>, LogError> {
        self.appends.acquire().await.expect("it is never closed").forget();
        if self.is_full.load(Ordering::SeqCst) {
            return Err(LogError::Full { bytes: 1, consumer: "pipeline".into() });
        }
        let mut all = self.records();
        let start = all.len() as u64;
        all.extend(records);
        Ok(Offset(start)..Offset(all.len() as u64))
    }

    /// Of what is there: it does not wait.
    async fn read(
        &self,
        partition: Partition,
        from: Offset,
        count_max: usize,
        _: usize,
    ) -> Result<Vec<Record>, LogError> {
        let first = self.bounds(partition).start;
        if from < first {
            return Err(LogError::Removed { asked: from, first });
        }
        let all = self.records();
        let there = all.iter().enumerate().skip(usize::try_from(from.0).expect("it is small"));
        // Fewer than asked for, as a bound of bytes makes it.
        let some = there.take(count_max.min(1_000));
        Ok(some.map(|(at, payload)| Record { offset: Offset(at as u64), payload: payload.clone() }).collect())
    }

    fn bounds(&self, _: Partition) -> Range<Offset> {
        let first = *self.first.lock().expect("no test panics with the lock");
        Offset(first)..Offset(self.records().len() as u64)
    }

    fn last_position(&self, source: &str) -> Option<Position> {
        let records = self.records();
        let headers = records.iter().rev().filter_map(|record| Header::of(record).ok());
        headers
            .into_iter()
            .find(|header| header.source == source && header.is_reached)
            .map(|header| header.position)
    }

    fn commit(&self, _: &str, _: Partition, _: Offset) {}
}
