//! The two ids that a row puts together: author and item, or follower and followee.
//!
//! In: a change. Out: the pair that its row stood for before, and the one it stands for now; or one sentence that says
//! why nothing right can follow, which names the column and tells nothing of its values. Always holds: a row with a null
//! id, or marked as deleted, stands for no pair. What the source did not send of an updated row's old version counts as
//! it is now, but a mark that it did not send counts as live, so that a deletion is never missed.

use twohop_plugin::{Change, Operation, Row, Value};

/// Two ids.
pub(crate) type Pair<'a> = (Value<'a>, Value<'a>);

/// Where a table's rows have them.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// A column.
    pub(crate) first: String,
    pub(crate) second: Second,
    /// The column that marks a row as deleted: null, false and 0 are live, all else is deleted.
    pub(crate) deleted: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Second {
    /// The row's key. It never changes: a source makes a delete and an insert of that.
    Key,
    Column(String),
}

impl Pairs {
    /// What has to be subscribed to.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let second = match &self.second {
            Second::Key => "$key",
            Second::Column(column) => column,
        };
        [self.first.as_str(), second].into_iter().chain(self.deleted.as_deref()).collect()
    }

    /// Before the change and after it.
    pub(crate) fn of<'a>(&self, change: &Change<'a>) -> Result<(Option<Pair<'a>>, Option<Pair<'a>>), String> {
        let Some(row) = change.row() else { return Ok((self.of_deleted(change)?, None)) };
        let ids = self.ids(change, |column| id(row.value(column), column))?;
        let now = if self.is_deleted(&row)? { None } else { ids };
        let before = match (change.operation(), change.old()) {
            (Operation::Update, Some(old)) => self.of_updated(change, &row, &old)?,
            (Operation::Update, None) => ids,
            _ => None,
        };
        Ok((before, now))
    }

    fn of_updated<'a>(
        &self,
        change: &Change<'a>,
        row: &Row<'a>,
        old: &Row<'a>,
    ) -> Result<Option<Pair<'a>>, String> {
        if self.was_deleted(old) {
            return Ok(None);
        }
        self.ids(change, |column| match old.value(column) {
            Value::Unchanged | Value::Masked => id(row.value(column), column),
            value => id(value, column),
        })
    }

    fn of_deleted<'a>(&self, change: &Change<'a>) -> Result<Option<Pair<'a>>, String> {
        let Some(old) = change.old().filter(|old| !self.was_deleted(old)) else { return Ok(None) };
        self.ids(change, |column| match old.value(column) {
            Value::Unchanged => Err(format!(
                "the source did not send the column `{column}` of the deleted row: let it send whole old rows, in PostgreSQL \
                 with ALTER TABLE … REPLICA IDENTITY FULL"
            )),
            value => id(value, column),
        })
    }

    /// None where one of both is null.
    fn ids<'a>(
        &self,
        change: &Change<'a>,
        read: impl Fn(&str) -> Result<Option<Value<'a>>, String>,
    ) -> Result<Option<Pair<'a>>, String> {
        let second = match &self.second {
            Second::Key => match change.key() {
                None => return Err("the table has no key, by which a post is known".to_owned()),
                Some(key) => id(Value::Text(key), "$key")?,
            },
            Second::Column(column) => read(column)?,
        };
        Ok(read(&self.first)?.zip(second))
    }

    fn is_deleted(&self, row: &Row<'_>) -> Result<bool, String> {
        let Some(column) = &self.deleted else { return Ok(false) };
        match row.value(column) {
            Value::Unchanged | Value::Masked => Err(not_there(column)),
            mark => Ok(is_set(mark)),
        }
    }

    fn was_deleted(&self, old: &Row<'_>) -> bool {
        self.deleted.as_ref().is_some_and(|column| match old.value(column) {
            Value::Unchanged | Value::Masked => false,
            mark => is_set(mark),
        })
    }
}

/// What is said of a column that a row should have.
pub(crate) fn not_there(column: &str) -> String {
    format!(
        "the column `{column}` is not there: the table has none, the source did not send it, or a filter hides it"
    )
}

/// None for null.
fn id<'a>(value: Value<'a>, column: &str) -> Result<Option<Value<'a>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Unchanged | Value::Masked => Err(not_there(column)),
        Value::Text("") => Err(format!("the column `{column}` is an empty text, which cannot be an id")),
        value => Ok(Some(value)),
    }
}

fn is_set(mark: Value<'_>) -> bool {
    !matches!(mark, Value::Null | Value::Boolean(false) | Value::Integer(0))
}
