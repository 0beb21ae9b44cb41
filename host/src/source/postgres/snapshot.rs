//! The snapshot: the rows that were there when the slot was made.
//!
//! In: the name of the slot's exported snapshot. Out: a change for each row, in batches, then one that says that the
//! snapshot is complete.
//!
//! Invariants:
//! - what is read is exactly what committed before the slot's consistent point, so nothing is missing or twice
//!   between snapshot and stream;
//! - rows come as fast as the change log takes them; a batch gathers while one is appended;
//! - the record of completion is appended after every row is.
//!
//! Absent on purpose: going on with a snapshot after a crash: an exported snapshot dies with its connection, so it
//! begins again, and rows are sent again.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::append::{Appended, Appender, Batch};
use super::assemble::{unreadable, virtual_table};
use super::connect::{Control, quoted};
use super::error::SourceError;
use super::slot::{Created, snapshot_commit, snapshot_end};
use super::table::{Captured, Kind, describe};
use super::values::{self, Class};
use crate::event::{Change, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use crate::limits::CHANGE_BYTES_MAX;

const DOING: &str = "the snapshot";

/// Whether the snapshot came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    /// The order to stop came first.
    Stopped,
}

/// What the change log is told of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Its slot is about to be made.
    Began,
    /// The slot is about to be made, and there will be no snapshot.
    Skipped,
    /// All its rows are in the log.
    Complete,
}

/// Opens a transaction that sees what the slot's snapshot saw, for as long as it is open.
///
/// # Errors
/// If the server refuses, or the connection broke.
pub(super) async fn import(control: &Control, snapshot: &str) -> Result<(), SourceError> {
    let name = snapshot.replace('\'', "''");
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{name}'");
    control.execute("`SET TRANSACTION SNAPSHOT`", &sql).await
}

/// Reads all tables in the transaction that [`import`] opened, and ends it.
///
/// # Errors
/// If a table cannot be read, or the change log does not take the rows.
pub(super) async fn copy(
    control: &Control,
    source: &str,
    tables: &[Captured],
    created: &Created,
    appender: &mut Appender,
    stop: &CancellationToken,
) -> Result<Outcome, SourceError> {
    let mut copier = Copier {
        appender,
        stop,
        batch: Batch::default(),
        next: Position { commit: snapshot_commit(created.consistent_point), index: 0 },
        taken_at: server_time(control).await?,
    };
    info!(source, tables = tables.len(), "the snapshot begins");
    for captured in tables {
        if copier.table(control, source, captured).await? == Outcome::Stopped {
            return Ok(Outcome::Stopped);
        }
    }
    control.execute(DOING, "COMMIT").await?;
    let rows = copier.next.index;
    let outcome = copier.complete(source, tables, snapshot_end(created.consistent_point)).await?;
    if outcome == Outcome::Complete {
        info!(source, rows, "the snapshot is complete");
    }
    Ok(outcome)
}

/// The server's clock, within a transaction as it began.
pub(super) async fn server_time(control: &Control) -> Result<Micros, SourceError> {
    const TIME: &str = "SELECT (extract(epoch FROM now()) * 1000000)::int8";
    let time = control.query("a look at the clock", TIME, &[]).await?;
    Ok(Micros(time.first().map_or(0, |row| row.get(0))))
}

struct Copier<'a> {
    appender: &'a mut Appender,
    stop: &'a CancellationToken,
    batch: Batch,
    next: Position,
    taken_at: Micros,
}

impl Copier<'_> {
    async fn table(
        &mut self,
        control: &Control,
        source: &str,
        captured: &Captured,
    ) -> Result<Outcome, SourceError> {
        let (table, classes) = describe(control, source, captured).await?;
        let table = Arc::new(table);
        let rows = control.rows(DOING, &select(&table, captured)).await?;
        tokio::pin!(rows);
        loop {
            let message = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Outcome::Stopped),
                message = rows.next() => message,
            };
            match message.transpose().map_err(|error| SourceError::control(DOING, error))? {
                Some(SimpleQueryMessage::Row(row)) => {
                    let change = self.change(&table, &classes, &row)?;
                    if self.push(&change).await? == Outcome::Stopped {
                        return Ok(Outcome::Stopped);
                    }
                }
                Some(_) => {}
                None => return Ok(Outcome::Complete),
            }
        }
    }

    fn change(
        &mut self,
        table: &Arc<Table>,
        classes: &[Class],
        row: &SimpleQueryRow,
    ) -> Result<Change, SourceError> {
        let mut builder = RowBuilder::default();
        let mut bytes = 0;
        for (column, class) in classes.iter().enumerate() {
            match row.try_get(column).map_err(|error| SourceError::control(DOING, error))? {
                None => builder.push(Value::Null),
                Some(text) => {
                    bytes += text.len();
                    values::push(&mut builder, *class, text.as_bytes())
                        .map_err(|_| unreadable(table, column))?;
                }
            }
        }
        if bytes > CHANGE_BYTES_MAX {
            let table = format!("{}.{}", table.schema, table.name);
            return Err(SourceError::RowTooLarge { table, bytes });
        }
        let position = self.next;
        // The largest index is that of the record of completion.
        if position.index == u32::MAX {
            return Err(SourceError::TooManyRows);
        }
        self.next.index += 1;
        Ok(builder.finish(self.origin(table.clone(), Operation::Snapshot, position), Rows::New))
    }

    fn origin(&self, table: Arc<Table>, operation: Operation, position: Position) -> Origin {
        origin(table, operation, position, self.taken_at)
    }

    /// Adds a row; waits while the batch is full and the one before it is under way.
    async fn push(&mut self, change: &Change) -> Result<Outcome, SourceError> {
        self.batch.push(change);
        if !self.batch.is_full() {
            return Ok(Outcome::Complete);
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<Outcome, SourceError> {
        if self.appender.settle().await? == Appended::GivenUp {
            return Ok(Outcome::Stopped);
        }
        self.appender.begin(std::mem::take(&mut self.batch));
        Ok(Outcome::Complete)
    }

    async fn complete(
        mut self,
        source: &str,
        tables: &[Captured],
        end: Position,
    ) -> Result<Outcome, SourceError> {
        self.batch.push(&mark(source, tables, Mark::Complete, end, self.taken_at));
        if self.flush().await? == Outcome::Stopped || self.appender.settle().await? == Appended::GivenUp {
            return Ok(Outcome::Stopped);
        }
        Ok(Outcome::Complete)
    }
}

/// A row of a snapshot belongs to no transaction, so each is the last of its own.
fn origin(table: Arc<Table>, operation: Operation, position: Position, committed_at: Micros) -> Origin {
    Origin { table, operation, position, last: true, transaction: 0, committed_at }
}

/// The record of how far a snapshot is.
pub(super) fn mark(source: &str, tables: &[Captured], mark: Mark, position: Position, at: Micros) -> Change {
    let table = Arc::new(virtual_table(source, "$snapshot", ["state", "tables"]));
    let names: Vec<_> = tables.iter().map(|table| table.name.to_string()).collect();
    let mut builder = RowBuilder::default();
    builder.push(Value::Text(match mark {
        Mark::Began => "began",
        Mark::Skipped => "skipped",
        Mark::Complete => "complete",
    }));
    builder.push(Value::Text(&names.join(",")));
    builder.finish(origin(table, Operation::Message, position, at), Rows::New)
}

fn select(table: &Table, captured: &Captured) -> String {
    let columns: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let only = match captured.kind {
        Kind::Ordinary => "ONLY ",
        Kind::Partitioned => "",
    };
    format!("SELECT {} FROM {only}{}", columns.join(", "), captured.name.sql())
}

#[cfg(test)]
mod tests {
    use super::super::table::TableName;
    use super::*;
    use crate::event::Column;

    #[test]
    fn a_partitioned_table_is_read_with_its_partitions_and_another_without_its_children() {
        let column = |name: &str| Column { name: name.into(), type_name: "int8".into(), key: false };
        let table = Table {
            source: "main".into(),
            schema: "shop".into(),
            name: "orders".into(),
            columns: [column("id"), column("Total")].into(),
        };
        let name = TableName { schema: "shop".to_owned(), name: "orders".to_owned() };
        let mut captured = Captured { name, oid: 1, kind: Kind::Ordinary };
        assert_eq!(select(&table, &captured), "SELECT \"id\", \"Total\" FROM ONLY \"shop\".\"orders\"");
        captured.kind = Kind::Partitioned;
        assert_eq!(select(&table, &captured), "SELECT \"id\", \"Total\" FROM \"shop\".\"orders\"");
    }
}
