//! The embedded change log: segment files of our own.
//!
//! ```text
//! append ─► queue ─► writer thread ─► segment file, one flush a group ─► tail in memory ─► read
//!                                          └──────── older records ───────────────────────────┘
//! FOLDER/lock                            held while the log is open
//! FOLDER/consumers.json                  who has committed what
//! FOLDER/PARTITION/synced                how far the partition is durable
//! FOLDER/PARTITION/FIRST-OFFSET.log      a segment
//! ```
//! Files, in the order in which a record meets them: `writer`, `frame`, `segment`, `header`, `mark`, `partition`,
//! `tail`, `reader`, `retention`, `consumers`, `recovery`; `disk` is what they all write through.
//!
//! Invariants are those of [`ChangeLog`]; which failures they survive is in `docs/decisions/change-log.md`.
//! Absent on purpose: compression, compaction by key, and changing the number of partitions.

mod consumers;
mod disk;
mod frame;
mod header;
mod mark;
mod partition;
mod reader;
mod recovery;
mod retention;
mod segment;
mod tail;
mod writer;

#[cfg(test)]
pub(super) mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::consumers::Consumers;
use self::disk::{Disk, RealDisk, create_folder, failed};
use self::partition::Partition as Shared;
use self::recovery::{Recovered, recover};
use self::writer::{Append, Writer};
use super::{ChangeLog, LogError, Record};
use crate::event::{Offset, Partition, Position};
use crate::limits::{LOG_AGE_MAX, LOG_BYTES_MAX, LOG_QUEUE_COUNT_MAX, SEGMENT_BYTES_MAX};

/// What users may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the files go; made if it is not there. Nobody else may use it.
    pub folder: PathBuf,
    /// Fixed when the log is made; at least one.
    pub partition_count: u32,
    /// Bytes of the whole log past which old segments are removed or, if consumers still need them, appends are
    /// refused. The log may exceed it by one group of appends.
    pub bytes_max: u64,
    /// Age past which old segments are removed, if consumers do not need them.
    pub age_max: Duration,
    /// Bytes at which a segment is closed. A segment is the unit of removal, so at most a quarter of a partition's
    /// share of `bytes_max` is used.
    pub segment_bytes_max: u64,
}

impl Config {
    /// The defaults, in a folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            partition_count: 1,
            bytes_max: LOG_BYTES_MAX,
            age_max: LOG_AGE_MAX,
            segment_bytes_max: SEGMENT_BYTES_MAX,
        }
    }
}

/// What all parts of one log share.
struct Store {
    config: Config,
    disk: Arc<dyn Disk>,
    partitions: Vec<Arc<Shared>>,
    consumers: Consumers,
    /// Held while segments are removed.
    removing: Mutex<()>,
    /// Unlocked when the last part of the log is gone.
    _lock: File,
}

impl Store {
    /// Bytes of all segments.
    fn bytes(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.bytes()).sum()
    }

    /// Who keeps segments from being removed, of this partition if possible.
    fn hinderer(&self, partition: &Shared) -> String {
        let behind = |partition: &Shared| {
            let slowest = self.consumers.slowest(partition.number)?;
            (slowest.next < partition.end()).then_some(slowest.consumer)
        };
        behind(partition)
            .or_else(|| self.partitions.iter().find_map(|partition| behind(partition)))
            .unwrap_or_else(|| "a consumer that is yet to come".into())
    }
}

/// The embedded change log. Dropping it waits for what is being written.
pub struct Segments {
    store: Arc<Store>,
    /// By partition. Empty only while dropping.
    queues: Vec<mpsc::Sender<Append>>,
    wake_retention: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Segments {
    /// Opens the log, or makes it. Reads the last segment of each partition, and so may take a second: call it before
    /// anything depends on the thread.
    ///
    /// # Errors
    /// `Damaged` if confirmed records are destroyed (nothing is changed then), `Io` if the folder cannot be used or
    /// another process uses it, `DiskFull`. Trying again is always safe.
    pub fn open(config: Config) -> Result<Self, LogError> {
        Self::open_on(config, Arc::new(RealDisk))
    }

    fn open_on(mut config: Config, disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        config.partition_count = config.partition_count.max(1);
        let share = config.bytes_max / u64::from(config.partition_count);
        config.segment_bytes_max = config.segment_bytes_max.min(share / 4);
        create_folder(&*disk, &config.folder)?;
        let lock = lock(&config.folder)?;
        let consumers = Consumers::open(Arc::clone(&disk), &config.folder)?;
        let (mut partitions, mut tips) = (Vec::new(), Vec::new());
        for number in 0..config.partition_count {
            let folder = config.folder.join(number.to_string());
            let Recovered { segments, file, end, positions, mark } =
                recover(&*disk, &folder, Partition(number), config.partition_count)?;
            let last = segments.back().map(Arc::clone).expect("recovery makes a segment where there is none");
            let shared = Arc::new(Shared::new(Partition(number), folder, segments, end, positions));
            tips.push((Arc::clone(&shared), last, file, mark));
            partitions.push(shared);
        }
        let store = Store { config, disk, partitions, consumers, removing: Mutex::new(()), _lock: lock };
        let store = Arc::new(store);
        let (wake, woken) = sync_channel(1);
        let mut log =
            Self { store: Arc::clone(&store), queues: Vec::new(), wake_retention: None, threads: Vec::new() };
        for (shared, last, file, mark) in tips {
            let name = format!("log-{}", shared.number.0);
            let (sender, queue) = mpsc::channel(LOG_QUEUE_COUNT_MAX);
            let writer = Writer::new(Arc::clone(&store), shared, last, file, mark, wake.clone());
            log.queues.push(sender);
            log.spawn(name, move || writer.run(queue))?;
        }
        log.wake_retention = Some(wake);
        log.spawn("log-retention".into(), move || retention::run(&store, &woken))?;
        Ok(log)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
        let spawned = thread::Builder::new().name(name).spawn(run);
        self.threads.push(spawned.map_err(|source| failed(&self.store.config.folder, source))?);
        Ok(())
    }

    fn partition(&self, partition: Partition) -> &Arc<Shared> {
        &self.store.partitions[partition.0 as usize]
    }

    fn stopped(&self) -> LogError {
        failed(&self.store.config.folder, io::Error::other("its writer has stopped: restart the program"))
    }
}

/// # Panics
/// Every method panics if a partition is not below `partition_count`.
#[async_trait]
impl ChangeLog for Segments {
    fn partition_count(&self) -> u32 {
        self.store.config.partition_count
    }

    async fn append(&self, partition: Partition, records: Vec<Bytes>) -> Result<Range<Offset>, LogError> {
        if records.is_empty() {
            let end = self.partition(partition).end();
            return Ok(end..end);
        }
        let (reply, answer) = oneshot::channel();
        let append = Append { records, reply };
        self.queues[partition.0 as usize].send(append).await.map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    async fn read(
        &self,
        partition: Partition,
        from: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        self.partition(partition).read(from, count_max, bytes_max).await
    }

    fn bounds(&self, partition: Partition) -> Range<Offset> {
        self.partition(partition).bounds()
    }

    fn last_position(&self, source: &str) -> Option<Position> {
        self.store.partitions.iter().filter_map(|partition| partition.position(source)).max()
    }

    fn commit(&self, consumer: &str, partition: Partition, next: Offset) {
        self.store.consumers.commit(consumer, partition, next);
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.queues.clear();
        self.wake_retention = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the change log has panicked");
            }
        }
        if let Err(error) = self.store.consumers.save() {
            tracing::warn!(%error, "cannot write down what the consumers of the change log have committed");
        }
    }
}

fn lock(folder: &Path) -> Result<File, LogError> {
    let path = folder.join("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(|source| failed(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(source)) => Err(failed(&path, source)),
        Err(TryLockError::WouldBlock) => Err(failed(
            folder,
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process has it open: stop that one, or give this one a folder of its own",
            ),
        )),
    }
}
