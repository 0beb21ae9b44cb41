//! The publication: which tables the server sends.
//!
//! In: the captured tables. Out: a publication of exactly those.
//!
//! Invariant: it is there, with its tables, before the slot: the server looks it up as it was at each change, and
//! fails for ever on a change that is older than it (PostgreSQL bug 18683).

use super::connect::{Control, quoted};
use super::error::SourceError;
use super::table::{Captured, TableName};

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was not there.
    Created,
    /// It was there.
    Kept {
        /// Tables that it did not have.
        added: Vec<TableName>,
    },
}

/// Makes the publication, or makes it fit.
///
/// # Errors
/// If the role may not, or the publication is of a kind that cannot be made to fit.
pub(super) async fn ensure(
    control: &Control,
    publication: &str,
    tables: &[Captured],
) -> Result<Outcome, SourceError> {
    const LOOK: &str = "SELECT puballtables FROM pg_publication WHERE pubname = $1";
    let name = quoted(publication);
    let found = control.query("a look at the publications", LOOK, &[&publication]).await?;
    let Some(row) = found.first() else {
        let list = sql_list(tables.iter().map(|table| &table.name));
        let sql =
            format!("CREATE PUBLICATION {name} FOR TABLE {list} WITH (publish_via_partition_root = true)");
        control.execute(&format!("`{sql}`"), &sql).await?;
        return Ok(Outcome::Created);
    };
    if row.get(0) {
        return Err(SourceError::Config(format!(
            "publication `{publication}` publishes all tables, not those of the source: give the source another \
             `publication`, or DROP PUBLICATION {name}"
        )));
    }
    fit(control, publication, tables).await
}

async fn fit(control: &Control, publication: &str, tables: &[Captured]) -> Result<Outcome, SourceError> {
    const LOOK: &str = "SELECT c.oid, n.nspname, c.relname FROM pg_publication_rel r \
         JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1";
    let there = control.query("a look at the publication", LOOK, &[&publication]).await?;
    let there: Vec<(u32, TableName)> =
        there.iter().map(|row| (row.get(0), TableName { schema: row.get(1), name: row.get(2) })).collect();
    let is_there = |oid: u32| there.iter().any(|(known, _)| *known == oid);
    let added: Vec<_> =
        tables.iter().filter(|table| !is_there(table.oid)).map(|table| table.name.clone()).collect();
    let removed: Vec<_> = there
        .iter()
        .filter(|(oid, _)| !tables.iter().any(|table| table.oid == *oid))
        .map(|(_, name)| name.clone())
        .collect();
    for (verb, names) in [("ADD", &added), ("DROP", &removed)] {
        if !names.is_empty() {
            let sql = format!("ALTER PUBLICATION {} {verb} TABLE {}", quoted(publication), sql_list(names));
            control.execute(&format!("`{sql}`"), &sql).await?;
        }
    }
    Ok(Outcome::Kept { added })
}

/// `ONLY` keeps children of an inheritance out; a partitioned table comes whole.
fn sql_list<'a>(names: impl IntoIterator<Item = &'a TableName>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("ONLY {}", name.sql())).collect();
    names.join(", ")
}
