//! What the stream has brought of one table since somebody looks.
//!
//! In: changes of a table. Out: whether a row's key was among them, and whether all of its values were.
//!
//! Invariant: past a bound it says that everything was touched.

use std::collections::HashSet;

use super::snapshot::Order;
use crate::event::{Change, Operation, Row, Value};
use crate::limits::SNAPSHOT_TOUCHED_COUNT_MAX;

/// Keys that have changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    keys: HashSet<String>,
    /// Those of rows that came without some of their values.
    partial: HashSet<String>,
    /// Not only those.
    is_all: bool,
}

impl Touched {
    pub(super) fn note(&mut self, change: &Change) {
        match change.key_row() {
            Some(row) if has_key(row) => {
                let key = key(change);
                if is_partial(change) {
                    self.partial.insert(key.clone());
                }
                self.keys.insert(key);
            }
            Some(_) => self.is_all = true,
            None => self.is_all |= change.operation == Operation::Truncate,
        }
        if self.keys.len() > SNAPSHOT_TOUCHED_COUNT_MAX {
            *self = Self::everything();
        }
    }

    /// As if every row had been touched, and had come without some of its values.
    pub(super) fn everything() -> Self {
        Self { is_all: true, ..Self::default() }
    }

    /// Whether any row may have been touched, where they are told apart so.
    pub(super) fn is_anything(&self, order: Order) -> bool {
        self.is_all || order == Order::Block && !self.keys.is_empty()
    }

    /// Whether this row was.
    pub(super) fn has(&self, row: &Change) -> bool {
        self.is_all || !self.keys.is_empty() && self.keys.contains(&key(row))
    }

    /// Whether it came without some of its values.
    pub(super) fn has_partial(&self, row: &Change) -> bool {
        self.is_all || !self.partial.is_empty() && self.partial.contains(&key(row))
    }
}

/// Whether it says of some value only that it is as before.
pub(super) fn is_partial(change: &Change) -> bool {
    change.row().is_some_and(|row| row.columns().any(|(_, value)| value == Value::Unchanged))
}

fn has_key(row: Row<'_>) -> bool {
    row.columns().all(|(column, value)| !column.key || value != Value::Unchanged)
}

fn key(change: &Change) -> String {
    let mut key = String::new();
    change.write_key(&mut key);
    key
}
