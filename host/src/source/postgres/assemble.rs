//! Assembles messages of the stream into changes with positions.
//!
//! In: decoded messages, in the order of the stream. Out: encoded changes in a [`Batch`].
//!
//! Invariants:
//! - a change's index counts every change of its transaction, also those that are skipped, and depends on nothing but
//!   what the server sends, so that it is the same each time. Whether an update is split hangs on the key, which may
//!   be another one by then: an update with an old row takes two indices in any case;
//! - nothing at or before the position from which the source resumes comes out;
//! - exactly one change of a transaction, the last, is marked so: one change is held back until the commit shows
//!   whether another follows;
//! - a change of a table's columns is told by a record of its own, `schema`, right before the first change that has the
//!   new ones, in the same batch and at the same position: it counts for none, since whether it comes depends on what was
//!   seen before;
//! - the batch's `end` grows only past transactions that are wholly in it or in an earlier one.
//!
//! Absent on purpose: I/O.

use std::collections::HashMap;
use std::sync::Arc;

use super::append::Batch;
use super::decode::{Datum, Message, Old, Relation, Scope, Tuple};
use super::error::SourceError;
use super::messages::Messages;
use super::outbox::Outbox;
use super::relation::{Known, RelationError, Relations, TooManyRelations};
use super::seen::{News, Seen, Shape};
use super::snapshot::place::before;
use super::snapshot::rounds::Rounds;
use super::touched::{Touched, is_partial};
use super::values::{self, unix_micros};
use crate::event::{Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};

/// Why a message cannot be part of a stream.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AssembleError {
    /// A change came outside of a transaction, or a transaction within another.
    #[error("{0} came where none can be")]
    OutOfPlace(&'static str),
    /// A change names a table that was not announced.
    #[error("a change names the table with oid {0}, which was not announced")]
    UnknownRelation(u32),
    /// A row has not as many values as its table has columns.
    #[error("a row of {table} has {values} values, the table has {columns} columns")]
    Width {
        /// The table.
        table: String,
        /// What came.
        values: usize,
        /// What was announced.
        columns: usize,
    },
    /// A text that its type never has.
    #[error("a value of {table}.{column}, of type {type_name}, cannot be read")]
    Value {
        /// The table.
        table: String,
        /// Its column.
        column: Box<str>,
        /// The column's type.
        type_name: Box<str>,
    },
    /// More changes than an index can count.
    #[error("a transaction has more than {} changes", u32::MAX)]
    TooManyChanges,
}

/// What is known of the stream so far.
#[derive(Debug)]
pub(super) struct Assembler {
    relations: Relations,
    logical: Arc<Table>,
    messages: Messages,
    after: Option<Position>,
    open: Option<Open>,
    ready: Batch,
    /// The table of the change that is assembled.
    relation: u32,
    /// One whose changed keys somebody wants to know.
    watched: Option<(u32, Touched)>,
    /// Rows that came without some of their values, of tables of which not all rows have come.
    partial: HashMap<u32, Touched>,
}

/// A transaction whose commit has not come yet.
#[derive(Debug)]
struct Open {
    commit: u64,
    transaction: u64,
    committed_at: Micros,
    index_next: u32,
    held: Option<Held>,
    /// Stands before the next change.
    told: Option<Told>,
}

/// A change that is not known to be the last.
#[derive(Debug)]
struct Held {
    told: Option<Told>,
    change: Change,
}

/// That a table has other columns.
#[derive(Debug)]
struct Told {
    relation: u32,
    shape: Shape,
    /// None where the table is new.
    schema: Option<Change>,
}

impl Assembler {
    /// Nothing at or before `after` will come out. The rows of an outbox come out as messages.
    pub(super) fn new(
        source: &str,
        after: Option<Position>,
        seen: Seen,
        messages: Messages,
        outbox: Option<Outbox>,
    ) -> Self {
        Self {
            relations: Relations::new(source, seen, outbox),
            logical: Arc::new(virtual_table(
                source,
                "$logical",
                ["channel", "subject", "event", "id", "body"],
            )),
            messages,
            after,
            open: None,
            ready: Batch::default(),
            relation: 0,
            watched: None,
            partial: HashMap::new(),
        }
    }

    /// Remembers a table; the primary key is what the catalog says, where it was asked.
    pub(super) fn announce(
        &mut self,
        relation: &Relation<'_>,
        primary_key: Option<&[String]>,
    ) -> Result<(), RelationError> {
        self.relations.remember(relation, primary_key)
    }

    /// Remembers a type.
    pub(super) fn announce_type(
        &mut self,
        oid: u32,
        schema: &str,
        name: &str,
    ) -> Result<(), TooManyRelations> {
        self.relations.remember_type(oid, schema, name)
    }

    /// Whether a transaction has begun whose commit has not come yet.
    pub(super) fn is_within_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// What is ready to be appended.
    pub(super) fn ready(&self) -> &Batch {
        &self.ready
    }

    /// Takes what is ready.
    pub(super) fn take_ready(&mut self) -> Batch {
        std::mem::take(&mut self.ready)
    }

    /// Takes what is ready to be written down of tables.
    pub(super) fn take_told(&mut self) -> Vec<(u32, Shape)> {
        std::mem::take(&mut self.ready.told)
    }

    /// Writes down tables of which the change log has been told.
    pub(super) fn keep(&mut self, told: Vec<(u32, Shape)>) -> Result<(), SourceError> {
        self.relations.keep(told)
    }

    /// Tells, as with the stream, that a table has other columns than before, right before its first row of a chunk.
    pub(super) fn announce_rows(&mut self, relation: u32, first: &Change) {
        let shape = Shape::of(&first.table);
        let Some(news) = self.relations.news_of(relation, &shape) else { return };
        if news == News::Changed {
            let origin = Origin {
                table: first.table.clone(),
                operation: Operation::Schema,
                position: first.position,
                last: false,
                transaction: first.transaction,
                committed_at: first.committed_at,
            };
            self.ready.push(&RowBuilder::default().finish(origin, Rows::Neither));
        }
        self.ready.tell(relation, shape);
    }

    /// Takes a row or a record of a snapshot, between two transactions.
    pub(super) fn append(&mut self, row: &Change) {
        self.ready.push(row);
    }

    /// Notes what there is to be read of tables once what is ready is appended.
    pub(super) fn note_rounds(&mut self, rounds: Rounds) {
        self.ready.rounds = Some(rounds);
    }

    /// Takes what is to be written down of that.
    pub(super) fn take_rounds(&mut self) -> Option<Rounds> {
        self.ready.rounds.take()
    }

    /// Notes, between two transactions, that everything before a place is ready or was taken.
    pub(super) fn close(&mut self, end: u64) {
        self.ready.close(self.ready.end.map_or(end, |ready| ready.max(end)));
    }

    /// Notes from now on which rows of a table come without some of their values, beside those that are known to have.
    pub(super) fn note_partial(&mut self, relation: u32, before: Touched) {
        self.partial.entry(relation).or_insert(before);
    }

    /// Those rows.
    pub(super) fn partial(&self, relation: u32) -> Option<&Touched> {
        self.partial.get(&relation)
    }

    /// Notes that all rows of a table have come.
    pub(super) fn forget_partial(&mut self, relation: u32) {
        self.partial.remove(&relation);
    }

    /// Notes from now on which keys of a table change.
    pub(super) fn watch(&mut self, relation: u32) {
        self.watched = Some((relation, Touched::default()));
    }

    /// Those, and notes no more.
    pub(super) fn take_touched(&mut self) -> Touched {
        self.watched.take().map(|(_, touched)| touched).unwrap_or_default()
    }

    /// Takes one message that is not an announcement. `now` is for messages without a time of their own.
    pub(super) fn push(&mut self, message: &Message<'_>, now: Micros) -> Result<(), AssembleError> {
        match *message {
            Message::Begin { commit, committed_at, transaction } => {
                if self.open.is_some() {
                    return Err(AssembleError::OutOfPlace("the begin of a transaction"));
                }
                self.open = Some(Open {
                    commit,
                    transaction: transaction.into(),
                    committed_at: unix_micros(committed_at),
                    index_next: 0,
                    held: None,
                    told: None,
                });
                Ok(())
            }
            Message::Commit { end, .. } => {
                let open = self.open.take().ok_or(AssembleError::OutOfPlace("a commit"))?;
                if let Some(mut held) = open.held {
                    held.change.last = true;
                    push_held(&mut self.ready, held);
                }
                self.ready.close(end);
                Ok(())
            }
            Message::Insert { relation, new } => self.insert(relation, &new),
            Message::Update { relation, old, new } => self.update(relation, old.as_ref(), &new),
            Message::Delete { relation, old } => {
                let known = self.known(relation)?;
                self.delete(&known, &old)
            }
            Message::Truncate { relations } => relations.iter().try_for_each(|relation| {
                let Known { table, is_outbox, .. } = self.known(relation)?;
                if is_outbox {
                    return self.pass_index().map(drop);
                }
                self.change(table, Operation::Truncate, Rows::Neither, |_| Ok(()))
            }),
            // It counts all the same, so that an index does not depend on what was asked for.
            Message::Logical { scope: Scope::Transaction, prefix, .. } if !self.messages.has(prefix) => {
                self.pass_index().map(drop)
            }
            Message::Logical { scope: Scope::Transaction, prefix, content, .. } => {
                let table = self.logical.clone();
                self.change(table, Operation::Message, Rows::New, |builder| {
                    push_logical(builder, prefix, content);
                    Ok(())
                })
            }
            Message::Logical { scope: Scope::Standalone, at, prefix, content } => {
                self.standalone(at, prefix, content, now)
            }
            Message::Origin | Message::Relation(_) | Message::Type { .. } => Ok(()),
        }
    }

    /// The table of a change that comes next.
    fn known(&mut self, relation: u32) -> Result<Known, AssembleError> {
        self.relation = relation;
        if let Some((news, shape)) = self.relations.take_news(relation) {
            self.tell(relation, news, shape)?;
        }
        self.relations.get(relation).cloned().ok_or(AssembleError::UnknownRelation(relation))
    }

    /// Sees that the next change stands behind the record that tells of its table's columns.
    fn tell(&mut self, relation: u32, news: News, shape: Shape) -> Result<(), AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::OutOfPlace("a change"))?;
        let position = Position { commit: open.commit, index: open.index_next };
        if self.after.is_some_and(|after| position <= after) {
            // The log has the change, so it has the record that stands before it.
            self.ready.tell(relation, shape);
            return Ok(());
        }
        let table = self.relations.get(relation).filter(|_| news == News::Changed);
        let schema = table.map(|known| {
            let origin = open.origin(known.table.clone(), Operation::Schema, position);
            RowBuilder::default().finish(origin, Rows::Neither)
        });
        open.told = Some(Told { relation, shape, schema });
        Ok(())
    }

    fn insert(&mut self, relation: u32, new: &Tuple<'_>) -> Result<(), AssembleError> {
        let known = self.known(relation)?;
        let operation = if known.is_outbox { Operation::Message } else { Operation::Insert };
        self.change(known.table.clone(), operation, Rows::New, |builder| push_new(builder, &known, new, None))
    }

    fn update(&mut self, relation: u32, old: Option<&Old<'_>>, new: &Tuple<'_>) -> Result<(), AssembleError> {
        let known = self.known(relation)?;
        if known.is_outbox {
            // As many as if it were none, so that a change of the setting moves no other change.
            (0..=u32::from(old.is_some())).try_for_each(|_| self.pass_index().map(drop))?;
            return Ok(());
        }
        let whole = match old {
            Some(Old::Full(tuple)) => Some(tuple),
            Some(Old::Key(_)) | None => None,
        };
        if let Some(old) = old
            && key_changed(&known, &old.tuple(), new)
        {
            self.delete(&known, old)?;
            return self.change(known.table.clone(), Operation::Insert, Rows::New, |builder| {
                push_new(builder, &known, new, whole)
            });
        }
        if old.is_some() {
            // The second one, so that no half of a split update that the log has can hide it.
            self.pass_index()?;
        }
        // An old key that is the same as the new one says nothing, so only a whole old row is kept.
        let rows = if whole.is_some() { Rows::NewThenOld } else { Rows::New };
        self.change(known.table.clone(), Operation::Update, rows, |builder| {
            push_new(builder, &known, new, whole)?;
            match old {
                Some(old @ Old::Full(_)) => push_old(builder, &known, old),
                Some(Old::Key(_)) | None => Ok(()),
            }
        })
    }

    fn delete(&mut self, known: &Known, old: &Old<'_>) -> Result<(), AssembleError> {
        if known.is_outbox {
            return self.pass_index().map(drop);
        }
        self.change(known.table.clone(), Operation::Delete, Rows::Old, |builder| {
            push_old(builder, known, old)
        })
    }

    /// The place of the next change of the open transaction.
    fn pass_index(&mut self) -> Result<Position, AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::OutOfPlace("a change"))?;
        let index = open.index_next;
        open.index_next = index.checked_add(1).ok_or(AssembleError::TooManyChanges)?;
        Ok(Position { commit: open.commit, index })
    }

    /// Adds a change to the open transaction, unless the log has it already.
    fn change(
        &mut self,
        table: Arc<Table>,
        operation: Operation,
        rows: Rows,
        fill: impl FnOnce(&mut RowBuilder) -> Result<(), AssembleError>,
    ) -> Result<(), AssembleError> {
        let position = self.pass_index()?;
        let open = self.open.as_mut().ok_or(AssembleError::OutOfPlace("a change"))?;
        if self.after.is_some_and(|after| position <= after) {
            return Ok(());
        }
        let mut builder = RowBuilder::default();
        fill(&mut builder)?;
        let change = builder.finish(open.origin(table, operation, position), rows);
        if let Some((_, touched)) = self.watched.as_mut().filter(|(watched, _)| *watched == self.relation) {
            touched.note(&change);
        }
        if let Some(partial) = self.partial.get_mut(&self.relation).filter(|_| is_partial(&change)) {
            partial.note(&change);
        }
        let told = open.told.take();
        if let Some(before) = open.held.replace(Held { told, change }) {
            push_held(&mut self.ready, before);
        }
        Ok(())
    }

    /// A message that belongs to no transaction. It ends where the next record begins, which may be the commit of a
    /// transaction: its position is right before that.
    fn standalone(
        &mut self,
        at: u64,
        prefix: &str,
        content: &[u8],
        now: Micros,
    ) -> Result<(), AssembleError> {
        if self.open.is_some() {
            return Err(AssembleError::OutOfPlace("a message without a transaction"));
        }
        let position = Position { commit: before(at), index: 0 };
        if self.messages.has(prefix) && self.after.is_none_or(|after| position > after) {
            let mut builder = RowBuilder::default();
            push_logical(&mut builder, prefix, content);
            let origin = Origin {
                table: self.logical.clone(),
                operation: Operation::Message,
                position,
                last: true,
                transaction: 0,
                committed_at: now,
            };
            self.ready.push(&builder.finish(origin, Rows::New));
        }
        self.ready.close(at);
        Ok(())
    }
}

impl Open {
    fn origin(&self, table: Arc<Table>, operation: Operation, position: Position) -> Origin {
        let Self { transaction, committed_at, .. } = *self;
        Origin { table, operation, position, last: false, transaction, committed_at }
    }
}

fn push_held(ready: &mut Batch, held: Held) {
    if let Some(Told { relation, shape, schema }) = held.told {
        if let Some(schema) = &schema {
            ready.push(schema);
        }
        ready.tell(relation, shape);
    }
    ready.push(&held.change);
}

/// A table of messages.
pub(super) fn virtual_table<const N: usize>(source: &str, name: &str, columns: [&str; N]) -> Table {
    let column = |name: &str| Column { name: name.into(), type_name: "text".into(), key: false };
    Table {
        source: source.into(),
        schema: "".into(),
        name: name.into(),
        columns: columns.iter().map(|name| column(name)).collect(),
    }
}

fn push_logical(builder: &mut RowBuilder, prefix: &str, content: &[u8]) {
    builder.push(Value::Text(prefix));
    // The subject, the event and the id, which PostgreSQL's messages do not have.
    for _ in 0..3 {
        builder.push(Value::Null);
    }
    builder.push(match std::str::from_utf8(content) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(content),
    });
}

/// Whether a key column's value differs.
fn key_changed(known: &Known, old: &Tuple<'_>, new: &Tuple<'_>) -> bool {
    let keys = known.table.columns.iter().map(|column| column.key);
    keys.zip(old.iter().zip(new.iter())).any(|(key, (old, new))| key && new != Datum::Unchanged && old != new)
}

/// A new row; what was not sent is taken from the old row where that is there.
fn push_new(
    builder: &mut RowBuilder,
    known: &Known,
    new: &Tuple<'_>,
    old: Option<&Tuple<'_>>,
) -> Result<(), AssembleError> {
    check_width(known, new)?;
    let mut old = old.map(Tuple::iter);
    for (index, datum) in new.iter().enumerate() {
        let before = old.as_mut().and_then(Iterator::next);
        let datum = if datum == Datum::Unchanged { before.unwrap_or(datum) } else { datum };
        push_datum(builder, known, index, datum)?;
    }
    Ok(())
}

fn push_old(builder: &mut RowBuilder, known: &Known, old: &Old<'_>) -> Result<(), AssembleError> {
    let tuple = old.tuple();
    check_width(known, &tuple)?;
    for (index, datum) in tuple.iter().enumerate() {
        match old {
            // The server sends a null that means "not sent".
            Old::Key(_) if !known.table.columns[index].key => builder.push(Value::Unchanged),
            Old::Key(_) | Old::Full(_) => push_datum(builder, known, index, datum)?,
        }
    }
    Ok(())
}

fn push_datum(
    builder: &mut RowBuilder,
    known: &Known,
    index: usize,
    datum: Datum<'_>,
) -> Result<(), AssembleError> {
    match datum {
        Datum::Null => builder.push(Value::Null),
        Datum::Unchanged => builder.push(Value::Unchanged),
        Datum::Text(text) => {
            values::push(builder, known.classes[index], text).map_err(|_| unreadable(&known.table, index))?;
        }
    }
    Ok(())
}

/// The error for a value that its type never has.
pub(super) fn unreadable(table: &Table, column: usize) -> AssembleError {
    let Column { name, type_name, .. } = &table.columns[column];
    AssembleError::Value {
        table: format!("{}.{}", table.schema, table.name),
        column: name.clone(),
        type_name: type_name.clone(),
    }
}

fn check_width(known: &Known, tuple: &Tuple<'_>) -> Result<(), AssembleError> {
    let (values, columns) = (tuple.count(), known.table.columns.len());
    if values == columns {
        return Ok(());
    }
    let table = format!("{}.{}", known.table.schema, known.table.name);
    Err(AssembleError::Width { table, values, columns })
}
