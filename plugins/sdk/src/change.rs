//! Views of a change and its rows, which borrow from the batch and copy nothing.

use crate::cells::{Cells, NONE};
use crate::subscription::Virtual;
use crate::{Operation, Subscription, Time, Value};

/// One change.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    cells: &'a Cells,
    subscription: &'a Subscription,
    index: usize,
}

impl<'a> Change<'a> {
    /// The change at `index` of a batch.
    pub(crate) fn new(cells: &'a Cells, subscriptions: &'a [Subscription], index: usize) -> Self {
        Self { cells, subscription: &subscriptions[cells.subscriptions[index] as usize], index }
    }

    /// What happened.
    #[must_use]
    pub fn operation(&self) -> Operation {
        Operation::from_number(self.cells.operations[self.index])
    }

    /// When it was committed, on the source's clock.
    #[must_use]
    pub fn committed_at(&self) -> Time {
        Time::from_micros(self.cells.committed_at[self.index])
    }

    /// The place of the subscription that this change is here for, in the list that `configure` returned.
    #[must_use]
    pub fn subscription(&self) -> usize {
        self.cells.subscriptions[self.index] as usize
    }

    /// The row after the change. None for delete, truncate and schema, and where no column was asked for.
    #[must_use]
    pub fn row(&self) -> Option<Row<'a>> {
        match self.operation() {
            Operation::Delete | Operation::Truncate | Operation::Schema => None,
            Operation::Snapshot | Operation::Insert | Operation::Update | Operation::Message => {
                self.row_at(self.cells.rows[self.index])
            }
        }
    }

    /// The row before the change, for deletes, and for updates where the source sent one. What the source left out of
    /// it is [`Value::Unchanged`]: by default PostgreSQL sends only the key (see `REPLICA IDENTITY`).
    #[must_use]
    pub fn old(&self) -> Option<Row<'a>> {
        self.row_at(self.cells.old_rows[self.index])
    }

    /// `$key`: the row's key as text, with `,` between several columns and `\` before a `,` or
    /// `\` within one. None for truncate and schema, and for a table
    /// that has no key.
    ///
    /// # Panics
    /// This and the methods below: where the subscription does not ask for the column that they read.
    #[must_use]
    pub fn key(&self) -> Option<&'a str> {
        as_text(self.about(Virtual::Key))
    }

    /// `$table`: the table's name, without its schema.
    #[must_use]
    pub fn table(&self) -> &'a str {
        self.always(Virtual::Table)
    }

    /// `$schema`: the name of the table's schema, empty where the database has none.
    #[must_use]
    pub fn schema(&self) -> &'a str {
        self.always(Virtual::Schema)
    }

    /// `$source`: the name of the source.
    #[must_use]
    pub fn source(&self) -> &'a str {
        self.always(Virtual::Source)
    }

    /// `$row`: the row after the change as a JSON object.
    #[must_use]
    pub fn row_json(&self) -> Option<&'a str> {
        as_text(self.about(Virtual::Row))
    }

    /// `$old`: the row before the change as a JSON object.
    #[must_use]
    pub fn old_json(&self) -> Option<&'a str> {
        as_text(self.about(Virtual::Old))
    }

    /// `$transaction`: what the source calls the transaction. None in a snapshot.
    #[must_use]
    pub fn transaction(&self) -> Option<&'a str> {
        as_text(self.about(Virtual::Transaction))
    }

    /// `$position`: where the source's log has the change. To show, not to compute with.
    #[must_use]
    pub fn position(&self) -> &'a str {
        self.always(Virtual::Position)
    }

    /// `$index`: the place of the change in its transaction, from 0, counting changes of other tables.
    #[must_use]
    pub fn index(&self) -> i64 {
        match self.about(Virtual::Index) {
            Value::Integer(index) => index,
            other => panic!("the host sent {other:?} as `$index`"),
        }
    }

    /// `$last`: whether it is the last change of its transaction.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.about(Virtual::Last) == Value::Boolean(true)
    }

    /// `$replay`: whether it is a dead letter that is handed over again.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.about(Virtual::Replay) == Value::Boolean(true)
    }

    fn row_at(&self, first: u32) -> Option<Row<'a>> {
        (first != NONE).then_some(Row {
            cells: self.cells,
            subscription: self.subscription,
            first: first as usize,
        })
    }

    /// A virtual column, which both rows have.
    fn about(&self, column: Virtual) -> Value<'a> {
        let Some(place) = self.subscription.place_of(column) else {
            not_subscribed(self.subscription, column.name());
        };
        let row = self.cells.rows[self.index];
        let first = if row == NONE { self.cells.old_rows[self.index] } else { row };
        self.cells.value(first as usize + place)
    }

    fn always(&self, column: Virtual) -> &'a str {
        match self.about(column) {
            Value::Text(text) => text,
            other => panic!("the host sent {other:?} as `{}`", column.name()),
        }
    }
}

/// One row of a change: the cells that the subscription asks for.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    cells: &'a Cells,
    subscription: &'a Subscription,
    first: usize,
}

impl<'a> Row<'a> {
    /// A column's value, or none where the subscription does not ask for that column.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<Value<'a>> {
        self.subscription.place(column).map(|place| self.cells.value(self.first + place))
    }

    /// A column's value.
    ///
    /// # Panics
    /// This and the methods below: where the subscription does not ask for that column, since a slip of the pen would
    /// else be silent.
    #[must_use]
    pub fn value(&self, column: &str) -> Value<'a> {
        match self.get(column) {
            Some(value) => value,
            None => not_subscribed(self.subscription, column),
        }
    }

    /// A column's text, or none where it is no text (null, unchanged, masked, or of another kind).
    #[must_use]
    pub fn text(&self, column: &str) -> Option<&'a str> {
        as_text(self.value(column))
    }

    /// A column's integer, or none where it is no integer.
    #[must_use]
    pub fn integer(&self, column: &str) -> Option<i64> {
        match self.value(column) {
            Value::Integer(integer) => Some(integer),
            _ => None,
        }
    }

    /// A column's floating point number, or none where it is none.
    #[must_use]
    pub fn float(&self, column: &str) -> Option<f64> {
        match self.value(column) {
            Value::Float(float) => Some(float),
            _ => None,
        }
    }

    /// A column's truth value, or none where it has none.
    #[must_use]
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.value(column) {
            Value::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    /// A column's bytes, or none where it has none.
    #[must_use]
    pub fn bytes(&self, column: &str) -> Option<&'a [u8]> {
        match self.value(column) {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Names and values, in the order in which the subscription asks for them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let Self { cells, subscription, first } = *self;
        let columns = subscription.column_names().iter().enumerate();
        columns.map(move |(place, name)| (name.as_str(), cells.value(first + place)))
    }
}

fn as_text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

#[cold]
fn not_subscribed(subscription: &Subscription, column: &str) -> ! {
    let (table, columns) = (subscription.table_pattern(), subscription.column_names().join("`, `"));
    panic!("the subscription to `{table}` does not ask for the column `{column}`, only for `{columns}`")
}
