//! What is wrong with a database, before a source is pointed to it.
//!
//! In: a URL, and the tables if they are known. Out: what stops a source and what should be mended, the same as a start
//! finds. Nothing is changed on the server.
//!
//! Without tables, every ordinary and partitioned table is looked at that the role may read.

use super::choice::Choice;
use super::connect::{Control, Target};
use super::error::SourceError;
use super::health::{self, Warning};
use super::preflight::{self, Problem};
use super::table::TableName;
use super::{Config, slot_and_publication};

/// What was found.
#[derive(Debug)]
pub struct Examination {
    /// The database, without the password.
    pub target: String,
    /// The server's version, in its own words.
    pub version: String,
    /// The tables that can be captured.
    pub tables: Vec<String>,
    /// What stops a source.
    pub problems: Vec<Problem>,
    /// What should be mended.
    pub warnings: Vec<Warning>,
}

/// Looks at everything.
///
/// # Errors
/// If the server cannot be reached, does not let us in, or the configuration is wrong.
pub async fn examine(config: &Config) -> Result<Examination, SourceError> {
    let target = Target::parse(&config.url)?;
    let (slot, publication) = slot_and_publication(config)?;
    let mut choice = Choice::parse(&config.tables)?;
    let control = target.connect("twohop doctor").await?;
    if choice.is_empty() {
        every_table(&control).await?.into_iter().for_each(|name| choice.add(name));
    }
    let rows = control.query("a look at the version", "SHOW server_version", &[]).await?;
    let version = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let mut found = preflight::find(&control, config.snapshot, &target.user, &choice.names).await?;
    let mut warnings = Vec::new();
    for candidate in choice.by_pattern(&control, &publication, config.snapshot).await? {
        match candidate.why(&control, &publication, config.snapshot, &target.user).await? {
            Some(warning) => warnings.push(warning),
            None => found.tables.push(candidate.captured),
        }
    }
    warnings.extend(health::look(&control, &target.user, &slot, &publication).await?);
    Ok(Examination {
        target: target.to_string(),
        version,
        tables: found.tables.iter().map(|table| table.name.to_string()).collect(),
        problems: found.problems,
        warnings,
    })
}

/// Partitions come with their tables, and the server's own tables are not for us.
async fn every_table(control: &Control) -> Result<Vec<TableName>, SourceError> {
    const LOOK: &str = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
         AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2";
    let rows = control.query("a look at the tables", LOOK, &[]).await?;
    Ok(rows.iter().map(|row| TableName { schema: row.get(0), name: row.get(1) }).collect())
}
