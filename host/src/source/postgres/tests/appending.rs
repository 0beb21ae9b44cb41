//! Batches into a log that fails as it is told to.

use std::collections::VecDeque;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::super::append::Appended;
use super::*;
use crate::event::{Offset, Partition};
use crate::log::{LogError, Record};

/// A log in memory, which fails as it is told to.
#[derive(Default)]
struct MemoryLog {
    records: Mutex<Vec<Bytes>>,
    /// Errors that the next appends give, one each.
    errors: Mutex<VecDeque<LogError>>,
    /// An append waits for this, where it is set.
    gate: Option<Arc<Notify>>,
}

impl MemoryLog {
    fn failing(errors: impl IntoIterator<Item = LogError>) -> Self {
        Self { errors: Mutex::new(errors.into_iter().collect()), ..Self::default() }
    }

    fn changes(&self) -> Vec<Change> {
        let mut decoder = Decoder::default();
        let records = self.records.lock().expect("no test panics with the lock");
        records.iter().map(|record| decoder.decode(record).expect("it was encoded")).collect()
    }
}

#[async_trait]
impl ChangeLog for MemoryLog {
    fn partition_count(&self) -> u32 {
        1
    }

    async fn append(&self, _: Partition, records: Vec<Bytes>) -> Result<Range<Offset>, LogError> {
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        if let Some(error) = self.errors.lock().expect("no test panics with the lock").pop_front() {
            return Err(error);
        }
        let mut all = self.records.lock().expect("no test panics with the lock");
        let first = Offset(all.len() as u64);
        all.extend(records);
        Ok(first..Offset(all.len() as u64))
    }

    async fn read(&self, _: Partition, _: Offset, _: usize, _: usize) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }

    fn bounds(&self, _: Partition) -> Range<Offset> {
        Offset(0)..Offset(0)
    }

    fn last_position(&self, _: &str) -> Option<Position> {
        self.changes().last().map(|change| change.position)
    }

    fn commit(&self, _: &str, _: Partition, _: Offset) {}
}

fn disk_full() -> LogError {
    LogError::DiskFull { path: "segment".to_owned() }
}

fn appender(log: Arc<MemoryLog>, stop: &CancellationToken) -> Appender {
    Appender::new(log, Arc::new(Outage::new("main")), stop.clone())
}

#[tokio::test]
async fn an_append_reaches_the_end_of_its_transactions() {
    let log = Arc::new(MemoryLog::default());
    let mut appender = appender(log.clone(), &CancellationToken::new());
    appender.begin(batch());
    assert!(!appender.is_idle());
    assert_eq!(appender.settle().await.expect("the log is well"), Appended::Upto(Some(0x108)));
    assert!(appender.is_idle());
    assert_eq!(log.last_position("main"), Some(Position { commit: 0x100, index: 0 }));
}

#[tokio::test]
async fn a_full_log_is_tried_again_and_gets_each_change_once() {
    let full = LogError::Full { bytes: 1, consumer: "pipeline".to_owned() };
    let log = Arc::new(MemoryLog::failing([disk_full(), full]));
    let mut appender = appender(log.clone(), &CancellationToken::new());
    appender.begin(batch());
    assert_eq!(appender.settle().await.expect("it heals"), Appended::Upto(Some(0x108)));
    assert_eq!(log.changes().len(), 1);
}

#[tokio::test]
async fn a_damaged_log_is_an_error() {
    let damaged = LogError::Damaged { path: "segment".to_owned(), at: 1, what: "zeros".to_owned() };
    let log = Arc::new(MemoryLog::failing([damaged]));
    let mut appender = appender(log, &CancellationToken::new());
    appender.begin(batch());
    let error = appender.settle().await.expect_err("nobody can heal that");
    assert_eq!(disposition(&error), Disposition::Halt);
}

#[tokio::test]
async fn the_order_to_stop_ends_the_wait_for_a_full_log_but_not_an_append() {
    let stop = CancellationToken::new();
    stop.cancel();
    let mut waiting = appender(Arc::new(MemoryLog::failing([disk_full()])), &stop);
    waiting.begin(batch());
    assert_eq!(waiting.settle().await.expect("it gives up"), Appended::GivenUp);

    let gate = Arc::new(Notify::new());
    let log = Arc::new(MemoryLog { gate: Some(gate.clone()), ..MemoryLog::default() });
    let mut appending = appender(log.clone(), &stop);
    appending.begin(batch());
    gate.notify_one();
    assert_eq!(appending.settle().await.expect("the log is well"), Appended::Upto(Some(0x108)));
    assert_eq!(log.changes().len(), 1);
}

#[tokio::test]
async fn an_append_goes_on_when_whoever_waits_for_it_is_cancelled() {
    let gate = Arc::new(Notify::new());
    let log = Arc::new(MemoryLog { gate: Some(gate.clone()), ..MemoryLog::default() });
    let mut appender = appender(log.clone(), &CancellationToken::new());
    appender.begin(batch());
    tokio::select! {
        biased;
        _ = appender.ended() => panic!("the gate is closed"),
        () = std::future::ready(()) => {}
    }
    assert!(!appender.is_idle());
    gate.notify_one();
    appender.settle().await.expect("the log is well");
    assert_eq!(log.changes().len(), 1);
}
