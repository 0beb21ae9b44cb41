//! The captured tables, as the configuration names them and as the catalog knows them.
//!
//! In: names, a control connection. Out: what the catalog says.
//!
//! Invariant: the columns of a table are those that the replication stream announces, in the same order: neither
//! dropped nor generated ones.

use std::fmt;

use super::connect::{Control, quoted};
use super::error::SourceError;
use super::values::{Class, type_name};
use crate::event::{Column, Table};

/// A table's name, exactly as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) name: String,
}

impl TableName {
    /// Reads `schema.table`, or `table` for a table of the schema `public`.
    ///
    /// # Errors
    /// If a part is empty.
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let (schema, name) = text.split_once('.').unwrap_or(("public", text));
        if schema.is_empty() || name.is_empty() {
            let what = format!("`{text}` in the source's `tables` is not `table` or `schema.table`");
            return Err(SourceError::Config(what));
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }

    /// As SQL wants it.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A table that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) name: TableName,
    pub(super) oid: u32,
    pub(super) kind: Kind,
}

/// Whether a table has rows of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    Partitioned,
}

/// A domain is as its base type, which may be a domain again. The key is that of the replica identity; where that is
/// the whole row, the primary key; where there is none, all columns.
const COLUMNS: &str = "SELECT a.attname, base.oid, n.nspname, base.typname, \
       COALESCE(a.attnum = ANY ((k.indkey::int2[])[0:k.indnkeyatts - 1]), c.relreplident = 'f') \
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
     CROSS JOIN LATERAL ( \
       WITH RECURSIVE step AS ( \
         SELECT t.* FROM pg_type t WHERE t.oid = a.atttypid \
         UNION ALL \
         SELECT t.* FROM step s JOIN pg_type t ON t.oid = s.typbasetype WHERE s.typtype = 'd') \
       SELECT oid, typnamespace, typname FROM step WHERE typtype <> 'd') base \
     JOIN pg_namespace n ON n.oid = base.typnamespace \
     LEFT JOIN pg_index k ON k.indrelid = c.oid \
       AND CASE c.relreplident WHEN 'i' THEN k.indisreplident ELSE k.indisprimary END \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum";

/// Reads a table's columns.
pub(super) async fn describe(
    control: &Control,
    source: &str,
    captured: &Captured,
) -> Result<(Table, Box<[Class]>), SourceError> {
    let rows = control.query("a look at the columns", COLUMNS, &[&captured.oid]).await?;
    let classes = rows.iter().map(|row| Class::of(row.get(1))).collect();
    let columns = rows
        .iter()
        .map(|row| Column {
            name: row.get::<_, &str>(0).into(),
            type_name: type_name(row.get(2), row.get(3)),
            key: row.get(4),
        })
        .collect();
    let table = Table {
        source: source.into(),
        schema: captured.name.schema.as_str().into(),
        name: captured.name.name.as_str().into(),
        columns,
    };
    Ok((table, classes))
}

/// The names of the columns of a primary key; none if there is no such table any more.
///
/// The catalog says how the table is now, which may be later than the change that is being decoded: a key that was
/// altered in between is seen too early.
pub(super) async fn primary_key(control: &Control, relation: u32) -> Result<Vec<String>, SourceError> {
    const KEY: &str = "SELECT a.attname FROM pg_index k \
         JOIN pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = ANY ((k.indkey::int2[])[0:k.indnkeyatts - 1]) \
         WHERE k.indrelid = $1 AND k.indisprimary ORDER BY a.attnum";
    let rows = control.query("a look at the primary key", KEY, &[&relation]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_schema_is_in_public() {
        let name = TableName::parse("orders").expect("the name is whole");
        assert_eq!(name.to_string(), "public.orders");
        let name = TableName::parse("Shop.Or\"ders").expect("the name is whole");
        assert_eq!(name.sql(), "\"Shop\".\"Or\"\"ders\"");
    }

    #[test]
    fn a_name_with_an_empty_part_is_an_error() {
        for text in ["", ".", "shop.", ".orders"] {
            assert!(matches!(TableName::parse(text), Err(SourceError::Config(_))), "{text}");
        }
    }
}
