//! A change, written down for a test.

use crate::{Operation, Time, Value};

/// One change, as a source would have it. It owns its values.
///
/// Unless it is said otherwise: of the source `main` and the schema `public`, at the epoch, without a key, and the
/// only change of its transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub(super) source: String,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) operation: Operation,
    pub(super) committed_at: Time,
    pub(super) row: Option<Columns>,
    pub(super) old: Option<Columns>,
    pub(super) key: Vec<String>,
    pub(super) transaction: Option<String>,
    pub(super) position: String,
    pub(super) index: i64,
    pub(super) last: bool,
    pub(super) replay: bool,
}

/// Names and values of a row.
pub(super) type Columns = Vec<(String, Owned)>;

/// A [`Value`] that owns what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Owned {
    Plain(Value<'static>),
    Text(String),
    Bytes(Vec<u8>),
}

impl Owned {
    pub(super) fn new(value: Value<'_>) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_owned()),
            Value::Null => Self::Plain(Value::Null),
            Value::Unchanged => Self::Plain(Value::Unchanged),
            Value::Masked => Self::Plain(Value::Masked),
            Value::Boolean(value) => Self::Plain(Value::Boolean(value)),
            Value::Integer(value) => Self::Plain(Value::Integer(value)),
            Value::Float(value) => Self::Plain(Value::Float(value)),
        }
    }

    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Plain(value) => *value,
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

impl Sample {
    fn new(operation: Operation, table: &str) -> Self {
        Self {
            source: "main".to_owned(),
            schema: "public".to_owned(),
            table: table.to_owned(),
            operation,
            committed_at: Time::default(),
            row: None,
            old: None,
            key: Vec::new(),
            transaction: Some("1".to_owned()),
            position: "0/1".to_owned(),
            index: 0,
            last: true,
            replay: false,
        }
    }

    /// A row that was there when the source began.
    #[must_use]
    pub fn snapshot<'a>(table: &str, row: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Self { row: Some(owned(row)), transaction: None, ..Self::new(Operation::Snapshot, table) }
    }

    /// A new row.
    #[must_use]
    pub fn insert<'a>(table: &str, row: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Self { row: Some(owned(row)), ..Self::new(Operation::Insert, table) }
    }

    /// A row with new values. Its old values come with [`Sample::old`].
    #[must_use]
    pub fn update<'a>(table: &str, row: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Self { row: Some(owned(row)), ..Self::new(Operation::Update, table) }
    }

    /// A row that is gone.
    #[must_use]
    pub fn delete<'a>(table: &str, old: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Self { old: Some(owned(old)), ..Self::new(Operation::Delete, table) }
    }

    /// All rows are gone.
    #[must_use]
    pub fn truncate(table: &str) -> Self {
        Self::new(Operation::Truncate, table)
    }

    /// The table has other columns.
    #[must_use]
    pub fn schema_change(table: &str) -> Self {
        Self::new(Operation::Schema, table)
    }

    /// A message in one of the virtual tables `$client`, `$notify`, `$logical`.
    #[must_use]
    pub fn message<'a>(table: &str, row: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Self { row: Some(owned(row)), schema: String::new(), ..Self::new(Operation::Message, table) }
    }

    /// The old row of an update. Columns that the source leaves out are simply not named.
    ///
    /// # Panics
    /// Where the change is no update: no other operation has both rows.
    #[must_use]
    pub fn old<'a>(mut self, old: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        assert_eq!(self.operation, Operation::Update, "only an update has an old and a new row");
        self.old = Some(owned(old));
        self
    }

    /// The columns that are the table's key.
    #[must_use]
    pub fn key<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.key = columns.into_iter().map(str::to_owned).collect();
        self
    }

    /// The table's schema.
    #[must_use]
    pub fn schema(mut self, schema: &str) -> Self {
        self.schema = schema.to_owned();
        self
    }

    /// The source's name.
    #[must_use]
    pub fn source(mut self, source: &str) -> Self {
        self.source = source.to_owned();
        self
    }

    /// When it was committed.
    #[must_use]
    pub fn committed_at(mut self, time: Time) -> Self {
        self.committed_at = time;
        self
    }

    /// Its transaction, and its place in it.
    #[must_use]
    pub fn transaction(mut self, transaction: &str, index: i64) -> Self {
        self.transaction = Some(transaction.to_owned());
        self.index = index;
        self
    }

    /// More changes of its transaction follow.
    #[must_use]
    pub fn not_last(mut self) -> Self {
        self.last = false;
        self
    }

    /// It is a dead letter that is handed over again.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        self.replay = true;
        self
    }

    /// The key as text, of the row after the change or before a delete.
    pub(super) fn key_text(&self) -> Option<String> {
        let row = self.row.as_ref().or(self.old.as_ref())?;
        let texts: Vec<String> = self.key.iter().map(|column| key_part(value(row, column))).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    }
}

/// A column's value in a row; unchanged where it is not named.
pub(super) fn value<'a>(row: &'a Columns, column: &str) -> Value<'a> {
    row.iter().find(|(name, _)| name == column).map_or(Value::Unchanged, |(_, value)| value.value())
}

fn key_part(value: Value<'_>) -> String {
    match value {
        Value::Null | Value::Unchanged | Value::Masked => String::new(),
        Value::Text(text) => text.replace('\\', "\\\\").replace(',', "\\,"),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Boolean(_) | Value::Integer(_) | Value::Float(_) => value.to_string(),
    }
}

pub(super) fn owned<'a>(row: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Columns {
    row.into_iter().map(|(name, value)| (name.to_owned(), Owned::new(value))).collect()
}
