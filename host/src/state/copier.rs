//! The thread that copies the journal into the main file while commits go on.
//!
//! In: a signal that the journal is long. Out: [`Order::Finish`] to the committer, which copies the little that came
//! meanwhile, and begins the journal anew. Done by the committer alone, the copying of some megabytes would hold up
//! every commit that comes meanwhile.
//!
//! Absent on purpose: errors. A copy that fails leaves the journal longer; the committer meets the same error and
//! says so.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::mpsc::WeakSender;

use super::StateError;
use super::committer::Order;

/// How far a copy went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// The main file holds everything.
    Everything,
    /// A reader still needs the journal.
    InPart,
}

pub(super) struct Copier {
    signals: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    pub(super) fn start(
        path: &Path,
        connection: Connection,
        committer: WeakSender<Order>,
    ) -> Result<Self, StateError> {
        let (signals, signaled) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("state-copy".into())
            .spawn(move || run(&connection, &signaled, &committer))
            .map_err(|error| StateError::io(path, error))?;
        Ok(Self { signals: Some(signals), thread: Some(thread) })
    }

    /// Asks for a round; one that is already asked for is enough.
    pub(super) fn signal(&self) {
        if let Some(signals) = &self.signals
            && let Err(TrySendError::Disconnected(())) = signals.try_send(())
        {
            tracing::error!("the state's copier has ended: the journal grows until the next start");
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        drop(self.signals.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: the panic was printed.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, signaled: &Receiver<()>, committer: &WeakSender<Order>) {
    while signaled.recv().is_ok() {
        // The committer meets the same error, and says so.
        let _ = copy(connection);
        let Some(committer) = committer.upgrade() else { return };
        if committer.blocking_send(Order::Finish).is_err() {
            return;
        }
    }
}

/// Copies what no reader holds back, without making anybody wait.
pub(super) fn copy(connection: &Connection) -> rusqlite::Result<Copied> {
    let (busy, written, copied) = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
    Ok(if busy == 0 && written == copied { Copied::Everything } else { Copied::InPart })
}
