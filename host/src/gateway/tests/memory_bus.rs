//! A bus in memory: the second implementation, slow and obvious, with the faults that tests need.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use crate::bus::{Batch, Bus, BusError, Kept};
use crate::event::{Channel, Epoch, Form, Message, Offset, Partition, Retention, Sequence};

/// See the head of this file.
pub(super) struct MemoryBus {
    epoch: Epoch,
    state: Mutex<State>,
    head: watch::Sender<Sequence>,
    live: broadcast::Sender<Arc<Message>>,
    /// Reads of all channels that fail before one succeeds.
    failing_reads: AtomicUsize,
    /// Reads of named channels that fail before one succeeds.
    failing_replays: AtomicUsize,
    /// Reads of values that fail before one succeeds.
    failing_values: AtomicUsize,
    /// Before that many reads more, retention removes everything.
    forget_after_reads: AtomicUsize,
    failing_lists: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct State {
    kept: Vec<Arc<Kept>>,
    values: std::collections::BTreeMap<Channel, Arc<Kept>>,
    floor: Sequence,
    committed: std::collections::HashMap<Partition, Offset>,
}

impl MemoryBus {
    pub(super) fn new(epoch: u64) -> Arc<Self> {
        Arc::new(Self {
            epoch: Epoch(epoch),
            state: Mutex::new(State::default()),
            head: watch::Sender::new(Sequence(0)),
            live: broadcast::Sender::new(1_024),
            failing_reads: AtomicUsize::new(0),
            failing_replays: AtomicUsize::new(0),
            failing_values: AtomicUsize::new(0),
            forget_after_reads: AtomicUsize::new(usize::MAX),
            failing_lists: std::sync::atomic::AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Keeps a message of channel and payload, event `e`.
    pub(super) fn publish(&self, channel: &str, payload: &str) -> Sequence {
        self.publish_message(message(channel, "e", payload, Retention::Kept))
    }

    /// The same, as the channel's value.
    pub(super) fn set(&self, channel: &str, payload: &str) -> Sequence {
        self.publish_message(message(channel, "e", payload, Retention::Value))
    }

    pub(super) fn publish_message(&self, mut message: Message) -> Sequence {
        if message.retention == Retention::LiveOnly {
            let _ = self.live.send(Arc::new(message));
            return *self.head.borrow();
        }
        let mut state = self.state();
        let sequence = Sequence(self.head.borrow().0 + 1);
        let word = std::mem::replace(&mut message.retention, Retention::Kept);
        let kept = Arc::new(Kept { sequence, message, committed_at: None });
        state.kept.push(Arc::clone(&kept));
        match word {
            Retention::Value => drop(state.values.insert(kept.message.channel.clone(), kept)),
            Retention::Forget => drop(state.values.remove(&kept.message.channel)),
            Retention::Kept | Retention::LiveOnly => {}
        }
        // Under the lock, so that the head never goes back.
        self.head.send_replace(sequence);
        sequence
    }

    /// Retention up to a sequence: the floor first.
    pub(super) fn forget(&self, up_to: Sequence) {
        let mut state = self.state();
        state.floor = up_to;
        state.kept.retain(|kept| kept.sequence > up_to);
    }

    pub(super) fn fail_replays(&self, count: usize) {
        self.failing_replays.store(count, Ordering::SeqCst);
    }

    pub(super) fn fail_values(&self, count: usize) {
        self.failing_values.store(count, Ordering::SeqCst);
    }

    pub(super) fn fail_reads(&self, count: usize) {
        self.failing_reads.store(count, Ordering::SeqCst);
    }

    /// Lists of channels fail from now on.
    pub(super) fn fail_lists(&self) {
        self.failing_lists.store(true, Ordering::SeqCst);
    }

    /// Retention strikes in the middle of a read of named channels, after `count` good ones.
    pub(super) fn forget_in_replay_after(&self, count: usize) {
        self.forget_after_reads.store(count, Ordering::SeqCst);
    }
}

/// A message.
pub(super) fn message(channel: &str, event: &str, payload: &str, retention: Retention) -> Message {
    Message {
        channel: Channel::new(channel).expect("the test's channel has a good name"),
        event: event.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        form: Form::Text,
        retention,
    }
}

#[async_trait]
impl Bus for MemoryBus {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn apply(&self, batch: Batch) -> Result<(), BusError> {
        self.state().committed.insert(batch.partition, batch.offsets.end);
        for message in batch.messages {
            self.publish_message(message);
        }
        Ok(())
    }

    fn committed(&self, partition: Partition) -> Offset {
        self.state().committed.get(&partition).copied().unwrap_or_default()
    }

    fn head(&self) -> watch::Receiver<Sequence> {
        self.head.subscribe()
    }

    fn floor(&self) -> Sequence {
        self.state().floor
    }

    async fn read(
        &self,
        channels: Option<&[Channel]>,
        after: Sequence,
        count_max: usize,
    ) -> Result<Vec<Arc<Kept>>, BusError> {
        // Lets others in, as a disk would.
        tokio::task::yield_now().await;
        let failing = if channels.is_some() { &self.failing_replays } else { &self.failing_reads };
        let failing = failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(BusError::Store("the test's disk is broken".into()));
        }
        if channels.is_some() && self.forget_after_reads.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.forget(*self.head.borrow());
        }
        let state = self.state();
        let first = state.kept.partition_point(|kept| kept.sequence <= after);
        let wanted = |kept: &&Arc<Kept>| channels.is_none_or(|all| all.contains(&kept.message.channel));
        Ok(state.kept[first..].iter().filter(wanted).take(count_max).cloned().collect())
    }

    async fn values(&self, channels: &[Channel]) -> Result<Vec<Arc<Kept>>, BusError> {
        tokio::task::yield_now().await;
        let failing =
            self.failing_values.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(BusError::Store("the test's disk is broken".into()));
        }
        let state = self.state();
        let mut values: Vec<_> =
            channels.iter().filter_map(|channel| state.values.get(channel).cloned()).collect();
        values.sort_by_key(|kept| kept.sequence);
        Ok(values)
    }

    async fn tell(&self, message: Message) -> Result<(), BusError> {
        assert_eq!(message.retention, Retention::LiveOnly, "what is told is not kept");
        self.publish_message(message);
        Ok(())
    }

    fn live(&self) -> broadcast::Receiver<Arc<Message>> {
        self.live.subscribe()
    }

    async fn channels(&self, prefix: &str, after: &str, count_max: usize) -> Result<Vec<Channel>, BusError> {
        if self.failing_lists.load(Ordering::SeqCst) {
            return Err(BusError::Store("the test's disk is broken".into()));
        }
        let state = self.state();
        let all: BTreeSet<&Channel> = state.kept.iter().map(|kept| &kept.message.channel).collect();
        let wanted = |channel: &&&Channel| channel.as_str().starts_with(prefix) && channel.as_str() > after;
        Ok(all.iter().filter(wanted).take(count_max).map(|channel| (*channel).clone()).collect())
    }
}
