//! Changes as a plugin sees them: eight lists of numbers over one arena.
//!
//! In: changes, and for each the subscription that it is handed over for. Out: the lists of the WIT interface,
//! borrowed; the buffers are used again and again.
//!
//! The virtual columns: `$position` is the text of the whole position, its index too (`0/16B3748#2`); `$transaction`
//! is the number as text, null where there is none. They are the same in the new and the old row.
//!
//! Invariant: a change of a subscription with columns has at least one row; every span lies within the arena; the
//! batch has at most `BATCH_COUNT_MAX` changes and `BATCH_BYTES_MAX` bytes, so spans have no need of more than 32 bits.

use std::fmt::Write;

use super::bindings::twohop::policy::types::Changes;
use super::subscription::{Cell, Match, MatchId, Matches, Virtual};
use crate::event::{Change, Operation, Row, row_to_json};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX};

const NONE: u32 = u32::MAX;
const NULL: u8 = 0;
const UNCHANGED: u8 = 1;
const BOOLEAN: u8 = 3;
const INTEGER: u8 = 4;
const TEXT: u8 = 6;
/// A cell's kind and value.
const CELL_BYTES: usize = 9;
/// What a change has besides its cells.
const CHANGE_BYTES: usize = 21;

/// A change that a plugin subscribed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Its index in what is evaluated.
    pub(super) change: usize,
    pub(super) found: MatchId,
}

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Batch {
    subscriptions: Vec<u32>,
    operations: Vec<u8>,
    committed_at: Vec<i64>,
    rows: Vec<u32>,
    old_rows: Vec<u32>,
    kinds: Vec<u8>,
    values: Vec<u64>,
    arena: Vec<u8>,
    scratch: String,
}

impl Batch {
    /// Lowers as many of the members, from the first, as fit into one call, and says how many these are: none only
    /// if the first alone is too large; [`Batch::refused_bytes`] then says how large.
    pub(super) fn fill(&mut self, changes: &[Change], members: &[Member], matches: &Matches) -> Filled {
        self.clear();
        for (count, member) in members.iter().take(BATCH_COUNT_MAX).enumerate() {
            let (cells, bytes) = (self.kinds.len(), self.arena.len());
            self.push(&changes[member.change], matches.get(member.found));
            let size = self.bytes();
            if size > BATCH_BYTES_MAX {
                self.pop(cells, bytes);
                return if count == 0 { Filled::TooLarge(size) } else { Filled::Changes(count) };
            }
        }
        Filled::Changes(self.operations.len())
    }

    pub(super) fn changes(&self) -> Changes<'_> {
        Changes {
            subscriptions: &self.subscriptions,
            operations: &self.operations,
            committed_at: &self.committed_at,
            rows: &self.rows,
            old_rows: &self.old_rows,
            kinds: &self.kinds,
            values: &self.values,
            arena: &self.arena,
        }
    }

    fn bytes(&self) -> usize {
        self.arena.len() + CELL_BYTES * self.kinds.len() + CHANGE_BYTES * self.operations.len()
    }

    fn clear(&mut self) {
        self.subscriptions.clear();
        self.operations.clear();
        self.committed_at.clear();
        self.rows.clear();
        self.old_rows.clear();
        self.kinds.clear();
        self.values.clear();
        self.arena.clear();
    }

    /// Takes back the last change, before which there were so many cells and bytes.
    fn pop(&mut self, cells: usize, bytes: usize) {
        self.subscriptions.pop();
        self.operations.pop();
        self.committed_at.pop();
        self.rows.pop();
        self.old_rows.pop();
        self.kinds.truncate(cells);
        self.values.truncate(cells);
        self.arena.truncate(bytes);
        // One huge change must not keep its size for ever.
        self.arena.shrink_to(BATCH_BYTES_MAX);
        self.scratch.clear();
        self.scratch.shrink_to(BATCH_BYTES_MAX);
    }

    fn push(&mut self, change: &Change, found: &Match) {
        self.subscriptions.push(found.subscription);
        self.operations.push(change.operation as u8);
        self.committed_at.push(change.committed_at.0);
        let (row, old) = if found.cells.is_empty() { (NONE, NONE) } else { self.push_rows(change, found) };
        self.rows.push(row);
        self.old_rows.push(old);
    }

    /// Which rows there are depends on the operation alone: a row that a source should have sent and did not has
    /// `unchanged` cells.
    fn push_rows(&mut self, change: &Change, found: &Match) -> (u32, u32) {
        match change.operation {
            Operation::Delete => (NONE, self.push_row(change, change.old(), found, None)),
            Operation::Truncate | Operation::Schema => (self.push_row(change, None, found, None), NONE),
            Operation::Update => {
                let row = self.push_row(change, change.row(), found, None);
                let old = change.old().map(|old| self.push_row(change, Some(old), found, Some(row)));
                (row, old.unwrap_or(NONE))
            }
            Operation::Snapshot | Operation::Insert | Operation::Message => {
                (self.push_row(change, change.row(), found, None), NONE)
            }
        }
    }

    /// `twin`: the first cell of the change's other row, from which virtual columns are taken.
    fn push_row(&mut self, change: &Change, row: Option<Row<'_>>, found: &Match, twin: Option<u32>) -> u32 {
        let first = self.kinds.len();
        for (nth, cell) in found.cells.iter().enumerate() {
            let (kind, value) = match (cell, row) {
                (Cell::Column(column), Some(row)) => {
                    let (kind, value, bytes) = row.raw(*column);
                    (kind, bytes.map_or(value, |bytes| self.store(bytes)))
                }
                (Cell::Column(_), None) | (Cell::Missing, _) => (UNCHANGED, 0),
                (Cell::Virtual(column), _) => match twin {
                    Some(twin) => (self.kinds[twin as usize + nth], self.values[twin as usize + nth]),
                    None => self.virtual_cell(change, *column, found.keyed),
                },
            };
            self.kinds.push(kind);
            self.values.push(value);
        }
        u32::try_from(first).expect("a batch is bounded in bytes")
    }

    fn virtual_cell(&mut self, change: &Change, column: Virtual, keyed: bool) -> (u8, u64) {
        match column {
            Virtual::Source => (TEXT, self.store(change.table.source.as_bytes())),
            Virtual::Schema => (TEXT, self.store(change.table.schema.as_bytes())),
            Virtual::Table => (TEXT, self.store(change.table.name.as_bytes())),
            Virtual::Key if !keyed || change.key_row().is_none() => (NULL, 0),
            Virtual::Key => self.written(|out| change.write_key(out)),
            Virtual::Row => self.json(change.row()),
            Virtual::Old => self.json(change.old()),
            Virtual::Transaction if change.transaction == 0 => (NULL, 0),
            Virtual::Transaction => self.displayed(change.transaction),
            Virtual::Position => self.displayed(change.position),
            Virtual::Index => (INTEGER, u64::from(change.position.index)),
            Virtual::Last => (BOOLEAN, u64::from(change.last)),
        }
    }

    fn json(&mut self, row: Option<Row<'_>>) -> (u8, u64) {
        row.map_or((NULL, 0), |row| self.written(|out| row_to_json(row, out)))
    }

    fn displayed(&mut self, value: impl std::fmt::Display) -> (u8, u64) {
        self.written(|out| write!(out, "{value}").expect("writing to a string cannot fail"))
    }

    fn written(&mut self, write: impl FnOnce(&mut String)) -> (u8, u64) {
        self.scratch.clear();
        write(&mut self.scratch);
        let start = self.arena.len();
        self.arena.extend_from_slice(self.scratch.as_bytes());
        (TEXT, span(start, self.scratch.len()))
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        span(start, bytes.len())
    }
}

/// What [`Batch::fill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many changes are in the batch, from the first.
    Changes(usize),
    /// The first change alone has so many bytes.
    TooLarge(usize),
}

fn span(start: usize, length: usize) -> u64 {
    start as u64 | (length as u64) << 32
}
