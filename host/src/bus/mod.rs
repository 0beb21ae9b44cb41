//! The bus: the history of kept messages, and their way from the pipelines to the gateways.
//!
//! In: the messages of a batch of changes, with the offsets that they came from. Out: the same messages under
//! gapless sequences, to any number of followers.
//!
//! Invariants:
//! - a batch is applied once: whole or not at all, and never again once its offsets are behind the committed one;
//! - a kept message is durable before anybody sees it, and keeps its sequence for ever within an epoch;
//! - who follows by sequence misses nothing that is kept: retention moves [`Bus::floor`] first;
//! - a channel's value changes in the commit of the message that sets or ends it, and is seen with it.
//!
//! Absent on purpose: connections and subscriptions (`gateway`), and what a payload means.
//!
//! To add a bus: implement [`Bus`] and [`Letters`], run `contract.rs` on it, add a case in `app.rs`.

#[cfg(test)]
pub(crate) mod contract;
mod letter;
pub mod local;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

#[cfg(test)]
pub(crate) use local::tests::with_feeds;

pub use letter::{Begun, DeadLetter, Discard, KeptLetter, LetterState, Letters, Replayed, Stage};

use crate::event::{Channel, Epoch, FeedWrite, Message, Micros, Offset, Partition, Sequence};

/// A kept message and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the history.
    pub sequence: Sequence,
    /// The message.
    pub message: Message,
    /// What its batch says of it, as long as it has been in memory since.
    pub committed_at: Option<Micros>,
}

/// The effects of a run of changes, applied as one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Where the changes stand.
    pub partition: Partition,
    /// The first of them, and the first after them, which becomes the committed offset.
    pub offsets: Range<Offset>,
    /// In the order of the changes.
    pub messages: Vec<Message>,
    /// What the batch writes to feeds, in the order of the changes. The bus does not look at it: it hands it on to who
    /// keeps feeds, as a part of the same commit.
    pub feed: Arc<[FeedWrite]>,
    /// What a policy could not digest.
    pub dead_letters: Vec<DeadLetter>,
    /// Which of the changes are replays of dead letters.
    pub replayed: Vec<Replayed>,
    /// When the oldest of the changes was committed in its database, of those that are of no snapshot and no replays.
    pub committed_at: Option<Micros>,
}

/// Why the bus could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The disk has no space; nothing of the batch is applied. Worth another try later.
    #[error("the disk of the history is full ({path}): free some space, it goes on by itself")]
    DiskFull {
        /// The store's folder.
        path: String,
    },
    /// The batch does not begin where the last one ended.
    #[error("partition {} is committed up to {committed}, the batch begins at {from}", partition.0)]
    Gap {
        /// The partition.
        partition: Partition,
        /// The committed offset.
        committed: Offset,
        /// The batch's first offset.
        from: Offset,
    },
    /// The dead letters of some replays were replayed or discarded before; nothing of the batch is applied. Worth
    /// another try without these.
    #[error("the dead letters of {} replays are gone", offsets.len())]
    NotDue {
        /// Where the replays stand.
        offsets: Vec<Offset>,
    },
    /// The batch writes to feeds, and nobody keeps them here; nothing of it is applied.
    #[error("this bus was made without a store of timelines, and cannot take what a batch writes to feeds")]
    NoFeeds,
    /// The store refuses.
    #[error("the history's store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A bus. Methods may be called from any task and thread.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// The life of this history.
    fn epoch(&self) -> Epoch;

    /// Applies a batch: its kept messages, what it writes to feeds, its dead letters and its committed offset become
    /// durable as one, and the letters that it replays are gone; then readers see the feeds, and followers the messages.
    /// A batch that lies behind the committed offset is done already and changes nothing. On an error nothing of it is
    /// applied. Cancelling leaves it open whether it was applied.
    async fn apply(&self, batch: Batch) -> Result<(), BusError>;

    /// The first offset whose effects are not applied.
    fn committed(&self, partition: Partition) -> Offset;

    /// The greatest sequence, as it grows: what a follower waits on.
    fn head(&self) -> watch::Receiver<Sequence>;

    /// The greatest sequence that retention has removed; who stands before it may have missed something.
    fn floor(&self) -> Sequence;

    /// Kept messages after `after`, in order, at most `count_max`: of all channels, or of those named. Fewer than
    /// `count_max` means that there are no more.
    async fn read(
        &self,
        channels: Option<&[Channel]>,
        after: Sequence,
        count_max: usize,
    ) -> Result<Vec<Arc<Kept>>, BusError>;

    /// The values of channels, of those that have one, in the order of their sequences: for each the last kept message
    /// that was to be its value, if none after it ended that. Whoever has seen a [`Bus::head`] gets the values as of
    /// then or later. They outlive retention, but are bounded: those that were set least recently may be gone.
    async fn values(&self, channels: &[Channel]) -> Result<Vec<Arc<Kept>>, BusError>;

    /// Sends a message to those who listen now, whichever gateway they are at: it is not kept, has no place in the
    /// history, and comes beside whatever batches bring. Cancelling leaves it open whether it was sent.
    async fn tell(&self, message: Message) -> Result<(), BusError>;

    /// Messages that are not kept, as they come; a receiver that lags loses the oldest.
    fn live(&self) -> broadcast::Receiver<Arc<Message>>;

    /// Channels that have kept messages, with the prefix, in order, after `after`, at most `count_max`.
    async fn channels(&self, prefix: &str, after: &str, count_max: usize) -> Result<Vec<Channel>, BusError>;
}
