//! Rows as JSON: the payload that plugins and clients see.
//!
//! Integers and finite floats are numbers, truth values are truth values, null is null. Every other value is a
//! string of its canonical text (a decimal too: a number would lose digits in JavaScript), but `json` and `jsonb`
//! columns are embedded as they are. Unchanged and masked values are left out: their absence says that the row is
//! not whole, a null would lie.
//!
//! Invariant: the output is one JSON object without line breaks outside strings, in the table's column order.

use std::fmt::Write;

use super::{Row, Value};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the row as a JSON object.
pub fn row_to_json(row: Row<'_>, out: &mut String) {
    out.push('{');
    let mut first = true;
    for (column, value) in row.columns() {
        if matches!(value, Value::Unchanged | Value::Masked) {
            continue;
        }
        if !std::mem::replace(&mut first, false) {
            out.push(',');
        }
        write_json_string(&column.name, out);
        out.push(':');
        write_value(value, &column.type_name, out);
    }
    out.push('}');
}

/// Appends a value as JSON.
pub(super) fn write_value(value: Value<'_>, type_name: &str, out: &mut String) {
    match value {
        Value::Null | Value::Unchanged | Value::Masked => out.push_str("null"),
        Value::Boolean(value) => out.push_str(if value { "true" } else { "false" }),
        Value::Integer(value) => write!(out, "{value}").expect("writing to a string cannot fail"),
        Value::Float(value) if value.is_finite() => write_float(value, out),
        Value::Float(value) => {
            out.push('"');
            write_float(value, out);
            out.push('"');
        }
        Value::Text(text) if matches!(type_name, "json" | "jsonb") => write_embedded(text, out),
        Value::Text(text) => write_json_string(text, out),
        Value::Bytes(bytes) => {
            // PostgreSQL's own text of a bytea, so that a client meets one notation only.
            out.push_str("\"\\\\x");
            for byte in bytes {
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
            out.push('"');
        }
    }
}

/// Appends the text of a float, with PostgreSQL's names for what is no number.
pub(super) fn write_float(value: f64, out: &mut String) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        write!(out, "{value}").expect("writing to a string cannot fail");
    }
}

/// The database has checked the document; a `json` value keeps its author's line breaks, which may only be white
/// space between tokens, since a string cannot hold them unescaped.
fn write_embedded(text: &str, out: &mut String) {
    if text.contains(['\n', '\r']) {
        out.extend(
            text.chars().map(|character| if matches!(character, '\n' | '\r') { ' ' } else { character }),
        );
    } else {
        out.push_str(text);
    }
}

/// Appends a JSON string (RFC 8259, section 7).
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &str = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("writing to a string cannot fail");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table};

    fn json(columns: &[(&str, &str, Value<'_>)]) -> String {
        let table = Arc::new(Table {
            source: "s".into(),
            schema: "public".into(),
            name: "t".into(),
            columns: columns
                .iter()
                .map(|(name, type_name, _)| Column {
                    name: (*name).into(),
                    type_name: (*type_name).into(),
                    key: false,
                })
                .collect(),
        });
        let mut builder = RowBuilder::default();
        for (_, _, value) in columns {
            builder.push(*value);
        }
        let change = builder.finish(
            Origin {
                table,
                operation: Operation::Insert,
                position: Position { commit: 1, index: 0 },
                last: true,
                transaction: 0,
                committed_at: Micros(0),
            },
            Rows::New,
        );
        let mut out = String::new();
        row_to_json(change.row().expect("the change has a row"), &mut out);
        out
    }

    #[test]
    fn every_kind_of_value_has_its_json() {
        let text = json(&[
            ("a", "int8", Value::Integer(i64::MIN)),
            ("b", "bool", Value::Boolean(true)),
            ("c", "text", Value::Null),
            ("d", "float8", Value::Float(0.1)),
            ("e", "float8", Value::Float(f64::NAN)),
            ("f", "numeric", Value::Text("12345678901234567890.10")),
            ("g", "jsonb", Value::Text(r#"{"x": [1]}"#)),
            ("h", "bytea", Value::Bytes(&[0xDE, 0xAD])),
            ("i", "float4", Value::Float(f64::INFINITY)),
            ("j", "float8", Value::Float(f64::NEG_INFINITY)),
            ("k", "audit.jsonb", Value::Text("a type of that name in another schema")),
        ]);
        assert_eq!(
            text,
            r#"{"a":-9223372036854775808,"b":true,"c":null,"d":0.1,"e":"NaN","f":"12345678901234567890.10","g":{"x": [1]},"h":"\\xdead","i":"Infinity","j":"-Infinity","k":"a type of that name in another schema"}"#
        );
    }

    #[test]
    fn unchanged_and_masked_values_are_left_out() {
        assert_eq!(json(&[("a", "text", Value::Unchanged), ("b", "text", Value::Masked)]), "{}");
        assert_eq!(json(&[("a", "text", Value::Unchanged), ("b", "int4", Value::Integer(1))]), r#"{"b":1}"#);
    }

    #[test]
    fn the_output_has_no_line_break_whatever_the_values_hold() {
        let text = json(&[
            ("line\nbreak", "text", Value::Text("a\r\nb\u{0}\u{1f}\"\\é\u{2028}")),
            ("j", "json", Value::Text("{\n\"x\":\r1}")),
        ]);
        assert!(!text.contains(['\n', '\r']), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("the output is JSON");
        assert_eq!(parsed["line\nbreak"], "a\r\nb\u{0}\u{1f}\"\\é\u{2028}");
        assert_eq!(parsed["j"]["x"], 1);
    }
}
