//! The columns that each table had when it was last seen, in a file beside the change log: so that a change of them is
//! told, also one that was made while nobody read.
//!
//! In: tables as the stream announces them. Out: whether one is as it was, is new, or has changed.
//!
//! Invariant: the file names no columns that the change log has not been told of, and the server learns of no place
//! past a change of columns that the file does not name. So each is told once. (Once more, if power was lost in the
//! midst of one write, between the record that tells it and the change behind that.)
//!
//! `FOLDER/SOURCE.tables`: an object, by the table's number: `{"16385": {"schema": "public", "name": "orders",
//! "columns": [["id", "int8"], ["note", "text"]]}}`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SourceError;
use super::json_file;
use super::server::failed;
use crate::event::Table;

/// What of a table matters here: not its key, which is none of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    schema: Box<str>,
    name: Box<str>,
    /// Each with the name of its type.
    columns: Vec<(Box<str>, Box<str>)>,
}

impl Shape {
    pub(super) fn of(table: &Table) -> Self {
        let columns = table.columns.iter().map(|column| (column.name.clone(), column.type_name.clone()));
        Self { schema: table.schema.clone(), name: table.name.clone(), columns: columns.collect() }
    }
}

/// How a table is, compared with how it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It was not seen before.
    First,
    /// Its columns, or its name.
    Changed,
}

/// The file of a source.
pub(super) fn path(folder: &Path, source: &str) -> PathBuf {
    folder.join(format!("{source}.tables"))
}

/// The tables of a source.
#[derive(Debug, Default)]
pub(super) struct Seen {
    path: PathBuf,
    /// As the newest record says, which may be on its way.
    told: HashMap<u32, Shape>,
    /// As the file says.
    kept: BTreeMap<u32, Shape>,
}

impl Seen {
    /// Reads the file; without one, nothing was seen.
    ///
    /// # Errors
    /// [`SourceError::ServerFile`].
    pub(super) fn open(path: PathBuf) -> Result<Self, SourceError> {
        let kept = json_file::read::<BTreeMap<_, _>>(&path).map_err(|cause| failed(&path, cause))?;
        let kept = kept.unwrap_or_default();
        Ok(Self { path, told: kept.clone().into_iter().collect(), kept })
    }

    /// Begins anew with these.
    ///
    /// # Errors
    /// [`SourceError::ServerFile`].
    pub(super) fn begin(
        path: PathBuf,
        tables: impl IntoIterator<Item = (u32, Shape)>,
    ) -> Result<(), SourceError> {
        Self { path, told: HashMap::new(), kept: tables.into_iter().collect() }.write()
    }

    /// What is new of a table; nothing if it is as it was.
    pub(super) fn news(&self, relation: u32, shape: &Shape) -> Option<News> {
        match self.told.get(&relation) {
            Some(before) if before == shape => None,
            Some(_) => Some(News::Changed),
            None => Some(News::First),
        }
    }

    /// Notes that a record tells it, or needs none.
    pub(super) fn tell(&mut self, relation: u32, shape: Shape) {
        self.told.insert(relation, shape);
    }

    /// Writes down tables of which the change log has been told.
    ///
    /// # Errors
    /// [`SourceError::ServerFile`].
    pub(super) fn keep(&mut self, told: impl IntoIterator<Item = (u32, Shape)>) -> Result<(), SourceError> {
        let mut is_new = false;
        for (relation, shape) in told {
            is_new |= self.kept.get(&relation) != Some(&shape);
            self.kept.insert(relation, shape);
        }
        if is_new { self.write() } else { Ok(()) }
    }

    fn write(&self) -> Result<(), SourceError> {
        json_file::replace(&self.path, &self.kept).map_err(|cause| failed(&self.path, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Column;

    fn shape(columns: &[(&str, &str)]) -> Shape {
        let column = |(name, type_name): &(&str, &str)| Column {
            name: (*name).into(),
            type_name: (*type_name).into(),
            key: false,
        };
        let columns = columns.iter().map(column).collect();
        Shape::of(&Table { source: "s".into(), schema: "p".into(), name: "t".into(), columns })
    }

    #[test]
    fn columns_that_were_added_dropped_renamed_or_retyped_are_news_and_what_was_kept_is_not() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = path(folder.path(), "main");
        let before = shape(&[("id", "int8"), ("note", "text")]);
        let mut seen = Seen::open(path.clone()).expect("there is no file");
        assert_eq!(seen.news(1, &before), Some(News::First));
        seen.keep([(1, before.clone())]).expect("it is written");
        let mut seen = Seen::open(path.clone()).expect("it is read");
        assert_eq!(seen.news(1, &before), None);
        for changed in [
            &[("id", "int8")][..],
            &[("id", "int8"), ("note", "text"), ("more", "text")],
            &[("id", "int8"), ("remark", "text")],
            &[("id", "int8"), ("note", "varchar")],
        ] {
            let changed = shape(changed);
            assert_eq!(seen.news(1, &changed), Some(News::Changed), "{changed:?}");
            seen.keep([(1, changed.clone())]).expect("it is written");
            assert_eq!(Seen::open(path.clone()).expect("it is read").news(1, &changed), None);
        }
        Seen::begin(path.clone(), [(2, before.clone())]).expect("it is written");
        assert_eq!(Seen::open(path).expect("it is read").news(1, &before), Some(News::First));
    }
}
