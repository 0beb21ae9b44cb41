//! A change as one line of JSON, to keep changes in a file, to write some by hand, and to replay them.
//!
//! ```json
//! {"table":"orders","operation":"update","key":["id"],"row":{"id":1,"status":"paid"},"old":{"status":"new"}}
//! ```
//! In full: `source`, `schema`, `table`, `operation` (its name), `columns` (an object: name → the database's name of
//! the type, in the table's order), `key` (names of columns), `row`, `old`, `position` (`0/16B3748#2`), `last`,
//! `transaction`, `committed_at` (microseconds since the Unix epoch). Only `table` and `operation` are required;
//! columns that are not listed are those of the rows, of a type that fits.
//!
//! A column that a row leaves out is `unchanged` in it. Numbers of a `numeric` column are text, of a `float4` or
//! `float8` floats, other whole numbers integers; a `bytea` is text such as `\x0aff`; a `json` or `jsonb` is an object,
//! a list, or a text that holds the document.
//!
//! Invariant: what is written is read as the same change, unless a filter has masked some of it: what is masked is
//! left out. What is wrong is an error that says where, never a panic.

use std::collections::HashSet;
use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::write_value;
use super::{
    Change, Column, Micros, Operation, Origin, Position, Row, RowBuilder, Rows, Table, Value,
    write_json_string,
};

/// Why a line is no change.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is not JSON of this shape.
    #[error("{}", of_one_line(.0))]
    Shape(#[from] serde_json::Error),
    /// There is no such operation.
    #[error("there is no operation `{name}`: there are {}", Operation::NAMES.join(", "))]
    Operation {
        /// What stands there.
        name: String,
    },
    /// The operation has no such row, or lacks one.
    #[error("the operation `{operation}` {problem}")]
    Rows {
        /// The operation.
        operation: String,
        /// What about its rows.
        problem: &'static str,
    },
    /// A column that the list of columns does not have.
    #[error("the column `{0}` is not in `columns`")]
    Column(String),
    /// A column twice in one place.
    #[error("the column `{0}` comes twice")]
    Twice(String),
    /// A value that its column cannot have.
    #[error("the column `{column}` of the type `{type_name}` cannot have the value {value}")]
    Value {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
        /// The value, as it stands there.
        value: String,
    },
    /// Not a position.
    #[error("`{0}` is not a position: write it as `0/16B3748#2`")]
    Position(String),
}

/// What is wrong and where: there is no other line than this one.
fn of_one_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(default)]
    source: String,
    #[serde(default)]
    schema: String,
    table: String,
    operation: String,
    #[serde(default)]
    columns: Option<Pairs<String>>,
    #[serde(default)]
    key: Vec<String>,
    #[serde(borrow, default)]
    row: Option<Pairs<&'a RawValue>>,
    #[serde(borrow, default)]
    old: Option<Pairs<&'a RawValue>>,
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    last: bool,
    #[serde(default)]
    transaction: u64,
    #[serde(default)]
    committed_at: i64,
}

/// An object in the order in which it stands there.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Ordered<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Ordered(std::marker::PhantomData))
    }
}

/// Reads one line.
///
/// # Errors
/// If it is not a change.
pub fn change_from_line(line: &str) -> Result<Change, LineError> {
    let Line {
        source,
        schema,
        table,
        operation,
        columns,
        key,
        row,
        old,
        position,
        last,
        transaction,
        committed_at,
    } = serde_json::from_str(line)?;
    let number = Operation::NAMES.iter().position(|name| *name == operation);
    let number = number.and_then(|number| u8::try_from(number).ok()).and_then(Operation::from_number);
    let Some(number) = number else { return Err(LineError::Operation { name: operation }) };
    let rows = rows(number, row.is_some(), old.is_some())
        .map_err(|problem| LineError::Rows { operation, problem })?;
    let columns = match columns {
        Some(Pairs(listed)) => listed,
        None => implied(&key, row.iter().chain(&old)),
    };
    refuse_twice(columns.iter().map(|(name, _)| name))?;
    if let Some(unknown) = key.iter().find(|key| !columns.iter().any(|(name, _)| name == *key)) {
        return Err(LineError::Column(unknown.clone()));
    }
    let columns: Box<[Column]> = columns
        .into_iter()
        .map(|(name, type_name)| Column {
            key: key.contains(&name),
            name: name.into(),
            type_name: type_name.into(),
        })
        .collect();
    let mut builder = RowBuilder::default();
    for Pairs(values) in row.iter().chain(&old) {
        push_row(&columns, values, &mut builder)?;
    }
    let position = match position {
        Some(text) => parse_position(&text).ok_or(LineError::Position(text))?,
        None => Position { commit: 0, index: 0 },
    };
    let table = Table { source: source.into(), schema: schema.into(), name: table.into(), columns };
    let origin = Origin {
        table: Arc::new(table),
        operation: number,
        position,
        last,
        transaction,
        committed_at: Micros(committed_at),
    };
    Ok(builder.finish(origin, rows))
}

fn rows(operation: Operation, row: bool, old: bool) -> Result<Rows, &'static str> {
    match (operation, row, old) {
        (Operation::Delete, false, true) => Ok(Rows::Old),
        (Operation::Delete, ..) => Err("has an `old` row and no `row`"),
        (Operation::Truncate | Operation::Schema, false, false) => Ok(Rows::Neither),
        (Operation::Truncate | Operation::Schema, ..) => Err("has no rows"),
        (Operation::Update, true, true) => Ok(Rows::NewThenOld),
        (_, true, false) => Ok(Rows::New),
        (_, false, _) => Err("needs a `row`"),
        (_, true, true) => Err("has no `old` row"),
    }
}

/// The columns of a line that lists none: those of its key and rows, in the order in which they are met.
fn implied<'a>(key: &[String], rows: impl Iterator<Item = &'a Pairs<&'a RawValue>>) -> Vec<(String, String)> {
    let mut columns: Vec<(String, String)> = key.iter().map(|name| (name.clone(), "null".into())).collect();
    for (name, value) in rows.flat_map(|Pairs(values)| values) {
        let fitting = match value.get().as_bytes() {
            [b'"', ..] => "text",
            [b'{' | b'[', ..] => "jsonb",
            [b't' | b'f', ..] => "bool",
            [b'n', ..] => "null",
            _ if value.get().parse::<i64>().is_ok() => "int8",
            _ => "float8",
        };
        match columns.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known == "null" => fitting.clone_into(known),
            Some(_) => {}
            None => columns.push((name.clone(), fitting.to_owned())),
        }
    }
    for (_, type_name) in columns.iter_mut().filter(|(_, type_name)| type_name == "null") {
        "text".clone_into(type_name);
    }
    columns
}

fn refuse_twice<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), LineError> {
    let mut met = HashSet::new();
    for name in names {
        if !met.insert(name) {
            return Err(LineError::Twice(name.clone()));
        }
    }
    Ok(())
}

fn push_row(
    columns: &[Column],
    values: &[(String, &RawValue)],
    builder: &mut RowBuilder,
) -> Result<(), LineError> {
    refuse_twice(values.iter().map(|(name, _)| name))?;
    if let Some((name, _)) =
        values.iter().find(|(name, _)| !columns.iter().any(|column| *column.name == **name))
    {
        return Err(LineError::Column(name.clone()));
    }
    for column in columns {
        match values.iter().find(|(name, _)| **name == *column.name) {
            None => builder.push(Value::Unchanged),
            Some((_, value)) => push_value(column, value.get(), builder)?,
        }
    }
    Ok(())
}

/// `raw`: the JSON of the value.
fn push_value(column: &Column, raw: &str, builder: &mut RowBuilder) -> Result<(), LineError> {
    let wrong = || LineError::Value {
        column: column.name.to_string(),
        type_name: column.type_name.to_string(),
        value: raw.to_owned(),
    };
    let is_float = matches!(&*column.type_name, "float4" | "float8");
    match raw.as_bytes() {
        [b'n', ..] => builder.push(Value::Null),
        [b't', ..] => builder.push(Value::Boolean(true)),
        [b'f', ..] => builder.push(Value::Boolean(false)),
        [b'{' | b'[', ..] => builder.push(Value::Text(raw)),
        [b'"', ..] => {
            let text: String = serde_json::from_str(raw)?;
            match &*column.type_name {
                "bytea" => builder.push(Value::Bytes(&bytes(&text).ok_or_else(wrong)?)),
                _ if is_float => builder.push(Value::Float(text.parse().map_err(|_| wrong())?)),
                _ => builder.push(Value::Text(&text)),
            }
        }
        _ if is_float => builder.push(Value::Float(raw.parse().map_err(|_| wrong())?)),
        _ => match raw.parse() {
            Ok(integer) if *column.type_name != *"numeric" => builder.push(Value::Integer(integer)),
            Ok(_) | Err(_) => builder.push(Value::Text(raw)),
        },
    }
    Ok(())
}

/// Of `\x0aff`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.strip_prefix("\\x")?.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

fn parse_position(text: &str) -> Option<Position> {
    let (commit, index) = text.split_once('#')?;
    let (high, low) = commit.split_once('/')?;
    let half = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u64::from);
    Some(Position { commit: half(high)? << 32 | half(low)?, index: index.parse().ok()? })
}

/// Appends the line of a change, without a line break at its end.
pub fn change_to_line(change: &Change, out: &mut String) {
    let Table { source, schema, name, columns } = &*change.table;
    for (field, text) in [("{\"source\":", source), (",\"schema\":", schema), (",\"table\":", name)] {
        out.push_str(field);
        write_json_string(text, out);
    }
    write!(out, ",\"operation\":\"{}\"", change.operation.name()).expect(FITS);
    let list = |out: &mut String, open: &str, items: &mut dyn Iterator<Item = &Column>, typed: bool| {
        out.push_str(open);
        for (nth, column) in items.enumerate() {
            if nth > 0 {
                out.push(',');
            }
            write_json_string(&column.name, out);
            if typed {
                out.push(':');
                write_json_string(&column.type_name, out);
            }
        }
    };
    list(out, ",\"columns\":{", &mut columns.iter(), true);
    list(out, "},\"key\":[", &mut columns.iter().filter(|column| column.key), false);
    out.push(']');
    for (field, row) in [("row", change.row()), ("old", change.old())] {
        if let Some(row) = row {
            write!(out, ",\"{field}\":").expect(FITS);
            write_row(row, out);
        }
    }
    write!(
        out,
        ",\"position\":\"{}\",\"last\":{},\"transaction\":{},\"committed_at\":{}}}",
        change.position, change.last, change.transaction, change.committed_at.0
    )
    .expect(FITS);
}

const FITS: &str = "writing to a string cannot fail";

fn write_row(row: Row<'_>, out: &mut String) {
    out.push('{');
    let mut nth = 0;
    for (column, value) in row.columns() {
        if matches!(value, Value::Unchanged | Value::Masked) {
            continue;
        }
        if nth > 0 {
            out.push(',');
        }
        nth += 1;
        write_json_string(&column.name, out);
        out.push(':');
        match value {
            // As a text, also of a `json` column: embedded, it would lose its line breaks.
            Value::Text(text) => write_json_string(text, out),
            _ => write_value(value, &column.type_name, out),
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(change: &Change) -> String {
        let mut out = String::new();
        change_to_line(change, &mut out);
        out
    }

    fn error(line: &str) -> String {
        change_from_line(line).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_line_by_hand_needs_no_more_than_what_matters() {
        let change = change_from_line(
            r#"{"table":"orders","operation":"update","key":["id"],"row":{"id":1,"status":"paid"},"old":{"status":"new"}}"#,
        )
        .expect("it is a change");
        let (row, old) = (change.row().expect("it has one"), change.old().expect("it has one"));
        assert_eq!((row.value(0), row.value(1)), (Value::Integer(1), Value::Text("paid")));
        assert_eq!((old.value(0), old.value(1)), (Value::Unchanged, Value::Text("new")));
        let mut key = String::new();
        change.write_key(&mut key);
        assert_eq!(key, "1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(error("{"), "EOF while parsing an object at column 1");
        assert!(error(r#"{"operation":"insert","row":{}}"#).starts_with("missing field `table`"));
        assert!(error(r#"{"table":"t","operation":"insert","rows":{}}"#).starts_with("unknown field `rows`"));
        let of = |rest: &str| error(&format!("{{\"table\":\"t\",{rest}}}"));
        assert!(of(r#""operation":"upsert""#).starts_with("there is no operation `upsert`"));
        assert_eq!(of(r#""operation":"insert""#), "the operation `insert` needs a `row`");
        assert_eq!(
            of(r#""operation":"insert","row":{},"old":{}"#),
            "the operation `insert` has no `old` row"
        );
        assert_eq!(
            of(r#""operation":"delete","row":{}"#),
            "the operation `delete` has an `old` row and no `row`"
        );
        assert_eq!(of(r#""operation":"truncate","row":{}"#), "the operation `truncate` has no rows");
        let row = |rest: &str| of(&format!("\"operation\":\"insert\",{rest}"));
        assert_eq!(row(r#""columns":{"a":"text"},"row":{"b":1}"#), "the column `b` is not in `columns`");
        assert_eq!(row(r#""row":{"a":1,"a":2}"#), "the column `a` comes twice");
        assert_eq!(
            row(r#""columns":{"a":"text"},"key":["b"],"row":{}"#),
            "the column `b` is not in `columns`"
        );
        assert_eq!(
            row(r#""columns":{"a":"bytea"},"row":{"a":"0aff"}"#),
            "the column `a` of the type `bytea` cannot have the value \"0aff\""
        );
        assert_eq!(row(r#""row":{},"position":"7""#), "`7` is not a position: write it as `0/16B3748#2`");
    }

    fn value(type_name: &'static str) -> BoxedStrategy<Option<Owned>> {
        let there = match type_name {
            "bool" => any::<bool>().prop_map(Owned::Boolean).boxed(),
            "int8" => any::<i64>().prop_map(Owned::Integer).boxed(),
            "float8" => any::<f64>().prop_map(Owned::Float).boxed(),
            "bytea" => prop::collection::vec(any::<u8>(), 0..5).prop_map(Owned::Bytes).boxed(),
            "numeric" => "-?[0-9]{1,30}(\\.[0-9]{1,5})?".prop_map(Owned::Text).boxed(),
            "jsonb" => "\\{\"a\": ?[0-9\n]{1,3}\\}".prop_map(Owned::Text).boxed(),
            _ => any::<String>().prop_map(Owned::Text).boxed(),
        };
        prop_oneof![4 => there.prop_map(Some), 1 => Just(Some(Owned::Null)), 1 => Just(None)].boxed()
    }

    #[derive(Debug, Clone)]
    enum Owned {
        Null,
        Boolean(bool),
        Integer(i64),
        Float(f64),
        Text(String),
        Bytes(Vec<u8>),
    }

    fn push(builder: &mut RowBuilder, value: Option<&Owned>) {
        builder.push(match value {
            None => Value::Unchanged,
            Some(Owned::Null) => Value::Null,
            Some(Owned::Boolean(value)) => Value::Boolean(*value),
            Some(Owned::Integer(value)) => Value::Integer(*value),
            Some(Owned::Float(value)) => Value::Float(*value),
            Some(Owned::Text(text)) => Value::Text(text),
            Some(Owned::Bytes(bytes)) => Value::Bytes(bytes),
        });
    }

    const TYPES: [&str; 7] = ["bool", "int8", "float8", "bytea", "numeric", "jsonb", "text"];

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_change(
            name in any::<String>(),
            rows in prop::collection::vec(TYPES.map(value), 1..3),
            commit in any::<u64>(),
            index in any::<u32>(),
            last in any::<bool>(),
            transaction in any::<u64>(),
            committed_at in any::<i64>(),
        ) {
            let column = |(nth, type_name): (usize, &&str)| Column {
                name: format!("{nth}{name}").into(),
                type_name: (*type_name).into(),
                key: nth % 3 == 1,
            };
            let columns = TYPES.iter().enumerate().map(column).collect();
            let table = Table { source: "s".into(), schema: "".into(), name: name.as_str().into(), columns };
            let mut builder = RowBuilder::default();
            rows.iter().flatten().for_each(|value| push(&mut builder, value.as_ref()));
            let origin = Origin {
                table: Arc::new(table),
                operation: Operation::Update,
                position: Position { commit, index },
                last,
                transaction,
                committed_at: Micros(committed_at),
            };
            let change = builder.finish(origin, if rows.len() == 1 { Rows::New } else { Rows::NewThenOld });
            let text = line(&change);
            prop_assert!(!text.contains('\n'));
            let read = change_from_line(&text).expect("it was written so");
            // Debug: a NaN is one too.
            let parts = |change: &Change| {
                let cells = |row: Option<Row<'_>>| row.map(|row| format!("{:?}", row.columns().collect::<Vec<_>>()));
                (change.table.clone(), cells(change.row()), cells(change.old()), format!("{:?}", (
                    change.operation, change.position, change.last, change.transaction, change.committed_at,
                )))
            };
            prop_assert_eq!(parts(&read), parts(&change));
        }
    }
}
