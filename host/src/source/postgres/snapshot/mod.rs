//! Snapshots: the rows that tables have, among the changes of the stream, which goes on meanwhile.
//!
//! In: tables to be read: all of them at the first start, later those that are added or asked for. Out: a change for each
//! row that is as it was when its table's snapshot was taken, in batches among those of the stream; a record before the
//! first and one after the last.
//!
//! ```text
//! a slot's exported snapshot ─► what it saw, kept as text ─► chunk ─► chunk ─► … ─► complete
//!                                                              ▲ the stream stands still between two transactions
//! ```
//! Invariants:
//! - a row comes from the snapshot if it is as it was, and from the stream if not: whether its writer's transaction was
//!   over for the slot's snapshot says which. So nothing is missing, and nothing comes twice but after a crash (and where
//!   `visible.rs` cannot tell);
//! - of a key, no older row comes after a newer one: a chunk is read when everything is over that the stream has brought,
//!   and appended before the stream brings more;
//! - no transaction stays open in the database, and nothing is kept there: a snapshot may take days, and goes on after a
//!   crash where it was (`rounds.rs`).
//!
//! Absent on purpose: several tables at once. The rows come as fast as one thread encodes them.

mod chunk;
mod open;
pub(super) mod place;
pub(super) mod rounds;
mod visible;
mod wait;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::asked::{Answer, Ask};
use super::assemble::{Assembler, virtual_table};
use super::connect::{Control, Target};
use super::error::SourceError;
use super::heartbeat;
use super::stream::now;
use super::table::Captured;
use super::touched::Touched;
use crate::event::{Change, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use crate::failpoint::failpoint;
use crate::limits::{SNAPSHOT_BATCHES_BETWEEN, SNAPSHOT_RETRY_INTERVAL, SNAPSHOT_UNSETTLED_COUNT_MAX};
use crate::telemetry::{SnapshotMetrics, TableProgress};

use chunk::{Changes, Chunk, Read, Size, Task};
use place::Place;
use rounds::{At, Keeper, Round, Rounds, TableState};
use visible::{Age, Unsettled, Visible};

pub(super) use chunk::Order;
pub(super) use open::first;

const DOING: &str = "a snapshot";

/// What the change log is told of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Its slot is about to be made.
    Began,
    /// The slot is about to be made, and there will be no snapshot.
    Skipped,
    /// As [`Began`](Self::Began), since changes are lost.
    Gap,
    /// All its rows are in the log.
    Complete,
}

/// The server's clock, within a transaction as it began.
pub(super) async fn server_time(control: &Control) -> Result<Micros, SourceError> {
    const TIME: &str = "SELECT (extract(epoch FROM now()) * 1000000)::int8";
    let time = control.query("a look at the clock", TIME, &[]).await?;
    Ok(Micros(time.first().map_or(0, |row| row.get(0))))
}

/// The record of how far a snapshot is.
pub(super) fn mark(
    source: &str,
    tables: impl Iterator<Item = String>,
    mark: Mark,
    position: Position,
    at: Micros,
) -> Change {
    let table = Arc::new(virtual_table(source, "$snapshot", ["state", "tables"]));
    let mut builder = RowBuilder::default();
    builder.push(Value::Text(match mark {
        Mark::Began => "began",
        Mark::Skipped => "skipped",
        Mark::Gap => "gap",
        Mark::Complete => "complete",
    }));
    builder.push(Value::Text(&tables.collect::<Vec<_>>().join(",")));
    builder.finish(origin(table, Operation::Message, position, at), Rows::New)
}

/// A row of a snapshot belongs to no transaction, so each is the last of its own.
fn origin(table: Arc<Table>, operation: Operation, position: Position, committed_at: Micros) -> Origin {
    Origin { table, operation, position, last: true, transaction: 0, committed_at }
}

/// What one life of a source's connections begins with.
pub(super) struct Begin {
    pub(super) target: Target,
    pub(super) source: Arc<str>,
    pub(super) slot: String,
    /// The tables that may be read.
    pub(super) tables: Vec<Captured>,
    pub(super) file: PathBuf,
    pub(super) rounds: Rounds,
    /// Whether the stream has brought anything before.
    pub(super) streamed: Streamed,
    /// The log's last position.
    pub(super) after: Option<Position>,
    /// The stream brings no commit before this place.
    pub(super) start: u64,
    pub(super) figures: Arc<SnapshotMetrics>,
}

/// Whether the stream has brought anything of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streamed {
    Nothing,
    Something,
}

/// Something under way.
type Doing = BoxFuture<'static, Result<Done, SourceError>>;

/// The snapshots of a source, beside its stream.
pub(super) struct Snapshots {
    target: Target,
    source: Arc<str>,
    slot: String,
    tables: Vec<Captured>,
    rounds: Rounds,
    keeper: Keeper,
    control: Option<Control>,
    stage: Stage,
    work: Option<Doing>,
    unsettled: Unsettled,
    place: Place,
    after: Option<Position>,
    size: Size,
    held: Option<Held>,
    not_before: Instant,
    /// That the stream has begun since the last chunk.
    batches: usize,
    streamed: Streamed,
    /// Who waits until it is written down that a table is to be read, as the how manieth.
    asked: VecDeque<(u64, Answer)>,
    figures: Arc<SnapshotMetrics>,
}

/// What the snapshots do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is to be read.
    Idle,
    /// A slot is made, for what it sees.
    Opening,
    /// Waits until those transactions are over of which it is not known whether the stream has brought them.
    Settling,
    /// A chunk may be read.
    Ready,
    /// One was read, and waits for the stream.
    Waiting,
    /// One is being read.
    Turn,
}

/// A chunk of which it is not known what of it the stream will bring.
struct Held {
    oid: u32,
    /// Once the stream has passed this place it has brought everything that the rows show.
    until: u64,
    chunk: Chunk,
}

/// What was done beside the stream.
pub(super) struct Work(Done);

enum Done {
    Opened {
        control: Control,
        round: Round,
    },
    Settled {
        control: Control,
    },
    Read {
        control: Control,
        unsettled: Unsettled,
        read: Read,
    },
    /// A message stands in the server's log before this place.
    Emitted {
        control: Control,
        until: u64,
    },
}

impl Snapshots {
    pub(super) fn begin(begin: Begin, assembler: &mut Assembler) -> Self {
        let Begin { target, source, slot, tables, file, rounds, streamed, after, start, figures } = begin;
        let mut snapshots = Self {
            target,
            source,
            slot,
            tables,
            rounds,
            keeper: Keeper::new(file),
            control: None,
            stage: Stage::Idle,
            work: None,
            unsettled: Unsettled::default(),
            place: Place::begin(after, start),
            after,
            size: Size::default(),
            held: None,
            not_before: Instant::now(),
            batches: 0,
            streamed,
            asked: VecDeque::new(),
            figures,
        };
        snapshots.show();
        snapshots.go_on(assembler);
        snapshots
    }

    /// Begins what comes before the next round's first chunk.
    fn go_on(&mut self, assembler: &mut Assembler) {
        let streamed = std::mem::replace(&mut self.streamed, Streamed::Something);
        let Some(round) = self.rounds.rounds.first().cloned() else {
            (self.stage, self.control) = (Stage::Idle, None);
            return;
        };
        self.unsettled = Unsettled::default();
        let (target, control, source) = (self.target.clone(), self.control.take(), self.source.clone());
        if round.visible.is_none() {
            self.watch_partial(Touched::default, assembler);
            let (slot, tables) = (self.slot.clone(), self.tables.clone());
            self.stage = Stage::Opening;
            self.work = Some(open::later(target, control, source, slot, round, tables).boxed());
        } else {
            let kept = round.visible.as_deref().and_then(Visible::parse);
            let (before, only): (fn() -> Touched, _) = match streamed {
                Streamed::Nothing => (Touched::default, kept),
                // What an earlier connection brought is not known; of this one it is noted already.
                Streamed::Something => (Touched::everything, None),
            };
            self.watch_partial(before, assembler);
            self.stage = Stage::Settling;
            self.work = Some(wait::settle(target, control, source, only).boxed());
        }
    }

    /// Whether the stream has to stand still.
    pub(super) fn has_turn(&self) -> bool {
        self.stage == Stage::Turn
    }

    /// Whether a chunk may be read once the stream stands between two transactions.
    pub(super) fn may_turn(&self) -> bool {
        // What a later round's snapshot saw, and the stream brings, comes first: it is older.
        let is_passed = self.rounds.rounds.first().is_none_or(|round| self.place.passed() >= round.from);
        self.stage == Stage::Ready && is_passed && self.place.has_room() && Instant::now() >= self.not_before
    }

    /// Whether it is time for that although the stream has more.
    pub(super) fn is_due(&self) -> bool {
        self.may_turn()
            && (self.batches >= SNAPSHOT_BATCHES_BETWEEN
                || self.unsettled.len() >= SNAPSHOT_UNSETTLED_COUNT_MAX)
    }

    /// Begins to read a chunk. The stream stands still until it is [taken](Self::take).
    pub(super) fn turn(&mut self, assembler: &mut Assembler) {
        // What was left may have been emptied.
        let Some(task) = self.task() else { return self.end_table(assembler, now()) };
        self.stage = Stage::Turn;
        self.batches = 0;
        let (target, control, source) = (self.target.clone(), self.control.take(), self.source.clone());
        self.work = Some(read(target, control, source, task).boxed());
    }

    fn task(&mut self) -> Option<Task> {
        let round = self.rounds.rounds.first()?;
        let state = round.tables.iter().find(|table| table.at != At::End)?.clone();
        let captured = self.tables.iter().find(|table| table.oid == state.oid)?.clone();
        Some(Task {
            source: self.source.clone(),
            captured,
            kept: Visible::parse(round.visible.as_deref()?)?,
            state,
            unsettled: std::mem::take(&mut self.unsettled),
            size: self.size,
        })
    }

    /// Waits until something was done, if anything for the stream to [take](Self::take), or the moment has come to try
    /// again; for ever if there is nothing to wait for. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Work>, SourceError> {
        let is_early = self.stage == Stage::Ready && Instant::now() < self.not_before;
        tokio::select! {
            biased;
            written = self.keeper.written() => written.map(|asked| {
                self.answer(asked);
                None
            }),
            done = done(&mut self.work) => done.map(|done| Some(Work(done))),
            () = sleep_until(self.not_before), if is_early => Ok(None),
        }
    }

    /// The change log has the rows of these.
    pub(super) fn keep(&mut self, rounds: Rounds) {
        self.keeper.want(rounds);
    }

    /// Writes down what is to be.
    pub(super) async fn settle(&mut self) -> Result<(), SourceError> {
        let asked = self.keeper.settle().await?;
        self.answer(asked);
        Ok(())
    }

    /// Somebody asks for all rows of a table, and is answered once it is written down that they are to be read.
    pub(super) fn ask(&mut self, ask: Ask, assembler: &mut Assembler) {
        let Some(table) = self.tables.iter().find(|table| table.name == ask.table) else {
            return ask.refuse(&self.tables);
        };
        info!(source = &*self.source, "somebody asks for all rows of {}", table.name);
        self.rounds.add([table]);
        self.rounds.asked += 1;
        self.asked.push_back((self.rounds.asked, ask.answer));
        assembler.note_rounds(self.rounds.clone());
        self.show();
        if self.stage == Stage::Idle {
            self.go_on(assembler);
        }
    }

    /// Tells those who asked, up to so many, that it is written down.
    fn answer(&mut self, upto: u64) {
        while self.asked.front().is_some_and(|(number, _)| *number <= upto) {
            let Some((_, answer)) = self.asked.pop_front() else { return };
            // Who waits no more has been told to look.
            let _ = answer.send(Ok(()));
        }
    }

    /// The stream has begun to bring a transaction.
    pub(super) fn note(&mut self, transaction: u32, assembler: &mut Assembler) {
        match self.stage {
            Stage::Idle | Stage::Opening => {}
            Stage::Settling if self.unsettled.len() >= SNAPSHOT_UNSETTLED_COUNT_MAX => self.go_on(assembler),
            Stage::Settling | Stage::Ready | Stage::Waiting | Stage::Turn => self.unsettled.note(transaction),
        }
    }

    /// The stream begins a further batch.
    pub(super) fn note_batch(&mut self) {
        self.batches += 1;
    }

    /// The stream has brought everything before a place, and nothing after it.
    pub(super) fn pass(&mut self, end: u64) {
        self.place.pass(end, self.after);
    }

    /// A table was emptied: whatever it has from here on comes by the stream.
    pub(super) fn truncated(&mut self, relation: u32) {
        let states = self.rounds.rounds.iter_mut().filter(|round| round.visible.is_some());
        for state in states.flat_map(|round| &mut round.tables).filter(|state| state.oid == relation) {
            state.at = At::End;
        }
    }

    /// Takes what was done: rows and records into what is ready to be appended.
    pub(super) fn take(&mut self, work: Work, assembler: &mut Assembler) {
        match work.0 {
            Done::Opened { control, round } => {
                self.control = Some(control);
                if let Some(first) = self.rounds.rounds.first_mut() {
                    // What was asked for meanwhile waits for the next one.
                    let later = first.tables.split_off(round.tables.len().min(first.tables.len()));
                    *first = round;
                    if !later.is_empty() {
                        let round = Round { visible: None, from: 0, is_told: false, tables: later };
                        self.rounds.rounds.insert(1, round);
                    }
                    assembler.note_rounds(self.rounds.clone());
                }
                self.show();
                self.go_on(assembler);
            }
            Done::Settled { control } => {
                (self.control, self.stage) = (Some(control), Stage::Ready);
            }
            Done::Emitted { control, until } => {
                self.control = Some(control);
                self.held.iter_mut().for_each(|held| held.until = until);
            }
            Done::Read { control, unsettled, read } => {
                (self.control, self.unsettled, self.stage) = (Some(control), unsettled, Stage::Ready);
                match read {
                    Read::Later => self.not_before = Instant::now() + SNAPSHOT_RETRY_INTERVAL,
                    Read::Gone => self.forget_table(assembler),
                    Read::Chunk(chunk) => self.append(chunk, assembler),
                }
            }
        }
    }

    fn forget_table(&mut self, assembler: &mut Assembler) {
        let source = self.source.clone();
        if let Some(state) = self.current() {
            warn!(source = &*source, "table `{}` is gone, and its snapshot ends", state.table_name());
            state.at = At::End;
        }
        self.size = Size::default();
        self.end_table(assembler, now());
    }

    fn current(&mut self) -> Option<&mut TableState> {
        self.rounds.rounds.first_mut()?.tables.iter_mut().find(|table| table.at != At::End)
    }

    fn append(&mut self, chunk: Chunk, assembler: &mut Assembler) {
        failpoint!("snapshot-chunk-read");
        let Some(oid) = self.current().map(|state| state.oid) else { return self.go_on(assembler) };
        let partial = assembler.partial(oid).filter(|_| chunk.changes == Changes::Partial);
        // A row that the stream brought without some of its values comes as a whole.
        let sure = |age, row: &Change| match age {
            Age::Streamed if partial.is_some_and(|partial| partial.has_partial(row)) => Age::Unsure,
            age => age,
        };
        let rows: Vec<_> = chunk.rows.into_iter().map(|(age, row)| (sure(age, &row), row)).collect();
        // Where the stream has yet to bring a row, and may bring it without some of its values, the chunk waits for that.
        let is_sure = rows.iter().all(|(age, _)| match age {
            Age::Kept => true,
            Age::Streamed => chunk.changes == Changes::Whole,
            Age::Unsure => false,
        });
        let chunk = Chunk { rows, ..chunk };
        if is_sure {
            return self.push(chunk, &Touched::default(), assembler);
        }
        self.stage = Stage::Waiting;
        assembler.watch(oid);
        self.held = Some(Held { oid, until: u64::MAX, chunk });
        let (target, control, source) = (self.target.clone(), self.control.take(), self.source.clone());
        self.work = Some(emit(target, control, source).boxed());
    }

    /// Whether the stream has come so far that rows which waited for it can be appended.
    pub(super) fn may_release(&self) -> bool {
        self.held.as_ref().is_some_and(|held| self.place.passed() >= held.until)
    }

    /// Appends rows that waited, but for those whose key the stream has brought meanwhile.
    pub(super) fn release(&mut self, assembler: &mut Assembler) {
        let Some(Held { oid, chunk, .. }) = self.held.take() else { return };
        let touched = assembler.take_touched();
        self.stage = Stage::Ready;
        let is_there = self.current().is_some_and(|state| state.oid == oid);
        let is_partial = |(_, row): &(Age, Change)| touched.has_partial(row);
        if touched.is_anything(chunk.order) || !is_there || chunk.rows.iter().any(is_partial) {
            // It is read again, or was emptied.
            self.size = self.size.smaller();
            self.not_before = Instant::now() + SNAPSHOT_RETRY_INTERVAL;
            self.end_table(assembler, chunk.taken_at);
            return;
        }
        self.push(chunk, &touched, assembler);
    }

    fn push(&mut self, chunk: Chunk, touched: &Touched, assembler: &mut Assembler) {
        let Chunk { rows, at, taken_at, size, .. } = chunk;
        self.tell(Mark::Began, taken_at, assembler);
        let Some(oid) = self.current().map(|state| state.oid) else { return };
        let mut count = 0;
        for (age, mut change) in rows {
            if age == Age::Streamed || touched.has(&change) {
                continue;
            }
            (change.position, change.committed_at) = (self.place.take(), taken_at);
            if count == 0 {
                assembler.announce_rows(oid, &change);
            }
            assembler.append(&change);
            count += 1;
        }
        self.size = size;
        self.figures.count(count);
        if at == At::End {
            self.size = Size::default();
            assembler.forget_partial(oid);
        }
        if let Some(state) = self.current() {
            state.rows += count;
            state.at = at;
        }
        self.end_table(assembler, taken_at);
    }

    /// Tells it if a round is over, and what is to be written down.
    fn end_table(&mut self, assembler: &mut Assembler, at: Micros) {
        let Some(round) = self.rounds.rounds.first() else { return };
        if round.tables.iter().all(|table| table.at == At::End) {
            self.tell(Mark::Began, at, assembler);
            self.tell(Mark::Complete, at, assembler);
            let round = self.rounds.rounds.remove(0);
            let rows: u64 = round.tables.iter().map(|table| table.rows).sum();
            info!(source = &*self.source, rows, tables = round.tables.len(), "the snapshot is complete");
            self.go_on(assembler);
        }
        self.show();
        assembler.note_rounds(self.rounds.clone());
    }

    /// Shows how far the rounds are.
    fn show(&self) {
        let tables = self.rounds.rounds.iter().flat_map(|round| &round.tables);
        let progress = |table: &TableState| TableProgress {
            table: table.table_name().to_string(),
            rows: table.rows,
            estimate: table.estimate,
            is_complete: table.at == At::End,
        };
        self.figures.set(tables.map(progress).collect());
    }

    /// Has those rows noted that come without some of their values while they may not have come as a whole.
    fn watch_partial(&self, before: fn() -> Touched, assembler: &mut Assembler) {
        let Some(round) = self.rounds.rounds.first() else { return };
        for table in round.tables.iter().filter(|table| table.at != At::End) {
            assembler.note_partial(table.oid, before());
        }
    }

    /// Appends the record of the current round, that of its begin once.
    fn tell(&mut self, mark: Mark, at: Micros, assembler: &mut Assembler) {
        let Some(round) = self.rounds.rounds.first_mut() else { return };
        if mark == Mark::Began && std::mem::replace(&mut round.is_told, true) {
            return;
        }
        let names = round.tables.iter().map(|table| table.table_name().to_string());
        assembler.append(&self::mark(&self.source, names, mark, self.place.take(), at));
    }
}

async fn done(under_way: &mut Option<Doing>) -> Result<Done, SourceError> {
    let Some(work) = under_way else { return std::future::pending().await };
    let done = work.await;
    *under_way = None;
    done
}

/// Writes what the stream will have passed once it has brought all that is over by now.
async fn emit(target: Target, control: Option<Control>, source: Arc<str>) -> Result<Done, SourceError> {
    let control = open::control(&target, control, &source).await?;
    let until = heartbeat::emit(&control).await?;
    Ok(Done::Emitted { control, until })
}

/// Reads the next chunk, on a connection that is made if there is none.
async fn read(
    target: Target,
    control: Option<Control>,
    source: Arc<str>,
    mut task: Task,
) -> Result<Done, SourceError> {
    let control = open::control(&target, control, &source).await?;
    let read = chunk::read(&control, &mut task).await?;
    Ok(Done::Read { control, unsettled: task.unsettled, read })
}
