//! The pattern of a key: text in which columns have their places, such as `user:{id}`.

use twohop_plugin::{Row, Value};

/// Text and columns, one after the other.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// What is before the first column.
    beginning: String,
    /// Each column, and the text after it; at least one.
    parts: Vec<(String, String)>,
}

/// The key of a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Is(String),
    /// A column is null, so there is none.
    IsNone,
    /// This column did not come.
    Unknown(&'a str),
}

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, &'static str> {
        let mut pieces = text.split('{');
        let beginning = pieces.next().unwrap_or_default();
        let mut parts = Vec::new();
        for piece in pieces {
            let (column, after) = piece.split_once('}').ok_or("a `{` has no `}`")?;
            if column.is_empty() || column.starts_with('$') {
                return Err("name a column between `{` and `}`");
            }
            parts.push((column.to_owned(), after.to_owned()));
        }
        if beginning.contains('}') || parts.iter().any(|(_, after)| after.contains('}')) {
            return Err("a `}` has no `{`");
        }
        if parts.is_empty() {
            return Err("the pattern has no column: write `user:{id}`");
        }
        if beginning.is_empty() {
            return Err(
                "begin the pattern with text, by which its keys can be told from others: write `user:{id}`",
            );
        }
        Ok(Self { beginning: beginning.to_owned(), parts })
    }

    /// What all of its keys begin with.
    pub(crate) fn beginning(&self) -> &str {
        &self.beginning
    }

    /// The columns that it needs.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(column, _)| column.as_str())
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: &Row<'_>) -> Key<'_> {
        let mut key = self.beginning.clone();
        for (column, after) in &self.parts {
            match row.value(column) {
                Value::Null => return Key::IsNone,
                Value::Unchanged | Value::Masked => return Key::Unknown(column),
                value => key.push_str(&value.to_string()),
            }
            key.push_str(after);
        }
        Key::Is(key)
    }
}
