//! Which tables a source captures, where some are named by the beginnings of their names, and new ones among them.
//!
//! In: `schema.table` and `schema.begin*`. Out: the tables that there are now; later, that there is a further one.
//!
//! A table of a pattern that cannot be captured is left out, and named: nobody who makes a table should stop a source.
//! Once it can be, it is a new one. What is named in full has to be there (`preflight.rs`).
//!
//! Invariant: a table that is dropped is no news. One that is made again under its name is, since it is another one.

use std::collections::HashSet;
use std::sync::Arc;

use super::connect::{Control, quoted};
use super::error::SourceError;
use super::health::Warning;
use super::table::{Captured, Kind, TableName};
use super::{SnapshotMode, preflight};
use crate::limits::SOURCE_TABLES_INTERVAL;

/// The tables that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// In full; in order and each once.
    pub(super) names: Vec<TableName>,
    /// With the beginning of the name of all that are meant.
    patterns: Vec<TableName>,
}

/// A table that one of the names or patterns means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) captured: Captured,
    pub(super) fitness: Fitness,
}

/// Whether a table can be captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fitness {
    Fit,
    /// It has no key, is not logged, or may not be read.
    Unfit,
    /// It is not in the publication, and the role may not add it.
    NotOurs,
}

impl Choice {
    /// Reads names and patterns.
    ///
    /// # Errors
    /// If one is neither.
    pub(super) fn parse(texts: &[String]) -> Result<Self, SourceError> {
        let mut choice = Self { names: Vec::new(), patterns: Vec::new() };
        for text in texts {
            let TableName { schema, name } = TableName::parse(text)?;
            match name.strip_suffix('*') {
                Some(begin) => choice.patterns.push(TableName { schema, name: begin.to_owned() }),
                None => choice.add(TableName { schema, name }),
            }
        }
        Ok(choice)
    }

    /// Names a further table.
    pub(super) fn add(&mut self, name: TableName) {
        if let Err(place) = self.names.binary_search(&name) {
            self.names.insert(place, name);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty()
    }

    fn means(&self, table: &TableName) -> bool {
        let begins = |its: &TableName| its.schema == table.schema && table.name.starts_with(&its.name);
        self.names.binary_search(table).is_ok() || self.patterns.iter().any(begins)
    }

    /// The tables that there are and that it means.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    async fn look(
        &self,
        control: &Control,
        publication: &str,
        snapshot: SnapshotMode,
    ) -> Result<Vec<Candidate>, SourceError> {
        // Partitions come with their tables. Rights to a table that was dropped since the look began are null.
        const LOOK: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
             c.relpersistence = 'p' AND CASE c.relreplident \
               WHEN 'd' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary) \
               WHEN 'i' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident) \
               ELSE c.relreplident = 'f' END \
               AND (NOT $3 OR coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false)), \
             EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
               WHERE p.pubname = $2 AND r.prrelid = c.oid) \
               OR pg_has_role(c.relowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_publication p \
                 WHERE p.pubname = $2 AND NOT pg_has_role(p.pubowner, 'USAGE')) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
             AND n.nspname::text = ANY ($1) ORDER BY 2, 3";
        let mut schemas: Vec<_> = self.names.iter().chain(&self.patterns).map(|its| &*its.schema).collect();
        schemas.sort_unstable();
        schemas.dedup();
        let reads_rows = snapshot == SnapshotMode::Initial;
        let rows =
            control.query("a look at the tables", LOOK, &[&schemas, &publication, &reads_rows]).await?;
        let candidates = rows.iter().map(|row| Candidate {
            captured: Captured {
                name: TableName { schema: row.get(1), name: row.get(2) },
                oid: row.get(0),
                kind: if row.get::<_, &str>(3) == "p" { Kind::Partitioned } else { Kind::Ordinary },
            },
            fitness: match (row.get(4), row.get(5)) {
                (true, true) => Fitness::Fit,
                (true, false) => Fitness::NotOurs,
                (false, _) => Fitness::Unfit,
            },
        });
        Ok(candidates.filter(|candidate| self.means(&candidate.captured.name)).collect())
    }

    /// The tables that the patterns mean, but for those that are named in full.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn by_pattern(
        &self,
        control: &Control,
        publication: &str,
        snapshot: SnapshotMode,
    ) -> Result<Vec<Candidate>, SourceError> {
        if self.patterns.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.look(control, publication, snapshot).await?;
        found.retain(|candidate| self.names.binary_search(&candidate.captured.name).is_err());
        Ok(found)
    }
}

impl Candidate {
    /// Why it cannot be captured; nothing if it can be by now.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn why(
        &self,
        control: &Control,
        publication: &str,
        snapshot: SnapshotMode,
        user: &str,
    ) -> Result<Option<Warning>, SourceError> {
        let name = &self.captured.name;
        let why = match self.fitness {
            Fitness::Fit => return Ok(None),
            Fitness::NotOurs => Some(format!(
                "role `{user}` may not add it to publication `{publication}`. As the owner of both: ALTER PUBLICATION {} \
                 ADD TABLE ONLY {}",
                quoted(publication),
                name.sql()
            )),
            Fitness::Unfit => preflight::table(control, snapshot, user, name)
                .await?
                .err()
                .map(|problem| problem.to_string()),
        };
        Ok(why.map(|why| Warning::TableLeftOut { table: name.to_string(), why }))
    }
}

/// Looks now and then, and ends once there is a table that can be captured and is none of these.
///
/// # Errors
/// [`SourceError::TableAdded`]; or if the server refuses, or the connection broke.
pub(super) async fn watch(
    control: Arc<Control>,
    choice: Choice,
    publication: String,
    snapshot: SnapshotMode,
    captured: Vec<Captured>,
) -> SourceError {
    let known: HashSet<_> = captured.into_iter().map(|table| table.oid).collect();
    loop {
        tokio::time::sleep(SOURCE_TABLES_INTERVAL).await;
        let found = match choice.look(&control, &publication, snapshot).await {
            Ok(found) => found,
            Err(error) => return error,
        };
        let is_new = |its: &Candidate| its.fitness == Fitness::Fit && !known.contains(&its.captured.oid);
        if let Some(new) = found.into_iter().find(is_new) {
            return SourceError::TableAdded { table: new.captured.name.to_string() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_begins_so_in_its_schema() {
        let texts = ["orders", "shop.*", "order_*", "orders"].map(str::to_owned);
        let choice = Choice::parse(&texts).expect("they are names");
        assert_eq!(choice.names.len(), 1);
        let means = |text: &str| choice.means(&TableName::parse(text).expect("a name"));
        for text in ["orders", "shop.anything", "public.order_lines", "order_"] {
            assert!(means(text), "{text}");
        }
        for text in ["orders2", "other.orders", "shops.a", "Order_a"] {
            assert!(!means(text), "{text}");
        }
        assert!(Choice::parse(&[]).expect("it is empty").is_empty());
        assert!(!Choice::parse(&["*".to_owned()]).expect("all of `public`").is_empty());
        assert!(Choice::parse(&["shop.".to_owned()]).is_err());
    }
}
