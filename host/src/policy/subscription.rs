//! What a plugin wants to see, and which of it a table has.
//!
//! In: the answer of `configure`, checked here. Out: for each table the subscriptions that match it, with each of
//! their columns found once.
//!
//! A change goes to a plugin once: for the first subscription that matches its table and operation. A column that
//! the table lacks is `unchanged` in each row, as the interface says; the log says it once for each version of a
//! table, since nobody knows at configuration which tables there will be.
//!
//! Invariant: a table is known by the identity of its `Arc`, which is kept, so that an address is never met again
//! with another table behind it.

use std::collections::HashMap;
use std::sync::Arc;

use super::bindings::twohop::policy::types;
use crate::event::{Change, Operation, Table};
use crate::limits::{MATCHED_TABLES_MAX, SUBSCRIPTION_COLUMNS_MAX};

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
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "$source" => Self::Source,
            "$schema" => Self::Schema,
            "$table" => Self::Table,
            "$key" => Self::Key,
            "$row" => Self::Row,
            "$old" => Self::Old,
            "$transaction" => Self::Transaction,
            "$position" => Self::Position,
            "$index" => Self::Index,
            "$last" => Self::Last,
            "$replay" => Self::Replay,
            _ => return None,
        })
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

#[derive(Debug, Clone, PartialEq, Eq)]
enum ColumnName {
    Real(Box<str>),
    Virtual(Virtual),
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

    fn matches(&self, table: &Table) -> bool {
        (self.source.is_empty() || self.source == table.source)
            && match &self.tables {
                Tables::Every => !table.name.starts_with('$'),
                Tables::Named(name) => *name == table.name,
                Tables::Qualified { schema, name } => *schema == table.schema && *name == table.name,
            }
    }

    fn resolve(&self, subscription: usize, table: &Table, plugin: &str) -> Match {
        let cells = self.columns.iter().map(|column| match column {
            ColumnName::Virtual(column) => Cell::Virtual(*column),
            ColumnName::Real(name) => match table.column(name) {
                Some(index) => Cell::Column(index),
                None => {
                    tracing::warn!(
                        plugin,
                        table = &*table.name,
                        schema = &*table.schema,
                        column = &**name,
                        "the plugin asked for a column that the table does not have; it gets it as unchanged"
                    );
                    Cell::Missing
                }
            },
        });
        Match {
            subscription: u32::try_from(subscription).expect("a few hundred at most"),
            operations: self.operations,
            cells: cells.collect(),
            key: Key::of(table),
        }
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

fn bit(operation: Operation) -> u8 {
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

/// Where a cell of a plugin's row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// The table's column of that index.
    Column(usize),
    /// The table has no such column.
    Missing,
    /// The host.
    Virtual(Virtual),
}

/// The key columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    None,
    /// The index of the only one.
    One(usize),
    Several,
}

impl Key {
    fn of(table: &Table) -> Self {
        let mut columns = (0..table.columns.len()).filter(|index| table.columns[*index].key);
        match (columns.next(), columns.next()) {
            (None, _) => Self::None,
            (Some(only), None) => Self::One(only),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// A subscription that matches a table.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) subscription: u32,
    operations: u8,
    pub(super) cells: Box<[Cell]>,
    pub(super) key: Key,
}

/// Where [`Matches`] keeps a match.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MatchId {
    table: u32,
    nth: u32,
}

/// One plugin's subscriptions, and the tables that were met.
#[derive(Debug)]
pub(super) struct Matches {
    subscriptions: Box<[Subscription]>,
    /// By the address of the table, which `tables` keeps alive.
    by_address: HashMap<usize, u32>,
    tables: Vec<(Arc<Table>, Box<[Match]>)>,
    /// The table of the change before: nearly always that of the next one too.
    last: Option<(usize, u32)>,
}

impl Matches {
    pub(super) fn new(subscriptions: Box<[Subscription]>) -> Self {
        Self { subscriptions, by_address: HashMap::new(), tables: Vec::new(), last: None }
    }

    pub(super) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// Forgets the tables if they are many. Ids given before are then of no use: call it between evaluations.
    pub(super) fn bound(&mut self) {
        if self.tables.len() >= MATCHED_TABLES_MAX {
            self.by_address.clear();
            self.tables.clear();
            self.last = None;
        }
    }

    /// The first subscription that matches the change.
    pub(super) fn find(&mut self, change: &Change, plugin: &str) -> Option<MatchId> {
        let address = Arc::as_ptr(&change.table).addr();
        let table = match self.last {
            Some((last, table)) if last == address => table,
            _ => {
                let table = match self.by_address.get(&address) {
                    Some(table) => *table,
                    None => self.meet(address, &change.table, plugin),
                };
                self.last = Some((address, table));
                table
            }
        };
        let bit = bit(change.operation);
        let nth = self.tables[table as usize].1.iter().position(|found| found.operations & bit != 0)?;
        Some(MatchId { table, nth: u32::try_from(nth).expect("a few hundred at most") })
    }

    pub(super) fn get(&self, id: MatchId) -> &Match {
        &self.tables[id.table as usize].1[id.nth as usize]
    }

    fn meet(&mut self, address: usize, table: &Arc<Table>, plugin: &str) -> u32 {
        let matching = self.subscriptions.iter().enumerate().filter(|(_, asked)| asked.matches(table));
        let matches = matching.map(|(index, asked)| asked.resolve(index, table, plugin)).collect();
        let id = u32::try_from(self.tables.len()).expect("bounded between evaluations");
        self.tables.push((table.clone(), matches));
        self.by_address.insert(address, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::{insert, table};

    fn asked(table: &str, operations: &[u8], columns: &[&str]) -> types::Subscription {
        types::Subscription {
            source: String::new(),
            table: table.into(),
            operations: operations.into(),
            columns: columns.iter().map(|column| (*column).into()).collect(),
        }
    }

    fn matches(subscriptions: &[types::Subscription]) -> Matches {
        let checked =
            subscriptions.iter().map(|asked| Subscription::new(asked.clone()).expect("it is valid"));
        Matches::new(checked.collect())
    }

    fn found(matches: &mut Matches, change: &Change) -> Option<u32> {
        matches.find(change, "p").map(|id| matches.get(id).subscription)
    }

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
    fn a_change_goes_to_the_first_subscription_that_matches_table_and_operation() {
        let mut matches = matches(&[
            asked("shop.orders", &[3], &[]),
            asked("orders", &[1], &[]),
            asked("*", &[], &[]),
            asked("$client", &[], &[]),
        ]);
        let insert_into = |schema: &str, name: &str| insert(&table(schema, name, &[("id", true)]), 1);
        assert_eq!(found(&mut matches, &insert_into("shop", "orders")), Some(1));
        assert_eq!(found(&mut matches, &insert_into("other", "orders")), Some(1));
        assert_eq!(found(&mut matches, &insert_into("shop", "customers")), Some(2));
        assert_eq!(found(&mut matches, &insert_into("", "$client")), Some(3));
        assert_eq!(found(&mut matches, &insert_into("", "$notify")), None);
        let mut delete = insert_into("shop", "orders");
        delete.operation = Operation::Delete;
        assert_eq!(found(&mut matches, &delete), Some(0));
    }

    #[test]
    fn a_table_that_goes_away_is_not_confused_with_one_at_its_address() {
        let mut matches = matches(&[asked("a", &[], &[])]);
        for _ in 0..1_000 {
            assert_eq!(found(&mut matches, &insert(&table("s", "a", &[("id", true)]), 1)), Some(0));
            assert_eq!(found(&mut matches, &insert(&table("s", "b", &[("id", true)]), 1)), None);
        }
    }

    #[test]
    fn the_tables_remembered_are_bounded() {
        let mut matches = matches(&[asked("*", &[], &[])]);
        for _ in 0..MATCHED_TABLES_MAX + 10 {
            matches.bound();
            found(&mut matches, &insert(&table("s", "a", &[("id", true)]), 1));
        }
        assert_eq!(matches.tables.len(), 10);
        assert_eq!(matches.by_address.len(), 10);
    }

    #[test]
    fn a_source_that_is_named_must_be_the_changes() {
        let mut matches = matches(&[types::Subscription { source: "else".into(), ..asked("*", &[], &[]) }]);
        assert_eq!(found(&mut matches, &insert(&table("s", "a", &[("id", true)]), 1)), None);
    }
}
