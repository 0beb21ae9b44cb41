//! The embedded state: one SQLite file in the data folder, shared by the rooms that keep something.
//!
//! In: jobs that write, closures over one connection. Out: their results, durable. Reads run beside them on snapshots
//! of their own. Why SQLite: `docs/decisions/embedded-store.md`.
//!
//! ```text
//! commit(job) ─► bounded queue ─► committer: one transaction, a savepoint a job, one flush ─► then(job) ─► reply
//! read(job) ───► a reader's snapshot
//! ```
//! Invariants:
//! - a commit that returned is on disk; one that failed left nothing;
//! - what a reader sees is on disk;
//! - the life's number stays as long as nothing that was confirmed can have been lost.
//!
//! Absent on purpose: any meaning of what is stored. Each room makes and reads its own tables through [`sql`], and
//! no other room touches SQLite.

mod along;
mod committer;
mod copier;
mod error;
mod journal;
mod open;
mod readers;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

pub use along::{Along, Then};
pub use error::StateError;

use self::committer::{Committer, Order, Task};
use self::copier::Copier;
use self::readers::Readers;
use crate::limits::STATE_QUEUE_COUNT_MAX;

/// SQLite as the rooms use it: replacing it begins here.
pub mod sql {
    pub use rusqlite::types::Type;
    pub use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};
}

/// The embedded state. Clones share it; the last one to go ends the committer and waits for it.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    path: PathBuf,
    life: u64,
    orders: Option<mpsc::Sender<Order>>,
    committer: Option<JoinHandle<()>>,
    readers: Readers,
    /// Held while the state is open; the lock goes with the file handle.
    _lock: File,
}

/// Makes the folder of the state, with the folders above it, durably; nothing but that if it is there.
///
/// # Errors
/// If the system refuses.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    open::make_folder(folder)
}

/// Runs a job that reads, on the state in a folder that somebody else may have open.
///
/// # Errors
/// If there is none, if it is of a newer program, or if the job fails.
pub fn look<T>(
    folder: &Path,
    work: impl FnOnce(&sql::Connection) -> sql::Result<T>,
) -> Result<T, StateError> {
    let path = folder.join("state.db");
    // SQLite's own words do not say which file is missing.
    std::fs::metadata(&path).map_err(|error| StateError::io(&path, error))?;
    open::look(&path, work)
}

impl State {
    /// Opens the state in a folder, and makes both if they are not there. After an unclean end it checks what it
    /// finds, which reads the whole file; call it where blocking is allowed.
    ///
    /// # Errors
    /// If another process has it open, if it is damaged or of a newer program, or if the disk refuses.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        open::make_folder(folder).map_err(|error| StateError::io(folder, error))?;
        let lock = lock(&folder.join("state.lock"))?;
        let path = folder.join("state.db");
        let (connection, life) = open::open(&path)?;
        let database = |error| StateError::database(&path, error);
        let (orders, queue) = mpsc::channel(STATE_QUEUE_COUNT_MAX);
        let copier = Copier::start(&path, open::connect(&path).map_err(database)?, orders.downgrade())?;
        let readers = Readers::new(path.clone());
        let committer =
            Committer::new(path.clone(), connection, queue, copier, readers.gate()).map_err(database)?;
        let committer = std::thread::Builder::new()
            .name("state-commit".into())
            .spawn(|| committer.run())
            .map_err(|error| StateError::io(&path, error))?;
        Ok(Self(Arc::new(Inner {
            life: life.cast_unsigned(),
            orders: Some(orders),
            committer: Some(committer),
            readers,
            path,
            _lock: lock,
        })))
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A number drawn at random when the state was made, and again when a start found that the end of what was
    /// confirmed may be lost. Numbers that were given out under another life mean nothing.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.0.life
    }

    /// Runs a job that writes, and returns its answer once it is on disk. Jobs that wait at the same time share one
    /// flush. Cancelling leaves it open whether the job is done.
    ///
    /// # Errors
    /// If the job fails or the commit does; nothing of the job is kept then.
    pub async fn commit<T, Work>(&self, work: Work) -> Result<T, StateError>
    where
        T: Send + 'static,
        Work: FnOnce(&sql::Connection) -> sql::Result<T> + Send + 'static,
    {
        self.commit_then(work, |value| value).await
    }

    /// As [`State::commit`], and gives the job's value to `then` once it is on disk: on the committer's thread, in
    /// the order of the jobs, also if the caller has gone. It must be short and must not block. What it returns is
    /// the answer.
    ///
    /// # Errors
    /// As [`State::commit`]; `then` is not called then.
    pub async fn commit_then<T, Answer, Work, Then>(
        &self,
        work: Work,
        then: Then,
    ) -> Result<Answer, StateError>
    where
        T: Send + 'static,
        Answer: Send + 'static,
        Work: FnOnce(&sql::Connection) -> sql::Result<T> + Send + 'static,
        Then: FnOnce(T) -> Answer + Send + 'static,
    {
        let orders = self.0.orders.as_ref().ok_or(StateError::Ended)?;
        let (reply, answer) = oneshot::channel();
        let task = Task { work: Some(work), then, value: None, reply };
        orders.send(Order::Job(Box::new(task))).await.map_err(|_| StateError::Ended)?;
        answer.await.map_err(|_| StateError::Ended)?
    }

    /// Runs a job that reads, on a snapshot of what is committed. Cancelling has no effect.
    ///
    /// # Errors
    /// If the job fails.
    pub async fn read<T, Work>(&self, work: Work) -> Result<T, StateError>
    where
        T: Send + 'static,
        Work: FnOnce(&sql::Connection) -> sql::Result<T> + Send + 'static,
    {
        let turn = self.0.readers.turns().acquire_owned().await.map_err(|_| StateError::Ended)?;
        let inner = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            let answer = inner.readers.run(work);
            drop(turn);
            answer
        });
        read.await.map_err(|_| StateError::Ended)?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last connection to close copies the journal and removes it: that must be the committer's.
        self.readers.close();
        drop(self.orders.take());
        if let Some(committer) = self.committer.take() {
            // It panicked: whoever waited for it was told.
            let _ = committer.join();
        }
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|error| StateError::io(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StateError::InUse { path: path.into() }),
        Err(std::fs::TryLockError::Error(error)) => Err(StateError::io(path, error)),
    }
}
