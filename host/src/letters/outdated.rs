//! Whether the row of a dead letter has changed since.
//!
//! In: a change, and where it stood first. Out: nothing, or why it should not be replayed.
//!
//! What counts as later: a change of the same table that has the key in its new or its old row (a changed key is in
//! both), and a truncate of the table. Replays do not: what they replay stands in the log already.
//!
//! Invariant: what cannot be told is refused like what is known to be outdated.

use super::LetterError;
use crate::event::{Change, Decoder, LetterId, Offset, Operation, Partition, Row, Value};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX, REPLAY_SCAN_COUNT_MAX};
use crate::log::{ChangeLog, LogError};

/// Looks at everything between the change's first place and the end of the log as it is now.
pub(super) async fn check(
    log: &dyn ChangeLog,
    id: LetterId,
    partition: Partition,
    first: Offset,
    change: &Change,
) -> Result<(), LetterError> {
    let keys = keys(change);
    if keys.is_empty() {
        let table = format!("{}.{}", change.table.schema, change.table.name);
        return Err(LetterError::Keyless { id, table });
    }
    let end = log.bounds(partition).end;
    let mut next = first.plus(1);
    if end.0.saturating_sub(next.0) > REPLAY_SCAN_COUNT_MAX {
        return Err(LetterError::TooFar(id));
    }
    let mut decoder = Decoder::default();
    while next < end {
        let records = log.read(partition, next, BATCH_COUNT_MAX, BATCH_BYTES_MAX).await;
        let records = records.map_err(|error| match error {
            LogError::Removed { first: kept, .. } => {
                LetterError::Forgotten { id, offset: first, first: kept }
            }
            other => other.into(),
        })?;
        for record in &records {
            let other = decoder.decode(&record.payload);
            let other = other.map_err(|source| LetterError::Unreadable { id, source })?;
            if is_later(&other, change, &keys) {
                return Err(LetterError::Outdated { id, later: record.offset });
            }
            next = record.offset.plus(1);
        }
    }
    Ok(())
}

fn is_later(other: &Change, change: &Change, keys: &[String]) -> bool {
    let (theirs, ours) = (&other.table, &change.table);
    let is_same_table = theirs.source == ours.source
        && theirs.schema == ours.schema
        && theirs.name == ours.name
        && other.replay.is_none();
    is_same_table
        && (other.operation == Operation::Truncate || self::keys(other).iter().any(|key| keys.contains(key)))
}

/// The keys of a change's rows, as far as these have one.
fn keys(change: &Change) -> Vec<String> {
    let rows = [change.row(), change.old()];
    rows.into_iter().flatten().filter(|row| has_key(*row)).map(key).collect()
}

/// Whether all columns of the key are there, and there is one.
fn has_key(row: Row<'_>) -> bool {
    let mut values = row.columns().filter(|(column, _)| column.key).map(|(_, value)| value).peekable();
    values.peek().is_some() && values.all(|value| !matches!(value, Value::Unchanged | Value::Masked))
}

fn key(row: Row<'_>) -> String {
    let mut key = String::new();
    row.write_key(&mut key);
    key
}
