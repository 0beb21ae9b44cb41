//! Values: from PostgreSQL's text output to a cell.
//!
//! In: the text of a value, and the class of its column's type. Out: the value pushed into a row.
//!
//! Booleans, integers, floating-point numbers and byte strings get a kind of their own; every other type keeps its
//! canonical text, which [`SESSION`] makes the same on every connection.
//!
//! A domain is as its base type. Absent on purpose: anything of arrays, ranges and JSON, which are text here.

use crate::event::{Micros, RowBuilder, Value};

/// What a session must set so that the text of a value depends on nothing but the value.
pub(super) const SESSION: &str = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 \
     -c extra_float_digits=1 -c bytea_output=hex -c lc_monetary=C -c xmlbinary=base64 -c search_path=pg_catalog \
     -c row_security=off";

/// From the Unix epoch to PostgreSQL's, 2000-01-01, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// A time of the server on the Unix clock.
pub(super) fn unix_micros(server: i64) -> Micros {
    Micros(server.saturating_add(EPOCH))
}

/// How a type's text becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Boolean,
    Integer,
    Float,
    Bytes,
    Text,
}

impl Class {
    /// The class of a type by its number in `pg_type`, which is fixed for those that are not text. For a domain, give
    /// the number of its base type.
    pub(super) fn of(type_oid: u32) -> Self {
        match type_oid {
            16 => Self::Boolean,
            17 => Self::Bytes,
            20 | 21 | 23 | 26 => Self::Integer,
            700 | 701 => Self::Float,
            _ => Self::Text,
        }
    }

    /// The class of a domain's base type, as the server announces it.
    pub(super) fn named(schema: &str, name: &str) -> Self {
        match (schema, name) {
            ("pg_catalog", "bool") => Self::Boolean,
            ("pg_catalog", "bytea") => Self::Bytes,
            ("pg_catalog", "int8" | "int4" | "int2" | "oid") => Self::Integer,
            ("pg_catalog", "float4" | "float8") => Self::Float,
            _ => Self::Text,
        }
    }
}

/// A text that its type never has.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("is not a value of class {0:?}")]
pub(super) struct NotOfClass(Class);

/// Pushes a value.
pub(super) fn push(builder: &mut RowBuilder, class: Class, bytes: &[u8]) -> Result<(), NotOfClass> {
    let invalid = NotOfClass(class);
    if class == Class::Bytes {
        builder.push(Value::Bytes(&from_hex(bytes).ok_or(invalid)?));
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| invalid)?;
    builder.push(match class {
        Class::Boolean => match text {
            "t" => Value::Boolean(true),
            "f" => Value::Boolean(false),
            _ => return Err(invalid),
        },
        Class::Integer => Value::Integer(text.parse().map_err(|_| invalid)?),
        Class::Float => Value::Float(text.parse().map_err(|_| invalid)?),
        Class::Text | Class::Bytes => Value::Text(text),
    });
    Ok(())
}

/// Byte strings as `bytea_output = hex` writes them: `\x` and two digits a byte.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// A type's name as a column carries it: the bare one says that it is the server's own, as `jsonb` is JSON.
pub(super) fn type_name(schema: &str, name: &str) -> Box<str> {
    if schema == "pg_catalog" { name.into() } else { format!("{schema}.{name}").into() }
}

/// The name of a built-in type; others are announced by the server before they are needed.
pub(super) fn builtin_name(type_oid: u32) -> Box<str> {
    match tokio_postgres::types::Type::from_oid(type_oid) {
        Some(known) => known.name().into(),
        None => format!("oid:{type_oid}").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Change, Column, Operation, Origin, Position, Rows, Table};

    fn pushed(type_oid: u32, text: &str) -> Result<Change, NotOfClass> {
        let mut builder = RowBuilder::default();
        push(&mut builder, Class::of(type_oid), text.as_bytes())?;
        let column = Column { name: "a".into(), type_name: builtin_name(type_oid), key: false };
        let table =
            Table { source: "s".into(), schema: "p".into(), name: "t".into(), columns: [column].into() };
        let origin = Origin {
            table: Arc::new(table),
            operation: Operation::Insert,
            position: Position { commit: 1, index: 0 },
            last: true,
            transaction: 0,
            committed_at: Micros(0),
        };
        Ok(builder.finish(origin, Rows::New))
    }

    #[track_caller]
    fn check(type_oid: u32, text: &str, expected: Value<'_>) {
        let change = pushed(type_oid, text).expect("the text is of its type");
        assert_eq!(change.row().expect("an insert has a row").value(0), expected);
    }

    #[test]
    fn numbers_truths_and_bytes_get_a_kind_of_their_own() {
        check(16, "t", Value::Boolean(true));
        check(16, "f", Value::Boolean(false));
        check(20, "-9223372036854775808", Value::Integer(i64::MIN));
        check(21, "-1", Value::Integer(-1));
        check(26, "4294967295", Value::Integer(4_294_967_295));
        check(701, "1e-07", Value::Float(1e-7));
        check(700, "Infinity", Value::Float(f64::INFINITY));
        check(701, "-Infinity", Value::Float(f64::NEG_INFINITY));
        check(17, "\\x00fF10", Value::Bytes(&[0, 255, 16]));
        check(17, "\\x", Value::Bytes(&[]));
    }

    #[test]
    fn not_a_number_is_a_float() {
        let change = pushed(701, "NaN").expect("the text is of its type");
        let Value::Float(value) = change.row().expect("an insert has a row").value(0) else {
            panic!("not a float")
        };
        assert!(value.is_nan());
    }

    #[test]
    fn every_other_type_keeps_its_text() {
        for (type_oid, text) in
            [(1700, "10.50"), (3802, "{\"a\": 1}"), (1184, "2024-01-02 03:04:05+00"), (99_999, "x")]
        {
            check(type_oid, text, Value::Text(text));
        }
    }

    #[test]
    fn a_text_that_its_type_never_has_is_an_error() {
        for (type_oid, text) in
            [(16, "true"), (20, "1.5"), (701, ""), (17, "00"), (17, "\\x0"), (17, "\\xzz")]
        {
            assert_eq!(pushed(type_oid, text).err(), Some(NotOfClass(Class::of(type_oid))), "{text}");
        }
        let mut builder = RowBuilder::default();
        assert_eq!(push(&mut builder, Class::Text, &[0xff]), Err(NotOfClass(Class::Text)));
    }

    #[test]
    fn a_base_type_has_the_same_class_by_name_and_by_number() {
        for type_oid in [16, 17, 20, 21, 23, 25, 26, 700, 701, 1184, 1700, 3802] {
            assert_eq!(
                Class::named("pg_catalog", &builtin_name(type_oid)),
                Class::of(type_oid),
                "{type_oid}"
            );
        }
        assert_eq!(Class::named("public", "int4"), Class::Text, "a type of the same name in another schema");
    }

    #[test]
    fn types_are_named_as_the_catalog_names_them() {
        assert_eq!(&*builtin_name(20), "int8");
        assert_eq!(&*builtin_name(1007), "_int4");
        assert_eq!(&*builtin_name(99_999), "oid:99999");
        assert_eq!(&*type_name("pg_catalog", "jsonb"), "jsonb");
        assert_eq!(&*type_name("public", "jsonb"), "public.jsonb");
    }

    #[test]
    fn times_of_the_server_begin_in_2000() {
        assert_eq!(unix_micros(0), Micros(946_684_800_000_000));
        assert_eq!(unix_micros(i64::MAX), Micros(i64::MAX));
    }
}
