//! Batches: what a plugin reads of the lists is what the changes hold. The reader here follows `wit/policy.wit` and
//! knows nothing of the writer.

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use super::batch::{Batch, Filled};
use super::bindings::twohop::policy::types::Changes;
use super::handed::everything;
use crate::event::{Change, Operation, Row, row_to_json};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX};
use crate::made::{MadeChange, MadeTable};

const NONE: u32 = u32::MAX;
const VIRTUAL: [&str; 11] = [
    "$source",
    "$schema",
    "$table",
    "$key",
    "$row",
    "$old",
    "$transaction",
    "$position",
    "$index",
    "$last",
    "$replay",
];

/// A few tables, changes of them, and what a plugin asked for.
#[derive(Debug, Arbitrary)]
pub struct Input {
    tables: [MadeTable; 2],
    changes: Vec<(bool, MadeChange)>,
    columns: Vec<AskedColumn>,
}

#[derive(Debug, Arbitrary)]
enum AskedColumn {
    Virtual(u8),
    /// One of a table, if it has so many.
    Of(bool, u8),
    Other(String),
}

/// A cell as a plugin reads it: its kind, and its number or its bytes.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Number(u8, u64),
    Span(u8, Vec<u8>),
}

const NULL: Cell = Cell::Number(0, 0);
const UNCHANGED: Cell = Cell::Number(1, 0);

/// Lowers the changes, batch after batch, and reads each back.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(input: &Input) {
    let tables = [0, 1].map(|nth: usize| Arc::new(input.tables[nth].table()));
    let columns = columns(input, &tables.each_ref().map(|table| &**table));
    let Some(mut matches) = everything(vec![], columns.clone()) else { return };
    let changes = input.changes.iter();
    let changes: Vec<_> = changes.map(|(nth, made)| made.change(tables[usize::from(*nth)].clone())).collect();
    matches.select(&changes);
    let mut rest = matches.members(0);
    let mut batch = Batch::default();
    while !rest.is_empty() {
        let count = match batch.fill(&changes, rest, &matches) {
            Filled::TooLarge(bytes) => {
                assert!(bytes > BATCH_BYTES_MAX);
                1
            }
            Filled::Changes(count) => {
                assert!((1..=BATCH_COUNT_MAX).contains(&count));
                let lists = batch.changes();
                assert_eq!(lists.operations.len(), count);
                for (at, member) in rest[..count].iter().enumerate() {
                    compare(&lists, at, &changes[member.change], &columns);
                }
                count
            }
        };
        rest = &rest[count..];
    }
}

fn columns(input: &Input, tables: &[&crate::event::Table; 2]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for asked in &input.columns {
        let name = match asked {
            AskedColumn::Virtual(nth) => VIRTUAL[usize::from(*nth) % VIRTUAL.len()].to_owned(),
            AskedColumn::Of(table, nth) => {
                let columns = &tables[usize::from(*table)].columns;
                match columns.get(usize::from(*nth) % columns.len().max(1)) {
                    Some(column) => column.name.to_string(),
                    None => continue,
                }
            }
            AskedColumn::Other(name) => name.clone(),
        };
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    columns
}

fn compare(lists: &Changes<'_>, at: usize, change: &Change, columns: &[String]) {
    assert_eq!(lists.subscriptions[at], 0);
    assert_eq!(lists.operations[at], change.operation as u8);
    assert_eq!(lists.committed_at[at], change.committed_at.0);
    let (new, old) = match change.operation {
        Operation::Delete => (None, Some(change.old())),
        Operation::Update => (Some(change.row()), change.old().map(Some)),
        Operation::Truncate | Operation::Schema => (Some(None), None),
        Operation::Snapshot | Operation::Insert | Operation::Message => (Some(change.row()), None),
    };
    for (first, expected) in [(lists.rows[at], new), (lists.old_rows[at], old)] {
        let expected = expected.filter(|_| !columns.is_empty());
        let expected = expected.map(|row| columns.iter().map(|name| cell_of(change, row, name)).collect());
        assert_eq!(read(lists, first, columns.len()), expected);
    }
}

/// What the interface says that a column of a row holds.
fn cell_of(change: &Change, row: Option<Row<'_>>, name: &str) -> Cell {
    let text = |text: &str| Cell::Span(6, text.as_bytes().into());
    let json = |row: Option<Row<'_>>| {
        row.map_or(NULL, |row| {
            let mut out = String::new();
            row_to_json(row, &mut out);
            text(&out)
        })
    };
    match name {
        "$source" => text(&change.table.source),
        "$schema" => text(&change.table.schema),
        "$table" => text(&change.table.name),
        "$key" => {
            let has_key = change.table.columns.iter().any(|column| column.key);
            let mut key = String::new();
            change.write_key(&mut key);
            if has_key && change.key_row().is_some() { text(&key) } else { NULL }
        }
        "$row" => json(change.row()),
        "$old" => json(change.old()),
        "$transaction" if change.transaction == 0 => NULL,
        "$transaction" => text(&change.transaction.to_string()),
        "$position" => text(&change.position.to_string()),
        "$index" => Cell::Number(4, change.position.index.into()),
        "$last" => Cell::Number(3, change.last.into()),
        "$replay" => Cell::Number(3, change.replay.is_some().into()),
        _ => match row.zip(change.table.column(name)) {
            None => UNCHANGED,
            Some((row, column)) => match row.raw(column) {
                (kind, _, Some(bytes)) => Cell::Span(kind, bytes.into()),
                (kind, number, None) => Cell::Number(kind, number),
            },
        },
    }
}

fn read(lists: &Changes<'_>, first: u32, width: usize) -> Option<Vec<Cell>> {
    let cell = |at: usize| match (lists.kinds[at], lists.values[at]) {
        (kind @ (6 | 7), span) => {
            let (start, length) = ((span & 0xFFFF_FFFF) as usize, (span >> 32) as usize);
            let bytes = lists.arena[start..start + length].to_vec();
            assert!(kind == 7 || std::str::from_utf8(&bytes).is_ok(), "text is UTF-8");
            Cell::Span(kind, bytes)
        }
        (kind, number) => Cell::Number(kind, number),
    };
    (first != NONE).then(|| (first as usize..first as usize + width).map(cell).collect())
}
