//! Dead letters for people: listed, shown, replayed, discarded.
//!
//! In: the letters of the bus, and the change log. Out: letters with what their changes say; and replays, which are
//! new records of the change log, marked as such, that the pipeline takes like any other.
//!
//! ```text
//! replay ─► outdated? ─► begun (bus) ─► appended (log) ─► … pipeline ─► its effects, and the letter is gone (bus)
//! ```
//! Invariants:
//! - a replay loses nothing and repeats nothing, wherever the program is killed and however often it is asked for:
//!   until the commit of its effects the letter is there, after it no replay of it has any (see [`bus::Letters`]);
//! - what is outdated is replayed only by force: a later change of the same key stands in the change log, or nobody
//!   can tell. What is appended in the very moment of a replay is not seen.
//!
//! Absent on purpose: HTTP and JSON of it (`admin`). Values of rows are in [`Whole`] alone and never in a log line;
//! letters hold changes as they came from the source, before any filter has masked them.
//!
//! [`bus::Letters`]: crate::bus::Letters

mod outdated;
mod shown;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tracing::info;

pub use shown::{About, Shown, Whole};

use crate::bus::{Begun, BusError, Discard, KeptLetter, Letters, Stage};
use crate::event::{DecodeError, Decoder, LetterId, Offset, Replay, encode};
use crate::limits::{
    LETTERS_READ_BYTES_MAX, LETTERS_READ_COUNT_MAX, REPLAY_SCAN_COUNT_MAX, REPLAYS_COUNT_MAX,
};
use crate::log::{ChangeLog, LogError};

/// Why a letter cannot be shown or replayed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// There is no such letter.
    #[error(
        "there is no dead letter {0}: it was replayed or discarded, or was too old; list the letters again"
    )]
    Gone(LetterId),
    /// A newer program set it aside.
    #[error("the change of dead letter {id} cannot be read: discard it, or start the program that wrote it")]
    Unreadable {
        /// The letter.
        id: LetterId,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The row has changed since.
    #[error(
        "dead letter {id} is outdated, a later change of its key is at offset {later}: discard it, or force the \
         replay, which hands an old row over after a new one"
    )]
    Outdated {
        /// The letter.
        id: LetterId,
        /// Where the first later change of the key is.
        later: Offset,
    },
    /// Nobody can tell whether the row has changed since.
    #[error(
        "dead letter {id} has no key (table {table}), so nobody can tell whether it is outdated: look at it, then \
         force the replay or discard it"
    )]
    Keyless {
        /// The letter.
        id: LetterId,
        /// The change's table.
        table: String,
    },
    /// What followed is not kept any more.
    #[error(
        "the change log begins at offset {first} now and dead letter {id} is of offset {offset}, so nobody can tell \
         whether it is outdated: look at it, then force the replay or discard it"
    )]
    Forgotten {
        /// The letter.
        id: LetterId,
        /// Where its change stood.
        offset: Offset,
        /// The first that is kept.
        first: Offset,
    },
    /// Too much has followed.
    #[error(
        "more than {REPLAY_SCAN_COUNT_MAX} changes follow dead letter {0}, too many to look for a later one of its \
         key: look at it, then force the replay or discard it"
    )]
    TooFar(LetterId),
    /// Too many replays at once.
    #[error("{REPLAYS_COUNT_MAX} replays wait to be handed over: wait until some are, then try again")]
    TooMany,
    /// The change log does not take the replay; nothing was replayed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The letters cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What to do with a letter that is outdated, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Refuse.
    No,
    /// Replay it all the same.
    Yes,
}

/// The dead letters of this host. Clones share them; methods may be called from any task and thread.
#[derive(Clone)]
pub struct DeadLetters {
    letters: Arc<dyn Letters>,
    log: Arc<dyn ChangeLog>,
}

impl DeadLetters {
    /// Joins the two.
    #[must_use]
    pub fn new(letters: Arc<dyn Letters>, log: Arc<dyn ChangeLog>) -> Self {
        Self { letters, log }
    }

    /// Letters, newest first: of all plugins or of one, those below `before` if it is given; at most `count_max`,
    /// and fewer where they are large. Who goes on with the last id until nothing comes has seen all.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn list(
        &self,
        plugin: Option<&str>,
        before: Option<LetterId>,
        count_max: usize,
    ) -> Result<Vec<Shown>, LetterError> {
        let count_max = count_max.min(LETTERS_READ_COUNT_MAX);
        let kept = self.letters.list(plugin, before, count_max, LETTERS_READ_BYTES_MAX).await?;
        let mut decoder = Decoder::default();
        Ok(kept.into_iter().map(|kept| Shown::of(kept, &mut decoder)).collect())
    }

    /// One letter, with the rows of its change.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    pub async fn get(&self, id: LetterId) -> Result<Whole, LetterError> {
        Ok(Whole::of(self.kept(id).await?))
    }

    /// Hands a letter over again: to the plugin's router alone, or, where a filter failed, to those routers that
    /// have not seen it. It meets the plugins that are active then, filters first, at the offset returned; if it
    /// fails again, it is a new letter. Cancelling leaves it open whether it is replayed; to ask again is safe.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or is outdated or may be and is not forced; if log or bus refuse.
    pub async fn replay(&self, id: LetterId, force: Force) -> Result<Offset, LetterError> {
        let KeptLetter { partition, letter, .. } = self.kept(id).await?;
        let mut change = Decoder::default()
            .decode(&letter.record)
            .map_err(|source| LetterError::Unreadable { id, source })?;
        let before = change.replay.take();
        let first = before.as_ref().map_or(letter.offset, |replay| replay.first);
        if force == Force::No {
            outdated::check(&*self.log, id, partition, first, &change).await?;
        }
        let router = match letter.stage {
            Stage::Router => Some(letter.plugin.as_str().into()),
            // Perhaps all the others have seen it long ago.
            Stage::Filter => before.and_then(|replay| replay.router),
        };
        change.replay = Some(Replay { letter: id, first, router });
        match self.letters.begin_replay(id).await? {
            Begun::Noted => {}
            Begun::Gone => return Err(LetterError::Gone(id)),
            Begun::TooMany => return Err(LetterError::TooMany),
        }
        match self.log.append(partition, vec![encode(&change)]).await {
            Ok(offsets) => {
                info!(
                    letter = id.0,
                    plugin = letter.plugin,
                    offset = offsets.start.0,
                    "dead letter replayed"
                );
                Ok(offsets.start)
            }
            Err(error) => {
                self.letters.cancel_replay(id).await?;
                Err(error.into())
            }
        }
    }

    /// Removes letters for good, and says how many there were.
    ///
    /// # Errors
    /// If they cannot be removed; all are there then.
    pub async fn discard(&self, which: Discard) -> Result<u64, LetterError> {
        let count = self.letters.discard(which.clone()).await?;
        info!(count, ?which, "dead letters discarded");
        Ok(count)
    }

    async fn kept(&self, id: LetterId) -> Result<KeptLetter, LetterError> {
        self.letters.get(id).await?.ok_or(LetterError::Gone(id))
    }
}
