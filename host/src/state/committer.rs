//! The one thread that writes: it merges the jobs that wait into one durable commit.
//!
//! In: jobs, through a bounded queue. Out: their results, once they are on disk.
//!
//! Invariants:
//! - jobs run, and are settled, in the order in which they were queued;
//! - a job that fails leaves nothing behind and harms no other; where SQLite gives up the whole transaction (a full
//!   disk), every job of the group fails and nothing of the group is kept;
//! - a journal that is copied into the main file is begun anew at once, unless somebody reads it at that moment; after
//!   some such rounds, readers are made to wait, so that the journal's size has a bound whoever reads.
//!
//! Absent on purpose: retries. A job runs once, its owner decides.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::StateError;
use super::copier::{Copied, Copier, copy};
use super::readers::Gate;
use crate::limits::{STATE_GROUP_COUNT_MAX, STATE_JOURNAL_PAGES_MAX, STATE_JOURNAL_PAGES_WAIT};

/// What the committer runs.
pub(super) trait Job: Send {
    /// Does the work. After an error everything it wrote is undone.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Tells the result: the work is on disk, or nothing of it is there.
    fn settle(self: Box<Self>, outcome: Result<(), StateError>);
}

/// A job of any type: work, what follows it, and who waits for it.
pub(super) struct Task<T, Work, Then, Answer> {
    /// Taken when it runs.
    pub(super) work: Option<Work>,
    pub(super) then: Then,
    pub(super) value: Option<T>,
    pub(super) reply: oneshot::Sender<Result<Answer, StateError>>,
}

impl<T, Work, Then, Answer> Job for Task<T, Work, Then, Answer>
where
    T: Send,
    Work: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    Then: FnOnce(T) -> Answer + Send,
    Answer: Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(connection)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), StateError>) {
        let Self { then, value, reply, .. } = *self;
        let result = outcome.and_then(|()| value.ok_or(StateError::Ended));
        // Who no longer waits was told that this may happen.
        let _ = reply.send(result.map(then));
    }
}

/// What the committer is told.
pub(super) enum Order {
    /// Run this.
    Job(Box<dyn Job>),
    /// The copier has copied the journal: copy the rest, and begin it anew.
    Finish,
}

pub(super) struct Committer {
    path: PathBuf,
    /// Before the connection: that is the last one to close, which copies the journal and removes it.
    copier: Copier,
    connection: Connection,
    orders: mpsc::Receiver<Order>,
    gate: Arc<Gate>,
    /// Pages in the journal after the last commit.
    journal_pages: Arc<AtomicU32>,
    /// When the copier is called next, in pages.
    copy_at_pages: u32,
}

impl Committer {
    pub(super) fn new(
        path: PathBuf,
        mut connection: Connection,
        orders: mpsc::Receiver<Order>,
        copier: Copier,
        gate: Arc<Gate>,
    ) -> rusqlite::Result<Self> {
        let journal_pages = Arc::new(AtomicU32::new(0));
        let pages = journal_pages.clone();
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
            pages.store(count.cast_unsigned(), Ordering::Relaxed);
            Ok(())
        }))?;
        let copy_at_pages = STATE_JOURNAL_PAGES_MAX;
        Ok(Self { path, connection, orders, copier, gate, journal_pages, copy_at_pages })
    }

    /// Runs until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.orders.blocking_recv() {
            let mut group = Vec::new();
            let mut copied = false;
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Job(job) => group.push(job),
                    Order::Finish => copied = true,
                }
                next = if group.len() < STATE_GROUP_COUNT_MAX { self.orders.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.commit(group);
            }
            if copied {
                self.finish_round();
            } else if self.journal_pages.load(Ordering::Relaxed) >= self.copy_at_pages {
                // Not again before this round is finished.
                self.copy_at_pages = u32::MAX;
                self.copier.signal();
            }
        }
    }

    fn commit(&self, group: Vec<Box<dyn Job>>) {
        let mut group = group.into_iter();
        let mut done = Vec::with_capacity(group.len());
        let outcome = self.execute("BEGIN IMMEDIATE").and_then(|()| {
            for mut job in group.by_ref() {
                match self.attempt(&mut *job) {
                    Ok(()) => done.push(job),
                    Err(error) => {
                        let error = StateError::database(&self.path, error);
                        job.settle(Err(error.clone()));
                        if self.connection.is_autocommit() {
                            return Err(error);
                        }
                    }
                }
            }
            self.execute("COMMIT")
        });
        if outcome.is_err() && !self.connection.is_autocommit() {
            // Whether this fails or not, the next BEGIN tells.
            let _ = self.execute("ROLLBACK");
        }
        for job in done.into_iter().chain(group) {
            job.settle(outcome.clone());
        }
    }

    fn attempt(&self, job: &mut dyn Job) -> rusqlite::Result<()> {
        self.statement("SAVEPOINT job")?;
        let result = job.run(&self.connection);
        if result.is_err() && !self.connection.is_autocommit() {
            self.statement("ROLLBACK TO job")?;
        }
        if !self.connection.is_autocommit() {
            self.statement("RELEASE job")?;
        }
        result
    }

    /// Copies what came while the copier ran, and begins the journal anew, which any write does once all is copied and
    /// nobody reads. A journal that is copied but not begun anew would, if the disk then lost a page of it, lay old
    /// pages over the new ones of the main file.
    fn finish_round(&mut self) {
        let pages = self.journal_pages.load(Ordering::Relaxed);
        let nobody_reads = (pages >= STATE_JOURNAL_PAGES_WAIT).then(|| self.gate.close());
        let round = copy(&self.connection).and_then(|copied| match copied {
            Copied::Everything => {
                self.statement("UPDATE life SET rounds = rounds + 1")?;
                // SQLite says nothing where a reader kept it from beginning anew, and writes at the end.
                let is_anew = self.journal_pages.load(Ordering::Relaxed) < pages;
                Ok(if is_anew { Copied::Everything } else { Copied::InPart })
            }
            Copied::InPart => Ok(copied),
        });
        drop(nobody_reads);
        if let Err(error) = &round {
            tracing::warn!(%error, "the state's journal could not be copied into its main file, and grows on");
        }
        self.copy_at_pages = match round {
            Ok(Copied::Everything) => STATE_JOURNAL_PAGES_MAX,
            _ => self.journal_pages.load(Ordering::Relaxed).saturating_add(STATE_JOURNAL_PAGES_MAX),
        };
    }

    fn execute(&self, sql: &str) -> Result<(), StateError> {
        self.statement(sql).map_err(|error| StateError::database(&self.path, error))
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }
}
