//! What a plugin wants to see.
//!
//! In: the answer of `configure`. Out: subscriptions, checked, or why one makes no sense.

use std::fmt;

use super::bindings::twohop::policy::types;
use crate::event::{Operation, Table};
use crate::limits::SUBSCRIPTION_COLUMNS_MAX;

/// The virtual tables that carry messages.
const VIRTUAL_TABLES: [&str; 3] = ["$client", "$notify", "$logical"];

/// Why a subscription makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The table has no name.
    #[error("name a table as `name`, `schema.name`, or `*` for every table")]
    Table,
    /// No such virtual table.
    #[error("there is no such virtual table: there are $client, $notify and $logical")]
    VirtualTable,
    /// No such operation.
    #[error("{0} is not the number of an operation: those are 0 to 6")]
    Operation(u8),
    /// An operation comes twice.
    #[error("operation {0} comes twice")]
    OperationTwice(u8),
    /// There are too many columns.
    #[error("{0} columns, at most {SUBSCRIPTION_COLUMNS_MAX} are allowed")]
    Columns(usize),
    /// A column without a name.
    #[error("column {0} has no name")]
    ColumnName(usize),
    /// A column comes twice.
    #[error("column `{0}` comes twice")]
    ColumnTwice(String),
    /// No such virtual column.
    #[error(
        "there is no virtual column `{0}`: there are \
         $source $schema $table $key $row $old $transaction $position $index $last $replay"
    )]
    VirtualColumn(String),
}

/// What the host itself puts into a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Virtual {
    Source,
    Schema,
    Table,
    Key,
    Row,
    Old,
    Transaction,
    Position,
    Index,
    Last,
    Replay,
}

impl Virtual {
    const ALL: [(&str, Self); 11] = [
        ("$source", Self::Source),
        ("$schema", Self::Schema),
        ("$table", Self::Table),
        ("$key", Self::Key),
        ("$row", Self::Row),
        ("$old", Self::Old),
        ("$transaction", Self::Transaction),
        ("$position", Self::Position),
        ("$index", Self::Index),
        ("$last", Self::Last),
        ("$replay", Self::Replay),
    ];

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, column)| *column)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("", |(name, _)| name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tables {
    Every,
    /// Of any schema; also the virtual ones.
    Named(Box<str>),
    Qualified {
        schema: Box<str>,
        name: Box<str>,
    },
}

/// A column that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ColumnName {
    Real(Box<str>),
    Virtual(Virtual),
}

impl ColumnName {
    fn as_str(&self) -> &str {
        match self {
            Self::Real(name) => name,
            Self::Virtual(column) => column.name(),
        }
    }
}

/// One subscription, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Any, if empty.
    source: Box<str>,
    tables: Tables,
    /// A bit for each operation's number.
    operations: u8,
    columns: Box<[ColumnName]>,
}

impl Subscription {
    pub(super) fn new(asked: types::Subscription) -> Result<Self, SubscriptionError> {
        let types::Subscription { source, table, operations, columns } = asked;
        Ok(Self {
            source: source.into(),
            tables: tables(&table)?,
            operations: operations_mask(&operations)?,
            columns: column_names(columns)?,
        })
    }

    pub(super) fn matches(&self, table: &Table) -> bool {
        (self.source.is_empty() || self.source == table.source)
            && match &self.tables {
                Tables::Every => !table.name.starts_with('$'),
                Tables::Named(name) => *name == table.name,
                Tables::Qualified { schema, name } => *schema == table.schema && *name == table.name,
            }
    }

    /// A bit for each operation, as [`bit`] gives it.
    pub(super) fn operations(&self) -> u8 {
        self.operations
    }

    pub(super) fn columns(&self) -> &[ColumnName] {
        &self.columns
    }
}

fn tables(table: &str) -> Result<Tables, SubscriptionError> {
    if table.starts_with('$') {
        let known = VIRTUAL_TABLES.contains(&table);
        return if known { Ok(Tables::Named(table.into())) } else { Err(SubscriptionError::VirtualTable) };
    }
    match table.split_once('.') {
        _ if table == "*" => Ok(Tables::Every),
        _ if table.is_empty() => Err(SubscriptionError::Table),
        Some(("", _) | (_, "")) => Err(SubscriptionError::Table),
        Some((schema, name)) => Ok(Tables::Qualified { schema: schema.into(), name: name.into() }),
        None => Ok(Tables::Named(table.into())),
    }
}

fn operations_mask(operations: &[u8]) -> Result<u8, SubscriptionError> {
    let mut mask = 0;
    for number in operations {
        let operation = Operation::from_number(*number).ok_or(SubscriptionError::Operation(*number))?;
        let bit = bit(operation);
        if mask & bit != 0 {
            return Err(SubscriptionError::OperationTwice(*number));
        }
        mask |= bit;
    }
    Ok(if mask == 0 { u8::MAX } else { mask })
}

/// The bit of an operation in a subscription's mask.
pub(super) fn bit(operation: Operation) -> u8 {
    1 << operation as u8
}

fn column_names(columns: Vec<String>) -> Result<Box<[ColumnName]>, SubscriptionError> {
    if columns.len() > SUBSCRIPTION_COLUMNS_MAX {
        return Err(SubscriptionError::Columns(columns.len()));
    }
    let mut names = Vec::with_capacity(columns.len());
    for (index, column) in columns.into_iter().enumerate() {
        if column.is_empty() {
            return Err(SubscriptionError::ColumnName(index));
        }
        let name = match Virtual::of_name(&column) {
            Some(column) => ColumnName::Virtual(column),
            None if column.starts_with('$') => return Err(SubscriptionError::VirtualColumn(column)),
            None => ColumnName::Real(column.as_str().into()),
        };
        if names.contains(&name) {
            return Err(SubscriptionError::ColumnTwice(column));
        }
        names.push(name);
    }
    Ok(names.into())
}

/// As people read it: `orders: insert and delete; columns id, status`.
impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tables {
            Tables::Every => f.write_str("every table")?,
            Tables::Named(name) => f.write_str(name)?,
            Tables::Qualified { schema, name } => write!(f, "{schema}.{name}")?,
        }
        if !self.source.is_empty() {
            write!(f, " of the source {}", self.source)?;
        }
        let known = || (0..).map_while(Operation::from_number);
        let asked = known().filter(|operation| self.operations & bit(*operation) != 0);
        let asked: Vec<_> = asked.map(Operation::name).collect();
        let every = asked.len() == known().count();
        write!(f, ": {}", if every { "every operation".to_owned() } else { asked.join(", ") })?;
        let columns: Vec<_> = self.columns.iter().map(ColumnName::as_str).collect();
        match columns.as_slice() {
            [] => f.write_str("; no columns"),
            columns => write!(f, "; columns {}", columns.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::asked;

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = |table, operations: &[u8], columns: &[&str]| {
            Subscription::new(asked(table, operations, columns)).expect_err("it makes no sense")
        };
        assert_eq!(error("", &[], &[]), SubscriptionError::Table);
        assert_eq!(error(".orders", &[], &[]), SubscriptionError::Table);
        assert_eq!(error("shop.", &[], &[]), SubscriptionError::Table);
        assert_eq!(error("$clients", &[], &[]), SubscriptionError::VirtualTable);
        assert_eq!(error("t", &[7], &[]), SubscriptionError::Operation(7));
        assert_eq!(error("t", &[1, 2, 1], &[]), SubscriptionError::OperationTwice(1));
        assert_eq!(error("t", &[], &["a", ""]), SubscriptionError::ColumnName(1));
        assert_eq!(error("t", &[], &["a", "a"]), SubscriptionError::ColumnTwice("a".into()));
        assert_eq!(error("t", &[], &["$keys"]), SubscriptionError::VirtualColumn("$keys".into()));
        let many = vec!["a"; SUBSCRIPTION_COLUMNS_MAX + 1];
        assert_eq!(error("t", &[], &many), SubscriptionError::Columns(many.len()));
    }

    #[test]
    fn a_subscription_is_read_as_it_was_asked_for() {
        let text = |asked| Subscription::new(asked).expect("it makes sense").to_string();
        assert_eq!(text(asked("*", &[], &[])), "every table: every operation; no columns");
        let some = asked("shop.orders", &[1, 3], &["$key", "status"]);
        assert_eq!(text(some), "shop.orders: insert, delete; columns $key, status");
        let of = types::Subscription { source: "main".into(), ..asked("orders", &[0], &["id"]) };
        assert_eq!(text(of), "orders of the source main: snapshot; columns id");
        for (name, column) in Virtual::ALL {
            assert_eq!((Virtual::of_name(name), column.name()), (Some(column), name));
        }
    }
}
