//! Samples into the lists of the interface: what a host does before a call.

use super::json;
use super::sample::{Columns, Sample, value};
use crate::cells::{Cells, NONE, span_since};
use crate::subscription::Virtual;
use crate::value::kind;
use crate::{Operation, Subscription, Value};

/// A batch, and which sample each of its changes is.
pub(super) struct Batch {
    pub(super) cells: Cells,
    pub(super) samples: Vec<usize>,
}

/// Lowers the samples that match a subscription, each for the first that it matches.
pub(super) fn lower(samples: &[Sample], subscriptions: &[Subscription]) -> Batch {
    let mut batch = Batch { cells: Cells::default(), samples: Vec::new() };
    let mut arena = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        let matches = |subscription: &Subscription| {
            subscription.matches(&sample.source, &sample.schema, &sample.table, sample.operation)
        };
        if let Some(matching) = subscriptions.iter().position(matches) {
            batch.samples.push(index);
            change(&mut batch.cells, &mut arena, sample, matching, subscriptions[matching].column_names());
        }
    }
    batch.cells.arena = arena.into();
    batch
}

fn change(cells: &mut Cells, arena: &mut Vec<u8>, sample: &Sample, subscription: usize, columns: &[String]) {
    let empty = Columns::new();
    let new = match sample.operation {
        Operation::Truncate | Operation::Schema => Some(&empty),
        _ => sample.row.as_ref(),
    };
    let rows = [new, sample.old.as_ref()].map(|row| match row {
        Some(values) if !columns.is_empty() => row_of(cells, arena, sample, values, columns),
        Some(_) | None => NONE,
    });
    cells.subscriptions.push(u32::try_from(subscription).expect("few subscriptions"));
    cells.operations.push(sample.operation as u8);
    cells.committed_at.push(sample.committed_at.micros());
    cells.rows.push(rows[0]);
    cells.old_rows.push(rows[1]);
}

fn row_of(
    cells: &mut Cells,
    arena: &mut Vec<u8>,
    sample: &Sample,
    values: &Columns,
    columns: &[String],
) -> u32 {
    let first = u32::try_from(cells.kinds.len()).expect("a batch of fewer than 2^32 cells");
    for column in columns {
        if column.starts_with('$') {
            virtual_cell(cells, arena, sample, column);
        } else {
            cell(cells, arena, value(values, column));
        }
    }
    first
}

fn virtual_cell(cells: &mut Cells, arena: &mut Vec<u8>, sample: &Sample, column: &str) {
    const ALL: [Virtual; Virtual::NAMES.len()] = [
        Virtual::Source,
        Virtual::Schema,
        Virtual::Table,
        Virtual::Key,
        Virtual::Row,
        Virtual::Old,
        Virtual::Transaction,
        Virtual::Position,
        Virtual::Index,
        Virtual::Last,
        Virtual::Replay,
    ];
    let Some(about) = ALL.into_iter().find(|about| about.name() == column) else {
        panic!("a host would refuse the subscription: there is no virtual column `{column}`");
    };
    match about {
        Virtual::Source => cell(cells, arena, Value::Text(&sample.source)),
        Virtual::Schema => cell(cells, arena, Value::Text(&sample.schema)),
        Virtual::Table => cell(cells, arena, Value::Text(&sample.table)),
        Virtual::Key => cell(cells, arena, sample.key_text().as_deref().into()),
        Virtual::Row => cell(cells, arena, sample.row.as_ref().map(json::object).as_deref().into()),
        Virtual::Old => cell(cells, arena, sample.old.as_ref().map(json::object).as_deref().into()),
        Virtual::Transaction => cell(cells, arena, sample.transaction.as_deref().into()),
        Virtual::Position => cell(cells, arena, Value::Text(&sample.position)),
        Virtual::Index => cell(cells, arena, Value::Integer(sample.index)),
        Virtual::Last => cell(cells, arena, Value::Boolean(sample.last)),
        Virtual::Replay => cell(cells, arena, Value::Boolean(sample.replay)),
    }
}

fn cell(cells: &mut Cells, arena: &mut Vec<u8>, value: Value<'_>) {
    let (kind, value) = match value {
        Value::Null => (kind::NULL, 0),
        Value::Unchanged => (kind::UNCHANGED, 0),
        Value::Masked => (kind::MASKED, 0),
        Value::Boolean(value) => (kind::BOOLEAN, u64::from(value)),
        Value::Integer(value) => (kind::INTEGER, value.cast_unsigned()),
        Value::Float(value) => (kind::FLOAT, value.to_bits()),
        Value::Text(text) => (kind::TEXT, appended(arena, text.as_bytes())),
        Value::Bytes(bytes) => (kind::BYTES, appended(arena, bytes)),
    };
    cells.kinds.push(kind);
    cells.values.push(value);
}

fn appended(arena: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    span_since(start, arena)
}
