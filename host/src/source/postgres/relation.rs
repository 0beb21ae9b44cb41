//! The tables that the server has announced on this connection.
//!
//! In: `Relation` and `Type` messages. Out: the table of a change, the class of each of its columns, and whether they
//! are other columns than before.
//!
//! Invariant: a relation is as the server announced it last; a new announcement makes a new [`Table`] and leaves
//! those of earlier changes alone. The server announces everything anew on each connection, so a cache lives as long
//! as its connection.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode::{Identity, Relation};
use super::error::SourceError;
use super::outbox::{Outbox, OutboxError};
use super::seen::{News, Seen, Shape};
use super::values::{Class, builtin_name, type_name};
use crate::event::{Column, Table};
use crate::limits::SOURCE_RELATIONS_COUNT_MAX;

/// A table that the server has announced.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) table: Arc<Table>,
    /// One for each column.
    pub(super) classes: Box<[Class]>,
    /// What no change was told of yet.
    news: Option<News>,
    /// Whether its rows are messages.
    pub(super) is_outbox: bool,
}

/// Why an announcement cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RelationError {
    /// There are too many of them.
    #[error(transparent)]
    TooMany(#[from] TooManyRelations),
    /// The outbox is none any more.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Too many announcements on one connection.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("the server has announced more than {SOURCE_RELATIONS_COUNT_MAX} tables and types on one connection")]
pub struct TooManyRelations;

/// Everything announced on one connection.
#[derive(Debug)]
pub(super) struct Relations {
    source: Box<str>,
    /// As they were before, also on earlier connections.
    seen: Seen,
    outbox: Option<Outbox>,
    known: HashMap<u32, Known>,
    types: HashMap<u32, (Box<str>, Class)>,
}

impl Relations {
    pub(super) fn new(source: &str, seen: Seen, outbox: Option<Outbox>) -> Self {
        let source = source.into();
        Self { source, seen, outbox, known: HashMap::new(), types: HashMap::new() }
    }

    /// What is new of a table, once.
    pub(super) fn take_news(&mut self, relation: u32) -> Option<(News, Shape)> {
        let known = self.known.get_mut(&relation)?;
        let news = known.news.take()?;
        let shape = Shape::of(&known.table);
        self.seen.tell(relation, shape.clone());
        Some((news, shape))
    }

    /// What is new of a table that is read, not announced.
    pub(super) fn news_of(&mut self, relation: u32, shape: &Shape) -> Option<News> {
        let news = self.seen.news(relation, shape)?;
        self.seen.tell(relation, shape.clone());
        Some(news)
    }

    /// Writes down tables of which the change log has been told.
    pub(super) fn keep(&mut self, told: Vec<(u32, Shape)>) -> Result<(), SourceError> {
        self.seen.keep(told)
    }

    pub(super) fn get(&self, relation: u32) -> Option<&Known> {
        self.known.get(&relation)
    }

    pub(super) fn remember_type(
        &mut self,
        oid: u32,
        schema: &str,
        name: &str,
    ) -> Result<(), TooManyRelations> {
        self.types.insert(oid, (type_name(schema, name), Class::named(schema, name)));
        self.check_bound()
    }

    /// Remembers a relation. `primary_key` is what the catalog says: where the replica identity is the whole row, the
    /// server marks every column as key, which would say nothing.
    pub(super) fn remember(
        &mut self,
        relation: &Relation<'_>,
        primary_key: Option<&[String]>,
    ) -> Result<(), RelationError> {
        let primary_key = primary_key.filter(|key| relation.identity == Identity::Full && !key.is_empty());
        let columns = relation
            .columns()
            .map(|column| Column {
                name: column.name.into(),
                type_name: self.type_of(column.type_oid).0,
                key: match primary_key {
                    Some(key) => key.iter().any(|name| name == column.name),
                    None => column.key,
                },
            })
            .collect();
        let classes = relation.columns().map(|column| self.type_of(column.type_oid).1).collect();
        let table = Table {
            source: self.source.clone(),
            schema: relation.schema.into(),
            name: relation.name.into(),
            columns,
        };
        let outbox = self.outbox.as_ref().filter(|outbox| outbox.is(relation.schema, relation.name));
        let is_outbox = outbox.is_some();
        let table = Arc::new(outbox.map(|outbox| outbox.messages(&table)).transpose()?.unwrap_or(table));
        // Columns of an outbox mean nothing but what its settings say.
        let news = if is_outbox { None } else { self.seen.news(relation.oid, &Shape::of(&table)) };
        self.known.insert(relation.oid, Known { table, classes, news, is_outbox });
        Ok(self.check_bound()?)
    }

    fn type_of(&self, oid: u32) -> (Box<str>, Class) {
        let announced = self.types.get(&oid).cloned();
        announced.unwrap_or_else(|| (builtin_name(oid), Class::of(oid)))
    }

    fn check_bound(&self) -> Result<(), TooManyRelations> {
        let count = self.known.len() + self.types.len();
        if count > SOURCE_RELATIONS_COUNT_MAX { Err(TooManyRelations) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Message, decode};
    use super::super::tests::encode;
    use super::*;

    fn remembered(identity: u8, primary_key: Option<&[String]>) -> Arc<Table> {
        let columns = [("id".to_owned(), 20, true), ("mood".to_owned(), 70_000, identity == b'f')];
        let bytes = encode::relation(5, "shop", "orders", identity, &columns);
        let Ok(Message::Relation(relation)) = decode(&bytes) else { panic!("not a relation") };
        let mut relations = Relations::new("main", Seen::default(), None);
        relations.remember_type(70_000, "public", "mood_type").expect("the first type fits");
        relations.remember(&relation, primary_key).expect("the first relation fits");
        relations.get(5).expect("it was remembered").table.clone()
    }

    fn keys(table: &Table) -> Vec<&str> {
        table.columns.iter().filter(|column| column.key).map(|column| &*column.name).collect()
    }

    #[test]
    fn a_table_has_the_names_and_types_that_were_announced() {
        let table = remembered(b'd', None);
        assert_eq!((&*table.source, &*table.schema, &*table.name), ("main", "shop", "orders"));
        let types: Vec<_> = table.columns.iter().map(|column| &*column.type_name).collect();
        assert_eq!(types, ["int8", "public.mood_type"]);
        assert_eq!(keys(&table), ["id"]);
    }

    #[test]
    fn a_table_whose_identity_is_the_whole_row_has_the_primary_key_of_the_catalog() {
        assert_eq!(keys(&remembered(b'f', Some(&["id".to_owned()]))), ["id"]);
    }

    #[test]
    fn without_a_primary_key_every_column_is_the_key() {
        assert_eq!(keys(&remembered(b'f', Some(&[]))), ["id", "mood"]);
        assert_eq!(keys(&remembered(b'f', None)), ["id", "mood"]);
    }
}
