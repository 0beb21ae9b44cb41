//! The publication: which tables the server sends.
//!
//! In: the captured tables. Out: a publication of exactly those, with all their rows, columns and operations, whoever
//! made it.
//!
//! Invariant: it is there, with its tables, before the slot: the server looks it up as it was at each change, and
//! fails for ever on a change that is older than it (PostgreSQL bug 18683).

use super::connect::{Control, quoted};
use super::error::SourceError;
use super::table::{Captured, TableName};

/// Those of the tables that the publication does not have, if it is there.
///
/// # Errors
/// If the server refuses, or the connection broke.
pub(super) async fn missing(
    control: &Control,
    publication: &str,
    tables: &[Captured],
) -> Result<Vec<TableName>, SourceError> {
    const LOOK: &str = "SELECT prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
         WHERE p.pubname = $1";
    let there = control.query("a look at the publication", LOOK, &[&publication]).await?;
    let is_there = |table: &&Captured| there.iter().any(|row| row.get::<_, u32>(0) == table.oid);
    Ok(tables.iter().filter(|table| !is_there(table)).map(|table| table.name.clone()).collect())
}

/// Makes the publication, or makes it fit.
///
/// # Errors
/// If the role may not, or the publication would leave changes out or send those of other tables: then with the SQL
/// that mends it. What somebody else set is not changed, but for the list of tables.
pub(super) async fn ensure(
    control: &Control,
    publication: &str,
    tables: &[Captured],
) -> Result<(), SourceError> {
    const LOOK: &str = "SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot \
         FROM pg_publication WHERE pubname = $1";
    let name = quoted(publication);
    let found = control.query("a look at the publications", LOOK, &[&publication]).await?;
    match found.first() {
        None => {
            // Tables that are named by the beginnings of their names may be yet to be made.
            let list =
                if tables.is_empty() { String::new() } else { format!("FOR TABLE {} ", sql_list(tables)) };
            let sql = format!("CREATE PUBLICATION {name} {list}WITH (publish_via_partition_root = true)");
            control.execute(&format!("`{sql}`"), &sql).await?;
        }
        Some(row) if row.get(0) => {
            return Err(SourceError::Config(format!(
                "publication `{publication}` publishes all tables, not those of the source: give the source \
                 another `publication`, or DROP PUBLICATION {name}"
            )));
        }
        Some(row) => {
            let operations = ["insert", "update", "delete", "truncate"];
            let silent: Vec<_> =
                operations.into_iter().zip(1_usize..).filter(|(_, at)| !row.get::<_, bool>(*at)).collect();
            if !silent.is_empty() || !row.get::<_, bool>(5) {
                return Err(unfit_options(publication, silent.into_iter().map(|(operation, _)| operation)));
            }
            fit(control, publication, tables).await?;
        }
    }
    check_tables(control, publication, tables).await
}

fn unfit_options(publication: &str, silent: impl Iterator<Item = &'static str>) -> SourceError {
    let silent: Vec<_> = silent.collect();
    let lacks = if silent.is_empty() {
        "publishes a partitioned table's changes under the names of its partitions".to_owned()
    } else {
        format!("does not publish {}", silent.join(", "))
    };
    SourceError::Config(format!(
        "publication `{publication}` {lacks}: ALTER PUBLICATION {} SET (publish = 'insert, update, delete, \
         truncate', publish_via_partition_root = true), or give the source another `publication`",
        quoted(publication)
    ))
}

/// A table that the publication names.
struct Published {
    oid: u32,
    name: TableName,
    is_filtered: bool,
}

async fn fit(control: &Control, publication: &str, tables: &[Captured]) -> Result<(), SourceError> {
    // Row filters and lists of columns came with PostgreSQL 15: before, there are no such columns to be named.
    const LOOK: &str = "SELECT c.oid, n.nspname, c.relname, \
         to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL FROM pg_publication_rel r \
         JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1";
    let there = control.query("a look at the publication", LOOK, &[&publication]).await?;
    let there: Vec<_> = there
        .iter()
        .map(|row| Published {
            oid: row.get(0),
            name: TableName { schema: row.get(1), name: row.get(2) },
            is_filtered: row.get(3),
        })
        .collect();
    let is_captured = |published: &&Published| tables.iter().any(|table| table.oid == published.oid);
    if let Some(Published { name, .. }) =
        there.iter().filter(is_captured).find(|published| published.is_filtered)
    {
        let what = format!("sends only some rows or columns of table `{name}`");
        return Err(unfit_tables(publication, &what, tables));
    }
    let is_there = |table: &&Captured| there.iter().any(|published| published.oid == table.oid);
    let added: Vec<_> =
        tables.iter().filter(|table| !is_there(table)).map(|table| table.name.clone()).collect();
    let removed: Vec<_> = there
        .iter()
        .filter(|published| !is_captured(published))
        .map(|published| published.name.clone())
        .collect();
    for (verb, names) in [("ADD", &added), ("DROP", &removed)] {
        if !names.is_empty() {
            let list = only(names.iter());
            let sql = format!("ALTER PUBLICATION {} {verb} TABLE {list}", quoted(publication));
            control.execute(&format!("`{sql}`"), &sql).await?;
        }
    }
    Ok(())
}

/// Sees that what the server will send is the captured tables and nothing else: whole schemas may be published, and a
/// partition beside its partitioned table is part of that.
async fn check_tables(control: &Control, publication: &str, tables: &[Captured]) -> Result<(), SourceError> {
    const LOOK: &str = "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1, 2";
    let sent = control.query("a look at the publication", LOOK, &[&publication]).await?;
    let sent: Vec<_> = sent.iter().map(|row| TableName { schema: row.get(0), name: row.get(1) }).collect();
    if let Some(other) = sent.iter().find(|name| !tables.iter().any(|table| table.name == **name)) {
        let what = format!("also sends table `{other}`, which the source's `tables` do not name");
        return Err(unfit_tables(publication, &what, tables));
    }
    let Some(Captured { name, oid, .. }) = tables.iter().find(|table| !sent.contains(&table.name)) else {
        return Ok(());
    };
    const THERE: &str = "SELECT FROM pg_class WHERE oid = $1";
    if control.query("a look at the tables", THERE, &[oid]).await?.is_empty() {
        return Err(SourceError::TableGone { table: name.to_string() });
    }
    Err(SourceError::Config(format!(
        "`{name}` is a partition of another table that the source's `tables` name, and its changes come with \
             that one: take it out of `tables`"
    )))
}

fn unfit_tables(publication: &str, what: &str, tables: &[Captured]) -> SourceError {
    let mend = match tables {
        [] => format!("DROP PUBLICATION {}", quoted(publication)),
        _ => format!("ALTER PUBLICATION {} SET TABLE {}", quoted(publication), sql_list(tables)),
    };
    SourceError::Config(format!(
        "publication `{publication}` {what}: {mend}, or give the source another `publication`"
    ))
}

fn sql_list(tables: &[Captured]) -> String {
    only(tables.iter().map(|table| &table.name))
}

/// `ONLY` keeps children of an inheritance out; a partitioned table comes whole.
fn only<'a>(names: impl Iterator<Item = &'a TableName>) -> String {
    let names: Vec<_> = names.map(|name| format!("ONLY {}", name.sql())).collect();
    names.join(", ")
}
