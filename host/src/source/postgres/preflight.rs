//! What must be so before a source can begin: all that is wrong is found at once, with the SQL that mends it.
//!
//! In: a control connection and the names of the tables. Out: the tables as the catalog knows them, or problems.
//!
//! Absent on purpose: what only the attempt can tell, such as a free slot (`slot.rs`) or the right to make a
//! publication (`publication.rs`).
//!
//! To add a check: a variant of [`Problem`], and a look in `server` or `table`.

use super::SnapshotMode;
use super::connect::Control;
use super::error::SourceError;
use super::table::{Captured, Kind, TableName};

/// The oldest version whose `pgoutput` sends logical messages, times 10,000.
const VERSION_MIN: i32 = 140_000;

/// Something that a person has to mend.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Problem {
    /// The server is too old.
    #[error("PostgreSQL {0} is too old: version 14 is the first that has what this program needs")]
    Version(String),
    /// The server follows another.
    #[error("this PostgreSQL is a standby: point the source's URL to the primary")]
    Standby,
    /// The server does not write enough.
    #[error(
        "wal_level is `{0}`, and must be `logical`: ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL"
    )]
    WalLevel(String),
    /// The role may not replicate.
    #[error("role `{0}` has no right to replicate: ALTER ROLE \"{0}\" REPLICATION (as a superuser)")]
    Replication(String),
    /// The database does not know what its bytes mean.
    #[error(
        "the database's encoding is SQL_ASCII, which says nothing about its text: move it to a database with \
         ENCODING 'UTF8'"
    )]
    Encoding,
    /// No such table.
    #[error("table `{0}` does not exist{1}: check the source's `tables` (names are case-sensitive)")]
    TableMissing(String, String),
    /// Not a table of its own.
    #[error("`{0}` is {1}, which has no changes of its own to read: name the tables behind it")]
    TableKind(String, &'static str),
    /// Nothing of the table is in the server's log.
    #[error("table `{0}` is unlogged, so its changes are nowhere to be read: ALTER TABLE {1} SET LOGGED")]
    TableUnlogged(String, String),
    /// Rows of the table cannot be told apart.
    #[error(
        "table `{0}` has no key by which its rows are known: ALTER TABLE {1} ADD PRIMARY KEY (...), or \
         ALTER TABLE {1} REPLICA IDENTITY FULL"
    )]
    TableKey(String, String),
    /// The server writes no keys of the table.
    #[error(
        "table `{0}` has REPLICA IDENTITY NOTHING, and PostgreSQL refuses to update or delete its rows once it is captured: \
         ALTER TABLE {1} REPLICA IDENTITY DEFAULT if it has a primary key, or FULL"
    )]
    TableIdentity(String, String),
    /// The snapshot cannot be read.
    #[error(
        "role `{user}` may not read table `{table}`: GRANT USAGE ON SCHEMA \"{schema}\" TO \"{user}\"; GRANT \
             SELECT ON {sql} TO \"{user}\""
    )]
    TableUnreadable {
        /// The role.
        user: String,
        /// The table.
        table: String,
        /// Its schema.
        schema: String,
        /// As SQL wants it.
        sql: String,
    },
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that can be captured.
    pub(super) tables: Vec<Captured>,
    /// All that stops a source.
    pub(super) problems: Vec<Problem>,
}

/// Sees that a source can begin.
///
/// # Errors
/// [`SourceError::NotReady`] with all that is wrong, or what went wrong on the way.
pub(super) async fn check(
    control: &Control,
    snapshot: SnapshotMode,
    user: &str,
    names: &[TableName],
) -> Result<Vec<Captured>, SourceError> {
    let Found { tables, problems } = find(control, snapshot, user, names).await?;
    if problems.is_empty() { Ok(tables) } else { Err(SourceError::NotReady(problems)) }
}

/// Looks at everything.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn find(
    control: &Control,
    snapshot: SnapshotMode,
    user: &str,
    names: &[TableName],
) -> Result<Found, SourceError> {
    let mut found = Found { tables: Vec::with_capacity(names.len()), problems: server(control, user).await? };
    for name in names {
        match table(control, snapshot, user, name).await? {
            Ok(captured) => found.tables.push(captured),
            Err(problem) => found.problems.push(problem),
        }
    }
    Ok(found)
}

async fn server(control: &Control, user: &str) -> Result<Vec<Problem>, SourceError> {
    // A hosted server may give the right through membership in a role of its own.
    const LOOK: &str = "SELECT current_setting('server_version'), current_setting('server_version_num')::int4, \
         pg_is_in_recovery(), current_setting('wal_level'), current_setting('server_encoding'), \
         EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolreplication)) \
           OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER'))";
    let rows = control.query("a look at the settings", LOOK, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let mut problems = Vec::new();
    if row.get::<_, i32>(1) < VERSION_MIN {
        problems.push(Problem::Version(row.get(0)));
    }
    if row.get(2) {
        problems.push(Problem::Standby);
    }
    let wal_level: &str = row.get(3);
    if wal_level != "logical" {
        problems.push(Problem::WalLevel(wal_level.to_owned()));
    }
    if row.get::<_, &str>(4) == "SQL_ASCII" {
        problems.push(Problem::Encoding);
    }
    if !row.get::<_, bool>(5) {
        problems.push(Problem::Replication(user.to_owned()));
    }
    Ok(problems)
}

/// Looks at one table.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn table(
    control: &Control,
    snapshot: SnapshotMode,
    user: &str,
    name: &TableName,
) -> Result<Result<Captured, Problem>, SourceError> {
    const LOOK: &str = "SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text, \
         EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary), \
         EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident), \
         coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let rows = control.query("a look at the tables", LOOK, &[&name.schema, &name.name]).await?;
    let (shown, sql) = (name.to_string(), name.sql());
    let Some(row) = rows.first() else {
        return Ok(Err(Problem::TableMissing(shown, elsewhere(control, name).await?)));
    };
    let kind = match row.get(1) {
        "r" => Kind::Ordinary,
        "p" => Kind::Partitioned,
        "v" => return Ok(Err(Problem::TableKind(shown, "a view"))),
        "m" => return Ok(Err(Problem::TableKind(shown, "a materialized view"))),
        "f" => return Ok(Err(Problem::TableKind(shown, "a foreign table"))),
        _ => return Ok(Err(Problem::TableKind(shown, "no table"))),
    };
    if row.get::<_, &str>(2) != "p" {
        return Ok(Err(Problem::TableUnlogged(shown, sql)));
    }
    let has_key = match row.get(3) {
        "d" => row.get(4),
        "i" => row.get(5),
        "n" => return Ok(Err(Problem::TableIdentity(shown, sql))),
        _ => true,
    };
    if !has_key {
        return Ok(Err(Problem::TableKey(shown, sql)));
    }
    if snapshot == SnapshotMode::Initial && !row.get::<_, bool>(6) {
        let (user, schema) = (user.to_owned(), name.schema.clone());
        return Ok(Err(Problem::TableUnreadable { user, table: shown, schema, sql }));
    }
    Ok(Ok(Captured { name: name.clone(), oid: row.get(0), kind }))
}

/// Where a table that is not there may be instead, for the message.
async fn elsewhere(control: &Control, name: &TableName) -> Result<String, SourceError> {
    const LOOK: &str = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE lower(c.relname) = lower($1) AND c.relkind IN ('r', 'p') ORDER BY 1, 2 LIMIT 1";
    let rows = control.query("a look at the tables", LOOK, &[&name.name]).await?;
    let found =
        rows.first().map(|row| format!(" (there is `{}.{}`)", row.get::<_, &str>(0), row.get::<_, &str>(1)));
    Ok(found.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_sql_that_mends_it() {
        let message = Problem::WalLevel("replica".to_owned()).to_string();
        assert!(message.contains("ALTER SYSTEM SET wal_level = logical"), "{message}");
        let message = Problem::Replication("ann".to_owned()).to_string();
        assert!(message.contains("ALTER ROLE \"ann\" REPLICATION"), "{message}");
        let message = Problem::TableKey("shop.a".to_owned(), "\"shop\".\"a\"".to_owned()).to_string();
        assert!(message.contains("ALTER TABLE \"shop\".\"a\" ADD PRIMARY KEY"), "{message}");
        assert!(message.contains("ALTER TABLE \"shop\".\"a\" REPLICA IDENTITY FULL"), "{message}");
    }

    #[test]
    fn several_problems_are_told_together() {
        let error = SourceError::NotReady(vec![Problem::Standby, Problem::Encoding]);
        assert_eq!(error.to_string().lines().count(), 3);
        let error = SourceError::NotReady(vec![Problem::Standby]);
        assert_eq!(error.to_string(), Problem::Standby.to_string());
    }
}
