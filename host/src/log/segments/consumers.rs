//! What each consumer has committed, and the file that remembers it: `consumers.json` in the log's folder,
//! `{"CONSUMER": {"PARTITION": OFFSET}}`.
//!
//! Invariants: a consumer is in the file before [`Consumers::commit`] of its first offset returns, unless the disk
//! refuses, and before anything is removed in any case; so nobody's records go because he was forgotten. After a
//! restart the file's offsets count, which may be old: then too much is kept, never too little.
//!
//! Absent on purpose: forgetting a consumer. Who has gone for good is taken out of the file, while the program
//! stands still.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, failed, replace};
use crate::event::{Offset, Partition};
use crate::log::LogError;

/// By consumer, then by partition.
type Committed = BTreeMap<String, BTreeMap<u32, u64>>;

/// All consumers that were ever known.
pub(super) struct Consumers {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

struct State {
    committed: Committed,
    saved: Saved,
}

/// How much of the state the file has.
#[derive(Clone, Copy, PartialEq)]
enum Saved {
    All,
    /// Every consumer, some with an older offset: what is kept for them is too much, so this is safe.
    OldOffsets,
    /// A consumer is missing.
    NotAll,
}

/// The consumer that is furthest behind in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slowest {
    /// Its name.
    pub(super) consumer: String,
    /// What it still needs, from here on.
    pub(super) next: Offset,
}

impl Consumers {
    /// Reads the file of the log's folder, if there is one.
    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, LogError> {
        let path = folder.join("consumers.json");
        let committed = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| LogError::Damaged {
                path: path.display().to_string(),
                at: 0,
                what: format!(
                    "it is not the list of consumers that was written ({error}). To repair: remove the file. Who \
                     has not committed again since then is forgotten, and what he still needs may be removed"
                ),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Committed::new(),
            Err(source) => return Err(failed(&path, source)),
        };
        Ok(Self { path, disk, state: Mutex::new(State { committed, saved: Saved::All }) })
    }

    /// Notes that a consumer needs nothing before `next`; the last word counts. A new consumer is written down.
    pub(super) fn commit(&self, consumer: &str, partition: Partition, next: Offset) {
        let mut state = self.lock();
        if let Some(offsets) = state.committed.get_mut(consumer) {
            offsets.insert(partition.0, next.0);
            if state.saved == Saved::All {
                state.saved = Saved::OldOffsets;
            }
            return;
        }
        state.saved = Saved::NotAll;
        state.committed.insert(consumer.into(), BTreeMap::from([(partition.0, next.0)]));
        if let Err(error) = self.write(&mut state) {
            tracing::warn!(consumer, %error, "cannot write down a new consumer of the change log yet");
        }
    }

    /// Who is furthest behind in a partition: a consumer that has committed nothing there needs everything.
    /// `None` if no consumer is known.
    pub(super) fn slowest(&self, partition: Partition) -> Option<Slowest> {
        let state = self.lock();
        let next = |offsets: &BTreeMap<u32, u64>| Offset(offsets.get(&partition.0).copied().unwrap_or(0));
        let (consumer, offsets) = state.committed.iter().min_by_key(|(_, offsets)| next(offsets))?;
        Some(Slowest { consumer: consumer.clone(), next: next(offsets) })
    }

    /// Writes down what is not written yet.
    pub(super) fn save(&self) -> Result<(), LogError> {
        let mut state = self.lock();
        if state.saved == Saved::All { Ok(()) } else { self.write(&mut state) }
    }

    /// Sees to it that the file has every consumer, so that records may be removed; with the offsets of now if the
    /// disk lets it, since a full disk must not keep the log from shrinking.
    pub(super) fn secure(&self) -> Result<(), LogError> {
        let mut state = self.lock();
        match state.saved {
            Saved::All => Ok(()),
            Saved::NotAll => self.write(&mut state),
            Saved::OldOffsets => {
                if let Err(error) = self.write(&mut state) {
                    tracing::warn!(%error, "cannot write down what the consumers of the change log have committed");
                }
                Ok(())
            }
        }
    }

    fn write(&self, state: &mut State) -> Result<(), LogError> {
        let bytes =
            serde_json::to_vec_pretty(&state.committed).map_err(|error| failed(&self.path, error.into()))?;
        replace(&*self.disk, &self.path, &bytes)?;
        state.saved = Saved::All;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segments::disk::RealDisk;

    fn open(folder: &Path) -> Consumers {
        Consumers::open(Arc::new(RealDisk), folder).expect("opened")
    }

    #[test]
    fn a_consumer_is_written_down_when_it_becomes_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let consumers = open(folder.path());
        assert_eq!(consumers.slowest(Partition(0)), None);
        consumers.commit("a", Partition(0), Offset(5));
        consumers.commit("a", Partition(0), Offset(7));
        let slowest = |consumers: &Consumers, partition| {
            consumers.slowest(Partition(partition)).map(|slowest| (slowest.consumer, slowest.next.0))
        };
        assert_eq!(slowest(&open(folder.path()), 0), Some(("a".into(), 5)));
        consumers.save().expect("saved");
        assert_eq!(slowest(&open(folder.path()), 0), Some(("a".into(), 7)));
        consumers.commit("b", Partition(1), Offset(1));
        assert_eq!(slowest(&open(folder.path()), 0), Some(("b".into(), 0)), "b has committed nothing there");
        assert_eq!(slowest(&open(folder.path()), 1), Some(("a".into(), 0)));
    }

    #[test]
    fn a_broken_file_is_named_with_its_repair() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("consumers.json"), [0; 64]).expect("written");
        let error = Consumers::open(Arc::new(RealDisk), folder.path()).err().expect("it is refused");
        assert!(
            matches!(&error, LogError::Damaged { what, .. } if what.contains("remove the file")),
            "{error}"
        );
    }
}
