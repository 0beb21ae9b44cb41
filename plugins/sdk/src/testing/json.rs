//! A row as a JSON object, enough for `$row` and `$old` of a sample.
//!
//! Columns that are unchanged or masked are left out, bytes are `\x` and hexadecimal digits, and numbers that JSON does
//! not have are text.

use std::fmt::Write;

use super::sample::Columns;
use crate::Value;

pub(super) fn object(row: &Columns) -> String {
    let mut json = String::from("{");
    for (name, value) in row {
        let value = value.value();
        if matches!(value, Value::Unchanged | Value::Masked) {
            continue;
        }
        if json.len() > 1 {
            json.push(',');
        }
        string(&mut json, name);
        json.push(':');
        match value {
            Value::Null | Value::Boolean(_) | Value::Integer(_) => json.push_str(&value.to_string()),
            Value::Float(float) if float.is_finite() => json.push_str(&value.to_string()),
            _ => string(&mut json, &value.to_string()),
        }
    }
    json.push('}');
    json
}

fn string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                let written = write!(json, "\\u{:04x}", u32::from(control));
                debug_assert!(written.is_ok(), "writing to a string does not fail");
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::Sample;
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_are_text_as_the_host_writes_them() {
        let row = crate::row! { "a" => f64::INFINITY, "b" => f64::NEG_INFINITY, "c" => f64::NAN, "d" => 0.5 };
        let sample = Sample::insert("readings", row).key(["a", "b"]);
        let expected = "{\"a\":\"Infinity\",\"b\":\"-Infinity\",\"c\":\"NaN\",\"d\":0.5}";
        assert_eq!(object(sample.row.as_ref().unwrap()), expected);
        assert_eq!(sample.key_text().as_deref(), Some("Infinity,-Infinity"));
    }

    #[test]
    fn a_row_is_an_object_without_what_was_not_sent() {
        let row =
            crate::row! { "id" => 1, "name" => "a\"\n", "gone" => Value::Unchanged, "note" => None::<i64> };
        let sample = Sample::insert("orders", row);
        assert_eq!(
            object(sample.row.as_ref().unwrap()),
            "{\"id\":1,\"name\":\"a\\\"\\u000a\",\"note\":null}"
        );
    }
}
