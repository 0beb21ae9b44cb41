//! An outbox: a table whose rows are messages, by Debezium's convention (`aggregatetype`, `aggregateid`, `type`, `id`,
//! `payload`). An application writes a row there in the transaction whose effects it tells others about.
//!
//! In: such a table. Out: the same table as plugins know messages: its five columns called `channel`, `subject`, `event`,
//! `id` and `body`, all others as they are.
//!
//! Invariants: a row keeps its cells, so nothing is copied; the key is the subject, so that messages about one thing
//! stand in one order. Only the row's insert is a message: that it was deleted, or marked, says nothing.

use super::table::TableName;
use crate::event::{Column, Table};

/// What the columns of an outbox are called in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxColumns {
    /// The kind of thing that the message is about.
    pub channel: String,
    /// Which of them.
    pub subject: String,
    /// What happened to it.
    pub event: String,
    /// Which message it is; unique.
    pub id: String,
    /// What it says.
    pub body: String,
}

impl Default for OutboxColumns {
    fn default() -> Self {
        let [channel, subject, event, id, body] =
            ["aggregatetype", "aggregateid", "type", "id", "payload"].map(str::to_owned);
        Self { channel, subject, event, id, body }
    }
}

/// Why a table is no outbox.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OutboxError {
    /// It lacks a column.
    #[error("the outbox {table} has no column `{column}`: add it, or name another by `outbox.{part}`")]
    Missing {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What it would be.
        part: &'static str,
    },
    /// Another column has the name that a part of the message has.
    #[error("the outbox {table} has a column `{part}` that is not its `outbox.{part}`: rename one of them")]
    Twice {
        /// The table.
        table: String,
        /// The name.
        part: &'static str,
    },
}

/// Which table is an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outbox {
    pub(super) table: TableName,
    pub(super) columns: OutboxColumns,
}

impl Outbox {
    /// Whether it is this one.
    pub(super) fn is(&self, schema: &str, name: &str) -> bool {
        self.table.schema == schema && self.table.name == name
    }

    /// The table of the messages.
    ///
    /// # Errors
    /// If a column is missing, or a name would be there twice.
    pub(super) fn messages(&self, table: &Table) -> Result<Table, OutboxError> {
        let OutboxColumns { channel, subject, event, id, body } = &self.columns;
        let parts =
            [("channel", channel), ("subject", subject), ("event", event), ("id", id), ("body", body)];
        let name = || self.table.to_string();
        for (part, column) in parts {
            if table.column(column).is_none() {
                return Err(OutboxError::Missing { table: name(), column: column.clone(), part });
            }
        }
        let part_of = |column: &str| parts.iter().find(|(_, its)| *its == column).map(|(part, _)| *part);
        let taken = |column: &&Column| part_of(&column.name).is_none();
        for column in table.columns.iter().filter(taken) {
            if let Some((part, _)) = parts.iter().find(|(part, _)| *part == &*column.name) {
                return Err(OutboxError::Twice { table: name(), part });
            }
        }
        let columns = table.columns.iter().map(|column| {
            let part = part_of(&column.name);
            Column {
                name: part.map_or_else(|| column.name.clone(), Into::into),
                type_name: column.type_name.clone(),
                key: part == Some("subject"),
            }
        });
        Ok(Table {
            source: table.source.clone(),
            schema: table.schema.clone(),
            name: table.name.clone(),
            columns: columns.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str]) -> Table {
        let column =
            |name: &&str| Column { name: (*name).into(), type_name: "text".into(), key: *name == "id" };
        Table {
            source: "shop".into(),
            schema: "public".into(),
            name: "outbox".into(),
            columns: columns.iter().map(column).collect(),
        }
    }

    fn outbox(columns: OutboxColumns) -> Outbox {
        Outbox { table: TableName::parse("outbox").expect("the name is whole"), columns }
    }

    #[test]
    fn the_five_columns_get_the_names_of_messages_and_the_subject_is_the_key() {
        let theirs = table(&["id", "tenant", "aggregatetype", "aggregateid", "type", "payload"]);
        let ours = outbox(OutboxColumns::default()).messages(&theirs).expect("it is an outbox");
        let names: Vec<_> = ours.columns.iter().map(|column| (&*column.name, column.key)).collect();
        let expected = ["id", "tenant", "channel", "subject", "event", "body"];
        assert_eq!(names, expected.map(|name| (name, name == "subject")));
        assert_eq!(ours.full_name(), "public.outbox");
    }

    #[test]
    fn a_column_that_is_missing_or_has_a_name_twice_is_told_with_what_to_do() {
        let error = |columns: OutboxColumns, names: &[&str]| {
            outbox(columns).messages(&table(names)).expect_err("it is no outbox").to_string()
        };
        let missing = error(OutboxColumns::default(), &["id", "aggregatetype", "aggregateid", "payload"]);
        let said = "the outbox public.outbox has no column `type`: add it, or name another by `outbox.event`";
        assert_eq!(missing, said);
        let columns = OutboxColumns { body: "what".into(), ..OutboxColumns::default() };
        let twice = error(columns, &["id", "aggregatetype", "aggregateid", "type", "what", "body"]);
        assert!(twice.contains("`body` that is not its `outbox.body`"), "{twice}");
    }
}
