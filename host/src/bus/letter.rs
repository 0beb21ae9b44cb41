//! Dead letters: changes that a plugin could not digest, kept with the reason until they are replayed or discarded.
//!
//! In: letters, with the batch that they came from ([`Batch::dead_letters`](super::Batch)). Out: the same, newest first.
//!
//! Invariants:
//! - a letter goes, by a replay, in the commit in which the replay's batch is applied; a replay whose letter is not
//!   there any more is not applied at all. So a letter lost to a crash, or replayed twice, cannot be: whatever is
//!   appended to the change log, and however often, has effects once, and until then the letter is there;
//! - a letter whose replay has begun is not among those that go because there are too many.
//!
//! Absent on purpose: what is in the record, and the change log (`letters`).

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::BusError;
use crate::event::{LetterId, Offset, Partition};

/// Where in the policy a change failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In a filter: no router has seen it.
    Filter,
    /// In a router: the others have seen it.
    Router,
}

/// A change that a plugin could not digest, set aside with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The change's place.
    pub offset: Offset,
    /// The plugin.
    pub plugin: String,
    /// Which activation of it, from 1; 0 if that is not known.
    pub generation: u64,
    /// Its digest, in hexadecimal; empty if that is not known.
    pub digest: String,
    /// Where it failed.
    pub stage: Stage,
    /// What went wrong.
    pub fault: String,
    /// The change as the change log holds it: nothing is masked in it.
    pub record: Bytes,
}

/// A dead letter as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLetter {
    /// Its number; greater ones are younger.
    pub id: LetterId,
    /// The change's partition.
    pub partition: Partition,
    /// When it was set aside, on this machine's clock.
    pub set_aside_at: SystemTime,
    /// Whether somebody replays it.
    pub state: LetterState,
    /// What was set aside.
    pub letter: DeadLetter,
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// Nobody has decided.
    Waiting,
    /// A replay was begun. It may stay so, if the program ended at that moment: then it is replayed again.
    Replaying,
}

/// A replay that a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Where the replay stands.
    pub offset: Offset,
    /// The letter that it replays.
    pub letter: LetterId,
}

/// Which letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discard {
    /// This one.
    One(LetterId),
    /// All of a plugin.
    AllOf(String),
}

/// What became of the wish to replay a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is noted, durably.
    Noted,
    /// The letter is not there.
    Gone,
    /// [`REPLAYS_COUNT_MAX`](crate::limits::REPLAYS_COUNT_MAX) others have begun and are not applied.
    TooMany,
}

/// The letters of a bus: every bus keeps them beside its history. Methods may be called from any task and thread.
#[async_trait]
pub trait Letters: Send + Sync + 'static {
    /// Letters, newest first: of all plugins or of one, those below `before` if it is given. At least one if there
    /// is one, at most `count_max`, and no further one once their records have `bytes_max`.
    async fn list(
        &self,
        plugin: Option<&str>,
        before: Option<LetterId>,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeptLetter>, BusError>;

    /// One letter.
    async fn get(&self, id: LetterId) -> Result<Option<KeptLetter>, BusError>;

    /// Removes letters, durably, and says how many there were. Replays of them that are not applied yet never are.
    async fn discard(&self, which: Discard) -> Result<u64, BusError>;

    /// Notes, durably, that a letter is about to be replayed.
    async fn begin_replay(&self, id: LetterId) -> Result<Begun, BusError>;

    /// Takes that back: nothing was replayed.
    async fn cancel_replay(&self, id: LetterId) -> Result<(), BusError>;
}
