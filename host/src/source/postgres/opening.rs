//! The begin of a life of a source's connections: what is there is looked at, what is not is made.
//!
//! In: the configuration, and where the change log stands. Out: a [`Session`], whose stream has started.
//!
//! Invariants:
//! - the change log and the files beside it have a slot before it is made, and a table before the server sends its changes;
//! - where changes are lost the source ends, or, where it is told to, begins anew with all rows; a change log that follows
//!   another server is never gone on with, since places mean nothing there.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tracing::{error, info, warn};

use super::choice::{Candidate, Fitness};
use super::connect::Control;
use super::error::{SourceError, with_causes};
use super::reached::Reached;
use super::seen::{self, Seen, Shape};
use super::slot::{self, Plan};
use super::snapshot::rounds::Rounds;
use super::snapshot::{self, Streamed};
use super::table::{self, Captured, TableName};
use super::wire::{Streaming, Wire};
use super::{Gap, Plans, Session, SnapshotMode, append, heartbeat, preflight, publication, reached, server};
use crate::event::encode;
use crate::log::ChangeLog;

/// What is made of the slot that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// It is gone on with, or the first one is made.
    AsItIs,
    /// Another takes its place, since changes are lost.
    Anew,
}

impl Plans {
    /// Opens both connections and sees to it that publication and slot are there.
    /// Where changes are lost, and the source is told to, it begins anew.
    pub(super) async fn open(
        &self,
        log: &dyn ChangeLog,
        streaming: Streaming,
    ) -> Result<Session, SourceError> {
        match self.open_with(log, streaming, Slot::AsItIs).await {
            Err(gap) if gap.is_gap() && self.config.gap == Gap::Resnapshot => {
                error!(
                    source = self.config.name,
                    "changes are lost, and all rows of all tables are read again with a new slot: {}",
                    with_causes(&gap)
                );
                self.figures.count_gap();
                self.open_with(log, streaming, Slot::Anew).await
            }
            opened => opened,
        }
    }

    /// One attempt.
    async fn open_with(
        &self,
        log: &dyn ChangeLog,
        streaming: Streaming,
        slot: Slot,
    ) -> Result<Session, SourceError> {
        let application = format!("twohop {}", self.config.name);
        let control = self.target.connect(&application).await?;
        let tables = self.tables(&control).await?;
        self.check_outbox(&control, &tables).await?;
        let last = log.last_position(&self.config.name);
        let state = slot::free(&control, &self.slot).await?;
        let mut rounds = Rounds::read(&self.rounds_file())?;
        let begun = if rounds.is_some() { slot::Snapshot::Begun } else { slot::Snapshot::Unknown };
        let plan = match slot::plan(&self.slot, state.as_ref(), last, self.config.snapshot, begun) {
            Err(gap) if slot == Slot::Anew && gap.is_gap() => Ok(Plan::Anew),
            Ok(_) if slot == Slot::Anew => Ok(Plan::Anew),
            plan => plan,
        };
        let from = if let Ok(Plan::Resume { from }) = plan { from } else { 0 };
        let mut wire = Wire::connect(&self.target, &application, &self.slot, from).await?;
        // First, since another server lacks the slot too, and that would be the lesser truth.
        if let Some(last) = last {
            let file = server::path(&self.config.folder, &self.config.name);
            server::check(&file, &mut wire, last).await?;
            slot::check_written(&control, last).await?;
        }
        let mut streamed = Streamed::Something;
        match plan? {
            Plan::Resume { .. } => {
                let added = publication::missing(&control, &self.publication, &tables).await?;
                rounds = Some(self.add(rounds, &tables, &added)?);
                publication::ensure(&control, &self.publication, &tables).await?;
            }
            plan => {
                publication::ensure(&control, &self.publication, &tables).await?;
                rounds = Some(self.create(&control, &mut wire, &tables, log, plan).await?);
                streamed = Streamed::Nothing;
            }
        }
        let rounds = rounds.unwrap_or_default();
        let (reached, start) = self.start(&control, &mut wire, log, streaming).await?;
        let control = Arc::new(control);
        Ok(Session { control, wire, tables, reached, start, rounds, streamed })
    }

    /// The tables to be captured.
    async fn tables(&self, control: &Control) -> Result<Vec<Captured>, SourceError> {
        let (snapshot, user) = (self.config.snapshot, &self.target.user);
        let mut tables = preflight::check(control, snapshot, user, &self.choice.names).await?;
        for candidate in self.choice.by_pattern(control, &self.publication, snapshot).await? {
            if candidate.fitness == Fitness::Fit {
                let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
                left_out.remove(&candidate.captured.name);
                tables.push(candidate.captured);
            } else {
                self.leave_out(control, candidate).await?;
            }
        }
        tables.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(tables)
    }

    /// Says, once, that a table is left out.
    async fn leave_out(&self, control: &Control, candidate: Candidate) -> Result<(), SourceError> {
        let name = candidate.captured.name.clone();
        if !self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            return Ok(());
        }
        let why = candidate.why(control, &self.publication, self.config.snapshot, &self.target.user).await?;
        if let Some(warning) = why {
            warn!(source = self.config.name, "{warning}");
        }
        Ok(())
    }

    /// Makes the slot, and notes what there is to be read.
    async fn create(
        &self,
        control: &Control,
        wire: &mut Wire,
        tables: &[Captured],
        log: &dyn ChangeLog,
        plan: Plan,
    ) -> Result<Rounds, SourceError> {
        self.begin(control, wire, tables, log, plan).await?;
        if plan == Plan::Recreate {
            info!(source = self.config.name, "the snapshot had not begun and begins again");
        }
        if plan != Plan::Create {
            slot::drop_slot(control, &self.slot).await?;
        }
        let kind = slot::Kind::Kept(self.config.snapshot);
        let created = slot::create(wire, control, &self.slot, kind).await?;
        info!(source = self.config.name, slot = self.slot, "made the replication slot");
        let rounds = match created.snapshot {
            Some(snapshot) => snapshot::first(control, &snapshot, &self.with_rows(tables)).await?,
            None => Rounds::default(),
        };
        // Also where there is nothing to be read: it says that the slot is ours.
        rounds.write(&self.rounds_file())?;
        Ok(rounds)
    }

    /// Those whose rows are to be read: what an outbox had before anybody listened is no message.
    pub(super) fn with_rows(&self, tables: &[Captured]) -> Vec<Captured> {
        let is_outbox = |table: &&Captured| self.outbox.as_ref().is_some_and(|its| its.table == table.name);
        tables.iter().filter(|table| !is_outbox(table)).cloned().collect()
    }

    /// Notes, before the server sends their changes, that tables are to be read, unless none is.
    fn add(
        &self,
        before: Option<Rounds>,
        tables: &[Captured],
        added: &[TableName],
    ) -> Result<Rounds, SourceError> {
        let mut rounds = before.clone().unwrap_or_default();
        rounds.keep_only(tables);
        let mut added: Vec<_> =
            self.with_rows(tables).into_iter().filter(|table| added.contains(&table.name)).collect();
        if self.config.snapshot == SnapshotMode::None {
            for Captured { name, .. } in added.drain(..) {
                warn!(
                    source = self.config.name,
                    "table `{name}` is new: its changes are read from now on, the rows that it has now are not"
                );
            }
        }
        rounds.add(&added);
        if before.as_ref() != Some(&rounds) {
            rounds.write(&self.rounds_file())?;
        }
        Ok(rounds)
    }

    pub(super) fn rounds_file(&self) -> PathBuf {
        snapshot::rounds::path(&self.config.folder, &self.config.name)
    }

    /// Starts the stream, and sees that the server did not go forward past what the change log has.
    async fn start(
        &self,
        control: &Control,
        wire: &mut Wire,
        log: &dyn ChangeLog,
        streaming: Streaming,
    ) -> Result<(Reached, u64), SourceError> {
        wire.start(&self.publication, streaming).await?;
        let path = reached::path(&self.config.folder, &self.config.name);
        // The log has everything that committed before its last transaction.
        let last = log.last_position(&self.config.name).map_or(0, |last| last.commit);
        let known = reached::read(&path)?.map(|known| known.max(last));
        let place = slot::check_reached(control, &self.slot, known).await?;
        Ok((Reached::begin(path, place)?, place))
    }

    /// Writes down, before there is a slot, that it will be ours and on which server.
    async fn begin(
        &self,
        control: &Control,
        wire: &Wire,
        tables: &[Captured],
        log: &dyn ChangeLog,
        plan: Plan,
    ) -> Result<(), SourceError> {
        server::write(&server::path(&self.config.folder, &self.config.name), &wire.server)?;
        if plan == Plan::Anew {
            // The record stands behind everything that the log has. Columns that are others than before the gap are told.
            heartbeat::emit(control).await?;
        } else {
            snapshot::rounds::forget(&self.rounds_file())?;
            let mut shapes = Vec::new();
            for captured in tables {
                let (table, _) = table::describe(control, &self.config.name, captured).await?;
                shapes.push((captured.oid, Shape::of(&table)));
            }
            Seen::begin(seen::path(&self.config.folder, &self.config.name), shapes)?;
        }
        let mark = match self.config.snapshot {
            SnapshotMode::Initial if plan == Plan::Anew => snapshot::Mark::Gap,
            SnapshotMode::Initial => snapshot::Mark::Began,
            SnapshotMode::None => snapshot::Mark::Skipped,
        };
        let (position, now) = (slot::begin(control).await?, snapshot::server_time(control).await?);
        let names = tables.iter().map(|table| table.name.to_string());
        let record = encode(&snapshot::mark(&self.config.name, names, mark, position, now));
        log.append(append::PARTITION, vec![record]).await.map_err(SourceError::Log)?;
        // Not before, in this order: without rounds a slot that is gone would be taken for one that is yet to be made, and
        // the gap would not be told; without a place one that was moved would be taken as it is found.
        if plan == Plan::Anew {
            snapshot::rounds::forget(&self.rounds_file())?;
        }
        reached::forget(&reached::path(&self.config.folder, &self.config.name))
    }

    /// Sees that the outbox has the columns of one.
    async fn check_outbox(&self, control: &Control, tables: &[Captured]) -> Result<(), SourceError> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let Some(captured) = tables.iter().find(|table| table.name == outbox.table) else { return Ok(()) };
        let (table, _) = table::describe(control, &self.config.name, captured).await?;
        outbox.messages(&table).map(drop).map_err(SourceError::Outbox)
    }
}
