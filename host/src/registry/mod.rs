//! The registry: which components there are, which generations of which plugins, and what judges from which offset.
//!
//! In: what deployments decide. Out: the same, after any crash. Tables in the state, bytes in the data folder.
//!
//! Invariants:
//! - the owner of an offset is the record of its partition with the greatest first offset not above it; a record of
//!   the same first offset is replaced, since nothing was judged under it;
//! - a record, the generations that it brings and the entry that says so are one commit;
//! - whatever a set names can be loaded: its generations are never forgotten, nor their components;
//! - an event is told after it is durable.
//!
//! Absent on purpose: loading and calling plugins (`policy`), the choice of an offset (`pipeline`), who may do what.

mod audit;
mod component;
mod error;
mod generation;
mod set;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

pub use audit::{Action, Entry, HOST, Note};
pub use component::Component;
pub use error::RegistryError;
pub use generation::{Generation, good_before, is_same};
pub use set::{Member, PluginSet, SetRecord, Standing};

use component::Folder;

use crate::event::{Micros, Offset, Partition};
use crate::failpoint::failpoint;
use crate::limits::AUDIT_QUEUE_COUNT_MAX;
use crate::policy::{Activation, Digest};
use crate::state::State;

/// The registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    state: State,
    folder: Folder,
    events: broadcast::Sender<Arc<Entry>>,
}

/// What one step of a deployment makes durable, as one.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// What judges from an offset on.
    pub record: Option<SetRecord>,
    /// New generations, and whose they are.
    pub generations: Vec<(Activation, String)>,
    /// The generation that failed too often.
    pub quarantined: Option<(Arc<str>, u64)>,
    /// What the configuration file says now, in place of what it said before. The generation says nothing here.
    pub file: Option<Vec<Activation>>,
    /// What the audit list says of it.
    pub notes: Vec<Note>,
}

/// A candidate that runs beside what is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// What it is; it has no number yet, its generation says nothing.
    pub candidate: Activation,
    /// Who started it.
    pub by: String,
    /// When.
    pub at: Micros,
}

impl Registry {
    /// Makes the tables, and the folder of components in `data`, if they are not there.
    ///
    /// # Errors
    /// If the state or the disk refuses.
    pub async fn open(state: State, data: &Path) -> Result<Self, RegistryError> {
        let folder = Folder::open(&data.join("plugins").join("components"))?;
        state.commit(tables::create).await?;
        Ok(Self { state, folder, events: broadcast::Sender::new(AUDIT_QUEUE_COUNT_MAX) })
    }

    /// Keeps a component, its bytes first.
    ///
    /// # Errors
    /// If the state or the disk refuses.
    pub async fn keep_component(
        &self,
        component: Component,
        wasm: bytes::Bytes,
    ) -> Result<(), RegistryError> {
        let (folder, digest) = (self.folder.clone(), component.digest);
        blocking(move || folder.write(digest, &wasm)).await??;
        failpoint!("component-before-row");
        let mut note = Note::new(&component.by, Action::Uploaded);
        note.digest = Some(digest);
        let (folder, events) = (self.folder.clone(), self.events.clone());
        let work = move |connection: &_| tables::keep_component(connection, &component, &note);
        let gone = self.state.commit_then(work, move |(gone, entry)| {
            tell(&events, [entry]);
            gone
        });
        let gone = gone.await?;
        blocking(move || gone.into_iter().for_each(|digest| folder.remove(digest))).await
    }

    /// What is known of a component.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn component(&self, digest: Digest) -> Result<Option<Component>, RegistryError> {
        Ok(self.state.read(move |connection| tables::find_component(connection, digest)).await?)
    }

    /// All components, newest first.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn components(&self) -> Result<Vec<Component>, RegistryError> {
        Ok(self.state.read(tables::components).await?)
    }

    /// A component's bytes. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// If the file is missing, damaged, or cannot be read.
    pub fn wasm(&self, digest: Digest) -> Result<Vec<u8>, RegistryError> {
        self.folder.read(digest)
    }

    /// The plugins of which a generation is remembered, by name, and how many are.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn plugins(&self) -> Result<Vec<(String, u64)>, RegistryError> {
        Ok(self.state.read(tables::plugins).await?)
    }

    /// The generations of a plugin, newest first.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn generations(&self, plugin: &str) -> Result<Vec<Generation>, RegistryError> {
        let plugin = plugin.to_owned();
        Ok(self.state.read(move |connection| tables::generations(connection, &plugin)).await?)
    }

    /// What judges an offset: the record with the greatest first offset not above it.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn owner(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<SetRecord>, RegistryError> {
        Ok(self.state.read(move |connection| tables::owner(connection, partition, offset)).await?)
    }

    /// Every record of a partition that is remembered, oldest first.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn sets(&self, partition: Partition) -> Result<Vec<SetRecord>, RegistryError> {
        Ok(self.state.read(move |connection| tables::sets(connection, partition)).await?)
    }

    /// Makes a step durable, then tells its notes to who follows.
    ///
    /// # Errors
    /// If the state refuses; nothing of the step is kept then.
    pub async fn record(&self, step: Step) -> Result<(), RegistryError> {
        let events = self.events.clone();
        let work = move |connection: &_| tables::record(connection, &step, now());
        Ok(self.state.commit_then(work, move |entries| tell(&events, entries)).await?)
    }

    /// What the configuration file said at the last start that changed something, by name.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn file(&self) -> Result<Vec<Activation>, RegistryError> {
        Ok(self.state.read(tables::file).await?)
    }

    /// The shadows, by name.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn shadows(&self) -> Result<Vec<Shadow>, RegistryError> {
        Ok(self.state.read(tables::shadows).await?)
    }

    /// Remembers a shadow, in place of the one of its plugin.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn start_shadow(&self, shadow: Shadow, note: Note) -> Result<(), RegistryError> {
        let events = self.events.clone();
        let work = move |connection: &_| tables::start_shadow(connection, &shadow, &note);
        Ok(self.state.commit_then(work, move |entry| tell(&events, [entry])).await?)
    }

    /// Forgets a shadow.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn stop_shadow(&self, plugin: &str, note: Note) -> Result<(), RegistryError> {
        let (plugin, events) = (plugin.to_owned(), self.events.clone());
        let work = move |connection: &_| tables::stop_shadow(connection, &plugin, &note, now());
        Ok(self.state.commit_then(work, move |entry| tell(&events, [entry])).await?)
    }

    /// Entries of the audit list with an id above `after`, oldest first, at most `count_max`.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn audit(&self, after: u64, count_max: usize) -> Result<Vec<Entry>, RegistryError> {
        Ok(self.state.read(move |connection| tables::audit(connection, after, count_max)).await?)
    }

    /// Entries as they come. A receiver that lags loses the oldest, and finds them in [`Registry::audit`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.events.subscribe()
    }
}

fn tell(events: &broadcast::Sender<Arc<Entry>>, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        // Nobody follows: it is in the list.
        let _ = events.send(Arc::new(entry));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RegistryError::Panic)
}

/// On this machine's clock.
#[must_use]
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
