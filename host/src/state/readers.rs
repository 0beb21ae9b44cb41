//! Connections that read, beside the committer and without waiting for it.
//!
//! In: a closure over a snapshot. Out: its answer. At most [`STATE_READERS_COUNT_MAX`] run at once, on threads that
//! may block; others wait their turn.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::StateError;
use super::open::open_reader;
use crate::limits::STATE_READERS_COUNT_MAX;

pub(super) struct Readers {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            turns: Arc::new(Semaphore::new(STATE_READERS_COUNT_MAX)),
            idle: Mutex::new(Vec::with_capacity(STATE_READERS_COUNT_MAX)),
        }
    }

    pub(super) fn turns(&self) -> Arc<Semaphore> {
        self.turns.clone()
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
