//! What a plugin wants to see: which changes, and which cells of them.
//!
//! Names are resolved here once: a virtual column is found by its place in [`Virtual`], any other by comparing with
//! the few that were asked for.

use crate::Operation;

/// The virtual columns, which say something about the change. Their names begin with `$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Virtual {
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
    pub(crate) const NAMES: [&'static str; 11] = [
        "$source",
        "$schema",
        "$table",
        "$key",
        "$row",
        "$old",
        "$transaction",
        "$position",
        "$index",
        "$last",
        "$replay",
    ];

    pub(crate) const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Changes that a plugin wants to see. A change comes once, for the first subscription that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    source: String,
    table: String,
    operations: Vec<u8>,
    columns: Vec<String>,
    virtuals: [Option<u16>; Virtual::NAMES.len()],
}

impl Subscription {
    /// Changes of a table: `name` in whichever schema, `schema.name`, `*` for every table, or one of the virtual
    /// tables `$client`, `$notify`, `$logical`, which hold messages.
    #[must_use]
    pub fn table(table: impl Into<String>) -> Self {
        Self {
            source: String::new(),
            table: table.into(),
            operations: Vec::new(),
            columns: Vec::new(),
            virtuals: [None; Virtual::NAMES.len()],
        }
    }

    /// Of this source only, where a deployment has several.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// These operations only.
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.operations = operations.into_iter().map(|operation| operation as u8).collect();
        self
    }

    /// The columns that the plugin reads: those of the table, and virtual ones, `$source $schema $table $key $row $old
    /// $transaction $position $index $last $replay`. Replaces the columns that were given before.
    ///
    /// The fewer, the cheaper. A payload of `row` needs none: the host has the whole row.
    #[must_use]
    pub fn columns<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.columns = columns.into_iter().map(str::to_owned).collect();
        self.virtuals =
            Virtual::NAMES.map(|name| self.place(name).and_then(|place| u16::try_from(place).ok()));
        self
    }

    /// The place of a column in a row.
    pub(crate) fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known == column)
    }

    /// The place of a virtual column in a row.
    pub(crate) fn place_of(&self, column: Virtual) -> Option<usize> {
        self.virtuals[column as usize].map(usize::from)
    }

    pub(crate) fn column_names(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn table_pattern(&self) -> &str {
        &self.table
    }

    /// Source, table, operations and columns, as the interface has them.
    #[cfg(target_family = "wasm")]
    pub(crate) fn into_parts(self) -> (String, String, Vec<u8>, Vec<String>) {
        (self.source, self.table, self.operations, self.columns)
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn matches(&self, source: &str, schema: &str, table: &str, operation: Operation) -> bool {
        let table_matches = match self.table.split_once('.') {
            _ if self.table == "*" => !table.starts_with('$'),
            Some((wanted_schema, wanted)) => wanted_schema == schema && wanted == table,
            None => self.table == table,
        };
        table_matches
            && (self.source.is_empty() || self.source == source)
            && (self.operations.is_empty() || self.operations.contains(&(operation as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_columns_are_found_by_name_and_by_kind() {
        let subscription = Subscription::table("orders").columns(["id", "$key"]);
        assert_eq!(subscription.place("$key"), Some(1));
        assert_eq!(subscription.place_of(Virtual::Key), Some(1));
        assert_eq!(subscription.place_of(Virtual::Table), None);
    }

    #[test]
    fn names_of_virtual_columns_are_in_the_order_of_their_kinds() {
        assert_eq!(Virtual::Source.name(), "$source");
        assert_eq!(Virtual::Key.name(), "$key");
        assert_eq!(Virtual::Last.name(), "$last");
        assert_eq!(Virtual::Replay.name(), "$replay");
    }

    #[test]
    fn a_table_without_schema_matches_in_every_schema() {
        let any = Subscription::table("orders");
        assert!(any.matches("main", "public", "orders", Operation::Insert));
        assert!(any.matches("main", "audit", "orders", Operation::Insert));
        assert!(!Subscription::table("audit.orders").matches("main", "public", "orders", Operation::Insert));
    }

    #[test]
    fn a_star_matches_every_table_but_the_virtual_ones() {
        let all = Subscription::table("*");
        assert!(all.matches("main", "public", "orders", Operation::Insert));
        assert!(!all.matches("main", "", "$client", Operation::Message));
    }
}
