//! Letters as people see them.
//!
//! In: letters as they are kept. Out: the same, with what their changes say; rows as JSON in [`Whole`] alone.
//!
//! Invariant: a letter whose change cannot be read (a newer program wrote it) is shown as well, without that part.

use crate::bus::KeptLetter;
use crate::event::{Change, Decoder, Operation, Position, Row, row_to_json};

/// A letter, and what its change is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The letter as it is kept.
    pub kept: KeptLetter,
    /// `None` if this program cannot read the change.
    pub about: Option<About>,
}

/// What a change is about, without its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The source's name in the configuration.
    pub source: String,
    /// The table's schema; may be empty.
    pub schema: String,
    /// The table's bare name.
    pub table: String,
    /// What happened to the row.
    pub operation: Operation,
    /// The text of the row's key, as plugins see it as `$key`; `None` if it has none.
    pub key: Option<String>,
    /// Where the source's log has it.
    pub position: Position,
    /// The database's number of the transaction; 0 where there is none.
    pub transaction: u64,
}

/// A letter with the rows of its change.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// The letter.
    pub shown: Shown,
    /// The new row as a JSON object, if there is one; nothing is masked in it.
    pub row: Option<String>,
    /// The row before, likewise.
    pub old: Option<String>,
}

impl Shown {
    pub(super) fn of(kept: KeptLetter, decoder: &mut Decoder) -> Self {
        let about = decoder.decode(&kept.letter.record).ok().map(|change| About::of(&change));
        Self { kept, about }
    }
}

impl About {
    fn of(change: &Change) -> Self {
        let mut key = String::new();
        change.write_key(&mut key);
        let has_key = change.key_row().is_some() && change.table.columns.iter().any(|column| column.key);
        Self {
            source: change.table.source.to_string(),
            schema: change.table.schema.to_string(),
            table: change.table.name.to_string(),
            operation: change.operation,
            key: has_key.then_some(key),
            position: change.position,
            transaction: change.transaction,
        }
    }
}

impl Whole {
    pub(super) fn of(kept: KeptLetter) -> Self {
        let change = Decoder::default().decode(&kept.letter.record).ok();
        let (row, old) = match &change {
            Some(change) => (change.row().map(json), change.old().map(json)),
            None => (None, None),
        };
        Self { shown: Shown { kept, about: change.as_ref().map(About::of) }, row, old }
    }
}

fn json(row: Row<'_>) -> String {
    let mut out = String::new();
    row_to_json(row, &mut out);
    out
}
