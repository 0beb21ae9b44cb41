//! Changes made out of whatever bytes come.

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use crate::event::{
    Change, Column, LetterId, Micros, Offset, Operation, Origin, Position, Replay, RowBuilder, Rows, Table,
    Value,
};

const COLUMNS_MAX: usize = 12;

/// A cell.
#[derive(Debug, Clone, Arbitrary)]
enum Cell {
    Null,
    Unchanged,
    Masked,
    Boolean(bool),
    Integer(i64),
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A table: source, schema, name, and for each column its name, its type and whether it is of the key.
#[derive(Debug, Clone, Arbitrary)]
pub struct MadeTable {
    names: [String; 3],
    columns: Vec<(String, String, bool)>,
}

/// All of a change but its table.
#[derive(Debug, Clone, Arbitrary)]
pub struct MadeChange {
    operation: u8,
    rows: u8,
    cells: Vec<Cell>,
    place: (u64, u32),
    last: bool,
    transaction: u64,
    committed_at: i64,
    replay: Option<(u64, u64, Option<String>)>,
}

impl MadeTable {
    /// The table; names are cut to what a record can hold.
    #[must_use]
    pub fn table(&self) -> Table {
        let [source, schema, name] = &self.names;
        let columns = self.columns.iter().take(COLUMNS_MAX).map(|(name, type_name, key)| Column {
            name: name.as_str().into(),
            type_name: type_name.as_str().into(),
            key: *key,
        });
        Table {
            source: short(source).into(),
            schema: schema.as_str().into(),
            name: name.as_str().into(),
            columns: columns.collect(),
        }
    }
}

impl MadeChange {
    /// The change; cells that are missing are null.
    #[must_use]
    pub fn change(&self, table: Arc<Table>) -> Change {
        let (rows, rows_count) = match self.rows % 4 {
            0 => (Rows::Neither, 0),
            1 => (Rows::New, 1),
            2 => (Rows::Old, 1),
            _ => (Rows::NewThenOld, 2),
        };
        let mut builder = RowBuilder::default();
        let cells = self.cells.iter().map(Cell::value).chain(std::iter::repeat(Value::Null));
        cells.take(rows_count * table.columns.len()).for_each(|value| builder.push(value));
        let origin = Origin {
            table,
            operation: Operation::ALL[usize::from(self.operation) % Operation::ALL.len()],
            position: Position { commit: self.place.0, index: self.place.1 },
            last: self.last,
            transaction: self.transaction,
            committed_at: Micros(self.committed_at),
        };
        let mut change = builder.finish(origin, rows);
        change.replay = self.replay.as_ref().map(|(letter, first, router)| Replay {
            letter: LetterId(*letter),
            first: Offset(*first),
            router: router.as_deref().map(short).filter(|router| !router.is_empty()).map(Arc::from),
        });
        change
    }
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Unchanged => Value::Unchanged,
            Self::Masked => Value::Masked,
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(255)]
}
