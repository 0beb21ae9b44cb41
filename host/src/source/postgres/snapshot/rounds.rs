//! What there is to be read, and how far that is, in a file beside the change log.
//!
//! In: tables to be read, and how far one was. Out: the same, after a crash.
//!
//! Invariants:
//! - the file names a table before the server sends changes of it, so none is forgotten;
//! - it says that rows are read only once they are on the change log's disk, so after a crash at most the rows since it
//!   was written are read again;
//! - it is there as long as the slot is ours, also where nothing is to be read. Without it the first snapshot has not begun:
//!   the slot may be there, and is made anew.
//!
//! `FOLDER/SOURCE.snapshot`: the rounds to go, each with the transactions that its slot's snapshot saw, and its tables:
//! `{"rounds": [{"visible": "10:20:14", "from": 0, "is_told": true, "tables": [{"schema": "public", "name": "orders", "oid": 16385,
//! "files": "16385:16390", "estimate": 1000, "rows": 500, "at": {"key":
//! {"columns": ["id pg_catalog.int8"], "values": ["500"]}}}]}]}`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::super::error::SourceError;
use super::super::json_file;
use super::super::server::failed;
use super::super::table::{Captured, TableName};
use crate::limits::RETRY_DELAY_MAX;

/// All that there is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Rounds {
    pub(super) rounds: Vec<Round>,
    /// How many questions of people it has in it, since the source has connected.
    #[serde(skip)]
    pub(super) asked: u64,
}

/// Tables that are read against one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Round {
    /// What it saw; none before its slot was made.
    pub(super) visible: Option<String>,
    /// Everything that it saw and that the stream brings commits before this place.
    pub(super) from: u64,
    /// Whether the change log has the record that it began.
    pub(super) is_told: bool,
    /// Each, those that are read included.
    pub(super) tables: Vec<TableState>,
}

/// How far one table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableState {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) oid: u32,
    /// The files that it had at the snapshot.
    pub(super) files: String,
    /// How many rows the server's statistics thought that it had.
    pub(super) estimate: u64,
    /// Rows that were appended.
    pub(super) rows: u64,
    pub(super) at: At,
}

/// A place in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum At {
    Beginning,
    /// After the row with these values of the key, whose columns have these names and types.
    Key {
        columns: Vec<String>,
        values: Vec<String>,
    },
    /// After this place in one of the tables that have its rows: itself, or its partitions in the order of their numbers.
    Row {
        leaf: u32,
        place: String,
    },
    End,
}

impl TableState {
    /// Of a table about which the server has not been asked yet.
    pub(super) fn new(captured: &Captured) -> Self {
        let TableName { schema, name } = captured.name.clone();
        let files = String::new();
        Self { schema, name, oid: captured.oid, files, estimate: 0, rows: 0, at: At::Beginning }
    }

    pub(super) fn table_name(&self) -> TableName {
        TableName { schema: self.schema.clone(), name: self.name.clone() }
    }
}

impl Rounds {
    /// Those of a source; none if its first snapshot has not begun.
    ///
    /// # Errors
    /// [`SourceError::ServerFile`].
    pub(in super::super) fn read(path: &Path) -> Result<Option<Self>, SourceError> {
        json_file::read(path).map_err(|cause| failed(path, cause))
    }

    /// Writes them down.
    ///
    /// # Errors
    /// [`SourceError::ServerFile`].
    pub(in super::super) fn write(&self, path: &Path) -> Result<(), SourceError> {
        json_file::replace(path, self).map_err(|cause| failed(path, cause))
    }

    /// Adds tables, to be read after the others. One that waits already is not added.
    pub(in super::super) fn add<'a>(&mut self, tables: impl IntoIterator<Item = &'a Captured>) {
        let waits = |round: &&mut Round| round.visible.is_none();
        let mut states: Vec<_> = tables.into_iter().map(TableState::new).collect();
        match self.rounds.iter_mut().find(waits) {
            Some(round) => {
                states.retain(|new| round.tables.iter().all(|table| table.oid != new.oid));
                round.tables.extend(states);
            }
            None if states.is_empty() => {}
            None => self.rounds.push(Round { visible: None, from: 0, is_told: false, tables: states }),
        }
    }

    /// Forgets tables that are captured no more.
    pub(in super::super) fn keep_only(&mut self, tables: &[Captured]) {
        for round in &mut self.rounds {
            round.tables.retain(|state| tables.iter().any(|table| table.oid == state.oid));
        }
        self.rounds.retain(|round| !round.tables.is_empty());
    }
}

/// The file of a source.
pub(in super::super) fn path(folder: &Path, source: &str) -> PathBuf {
    folder.join(format!("{source}.snapshot"))
}

/// Forgets all of it: a slot is about to be made.
///
/// # Errors
/// [`SourceError::ServerFile`].
pub(in super::super) fn forget(path: &Path) -> Result<(), SourceError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The way into the file: one write at a time, and what came meanwhile in the next.
pub(super) struct Keeper {
    path: PathBuf,
    wanted: Option<Rounds>,
    writing: Option<JoinHandle<(Rounds, Result<(), SourceError>)>>,
    /// After a write that found no room.
    not_before: Instant,
}

impl Keeper {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, wanted: None, writing: None, not_before: Instant::now() }
    }

    /// This is to be written.
    pub(super) fn want(&mut self, rounds: Rounds) {
        self.wanted = Some(rounds);
    }

    /// Waits until something was written, and gives how many questions are; for ever if nothing is to be. Cancelling
    /// loses nothing.
    pub(super) async fn written(&mut self) -> Result<u64, SourceError> {
        if self.writing.is_none() {
            if self.wanted.is_none() {
                return std::future::pending().await;
            }
            sleep_until(self.not_before).await;
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<u64, SourceError> {
        let writing = match &mut self.writing {
            Some(writing) => writing,
            None => {
                let Some(rounds) = self.wanted.take() else { return Ok(0) };
                let path = self.path.clone();
                self.writing.insert(spawn_blocking(move || {
                    let written = rounds.write(&path);
                    (rounds, written)
                }))
            }
        };
        let written = writing.await;
        self.writing = None;
        match written.map_err(|error| failed(&self.path, io::Error::other(error)))? {
            // What is not written is only read again after a crash, so a full disk is no reason to stop.
            (rounds, Err(SourceError::ServerFile { cause, .. }))
                if cause.kind() == io::ErrorKind::StorageFull =>
            {
                self.wanted.get_or_insert(rounds);
                self.not_before = Instant::now() + RETRY_DELAY_MAX;
                Ok(0)
            }
            (rounds, written) => written.map(|()| rounds.asked),
        }
    }

    /// Waits until all is written that finds room; gives how many questions are.
    pub(super) async fn settle(&mut self) -> Result<u64, SourceError> {
        let before = if self.writing.is_some() { self.write().await? } else { 0 };
        Ok(before.max(self.write().await?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::table::Kind;
    use super::*;

    fn captured(oid: u32) -> Captured {
        let name = TableName { schema: "public".to_owned(), name: format!("t{oid}") };
        Captured { name, oid, kind: Kind::Ordinary }
    }

    #[tokio::test]
    async fn what_is_to_be_read_survives_and_a_table_waits_once() {
        let home = tempfile::tempdir().expect("a folder");
        let path = path(home.path(), "shop");
        assert_eq!(Rounds::read(&path).expect("there is none"), None);
        let mut rounds = Rounds::default();
        rounds.add(&[captured(1), captured(2)]);
        rounds.add(&[captured(2), captured(3)]);
        assert_eq!(rounds.rounds.len(), 1);
        assert_eq!(rounds.rounds[0].tables.len(), 3);
        rounds.rounds[0].visible = Some("1:2:".to_owned());
        rounds.rounds[0].tables[0].at =
            At::Key { columns: vec!["id int8".to_owned()], values: vec!["7".to_owned()] };
        rounds.add(&[captured(2)]);
        assert_eq!(rounds.rounds.len(), 2, "one that is under way is read again");
        let mut keeper = Keeper::new(path.clone());
        keeper.want(Rounds::default());
        keeper.want(rounds.clone());
        keeper.settle().await.expect("it is written");
        assert_eq!(Rounds::read(&path).expect("it is whole").as_ref(), Some(&rounds));
        rounds.keep_only(&[captured(1)]);
        assert_eq!(rounds.rounds.len(), 1);
        forget(&path).expect("it is removed");
        forget(&path).expect("it is gone");
        assert_eq!(Rounds::read(&path).expect("there is none"), None);
    }
}
