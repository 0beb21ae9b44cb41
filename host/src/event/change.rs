//! One committed row operation, decoded.
//!
//! A change owns one arena of bytes; its cells are small numbers or spans of that arena. This is the layout of the
//! WIT interface and of the change log, so a cell is copied from the database to a plugin without being parsed again.
//!
//! Invariant: a row has exactly one cell for each column of its table, every span lies within the arena, and
//! text is UTF-8: [`RowBuilder`] and [`Decoder`](super::Decoder) are the only makers, and both see to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Position, Replay, Table};

/// Microseconds since the Unix epoch, on the source's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// How long after the Unix epoch; nothing before it.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

/// What happened to a row. The numbers are those of the WIT interface and of the change log; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// A row that was there when the source began.
    Snapshot = 0,
    /// A new row.
    Insert = 1,
    /// A changed row.
    Update = 2,
    /// A row that is gone; only the old row is there.
    Delete = 3,
    /// All rows are gone; no row is there.
    Truncate = 4,
    /// The table's columns changed; no row is there.
    Schema = 5,
    /// A message of a virtual table.
    Message = 6,
}

impl Operation {
    /// Every operation, in the order of the numbers.
    pub const ALL: [Self; 7] = [
        Self::Snapshot,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::Schema,
        Self::Message,
    ];

    /// Their names, in the order of the numbers.
    pub(super) const NAMES: [&'static str; 7] =
        ["snapshot", "insert", "update", "delete", "truncate", "schema", "message"];

    /// Its name, as routers and lines of JSON have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The operation of a number of the WIT interface or of the change log.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// The numbers of the WIT interface and of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Null = 0,
    Unchanged = 1,
    Masked = 2,
    Boolean = 3,
    Integer = 4,
    Float = 5,
    Text = 6,
    Bytes = 7,
}

impl Kind {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        const ALL: [Kind; 8] = [
            Kind::Null,
            Kind::Unchanged,
            Kind::Masked,
            Kind::Boolean,
            Kind::Integer,
            Kind::Float,
            Kind::Text,
            Kind::Bytes,
        ];
        ALL.get(usize::from(number)).copied()
    }
}

/// A kind, and a number or a span of the arena (`start | length << 32`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) kind: Kind,
    pub(super) value: u64,
}

pub(super) fn span(start: usize, length: usize) -> u64 {
    start as u64 | (length as u64) << 32
}

pub(super) fn span_range(span: u64) -> std::ops::Range<usize> {
    let start = (span & 0xFFFF_FFFF) as usize;
    start..start + (span >> 32) as usize
}

/// What one column of a row holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL's null.
    Null,
    /// The source did not send it, since it did not change (PostgreSQL's out-of-line values).
    Unchanged,
    /// A filter hid it.
    Masked,
    /// A truth value.
    Boolean(bool),
    /// Any integer type that fits.
    Integer(i64),
    /// A binary floating-point number.
    Float(f64),
    /// Text, and the canonical text of every type without a kind of its own.
    Text(&'a str),
    /// Raw bytes.
    Bytes(&'a [u8]),
}

/// One committed row operation.
#[derive(Debug, Clone)]
pub struct Change {
    /// The table, as it was at this change.
    pub table: Arc<Table>,
    /// What happened.
    pub operation: Operation,
    /// Where the source stands with it.
    pub position: Position,
    /// Whether it is the last of its transaction.
    pub last: bool,
    /// The database's number of the transaction; 0 where there is none.
    pub transaction: u64,
    /// When the transaction committed.
    pub committed_at: Micros,
    /// Of which dead letter it is the replay. Everything else is then as it was the first time.
    pub replay: Option<Replay>,
    pub(super) arena: Bytes,
    pub(super) row: Option<Box<[Cell]>>,
    pub(super) old: Option<Box<[Cell]>>,
}

impl Change {
    /// The new row.
    #[must_use]
    pub fn row(&self) -> Option<Row<'_>> {
        self.row.as_deref().map(|cells| Row { change: self, cells })
    }

    /// The row before, as much of it as the source has: only key columns, where the replica identity is the key.
    #[must_use]
    pub fn old(&self) -> Option<Row<'_>> {
        self.old.as_deref().map(|cells| Row { change: self, cells })
    }

    /// The row that names the key: the new one, or the old one of a delete.
    #[must_use]
    pub fn key_row(&self) -> Option<Row<'_>> {
        self.row().or_else(|| self.old())
    }

    /// Hides a column: in both rows its cell is [`Value::Masked`] from now on. What it held may still be among the
    /// bytes of the arena, but no cell leads there.
    ///
    /// # Panics
    /// If the table has no such column.
    pub fn mask(&mut self, column: usize) {
        for cells in [&mut self.row, &mut self.old].into_iter().flatten() {
            cells[column] = Cell { kind: Kind::Masked, value: 0 };
        }
    }

    /// Whether a column is hidden.
    pub(super) fn is_masked(&self) -> bool {
        [&self.row, &self.old].into_iter().flatten().flatten().any(|cell| cell.kind == Kind::Masked)
    }

    /// The same change, with an arena that has the bytes of its cells and no others.
    pub(super) fn compact(&self) -> Self {
        let mut builder = RowBuilder::default();
        let [row, old] = [self.row(), self.old()].map(|row| {
            row.map(|row| {
                row.columns().for_each(|(_, value)| builder.push(value));
                std::mem::take(&mut builder.cells).into_boxed_slice()
            })
        });
        Self { arena: builder.arena.freeze(), row, old, ..self.clone() }
    }

    /// Appends the text of the row's key, see [`Row::write_key`]. Appends nothing for a change without a row.
    pub fn write_key(&self, out: &mut String) {
        if let Some(row) = self.key_row() {
            row.write_key(out);
        }
    }
}

/// One row of a change.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    change: &'a Change,
    cells: &'a [Cell],
}

impl<'a> Row<'a> {
    /// The value of a column, by its index in the table.
    ///
    /// # Panics
    /// If the table has no such column.
    #[must_use]
    pub fn value(&self, column: usize) -> Value<'a> {
        let Cell { kind, value } = self.cells[column];
        match kind {
            Kind::Null => Value::Null,
            Kind::Unchanged => Value::Unchanged,
            Kind::Masked => Value::Masked,
            Kind::Boolean => Value::Boolean(value != 0),
            Kind::Integer => Value::Integer(value.cast_signed()),
            Kind::Float => Value::Float(f64::from_bits(value)),
            Kind::Text => Value::Text(
                std::str::from_utf8(&self.change.arena[span_range(value)])
                    .expect("makers check that text is UTF-8"),
            ),
            Kind::Bytes => Value::Bytes(&self.change.arena[span_range(value)]),
        }
    }

    /// A cell as it goes to a plugin: the kind's number in the WIT interface, its number, and its bytes if it is text
    /// or bytes (its number is then a span that means nothing to the receiver).
    ///
    /// # Panics
    /// If the table has no such column.
    #[must_use]
    pub fn raw(&self, column: usize) -> (u8, u64, Option<&'a [u8]>) {
        let Cell { kind, value } = self.cells[column];
        let bytes = matches!(kind, Kind::Text | Kind::Bytes).then(|| &self.change.arena[span_range(value)]);
        (kind as u8, value, bytes)
    }

    /// Appends the text of the key columns, joined by `,`; a `,` or `\` within a value is preceded by `\`.
    /// Appends nothing where the table has no key.
    pub fn write_key(self, out: &mut String) {
        use std::fmt::Write;
        for (nth, (_, value)) in self.columns().filter(|(column, _)| column.key).enumerate() {
            if nth > 0 {
                out.push(',');
            }
            match value {
                Value::Text(text) if !text.contains([',', '\\']) => out.push_str(text),
                Value::Text(text) => {
                    for character in text.chars() {
                        if matches!(character, ',' | '\\') {
                            out.push('\\');
                        }
                        out.push(character);
                    }
                }
                Value::Boolean(value) => out.push_str(if value { "true" } else { "false" }),
                Value::Integer(value) => write!(out, "{value}").expect("writing to a string cannot fail"),
                Value::Float(value) => super::json::write_float(value, out),
                Value::Bytes(bytes) => {
                    for byte in bytes {
                        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
                    }
                }
                Value::Null | Value::Unchanged | Value::Masked => {}
            }
        }
    }

    /// The columns of the row's table with their values, in the table's order.
    pub fn columns(self) -> impl Iterator<Item = (&'a super::Column, Value<'a>)> {
        self.change.table.columns.iter().enumerate().map(move |(index, column)| (column, self.value(index)))
    }
}

/// Builds the rows of one change into one arena.
#[derive(Debug, Default)]
pub struct RowBuilder {
    arena: BytesMut,
    cells: Vec<Cell>,
}

impl RowBuilder {
    /// Appends the next column's value.
    ///
    /// # Panics
    /// If the arena would exceed 4 GiB: sources refuse such changes first (`limits::CHANGE_BYTES_MAX`).
    pub fn push(&mut self, value: Value<'_>) {
        let (kind, value) = match value {
            Value::Null => (Kind::Null, 0),
            Value::Unchanged => (Kind::Unchanged, 0),
            Value::Masked => (Kind::Masked, 0),
            Value::Boolean(value) => (Kind::Boolean, u64::from(value)),
            Value::Integer(value) => (Kind::Integer, value.cast_unsigned()),
            Value::Float(value) => (Kind::Float, value.to_bits()),
            Value::Text(text) => (Kind::Text, self.store(text.as_bytes())),
            Value::Bytes(bytes) => (Kind::Bytes, self.store(bytes)),
        };
        self.cells.push(Cell { kind, value });
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        let start = self.arena.len();
        assert!(start + bytes.len() <= u32::MAX as usize, "the arena of one change is below 4 GiB");
        self.arena.extend_from_slice(bytes);
        span(start, bytes.len())
    }

    /// Ends the change: the values pushed are the cells of the rows that `rows` names.
    ///
    /// # Panics
    /// If the number of values is not the number of columns for each of them.
    #[must_use]
    pub fn finish(self, origin: Origin, rows: Rows) -> Change {
        let width = origin.table.columns.len();
        let mut cells = self.cells;
        let (row, old) = match rows {
            Rows::Neither => (None, None),
            Rows::New => (Some(cells), None),
            Rows::Old => (None, Some(cells)),
            Rows::NewThenOld => {
                let old = cells.split_off(width.min(cells.len()));
                (Some(cells), Some(old))
            }
        };
        for cells in [&row, &old].into_iter().flatten() {
            assert_eq!(cells.len(), width, "a row has one cell for each column");
        }
        let Origin { table, operation, position, last, transaction, committed_at } = origin;
        Change {
            table,
            operation,
            position,
            last,
            transaction,
            committed_at,
            replay: None,
            arena: self.arena.freeze(),
            row: row.map(Vec::into_boxed_slice),
            old: old.map(Vec::into_boxed_slice),
        }
    }
}

/// Everything of a change but its rows.
#[derive(Debug, Clone)]
pub struct Origin {
    /// See [`Change::table`].
    pub table: Arc<Table>,
    /// See [`Change::operation`].
    pub operation: Operation,
    /// See [`Change::position`].
    pub position: Position,
    /// See [`Change::last`].
    pub last: bool,
    /// See [`Change::transaction`].
    pub transaction: u64,
    /// See [`Change::committed_at`].
    pub committed_at: Micros,
}

/// Which rows a change has, in the order in which their values were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Truncate, schema.
    Neither,
    /// Snapshot, insert, message, and an update without an old row.
    New,
    /// Delete.
    Old,
    /// An update with its old row.
    NewThenOld,
}
