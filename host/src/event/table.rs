//! Tables as the source saw them when it decoded a change.

/// A table with its columns, at one moment: after a schema change there is another one.
///
/// Names that begin with `$` are virtual tables, which carry messages: `$client`, `$notify`, `$logical`, `$snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    /// The source's name in the configuration.
    pub source: Box<str>,
    /// The schema (PostgreSQL) or database (MySQL).
    pub schema: Box<str>,
    /// The bare name.
    pub name: Box<str>,
    /// In the table's order; a row has one cell for each.
    pub columns: Box<[Column]>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// Its name.
    pub name: Box<str>,
    /// The database's name of its type, such as `int8` or `jsonb`; with its schema, such as `public.mood`, where it is
    /// none of the database's own.
    pub type_name: Box<str>,
    /// Whether it belongs to the key by which the database identifies rows.
    pub key: bool,
}

impl Table {
    /// Its name for people, with its schema if it has one.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.schema.is_empty() { self.name.to_string() } else { format!("{}.{}", self.schema, self.name) }
    }

    /// The index of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}
