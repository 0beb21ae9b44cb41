//! Connections that read, beside the committer and without waiting for it.
//!
//! In: a closure over a snapshot. Out: its answer. At most [`STATE_READERS_COUNT_MAX`] run at once, on threads that
//! may block; others wait their turn. The committer can make all of them wait: see [`Gate`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::StateError;
use super::open::open_reader;
use crate::limits::STATE_READERS_COUNT_MAX;

/// Open for any number of readers, or closed by the committer, who waits until the last one has left.
#[derive(Default)]
pub(super) struct Gate(RwLock<()>);

impl Gate {
    /// Nobody reads until what is returned is dropped.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reader would come through now.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.0.try_read().is_ok()
    }
}

pub(super) struct Readers {
    path: PathBuf,
    gate: Arc<Gate>,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            gate: Arc::default(),
            turns: Arc::new(Semaphore::new(STATE_READERS_COUNT_MAX)),
            idle: Mutex::new(Vec::with_capacity(STATE_READERS_COUNT_MAX)),
        }
    }

    pub(super) fn turns(&self) -> Arc<Semaphore> {
        self.turns.clone()
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Runs on the calling thread, within one snapshot.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let database = |error| StateError::database(&self.path, error);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path).map_err(database)?,
        };
        let _open = self.gate.0.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = connection.transaction().map_err(database)?;
        let answer = work(&snapshot);
        snapshot.finish().map_err(database)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        answer.map_err(database)
    }

    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
