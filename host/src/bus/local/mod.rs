//! The bus on one machine: the history in the embedded state, its newest part in memory.
//!
//! ```text
//! apply ─► state: messages, offset, floor in one commit ─► tail, directory, values ─► head moves ─► followers read
//!                                                       └► live messages
//! read ──► directory: which sequences ─► tail, or the state for who comes back from further away
//! ```
//! Invariants:
//! - publication happens on the committer's thread, in the order of the commits, whether or not the caller of
//!   `apply` still waits;
//! - the tail ends at the head, so who stands at the head is never sent to the disk;
//! - what a read could not see because retention removed it, [`Bus::floor`] shows once the read returns.
//!
//! Absent on purpose: a task of its own. Whoever composes the program calls [`LocalBus::sweep`] at intervals.

mod directory;
mod letters;
mod tables;
mod tail;
mod values;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use self::directory::Directory;
use self::tables::{Applied, Millis, Outcome};
use self::tail::Tail;
use self::values::Values;
use super::{Batch, Begun, Bus, BusError, Discard, Kept, KeptLetter, Letters};
use crate::event::{Channel, Epoch, FeedWrite, LetterId, Message, Offset, Partition, Sequence};
use crate::limits::{HISTORY_SCAN_COUNT_MAX, HISTORY_TAIL_BYTES_MAX, LIVE_QUEUE_COUNT_MAX};
use crate::state::sql::{self, Connection};
use crate::state::{Along, State, StateError};
use crate::telemetry::HistoryMetrics;

/// How much history is kept: what exceeds either bound goes, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Messages; for a moment a few hundred more.
    pub count_max: u64,
    /// Since they were applied, on this machine's clock.
    pub age_max: Duration,
    /// Channels with a value; past it what was set least recently is dropped.
    pub values_count_max: u64,
    /// Their bytes, likewise, on the disk and in memory.
    pub values_bytes_max: u64,
}

impl Config {
    /// What was kept then or before is too old.
    fn cutoff(self, now: Millis) -> Millis {
        Millis(now.0.saturating_sub(i64::try_from(self.age_max.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// The bus on one machine.
pub struct LocalBus {
    state: State,
    config: Config,
    feeds: Option<Along<[FeedWrite], Vec<Message>>>,
    shared: Arc<Shared>,
}

/// What the committer's thread publishes to.
struct Shared {
    memory: Mutex<Memory>,
    committed: Mutex<HashMap<Partition, Offset>>,
    floor: AtomicU64,
    head: watch::Sender<Sequence>,
    live: broadcast::Sender<Arc<Message>>,
    metrics: Arc<HistoryMetrics>,
}

/// What answers without the disk; all parts change as one.
struct Memory {
    tail: Tail,
    directory: Directory,
    values: Values,
}

impl LocalBus {
    /// Opens the history of a state, and makes its tables if they are not there. Reads the channels of all kept
    /// messages, about a second for a few million, and all channels' values.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn open(state: State, config: Config) -> Result<Self, BusError> {
        Self::open_counted(state, config, Arc::default()).await
    }

    /// As [`LocalBus::open`], and counts there.
    ///
    /// # Errors
    /// As [`LocalBus::open`].
    pub async fn open_counted(
        state: State,
        config: Config,
        metrics: Arc<HistoryMetrics>,
    ) -> Result<Self, BusError> {
        let now = now();
        let found = state.commit(move |connection| tables::create(connection, config, now)).await?;
        metrics.set_values(found.values.totals());
        let tail = Tail::new(found.head, HISTORY_TAIL_BYTES_MAX);
        let memory = Memory { tail, directory: found.directory, values: found.values };
        let shared = Shared {
            memory: Mutex::new(memory),
            committed: Mutex::new(found.committed.into_iter().collect()),
            floor: AtomicU64::new(found.floor.0),
            head: watch::Sender::new(found.head),
            live: broadcast::Sender::new(LIVE_QUEUE_COUNT_MAX),
            metrics,
        };
        Ok(Self { state, config, feeds: None, shared: Arc::new(shared) })
    }

    /// Takes what batches write to feeds, too: `feeds` writes it to the same state, in the commit of the batch, and says
    /// what the history has to carry of it, after the messages of the batch.
    #[must_use]
    pub fn with_feeds(self, feeds: Along<[FeedWrite], Vec<Message>>) -> Self {
        Self { feeds: Some(feeds), ..self }
    }

    /// Removes what is over the bounds, in short steps between which batches are applied. Batches remove as they
    /// come, too, but not to the last message and not while none comes: call this every
    /// [`HISTORY_SWEEP_INTERVAL`](crate::limits::HISTORY_SWEEP_INTERVAL).
    ///
    /// # Errors
    /// If the state refuses; what was removed until then stays removed.
    pub async fn sweep(&self) -> Result<(), BusError> {
        loop {
            let (config, now, shared) = (self.config, now(), self.shared.clone());
            let work = move |connection: &_| tables::sweep(connection, config, now);
            let swept = self.state.commit_then(work, move |floor| {
                floor.inspect(|&floor| shared.raise_floor(floor, &mut shared.memory()))
            });
            if swept.await?.is_none() {
                return Ok(());
            }
        }
    }

    async fn read_state<Work>(&self, work: Work) -> Result<Vec<Arc<Kept>>, BusError>
    where
        Work: FnOnce(&Connection) -> sql::Result<Vec<Arc<Kept>>> + Send + 'static,
    {
        let with_floor = |connection: &Connection| Ok((work(connection)?, tables::floor(connection)?));
        let (kept, floor) = self.state.read(with_floor).await?;
        // The snapshot may be ahead of the committer's thread, which tells of a removal only after it is on disk.
        self.shared.floor.fetch_max(floor.0, Ordering::AcqRel);
        Ok(kept)
    }

    async fn read_all(&self, after: Sequence, count_max: usize) -> Result<Vec<Arc<Kept>>, BusError> {
        let from_tail =
            self.shared.memory().tail.after(after).map(|kept| kept.take(count_max).cloned().collect());
        if let Some(kept) = from_tail {
            return Ok(kept);
        }
        let up_to = *self.shared.head.borrow();
        self.read_state(move |connection| tables::read_all(connection, after, up_to, count_max)).await
    }

    async fn read_some(
        &self,
        channels: &[Channel],
        after: Sequence,
        count_max: usize,
    ) -> Result<Vec<Arc<Kept>>, BusError> {
        let sequences = self.shared.find(channels, after, count_max);
        let from_tail = self.shared.memory().tail.at(&sequences);
        match from_tail {
            Some(kept) => Ok(kept),
            None => self.read_state(move |connection| tables::read_some(connection, &sequences)).await,
        }
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn epoch(&self) -> Epoch {
        Epoch(self.state.life())
    }

    async fn apply(&self, batch: Batch) -> Result<(), BusError> {
        let (config, now, shared) = (self.config, now(), self.shared.clone());
        let (partition, from) = (batch.partition, batch.offsets.start);
        let feeds = self.feeds.clone().filter(|_| !batch.feed.is_empty());
        if feeds.is_none() && !batch.feed.is_empty() {
            return Err(BusError::NoFeeds);
        }
        let work = move |connection: &_| tables::apply(connection, batch, feeds.as_ref(), config, now);
        let applied = self.state.commit_then(work, move |outcome| match outcome {
            Outcome::Applied(applied) => {
                shared.publish(applied);
                Ok(())
            }
            Outcome::Behind => Ok(()),
            Outcome::Gap { committed } => Err(BusError::Gap { partition, committed, from }),
            Outcome::NotDue(offsets) => Err(BusError::NotDue { offsets }),
        });
        applied.await?
    }

    fn committed(&self, partition: Partition) -> Offset {
        let committed = self.shared.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.get(&partition).copied().unwrap_or_default()
    }

    fn head(&self) -> watch::Receiver<Sequence> {
        self.shared.head.subscribe()
    }

    fn floor(&self) -> Sequence {
        Sequence(self.shared.floor.load(Ordering::Acquire))
    }

    async fn read(
        &self,
        channels: Option<&[Channel]>,
        after: Sequence,
        count_max: usize,
    ) -> Result<Vec<Arc<Kept>>, BusError> {
        match channels {
            None => self.read_all(after, count_max).await,
            Some(channels) => self.read_some(channels, after, count_max).await,
        }
    }

    async fn values(&self, channels: &[Channel]) -> Result<Vec<Arc<Kept>>, BusError> {
        Ok(self.shared.memory().values.get(channels))
    }

    async fn tell(&self, message: Message) -> Result<(), BusError> {
        self.shared.tell(Arc::new(message));
        Ok(())
    }

    fn live(&self) -> broadcast::Receiver<Arc<Message>> {
        self.shared.live.subscribe()
    }

    async fn channels(&self, prefix: &str, after: &str, count_max: usize) -> Result<Vec<Channel>, BusError> {
        Ok(self.shared.memory().directory.names(prefix, after, count_max))
    }
}

#[async_trait]
impl Letters for LocalBus {
    async fn list(
        &self,
        plugin: Option<&str>,
        before: Option<LetterId>,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeptLetter>, BusError> {
        let plugin = plugin.map(str::to_owned);
        let list =
            move |connection: &_| letters::list(connection, plugin.as_deref(), before, count_max, bytes_max);
        Ok(self.state.read(list).await?)
    }

    async fn get(&self, id: LetterId) -> Result<Option<KeptLetter>, BusError> {
        Ok(self.state.read(move |connection| letters::get(connection, id)).await?)
    }

    async fn discard(&self, which: Discard) -> Result<u64, BusError> {
        Ok(self.state.commit(move |connection| letters::discard(connection, &which)).await?)
    }

    async fn begin_replay(&self, id: LetterId) -> Result<Begun, BusError> {
        Ok(self.state.commit(move |connection| letters::begin_replay(connection, id)).await?)
    }

    async fn cancel_replay(&self, id: LetterId) -> Result<(), BusError> {
        Ok(self.state.commit(move |connection| letters::cancel_replay(connection, id)).await?)
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, applied: Applied) {
        let Applied { partition, next, kept, live, floor, values, then } = applied;
        // Whoever is told by a message finds the post in the timeline.
        if let Some(then) = then {
            then();
        }
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, next);
        {
            // The head moves before anybody can read what is above it.
            let mut memory = self.memory();
            for kept in kept {
                memory.directory.push(&kept.message.channel);
                memory.tail.push(kept);
            }
            if !values.list.is_empty() {
                values.list.into_iter().for_each(|change| memory.values.change(change));
                self.metrics.set_values(memory.values.totals());
            }
            self.metrics.values_dropped.fetch_add(values.dropped_count, Ordering::Relaxed);
            self.raise_floor(floor, &mut memory);
            let head = memory.tail.head();
            self.head.send_if_modified(|current| std::mem::replace(current, head) != head);
        }
        live.into_iter().for_each(|message| self.tell(message));
    }

    fn tell(&self, message: Arc<Message>) {
        // Nobody listens: then it is for nobody.
        let _ = self.live.send(message);
    }

    fn raise_floor(&self, floor: Sequence, memory: &mut Memory) {
        self.floor.fetch_max(floor.0, Ordering::AcqRel);
        memory.tail.forget(floor);
        memory.directory.forget(floor);
    }

    /// The sequences of some channels after one. Lets the committer in between stretches.
    fn find(&self, channels: &[Channel], after: Sequence, count_max: usize) -> Vec<Sequence> {
        let mut found = Vec::new();
        let mut cursor = Some(after);
        while let Some(after) = cursor {
            let directory = &self.memory().directory;
            let wanted = directory.wanted(channels);
            cursor = directory.find(&wanted, after, count_max, HISTORY_SCAN_COUNT_MAX, &mut found);
        }
        found
    }
}

impl From<StateError> for BusError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::DiskFull { path } => Self::DiskFull { path: path.display().to_string() },
            error => Self::Store(Box::new(error)),
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
